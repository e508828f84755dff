//! The calls of one connection that wait for their replies.
//!
//! How long each may wait is looked after by the connection's task, once for all of them: nearly every call is answered long
//! before, and a timer of its own would cost each as much as the rest of its waiting.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use foldhash::HashMap;
use like_protocol::message::{ReplyBody, Request};
use smallvec::SmallVec;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

/// The calls that wait for a reply, for as long as the stream stands.
#[derive(Default)]
pub(super) struct Calls {
    state: Mutex<State>,
    /// Wakes whoever gives up late calls: one is due sooner than all before it.
    sooner: Notify,
}

#[derive(Default)]
struct State {
    waiting: HashMap<u64, Call>,
    /// When it is next looked for calls that are late: no later than the first of them is due.
    next_look: Option<Instant>,
    /// Why the stream has ended, once it has.
    ended: Option<String>,
}

struct Call {
    until: Instant,
    caller: Caller,
}

/// Who waits for a reply.
enum Caller {
    Alone(oneshot::Sender<Came>),
    /// For several, which it tells apart by these numbers.
    OfMany(Mailbox, u64),
}

impl Call {
    /// Its caller may just have given up: then nobody wants to know.
    fn tell(self, came: Came) {
        match self.caller {
            Caller::Alone(caller) => drop(caller.send(came)),
            Caller::OfMany(mailbox, number) => drop(mailbox.send((number, came))),
        }
    }

    fn is_wanted(&self) -> bool {
        match &self.caller {
            Caller::Alone(caller) => !caller.is_closed(),
            Caller::OfMany(mailbox, _) => !mailbox.is_closed(),
        }
    }
}

/// Where what came of several calls is put, each under its number.
pub type Mailbox = mpsc::UnboundedSender<(u64, Came)>;

/// What came of waiting for a reply.
#[derive(Debug)]
pub enum Came {
    /// The reply.
    Reply(ReplyBody),
    /// None in time.
    TooLate,
    /// None, and none will: the stream has ended, or the request was not sent.
    Nothing,
}

impl Calls {
    /// A place among those that wait; none if the stream has ended.
    pub fn wait(&self, id: u64, until: Instant) -> Option<Waiting<'_>> {
        let (caller, reply) = oneshot::channel();
        let mut state = self.state();
        if state.ended.is_some() {
            return None;
        }
        self.add(&mut state, id, Call { until, caller: Caller::Alone(caller) });
        Some(Waiting { id, calls: self, reply })
    }

    /// Places for calls of these numbers, whose ids begin with `first_id`; what comes of each is put into the mailbox.
    pub fn wait_together(
        &self,
        first_id: u64,
        calls: impl IntoIterator<Item = (u64, Instant)>,
        mailbox: &Mailbox,
    ) {
        let mut state = self.state();
        for (id, (number, until)) in (first_id..).zip(calls) {
            let call = Call { until, caller: Caller::OfMany(mailbox.clone(), number) };
            if state.ended.is_some() {
                call.tell(Came::Nothing);
            } else {
                self.add(&mut state, id, call);
            }
        }
    }

    fn add(&self, state: &mut State, id: u64, call: Call) {
        let until = call.until;
        state.waiting.insert(id, call);
        if state.next_look.is_none_or(|look| until < look) {
            state.next_look = Some(until);
            self.sooner.notify_one();
        }
    }

    /// Keeps those requests whose reply somebody waits for.
    pub fn keep_wanted(&self, requests: &mut SmallVec<[Request; 1]>) {
        let state = self.state();
        requests.retain(|request| state.waiting.get(&request.id).is_some_and(Call::is_wanted));
    }

    /// Hands a reply to whoever waits for it, if anybody still does.
    pub fn hand_over(&self, id: u64, reply: ReplyBody) {
        let call = self.state().waiting.remove(&id);
        if let Some(call) = call {
            call.tell(Came::Reply(reply));
        }
    }

    /// Nothing will come of a call.
    pub fn drop_call(&self, id: u64) {
        let call = self.state().waiting.remove(&id);
        if let Some(call) = call {
            call.tell(Came::Nothing);
        }
    }

    /// Gives up calls when they are late, for as long as it is polled.
    pub async fn give_up_late(&self) -> Infallible {
        loop {
            let next_look = self.state().next_look;
            let look = async {
                match next_look {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = look => self.look_for_late(Instant::now()),
                () = self.sooner.notified() => {}
            }
        }
    }

    fn look_for_late(&self, now: Instant) {
        let mut state = self.state();
        let late: Vec<_> = state.waiting.extract_if(|_, call| call.until <= now).collect();
        state.next_look = state.waiting.values().map(|call| call.until).min();
        drop(state);
        tell_all(late, || Came::TooLate);
    }

    pub fn have_ended(&self) -> bool {
        self.state().ended.is_some()
    }

    /// Why nothing comes any more.
    pub fn why_ended(&self) -> String {
        self.state().ended.as_deref().unwrap_or("it was given up").to_owned()
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.state().waiting.len()
    }

    /// A poisoned lock means that another thread panicked while it held it; the map is whole between any two statements
    /// that change it, so it is used all the same.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells callers what came of their calls, in the order of those.
fn tell_all(mut calls: Vec<(u64, Call)>, came: fn() -> Came) {
    calls.sort_unstable_by_key(|(id, _)| *id);
    calls.into_iter().for_each(|(_, call)| call.tell(came()));
}

/// A call's place among those that wait, and the wait for its reply; leaves nothing behind however the call ends.
pub(super) struct Waiting<'a> {
    id: u64,
    calls: &'a Calls,
    reply: oneshot::Receiver<Came>,
}

impl Future for Waiting<'_> {
    type Output = Came;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Came> {
        Pin::new(&mut self.reply).poll(context).map(|came| came.unwrap_or(Came::Nothing))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.calls.drop_call(self.id);
    }
}

/// Fails every waiting call, and every later one, when the connection's task is gone for whatever reason.
pub(super) struct EndsCalls(pub Arc<Calls>);

impl EndsCalls {
    pub fn end(&self, reason: &str) {
        let mut state = self.0.state();
        state.ended.get_or_insert_with(|| reason.to_owned());
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        tell_all(waiting.into_iter().collect(), || Came::Nothing);
    }
}

impl Drop for EndsCalls {
    fn drop(&mut self) {
        self.end("its task has ended");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn in_ms(ms: u64) -> Instant {
        Instant::now() + Duration::from_millis(ms)
    }

    async fn late_after(waiting: Waiting<'_>, began: Instant) -> Duration {
        assert!(matches!(waiting.await, Came::TooLate));
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn each_call_is_given_up_at_its_own_limit_whoever_came_first() {
        let (calls, began) = (Calls::default(), Instant::now());
        let waited = async {
            let long = calls.wait(1, in_ms(500)).unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
            let (short, between) = (calls.wait(2, in_ms(50)).unwrap(), calls.wait(3, in_ms(200)).unwrap());
            futures::join!(late_after(long, began), late_after(short, began), late_after(between, began))
        };
        let (long, short, between) = tokio::select! {
            waited = waited => waited,
            never = calls.give_up_late() => match never {},
        };
        let whole_ms = [long, short, between].map(|waited| waited.as_millis());
        // A timer of tokio's goes off within the millisecond after its time.
        assert!(
            whole_ms.iter().zip([500, 150, 300]).all(|(ms, due)| (due..=due + 1).contains(ms)),
            "{whole_ms:?}"
        );
        assert_eq!(calls.waiting(), 0);
    }

    #[tokio::test]
    async fn when_the_stream_ends_callers_are_told_in_the_order_of_their_calls() {
        let (calls, (mailbox, mut came)) = (Arc::new(Calls::default()), mpsc::unbounded_channel());
        calls.wait_together(7, (0..99).map(|number| (number, in_ms(1))), &mailbox);
        EndsCalls(calls).end("it was to");
        let mut told = Vec::new();
        while let Ok((number, _)) = came.try_recv() {
            told.push(number);
        }
        assert!(told.iter().copied().eq(0..99), "{told:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_was_answered_or_dropped_leaves_nothing_to_look_for() {
        let calls = Calls::default();
        let (first, second) = (calls.wait(1, in_ms(10)).unwrap(), calls.wait(2, in_ms(20)).unwrap());
        calls.hand_over(1, ReplyBody::Settled);
        assert!(matches!(first.await, Came::Reply(ReplyBody::Settled)));
        drop(second);
        let never = tokio::time::timeout(Duration::from_secs(9), calls.give_up_late()).await;
        assert!(never.is_err());
        assert_eq!(
            calls.state().next_look,
            None,
            "it was looked once, and there is nothing more to look for"
        );
    }
}

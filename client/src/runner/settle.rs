//! Tells participants of ends, in batches, and repeats it until every one of them has confirmed.
//!
//! An end is durable before anyone is told to settle it. Only settling lets a saga's locks go.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use like_protocol::failpoint::{Failpoint, reach};
use like_protocol::ids::{SagaId, StepId};
use like_protocol::message::{ReplyBody, RequestBody, SETTLEMENTS_MAX, Settlement, Unsettleable};
use like_protocol::time::DEADLINE_AHEAD_MAX;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;

use super::context::Context;
use super::drive::whose;
use super::pace::{Pace, SLOW};
use super::run::lock;
use crate::log::{LogEnded, Position, SagaLog};
use crate::saga::settlement::settlements;
use crate::saga::{Event, ParticipantAt, SagaState};

/// How long an end waits for requests that its settlement can go with, unless somebody waits for it. Settlements leave within
/// 10 ms of the durable end; the rest of those is for the sync. A longer wait makes fewer syncs, here and at both participants,
/// and holds locks longer.
const GATHER: Duration = Duration::from_millis(4);

/// One saga that has ended.
pub(super) struct Ended {
    pub saga: SagaId,
    /// Whether an earlier runner left it.
    pub left: bool,
    /// Where it stands.
    pub state: Arc<SagaState>,
    /// Its end was written at or before this.
    pub position: Position,
}

/// A settlement that stays to be made, since trying again is in vain until a person has seen to something.
pub(super) struct InVain {
    id: StepId,
    why: String,
}

/// How many sagas are not settled yet.
#[derive(Default)]
struct Unsettled {
    all: usize,
    /// Those that were tried, of which something can't be settled until a person has seen to it.
    in_vain: usize,
}

/// Settles what it is given, in the background, until it is dropped or stopped.
pub(super) struct Settler {
    ended: mpsc::UnboundedSender<Ended>,
    unsettled: Arc<watch::Sender<Unsettled>>,
    /// How many wait until everything is settled: while somebody does, nothing is gathered.
    awaited: Arc<watch::Sender<usize>>,
    /// Wakes who gathers: requests are about to leave for the participants, and settlements can go with them.
    leaving: Arc<Notify>,
    tasks: Mutex<JoinSet<()>>,
}

impl Settler {
    pub fn start(context: Context, log: SagaLog) -> Self {
        let (ended, inbox) = mpsc::unbounded_channel();
        let (unsettled, awaited) = (Arc::new(watch::Sender::default()), Arc::new(watch::Sender::new(0)));
        let mut tasks = JoinSet::new();
        let leaving = Arc::new(Notify::new());
        tasks.spawn(gather(
            context,
            log,
            inbox,
            Arc::clone(&unsettled),
            awaited.subscribe(),
            leaving.clone(),
        ));
        Self { ended, unsettled, awaited, leaving, tasks: Mutex::new(tasks) }
    }

    /// Has what was gathered so far settled together with what is about to leave for the participants.
    pub fn go_with(&self) {
        self.leaving.notify_waiters();
    }

    /// Settles sagas that have ended.
    pub fn settle(&self, ended: impl ExactSizeIterator<Item = Ended>) {
        self.unsettled.send_modify(|unsettled| unsettled.all += ended.len());
        // The task that receives lives as long as this, or was stopped: then the log says what is unsettled.
        ended.for_each(|ended| drop(self.ended.send(ended)));
    }

    /// Waits until everything given so far is settled, and is true then; or until what is left was tried in vain.
    pub async fn idle(&self) -> bool {
        let _awaited = Awaited::count(&self.awaited);
        let mut unsettled = self.unsettled.subscribe();
        unsettled.wait_for(|left| left.all == left.in_vain).await.is_ok_and(|left| left.all == 0)
    }

    pub fn stop(&self) {
        lock(&self.tasks).abort_all();
    }
}

/// Somebody who waits until everything is settled.
struct Awaited<'a>(&'a watch::Sender<usize>);

impl<'a> Awaited<'a> {
    fn count(awaited: &'a watch::Sender<usize>) -> Self {
        awaited.send_modify(|awaited| *awaited += 1);
        Self(awaited)
    }
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|awaited| *awaited -= 1);
    }
}

/// Collects ends for a moment, and settles each collection in a task of its own.
async fn gather(
    context: Context,
    log: SagaLog,
    mut inbox: mpsc::UnboundedReceiver<Ended>,
    unsettled: Arc<watch::Sender<Unsettled>>,
    mut awaited: watch::Receiver<usize>,
    leaving: Arc<Notify>,
) {
    let mut batches = JoinSet::new();
    while let Some(ended) = next_batch(&mut inbox, &mut awaited, &leaving).await {
        while batches.try_join_next().is_some() {}
        let (context, log, unsettled) = (context.clone(), log.clone(), Arc::clone(&unsettled));
        let mut settling = Box::pin(async move {
            if let Err(e) = settle_batch(&context, &log, ended, &unsettled).await {
                tracing::debug!("settlement ends with its log: {e}");
            }
        });
        // What can be sent at once goes with what others send in this moment.
        if futures::poll!(&mut settling).is_pending() {
            batches.spawn(settling);
        }
    }
}

/// The next ends that are settled together; none once there will be no more. As many as there can be do not wait for others: who
/// settled fewer than end would be ever further behind.
async fn next_batch(
    inbox: &mut mpsc::UnboundedReceiver<Ended>,
    awaited: &mut watch::Receiver<usize>,
    leaving: &Notify,
) -> Option<Vec<Ended>> {
    let mut batch = Vec::new();
    if inbox.recv_many(&mut batch, SETTLEMENTS_MAX).await == 0 {
        return None;
    }
    if batch.len() < SETTLEMENTS_MAX {
        tokio::select! {
            () = tokio::time::sleep(GATHER) => {}
            _ = awaited.wait_for(|awaited| *awaited > 0) => {}
            () = leaving.notified() => {}
        }
    }
    while batch.len() < SETTLEMENTS_MAX {
        let Ok(ended) = inbox.try_recv() else { break };
        batch.push(ended);
    }
    Some(batch)
}

async fn settle_batch(
    context: &Context,
    log: &SagaLog,
    mut batch: Vec<Ended>,
    unsettled: &watch::Sender<Unsettled>,
) -> Result<(), LogEnded> {
    if let Some(last) = batch.iter().map(|ended| ended.position).max() {
        log.durable(last).await?;
    }
    reach(Failpoint::EndSynced);
    let mut were_in_vain = 0;
    loop {
        let in_the_way = tell_all(context, log, &batch).await?;
        reach(Failpoint::SettleReplied);
        let is_left = |ended: &Ended| in_the_way.iter().any(|left| left.id.saga == ended.saga);
        let settled = batch.iter().filter(|ended| !is_left(ended));
        let appended = log.append_all(settled.map(|ended| (ended.saga, Event::Settled)))?;
        log.written(appended).await?;
        reach(Failpoint::SettledWritten);
        let many = batch.len();
        batch.retain(is_left);
        for InVain { id, why } in in_the_way {
            let left = batch.iter().any(|ended| ended.saga == id.saga && ended.left);
            tracing::error!(
                saga_id = %id.saga, step = id.step, needs_attention = true,
                "{}can't be settled: an operator is needed: {why}", whose(left)
            );
        }
        // Not before it was said: who waits for this may end the process.
        unsettled.send_modify(|unsettled| {
            unsettled.all -= many - batch.len();
            unsettled.in_vain += batch.len();
            unsettled.in_vain -= were_in_vain;
        });
        were_in_vain = batch.len();
        if batch.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(SLOW).await;
    }
}

/// What each participant is told of a saga's end. Its kind need not be known here: an end can be told without knowing what the
/// steps were about.
fn parts(context: &Context, ended: &Ended) -> Vec<(ParticipantAt, Settlement)> {
    let state = &ended.state;
    let definition = context.definition_of(&state.begun).map(AsRef::as_ref);
    let mut parts = settlements(ended.saga, state, definition);
    if state.quarantined.is_some() {
        // What is lost of it may have been a new deadline. None lies further ahead than this.
        let latest = context.clock.now().deadline_in(DEADLINE_AHEAD_MAX);
        parts.iter_mut().for_each(|(_, settlement)| settlement.deadline = latest);
    }
    parts
}

/// Tells every participant of a batch; what can't be settled is left.
async fn tell_all(context: &Context, log: &SagaLog, batch: &[Ended]) -> Result<Vec<InVain>, LogEnded> {
    // By participant; the store belongs to its name, since sagas of different stores may meet in one batch.
    let mut by_participant: BTreeMap<_, Vec<Settlement>> = BTreeMap::new();
    for (participant, settlement) in batch.iter().flat_map(|ended| parts(context, ended)) {
        by_participant.entry((participant.role, participant.store)).or_default().push(settlement);
    }
    let told = by_participant.into_iter().flat_map(|((role, store), settlements)| {
        let participant = ParticipantAt { role, store };
        let chunks: Vec<_> = settlements.chunks(SETTLEMENTS_MAX).map(<[Settlement]>::to_vec).collect();
        chunks.into_iter().map(move |chunk| tell(context, log, participant.clone(), chunk))
    });
    Ok(futures::future::try_join_all(told).await?.into_iter().flatten().collect())
}

/// Tells one participant, again and again until it confirms all that it can; the rest is returned.
async fn tell(
    context: &Context,
    log: &SagaLog,
    participant: ParticipantAt,
    settlements: Vec<Settlement>,
) -> Result<Vec<InVain>, LogEnded> {
    let mut pace = Pace::of_compensation();
    loop {
        if let Some(ended) = log.ended() {
            return Err(ended);
        }
        match tell_once(context, participant.clone(), settlements.clone()).await {
            Ok(left) => return Ok(left),
            Err(why) => tracing::debug!(role = %participant.role, "settlement not confirmed: {why}"),
        }
        tokio::time::sleep(pace.next()).await;
    }
}

/// Tells one participant once. Everything is settled there then, but for what is returned: nothing at all, if it is not known
/// here, or has another store than these sagas began with.
pub(super) async fn tell_once(
    context: &Context,
    participant: ParticipantAt,
    settlements: Vec<Settlement>,
) -> Result<Vec<InVain>, String> {
    let in_vain = |why: String| {
        let all = settlements.iter().map(|left| InVain { id: left.id, why: why.clone() });
        Ok(all.collect())
    };
    let role = participant.role;
    let Some(remote) = context.participants.find(&role) else {
        return in_vain(format!("no {role} service is known here"));
    };
    let within = context.options.attempt_timeout;
    let connection = remote.connect(within).await.map_err(|e| e.to_string())?;
    let found = connection.welcome().store;
    if participant.store.is_some_and(|expected| expected != found) {
        return in_vain(format!("the {role} service has another store now: {found}"));
    }
    match connection.call(RequestBody::Settle(settlements), within).await {
        Ok(ReplyBody::Settled) => Ok(Vec::new()),
        Ok(ReplyBody::SettledBut(left)) => {
            let in_vain = |Unsettleable { id, damaged }| InVain { id, why: damaged.to_string() };
            Ok(left.into_iter().map(in_vain).collect())
        }
        Ok(other) => Err(format!("answered {other:?}")),
        Err(lost) => Err(lost.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::saga::tests::begun;

    #[tokio::test(start_paused = true)]
    async fn only_a_batch_that_has_room_waits_for_more_and_not_while_somebody_waits_for_it() {
        let (ended, mut inbox) = mpsc::unbounded_channel();
        let ((waits, mut awaited), leaving) = (watch::channel(0), Notify::new());
        let log = crate::log::Position::default();
        let end = |number| {
            let saga = SagaId::from_bytes([number; 16]);
            let state = Arc::new(SagaState::begin(Arc::new(begun())));
            ended.send(Ended { saga, left: false, state, position: log }).unwrap();
        };
        let began = Instant::now();
        (0..=u8::MAX).chain(0..=u8::MAX).chain(0..9).for_each(&end);
        let mut next = async || {
            let batch = next_batch(&mut inbox, &mut awaited, &leaving).await.map(|batch| batch.len());
            (batch, began.elapsed().as_millis())
        };
        assert_eq!(next().await, (Some(SETTLEMENTS_MAX), 0));
        assert_eq!(next().await, (Some(SETTLEMENTS_MAX), 0));
        let (batch, at_ms) = next().await;
        assert_eq!(batch, Some(9));
        assert!(at_ms >= GATHER.as_millis(), "it did not wait for more: {at_ms} ms");
        end(1);
        let (batch, _) = futures::join!(next(), async {
            tokio::time::sleep(GATHER / 2).await;
            end(2);
        });
        assert_eq!(batch.0, Some(2), "what came while it waited waits for the next one");
        let at_ms = began.elapsed().as_millis();
        waits.send_modify(|waiting| *waiting += 1);
        end(1);
        assert_eq!(next().await, (Some(1), at_ms));
        drop(ended);
        assert_eq!(next().await.0, None);
    }
}

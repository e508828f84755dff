//! One connection: requests and replies, pipelined, matched by id.
//!
//! One task owns the stream. It writes what callers hand over, everything that waits in one flush, reads replies and
//! hands them to the callers that wait, and gives up those that have waited for too long. When the stream ends, either way,
//! every waiting call fails at once.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::{FutureExt, SinkExt, StreamExt};
use like_protocol::codec::{ReplyReader, RequestWriter};
use like_protocol::message::{
    ClientHello, FromDaemon, MAGIC, PROTOCOL_VERSION, Reply, ReplyBody, Request, RequestBody, ToDaemon,
    Welcome,
};
use smallvec::{SmallVec, smallvec};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::{Instant, timeout_at};

use super::calls::{Calls, Came, EndsCalls, Mailbox};
use super::error::Lost;

/// How many requests may wait for a peer that does not read, those that were made together counting as one. Past it callers wait,
/// each for as long as its own limit.
const OUTBOX_MAX: usize = 1024;

/// How many requests leave in one flush at most, those that were made together counting as one.
const FLUSH_MAX: usize = 256;

/// How many calls that are made together have their replies handed over together: who makes more is answered in parts.
pub const TOGETHER_MAX: usize = 256;

/// After how many replies those who waited for them get their turn, though more are at hand: what they ask next is on its way
/// sooner, and what they work with still in the processor's cache. Replies to what was made together, and to some single requests
/// of that moment, stay together: what goes together goes on together.
const BURST_REPLIES_MAX: usize = TOGETHER_MAX + 16;

/// Nobody waits longer for a reply, whatever limit is given: a moment that far ahead can still be told.
pub const WITHIN_MAX: Duration = Duration::from_secs(24 * 3600);

/// A connection whose hello has been read and checked. Clones share it; the last one that goes closes it.
#[derive(Clone)]
pub struct Connection {
    shared: Arc<Shared>,
}

/// What a request rests on: makes sure of it in the moment before the request leaves. If it can't, the request stays.
pub type Grounds = Box<dyn FnOnce() -> bool + Send>;

/// Requests on their way out together.
struct Leaving {
    requests: SmallVec<[Request; 1]>,
    grounds: Option<Grounds>,
}

/// One of several calls that are made together.
pub struct Asked {
    /// Tells it from the others.
    pub number: u64,
    /// What is asked.
    pub body: RequestBody,
    /// How long its reply may take.
    pub within: Duration,
}

struct Shared {
    role: &'static str,
    welcome: Welcome,
    outbox: mpsc::Sender<Leaving>,
    next_id: AtomicU64,
    calls: Arc<Calls>,
}

impl Connection {
    /// Takes over a stream whose hello has been read. Must be called within a tokio runtime.
    pub(super) fn start<R, W>(
        role: &'static str,
        welcome: Welcome,
        reader: ReplyReader<R>,
        writer: RequestWriter<W>,
    ) -> Self
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let (outbox, requests) = mpsc::channel(OUTBOX_MAX);
        let calls = Arc::new(Calls::default());
        tokio::spawn(drive(reader, writer, requests, EndsCalls(calls.clone())));
        Self { shared: Arc::new(Shared { role, welcome, outbox, next_id: AtomicU64::new(0), calls }) }
    }

    /// What the daemon said first.
    pub fn welcome(&self) -> &Welcome {
        &self.shared.welcome
    }

    /// Whether the stream still stands, as far as is known.
    pub fn is_open(&self) -> bool {
        !self.shared.calls.have_ended()
    }

    /// Whether no call waits for its reply.
    pub fn is_quiet(&self) -> bool {
        self.shared.calls.waiting() == 0
    }

    /// Sends one request and awaits its reply. Dropping the future gives up waiting and harms nothing: the request may
    /// or may not be sent, and its reply is ignored.
    ///
    /// # Errors
    /// [`Lost`]: no reply within `within`, or the stream ended. The request may have run, may run later, or never.
    pub fn call(&self, body: RequestBody, within: Duration) -> impl Future<Output = Result<ReplyBody, Lost>> {
        self.exchange(body, None, within)
    }

    /// The same for a request that leaves only on these grounds. Without them it is [`Lost`] too.
    ///
    /// # Errors
    /// As [`Connection::call`].
    pub fn call_on(
        &self,
        grounds: Grounds,
        body: RequestBody,
        within: Duration,
    ) -> impl Future<Output = Result<ReplyBody, Lost>> {
        self.exchange(body, Some(grounds), within)
    }

    fn exchange(
        &self,
        body: RequestBody,
        grounds: Option<Grounds>,
        within: Duration,
    ) -> impl Future<Output = Result<ReplyBody, Lost>> {
        let id = self.shared.next_id.fetch_add(1, Ordering::Relaxed);
        let until = Instant::now() + within.min(WITHIN_MAX);
        let waiting = self.shared.calls.wait(id, until);
        // Neither the request lives in the future, which would be as large, nor what waits for room, unless the outbox is full.
        let requests = smallvec![Request { id, body }];
        let late = match self.shared.outbox.try_send(Leaving { requests, grounds }) {
            Err(TrySendError::Full(leaving)) => {
                Some(Box::pin(timeout_at(until, self.shared.outbox.send(leaving))))
            }
            Ok(()) | Err(TrySendError::Closed(_)) => None,
        };
        async move {
            let Some(waiting) = waiting else { return Err(self.ended()) };
            if let Some(late) = late {
                match late.await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return Err(self.ended()),
                    Err(_) => return Err(Lost::timeout(self.shared.role, within)),
                }
            }
            self.came(waiting.await, within)
        }
    }

    /// Sends requests that leave together, on these grounds; what came of each is put into the mailbox under its number. If the
    /// peer reads so slowly that none can be handed over, or the grounds fail, nothing comes of any.
    pub fn call_together(&self, grounds: Grounds, calls: Vec<Asked>, mailbox: &Mailbox) {
        let first_id = self.shared.next_id.fetch_add(calls.len() as u64, Ordering::Relaxed);
        let now = Instant::now();
        let waiting = calls.iter().map(|call| (call.number, now + call.within.min(WITHIN_MAX)));
        self.shared.calls.wait_together(first_id, waiting, mailbox);
        let requests = (first_id..).zip(calls).map(|(id, call)| Request { id, body: call.body });
        let leaving = Leaving { requests: requests.collect(), grounds: Some(grounds) };
        if let Err(TrySendError::Full(leaving) | TrySendError::Closed(leaving)) =
            self.shared.outbox.try_send(leaving)
        {
            leaving.requests.iter().for_each(|request| self.shared.calls.drop_call(request.id));
        }
    }

    /// What a call that had to be answered within that time has come to.
    ///
    /// # Errors
    /// As [`Connection::call`].
    pub fn came(&self, came: Came, within: Duration) -> Result<ReplyBody, Lost> {
        match came {
            Came::Reply(reply) => Ok(reply),
            Came::TooLate => Err(Lost::timeout(self.shared.role, within)),
            Came::Nothing => Err(self.ended()),
        }
    }

    fn ended(&self) -> Lost {
        Lost::closed(self.shared.role, &self.shared.calls.why_ended())
    }

    #[cfg(test)]
    pub(super) fn calls_waiting(&self) -> usize {
        self.shared.calls.waiting()
    }
}

async fn drive<R, W>(
    reader: ReplyReader<R>,
    writer: RequestWriter<W>,
    requests: mpsc::Receiver<Leaving>,
    calls: EndsCalls,
) where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let ended = tokio::select! {
        biased;
        ended = read_replies(reader, &calls.0) => ended,
        ended = write_requests(writer, requests, &calls.0) => ended,
        never = calls.0.give_up_late() => match never {},
    };
    match ended {
        Ok(()) => calls.end("the peer closed it"),
        Err(error) => calls.end(&error.to_string()),
    }
}

async fn read_replies<R: AsyncRead + Unpin>(mut reader: ReplyReader<R>, calls: &Calls) -> io::Result<()> {
    let mut in_burst = 0;
    loop {
        let next = match reader.next().now_or_never() {
            Some(at_hand) => at_hand,
            None => {
                in_burst = 0;
                reader.next().await
            }
        };
        let Some(message) = next else { return Ok(()) };
        if in_burst == BURST_REPLIES_MAX {
            in_burst = 0;
            tokio::task::yield_now().await;
        }
        in_burst += 1;
        let FromDaemon::Reply(Reply { id, body }) = message? else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a second hello came"));
        };
        calls.hand_over(id, body);
    }
}

async fn write_requests<W: AsyncWrite + Unpin>(
    mut writer: RequestWriter<W>,
    mut requests: mpsc::Receiver<Leaving>,
    calls: &Calls,
) -> io::Result<()> {
    let software = format!("{} {}", env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
    let hello = ClientHello { magic: MAGIC, protocol: PROTOCOL_VERSION, software };
    writer.send(ToDaemon::Hello(hello)).await?;
    let mut gathered = Vec::with_capacity(FLUSH_MAX);
    while requests.recv_many(&mut gathered, FLUSH_MAX).await > 0 {
        for Leaving { mut requests, grounds } in gathered.drain(..) {
            // Where nobody waits for it any more, it would only be repeated work for the daemon.
            calls.keep_wanted(&mut requests);
            if requests.is_empty() {
                continue;
            }
            let leave = grounds.is_none_or(|are_so| are_so());
            for request in requests {
                if leave {
                    writer.feed(ToDaemon::Request(request)).await?;
                } else {
                    calls.drop_call(request.id);
                }
            }
        }
        writer.flush().await?;
    }
    Ok(())
}

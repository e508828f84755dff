//! One connection: hello, then requests in and replies out until one side ends it.
//!
//! One task does both directions. While it sends it does not read, so a client that does not take its replies is not
//! listened to either; and it has only so many requests on their way. What a peer can make a session hold on to is
//! bounded by that, by the length of a frame, and by [`crate::commit::unsent`].

use std::io;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, SinkExt, StreamExt};
use like_protocol::codec::{ReplyWriter, RequestReader, daemon_end};
use like_protocol::message::{
    ClientHello, FromDaemon, MAGIC, PROTOCOL_VERSION, Reply, ReplyBody, Request, ServerHello, ToDaemon,
    TurnedAway, Welcome,
};
use like_protocol::time::Clock;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tracing::debug;

use crate::commit::writer::Identity;
use crate::commit::{Answer, Job, Mailbox, Queue};

/// How long a peer may take to say hello.
pub const HELLO_WAIT_MAX: Duration = Duration::from_secs(10);

/// How long a peer may take none of the replies that are ready for it.
pub const SEND_STALL_MAX: Duration = Duration::from_secs(30);

/// How many bytes of replies are gathered before they are sent, as the writer of frames has it by itself: what is gathered counts as
/// unsent.
const GATHERED_BYTES_MAX: usize = 8 * 1024;

/// How many bytes of memory for replies a session keeps while it waits: more than most replies take. What a long one took is not
/// kept for the next, which may come in hours, or never: there may be thousands of sessions.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// For how many answers a session keeps room while it waits.
const KEPT_ANSWERS_MAX: usize = 16;

/// How many requests of one session may be on their way. What comes then stays in the socket.
pub const IN_FLIGHT_MAX: usize = 1024;

/// What all sessions of a daemon share.
pub struct Service {
    /// Where requests go.
    pub queue: Arc<Queue>,
    /// Who this daemon is.
    pub identity: Identity,
    /// The clock that clients compare with their own.
    pub clock: Arc<dyn Clock>,
}

/// Why a session ended other than by its peer closing the connection.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The connection broke, or what came on it was no message.
    #[error("{0}")]
    Broken(#[from] io::Error),
    /// The peer said no proper hello.
    #[error("the peer said no hello that this daemon understands: {0}")]
    NoHello(&'static str),
    /// The peer speaks another version.
    #[error("the peer speaks protocol {0}, and this daemon {PROTOCOL_VERSION}")]
    OtherProtocol(u16),
    /// A message came that has no place after the hello.
    #[error("the peer said hello twice")]
    SecondHello,
    /// The peer takes no replies.
    #[error("the peer has taken no reply for {} s", SEND_STALL_MAX.as_secs())]
    Stalled,
}

/// Serves one connection until its peer is done, it breaks, or `closing` turns true; then what the writer has
/// answered by that moment is still sent.
///
/// # Errors
/// See [`SessionError`]. Nothing but this session is touched by any of them.
pub async fn serve<R, W>(
    read: R,
    write: W,
    service: Arc<Service>,
    mut closing: watch::Receiver<bool>,
) -> Result<(), SessionError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let (mut requests, mut replies) = daemon_end(read, write);
    let hello = tokio::select! {
        biased;
        hello = greet(&mut requests, &mut replies, &service) => hello?,
        () = closed(&mut closing) => return Ok(()),
    };
    let Some(hello) = hello else { return Ok(()) };
    debug!(peer = hello.software, "a session begins");
    let (session, answers) = Mailbox::open();
    Session { requests, replies, queue: &service.queue, session, answers, in_flight: 0 }.run(closing).await
}

/// What a peer that is not served is told: a hello that says why, as it is sent.
///
/// # Errors
/// It can't be encoded.
pub fn turned_away(away: TurnedAway) -> io::Result<Vec<u8>> {
    let mut frame = Vec::new();
    let (_, mut replies) = daemon_end(tokio::io::empty(), &mut frame);
    let hello = FromDaemon::Hello(ServerHello::Turned { magic: MAGIC, away });
    // Memory has room at once.
    replies.send(hello).now_or_never().unwrap_or_else(|| Err(io::ErrorKind::WouldBlock.into()))?;
    drop(replies);
    Ok(frame)
}

/// Says hello and hears it. Nothing if the peer went away without a word.
async fn greet<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    requests: &mut RequestReader<R>,
    replies: &mut ReplyWriter<W>,
    service: &Service,
) -> Result<Option<ClientHello>, SessionError> {
    let welcome = Welcome {
        magic: MAGIC,
        protocol: PROTOCOL_VERSION,
        role: service.identity.role.to_owned(),
        store: service.identity.store,
        now: service.clock.now(),
        software: service.identity.software.clone(),
    };
    within_stall(replies.send(FromDaemon::Hello(ServerHello::Welcome(welcome)))).await?;
    let first = timeout(HELLO_WAIT_MAX, requests.next())
        .await
        .map_err(|_| SessionError::NoHello("none came in time"))?;
    match first.transpose()? {
        None => Ok(None),
        Some(ToDaemon::Request(_)) => Err(SessionError::NoHello("a request came first")),
        Some(ToDaemon::Hello(hello)) if hello.magic != MAGIC => Err(SessionError::NoHello("wrong magic")),
        Some(ToDaemon::Hello(hello)) if hello.protocol != PROTOCOL_VERSION => {
            Err(SessionError::OtherProtocol(hello.protocol))
        }
        Some(ToDaemon::Hello(hello)) => Ok(Some(hello)),
    }
}

struct Session<'a, R, W> {
    requests: RequestReader<R>,
    replies: ReplyWriter<W>,
    queue: &'a Queue,
    session: Arc<Mailbox>,
    answers: mpsc::UnboundedReceiver<Answer>,
    in_flight: usize,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Session<'_, R, W> {
    async fn run(mut self, mut closing: watch::Receiver<bool>) -> Result<(), SessionError> {
        let mut peer_is_done = false;
        let mut answered = Vec::new();
        while !peer_is_done || self.in_flight > 0 {
            tokio::select! {
                biased;
                _ = self.answers.recv_many(&mut answered, IN_FLIGHT_MAX), if self.in_flight > 0 => {
                    self.send(&mut answered).await?;
                }
                request = self.requests.next(), if !peer_is_done && self.in_flight < IN_FLIGHT_MAX => {
                    match request.transpose()? {
                        None => peer_is_done = true,
                        Some(ToDaemon::Hello(_)) => return Err(SessionError::SecondHello),
                        Some(ToDaemon::Request(request)) => self.submit(request).await?,
                    }
                }
                () = closed(&mut closing) => {
                    while let Ok(answer) = self.answers.try_recv() {
                        answered.push(answer);
                    }
                    return self.send(&mut answered).await;
                }
            }
        }
        Ok(())
    }

    /// Hands a request to the writer, or tells the peer at once why not.
    async fn submit(&mut self, request: Request) -> Result<(), SessionError> {
        match self.queue.submit(Job { request, session: Arc::clone(&self.session) }, self.in_flight) {
            Ok(()) => {
                self.in_flight += 1;
                Ok(())
            }
            Err((job, reason)) => {
                let reply = Reply { id: job.request.id, body: ReplyBody::Retry(reason) };
                within_stall(self.replies.send(FromDaemon::Reply(reply))).await
            }
        }
    }

    /// Sends everything that is ready, in as few writes as it fits.
    async fn send(&mut self, answered: &mut Vec<Answer>) -> Result<(), SessionError> {
        let mut gathered = Vec::new();
        for Answer { reply, unsent } in answered.drain(..) {
            self.in_flight -= 1;
            within_stall(self.replies.feed(FromDaemon::Reply(reply))).await?;
            gathered.push(unsent);
            let bytes = self.replies.get_ref().write_buffer().len();
            if bytes >= GATHERED_BYTES_MAX {
                within_stall(self.replies.flush()).await?;
                gathered.clear();
            }
            if bytes > KEPT_BYTES_MAX {
                drop(mem::take(self.replies.get_mut().write_buffer_mut()));
            }
        }
        if self.in_flight == 0 {
            answered.shrink_to(KEPT_ANSWERS_MAX);
        }
        within_stall(self.replies.flush()).await
    }
}

async fn within_stall(sending: impl Future<Output = io::Result<()>>) -> Result<(), SessionError> {
    timeout(SEND_STALL_MAX, sending).await.map_err(|_| SessionError::Stalled)?.map_err(SessionError::Broken)
}

/// Returns when sessions are to close. Should whoever says so be gone, that is the time too.
async fn closed(closing: &mut watch::Receiver<bool>) {
    let _gone = closing.wait_for(|closing| *closing).await;
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;

//! Accepts connections and turns away whom it must.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use like_protocol::message::TurnedAway;
use like_protocol::socket::Socket;
use rustix::net::SendFlags;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{debug, info, warn};

use super::peer::{Allowed, Peer};
use super::session::{self, Service, SessionError};
use crate::commit::Gauges;

/// How long to wait after an accept that failed. Most such errors mean that descriptors or memory ran out, and trying
/// again at once would only burn time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What it takes to accept connections.
pub struct Server {
    /// What sessions share.
    pub service: Arc<Service>,
    /// Who may speak.
    pub allowed: Allowed,
    /// How many connections may be open.
    pub connections_max: u32,
    /// Where open connections are counted.
    pub gauges: Arc<Gauges>,
}

impl Server {
    /// Accepts until `stop` is done, then closes the listener and returns the sessions that are still open; they end
    /// when `closing` turns true. Connections that were not accepted stay with the socket, if somebody else holds
    /// it as well (systemd does).
    pub async fn run(
        self,
        listener: UnixListener,
        stop: impl Future<Output = ()>,
        closing: watch::Receiver<bool>,
    ) -> JoinSet<()> {
        let server = Arc::new(self);
        let mut sessions = JoinSet::new();
        tokio::pin!(stop);
        loop {
            tokio::select! {
                biased;
                () = &mut stop => return sessions,
                Some(_ended) = sessions.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        if let Some(open) = server.admit(&stream) {
                            sessions.spawn(server.clone().connection(stream, open, closing.clone()));
                        }
                    }
                    Err(e) => {
                        warn!("can't accept a connection, trying again: {e}");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }

    async fn connection(self: Arc<Self>, stream: UnixStream, _open: Open, closing: watch::Receiver<bool>) {
        match self.session(stream, closing).await {
            Ok(()) => debug!("a session ended"),
            Err(SessionError::Broken(e)) if is_ordinary(&e) => debug!("a session ended: {e}"),
            Err(e) => warn!("a session was ended: {e}"),
        }
    }

    async fn session(&self, stream: UnixStream, closing: watch::Receiver<bool>) -> Result<(), SessionError> {
        let (read, write) = tokio::io::split(Socket::new(stream)?);
        session::serve(read, write, self.service.clone(), closing).await
    }

    /// Counts a connection in, if its peer is allowed and there is room. Else the peer is told why not.
    ///
    /// All of that happens before the next connection is accepted: left to a task each, a burst of connections would hold
    /// far more descriptors than are allowed to be open.
    fn admit(&self, stream: &UnixStream) -> Option<Open> {
        let open = Open::count(self.gauges.clone());
        let told = match self.refusal(stream, open.others) {
            Ok(None) => return Some(open),
            Ok(Some(away)) => tell(stream, away),
            Err(e) => Err(e),
        };
        match told {
            Ok(()) => debug!("a peer was told why it is turned away"),
            Err(e) if is_ordinary(&e) => debug!("a peer did not wait to be turned away: {e}"),
            Err(e) => warn!("a peer could not be told why it is turned away: {e}"),
        }
        None
    }

    /// Why the peer is not served, if so, while so many others are connected.
    fn refusal(&self, stream: &UnixStream, others: u32) -> io::Result<Option<TurnedAway>> {
        let peer = Peer::of(stream)?;
        if !self.allowed.admits(&peer) {
            info!(
                uid = peer.uid,
                pid = peer.pid,
                "turned away: neither the user nor one of its groups is allowed"
            );
            return Ok(Some(TurnedAway::NotAllowed));
        }
        if others >= self.connections_max {
            info!(
                uid = peer.uid,
                pid = peer.pid,
                connections = others,
                "turned away: as many connections as allowed are open"
            );
            return Ok(Some(TurnedAway::TooManyConnections));
        }
        Ok(None)
    }
}

/// Tells a peer why it is not served, without waiting for it: it has taken nothing yet, so there is room for a few bytes.
fn tell(stream: &UnixStream, away: TurnedAway) -> io::Result<()> {
    let frame = session::turned_away(away)?;
    rustix::net::send(stream, &frame, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?;
    Ok(())
}

/// One connection in the count of open ones.
struct Open {
    gauges: Arc<Gauges>,
    others: u32,
}

impl Open {
    fn count(gauges: Arc<Gauges>) -> Self {
        let others = gauges.connections.fetch_add(1, Ordering::Relaxed);
        Self { gauges, others }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.gauges.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether an error is only the peer's going away, which peers may do at any time.
fn is_ordinary(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

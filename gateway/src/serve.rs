//! Connections and their limits.
//!
//! HTTP/1.1, one request at a time on a connection. A client gets only so long for its head and its body, and only so
//! long to take its answer; whoever comes when all connections are taken is turned away at once, with an answer.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use like_process::socket::SocketFile;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::listen::{Accepted, Listener};
use crate::stall::Stalling;

/// How long a client may take to send a request's head; also how long an idle connection is kept.
pub const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// The longest head, in bytes. Nothing that anybody needs here comes near.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// The most header lines in a head.
pub const HEADERS_MAX: usize = 64;
/// How long a client may take nothing of an answer.
const STALL_MAX: Duration = Duration::from_secs(30);
/// How long it is waited before accepting is tried again when the system has no room.
const NO_ROOM_PAUSE: Duration = Duration::from_millis(50);

/// How long a client that is turned away may take to hear it.
const TURN_AWAY_WITHIN: Duration = Duration::from_secs(1);
/// How many clients are told at once that there is no room.
const TURNED_AWAY_MAX: usize = 64;

/// What is said to a client that comes when all connections are taken: a problem document as the others.
const TURNED_AWAY: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\n\
retry-after: 1\r\nconnection: close\r\ncontent-length: 139\r\n\r\n\
{\"type\":\"urn:like:problem:busy\",\"kind\":\"busy\",\"title\":\"No room right now\",\"status\":503,\
\"detail\":\"as many clients as allowed are connected\"}";

/// Who is at the other end of a connection, as far as the system tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Peer {
    /// Somebody on the network.
    Tcp,
    /// A process of this user on this host.
    Unix {
        /// Its effective user when it connected.
        uid: u32,
    },
    /// A process on this host whose user the system does not tell.
    Unknown,
}

/// Accepts connections and serves each until `stop`, then lets every one of them finish the request it is about with,
/// for at most `grace`. Returns the file of its own socket, which has still to be removed.
pub async fn serve(
    listener: Listener,
    app: Router,
    connections_max: u32,
    stop: CancellationToken,
    mut beat: impl FnMut(),
    beat_every: Duration,
    grace: Duration,
) -> Option<SocketFile> {
    let room = Arc::new(Semaphore::new(connections_max as usize));
    let turned_away = Arc::new(Semaphore::new(TURNED_AWAY_MAX));
    let open = TaskTracker::new();
    let mut beats = tokio::time::interval(beat_every);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = beats.tick() => {
                beat();
                continue;
            }
            () = stop.cancelled() => break,
        };
        match (accepted, Arc::clone(&room).try_acquire_owned()) {
            (Ok(accepted), Ok(permit)) => {
                open.spawn(connection(accepted, app.clone(), permit, stop.clone()));
            }
            (Ok(accepted), Err(_)) => {
                // Beyond so many, nothing is said any more.
                if let Ok(permit) = Arc::clone(&turned_away).try_acquire_owned() {
                    tokio::spawn(turn_away(accepted, permit));
                }
            }
            (Err(e), _) => {
                tracing::debug!("no connection could be accepted: {e}");
                tokio::time::sleep(NO_ROOM_PAUSE).await;
            }
        }
    }
    let own = listener.close();
    open.close();
    let drained = async {
        // The supervisor's watchdog goes on while requests are answered.
        while tokio::time::timeout(beat_every, open.wait()).await.is_err() {
            beat();
        }
    };
    if tokio::time::timeout(grace, drained).await.is_err() {
        tracing::warn!(connections = open.len(), "some clients have not taken their answers");
    }
    own
}

/// Says that there is no room, and waits a little for the client to take it: a connection that is closed with a request
/// unread takes its answer with it.
async fn turn_away(accepted: Accepted, _permit: OwnedSemaphorePermit) {
    let told = async {
        match accepted {
            Accepted::Tcp(stream) => tell_no_room(stream).await,
            Accepted::Unix(stream) => tell_no_room(stream).await,
        }
    };
    // Who is gone already, or takes nothing, is not told.
    let _not_told = tokio::time::timeout(TURN_AWAY_WITHIN, told).await;
}

async fn tell_no_room(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    stream.write_all(TURNED_AWAY.as_bytes()).await?;
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(HEAD_BYTES_MAX as u64), &mut tokio::io::sink()).await?;
    Ok(())
}

async fn connection(
    accepted: Accepted,
    app: Router,
    _permit: OwnedSemaphorePermit,
    closing: CancellationToken,
) {
    match accepted {
        Accepted::Tcp(stream) => exchange(stream, app, Peer::Tcp, closing).await,
        Accepted::Unix(stream) => {
            let peer = stream.peer_cred().map_or(Peer::Unknown, |peer| Peer::Unix { uid: peer.uid() });
            exchange(stream, app, peer, closing).await;
        }
    }
}

async fn exchange<S>(stream: S, app: Router, peer: Peer, closing: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer);
        let app = app.clone();
        async move { Ok::<_, Infallible>(app.oneshot(request).await.unwrap_or_else(|never| match never {})) }
    });
    let io = TokioIo::new(Stalling::new(stream, STALL_MAX));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(io, service);
    tokio::pin!(connection);
    let told = async {
        closing.cancelled().await;
        // What has come by now is seen first: whoever has sent a request must not lose it.
        tokio::task::yield_now().await;
    };
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = told => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(e) = ended {
        tracing::debug!("a connection ended: {e}");
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::net::UnixStream;

    use super::*;

    #[tokio::test]
    async fn who_has_asked_when_the_gateway_stops_is_answered() {
        for _ in 0..20 {
            let (near, mut far) = UnixStream::pair().unwrap();
            far.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
            let closing = CancellationToken::new();
            closing.cancel();
            let app = Router::new().route("/", get(async || "here"));
            exchange(near, app, Peer::Unknown, closing).await;
            let mut answer = String::new();
            far.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("here"), "{answer:?}");
        }
    }

    #[test]
    fn who_is_turned_away_gets_a_whole_answer() {
        let (head, body) = TURNED_AWAY.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("content-length: {}", body.len())), "{}", body.len());
        let problem: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!((&problem["status"], &problem["kind"]), (&503.into(), &"busy".into()));
    }
}

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
    let drained = tokio::time::timeout(grace, open.wait());
    if beating(drained, &mut beat, beat_every).await.is_err() {
        tracing::warn!(connections = open.len(), "some clients have not taken their answers");
    }
    own
}

/// Waits for this. The supervisor's watchdog goes on meanwhile.
pub async fn beating<T>(awaited: impl Future<Output = T>, mut beat: impl FnMut(), beat_every: Duration) -> T {
    tokio::pin!(awaited);
    loop {
        match tokio::time::timeout(beat_every, &mut awaited).await {
            Ok(come) => return come,
            Err(_) => beat(),
        }
    }
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
    use tokio::time::Instant;

    use super::*;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";

    /// A connection to a server of this answer, and how long the server serves it. The clock goes on by itself while nobody
    /// has anything to do.
    fn served(
        answer: &'static str,
        closing: CancellationToken,
    ) -> (UnixStream, impl Future<Output = Duration>) {
        let (near, far) = UnixStream::pair().unwrap();
        let app = Router::new().route("/", get(async move || answer));
        let serving = async move {
            let began = Instant::now();
            let exchange = exchange(near, app, Peer::Unknown, closing);
            tokio::time::timeout(100 * STALL_MAX, exchange).await.expect("an end");
            began.elapsed()
        };
        (far, serving)
    }

    /// What is answered to a head of so many lines and bytes.
    async fn status_of(lines: usize, length: usize) -> String {
        let (mut far, serving) = served("here", CancellationToken::new());
        let mut head = "GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n".to_owned();
        head.extend((3..lines).map(|number| format!("x-{number}: x\r\n")));
        let rest = length - head.len() - "x-rest: \r\n\r\n".len();
        head.push_str(&format!("x-rest: {}\r\n\r\n", "x".repeat(rest)));
        assert_eq!(head.len(), length);
        far.write_all(head.as_bytes()).await.unwrap();
        serving.await;
        // A head that was not read to its end takes the end of the answer with it.
        let mut answer = [0; "HTTP/1.1 200".len()];
        far.read_exact(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_may_have_so_many_lines_and_bytes_and_no_more() {
        assert_eq!(status_of(HEADERS_MAX, 1024).await, "HTTP/1.1 200");
        assert_eq!(status_of(HEADERS_MAX + 1, 1024).await, "HTTP/1.1 431");
        assert_eq!(status_of(3, HEAD_BYTES_MAX - 1).await, "HTTP/1.1 200");
        assert_eq!(status_of(3, HEAD_BYTES_MAX + 1).await, "HTTP/1.1 431");
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_of_an_answer_is_let_go() {
        let (mut far, serving) = served(String::leak("x".repeat(16 << 20)), CancellationToken::new());
        far.write_all(REQUEST).await.unwrap();
        let took = serving.await;
        assert!(took >= STALL_MAX && took < 2 * STALL_MAX, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_idle_when_the_gateway_stops_holds_it_up_no_longer() {
        let closing = CancellationToken::new();
        let (mut far, serving) = served("here", closing.clone());
        let client = async {
            far.write_all(REQUEST).await.unwrap();
            let _status = far.read_u8().await.unwrap();
            closing.cancel();
        };
        let (took, ()) = tokio::join!(serving, client);
        assert_eq!(took, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_answered_when_the_gateway_stops_is_waited_for_only_so_long_and_with_a_sign_of_life()
    {
        const GRACE: Duration = Duration::from_secs(14);
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("s");
        let listener =
            crate::listen::Listen::Own(crate::listen::Address::Unix(path.clone())).start().unwrap();
        let app = Router::new().route("/", get(std::future::pending::<String>));
        let (stop, mut beats) = (CancellationToken::new(), 0);
        let beat = || beats += 1;
        let serving = serve(listener, app, 1, stop.clone(), beat, Duration::from_secs(1), GRACE);
        let serving = tokio::time::timeout(10 * GRACE, serving);
        let client = async {
            let mut far = UnixStream::connect(&path).await.unwrap();
            far.write_all(REQUEST).await.unwrap();
            tokio::time::sleep(Duration::from_millis(500)).await;
            stop.cancel();
            (far, Instant::now())
        };
        let (_own, (_far, stopped)) = tokio::join!(serving, client);
        assert_eq!(stopped.elapsed(), GRACE);
        assert!((14..=15).contains(&beats), "{beats} signs of life");
    }

    #[tokio::test]
    async fn who_is_turned_away_hears_it_though_nobody_has_read_what_it_asks() {
        let (near, mut far) = UnixStream::pair().unwrap();
        far.write_all(REQUEST).await.unwrap();
        let client = async {
            let mut answer = String::new();
            far.read_to_string(&mut answer).await.unwrap();
            drop(far);
            answer
        };
        let (told, answer) = tokio::join!(tell_no_room(near), client);
        told.unwrap();
        assert_eq!(answer, TURNED_AWAY);
    }

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

//! The daemon's side is played by the test, over an in-memory stream.

mod hello;
mod together;

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::{join, join_all};
use futures::{FutureExt, SinkExt, StreamExt};
use like_protocol::codec::{ReplyWriter, RequestReader, daemon_end};
use like_protocol::ids::{BootId, StoreId};
use like_protocol::message::{
    FromDaemon, MAGIC, PROTOCOL_VERSION, Payload, Reply, ReplyBody, Request, RequestBody, ServerHello,
    ToDaemon, Welcome,
};
use like_protocol::time::{BootClock, Clock, Now};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split};

use super::*;

const BOOT: BootId = BootId::from_bytes([1; 16]);
const SOON: Duration = Duration::from_secs(5);
const BRIEFLY: Duration = Duration::from_millis(20);

struct FixedClock(u64);

impl Clock for FixedClock {
    fn now(&self) -> Now {
        Now { boot: BOOT, at_ms: self.0 }
    }
}

/// Hands out the streams that a test prepared, and counts the dials.
#[derive(Default)]
struct Prepared {
    streams: Mutex<VecDeque<DuplexStream>>,
    dials: AtomicUsize,
}

impl Prepared {
    /// One more stream; its daemon's end.
    fn stream(&self) -> DuplexStream {
        let (ours, theirs) = duplex(64 * 1024);
        self.streams.lock().unwrap().push_back(ours);
        theirs
    }
}

fn remote() -> (Arc<Remote>, Arc<Prepared>) {
    let prepared = Arc::new(Prepared::default());
    let streams = Arc::clone(&prepared);
    let dial = Dial::new("memory", move || {
        streams.dials.fetch_add(1, Ordering::Relaxed);
        let next = streams.streams.lock().unwrap().pop_front();
        async move { next.ok_or(io::ErrorKind::ConnectionRefused.into()) }
    });
    (Arc::new(Remote::new("article", dial, Arc::new(FixedClock(10_000)))), prepared)
}

fn welcome() -> Welcome {
    welcome_of("article", StoreId::from_bytes([7; 16]), Now { boot: BOOT, at_ms: 10_000 })
}

fn welcome_of(role: &str, store: StoreId, now: Now) -> Welcome {
    let (role, software) = (role.to_owned(), "test".to_owned());
    Welcome { magic: MAGIC, protocol: PROTOCOL_VERSION, role, store, now, software }
}

/// A daemon's end that has said its hello.
pub(crate) struct Daemon {
    pub reader: RequestReader<ReadHalf<DuplexStream>>,
    pub writer: ReplyWriter<WriteHalf<DuplexStream>>,
}

impl Daemon {
    /// One of this role and store, by the clock of this host.
    pub async fn of(stream: DuplexStream, role: &str, store: StoreId) -> Self {
        let welcome = welcome_of(role, store, BootClock::open().unwrap().now());
        Self::greeting(stream, ServerHello::Welcome(welcome)).await
    }

    async fn greeting(stream: DuplexStream, hello: ServerHello) -> Self {
        let (read, write) = split(stream);
        let (reader, mut writer) = daemon_end(read, write);
        writer.send(FromDaemon::Hello(hello)).await.unwrap();
        Self { reader, writer }
    }

    async fn welcoming(stream: DuplexStream) -> Self {
        let mut daemon = Self::greeting(stream, ServerHello::Welcome(welcome())).await;
        let first = daemon.reader.next().await.unwrap().unwrap();
        assert!(matches!(first, ToDaemon::Hello(hello) if hello.magic == MAGIC));
        daemon
    }

    async fn request(&mut self) -> Request {
        match self.reader.next().await {
            Some(Ok(ToDaemon::Request(request))) => request,
            other => panic!("expected a request, got {other:?}"),
        }
    }

    pub async fn reply(&mut self, id: u64, body: ReplyBody) {
        self.writer.send(FromDaemon::Reply(Reply { id, body })).await.unwrap();
    }
}

async fn connected() -> (Connection, Daemon) {
    let (remote, prepared) = remote();
    let stream = prepared.stream();
    let (connection, daemon) = tokio::join!(remote.connect(SOON), Daemon::welcoming(stream));
    (connection.unwrap(), daemon)
}

fn query(byte: u8) -> RequestBody {
    RequestBody::Query(Payload::from(vec![byte]))
}

#[tokio::test]
async fn a_request_gets_its_reply() {
    let (connection, mut daemon) = connected().await;
    let serve = async {
        let request = daemon.request().await;
        assert_eq!(request.body, query(1));
        daemon.reply(request.id, ReplyBody::Settled).await;
    };
    let (reply, ()) = tokio::join!(connection.call(query(1), SOON), serve);
    assert_eq!(reply.unwrap(), ReplyBody::Settled);
    assert_eq!(connection.welcome(), &welcome());
}

#[tokio::test]
async fn replies_in_any_order_find_their_requests() {
    let (connection, mut daemon) = connected().await;
    let serve = async {
        let mut requests = Vec::new();
        for _ in 0..100 {
            requests.push(daemon.request().await);
        }
        for Request { id, body } in requests.into_iter().rev() {
            let RequestBody::Query(payload) = body else { panic!("not a query") };
            daemon.reply(id, ReplyBody::Answer(payload)).await;
        }
    };
    let calls = join_all((0..100).map(|n| connection.call(query(n), SOON)));
    let (replies, ()) = tokio::join!(calls, serve);
    for (n, reply) in (0..).zip(replies) {
        assert_eq!(reply.unwrap(), ReplyBody::Answer(Payload::from(vec![n])));
    }
}

#[tokio::test]
async fn a_request_leaves_once_its_grounds_are_so_and_stays_without_them() {
    let (connection, mut daemon) = connected().await;
    let are_so = Arc::new(AtomicUsize::new(0));
    let grounds = |hold: bool| {
        let are_so = Arc::clone(&are_so);
        Box::new(move || {
            are_so.fetch_add(1, Ordering::Relaxed);
            hold
        })
    };
    let (without, with) = (
        connection.call_on(grounds(false), query(1), SOON),
        connection.call_on(grounds(true), query(2), SOON),
    );
    assert_eq!(are_so.load(Ordering::Relaxed), 0, "not before its turn has come");
    let serve = async {
        let request = daemon.request().await;
        assert_eq!(request.body, query(2), "the other one has stayed");
        assert_eq!(are_so.load(Ordering::Relaxed), 2, "first they were made so");
        daemon.reply(request.id, ReplyBody::Settled).await;
    };
    let (without, with, ()) = tokio::join!(without, with, serve);
    assert!(without.is_err() && connection.is_open());
    assert_eq!(with.unwrap(), ReplyBody::Settled);
    assert_eq!(connection.calls_waiting(), 0);
}

#[tokio::test]
async fn a_lost_connection_fails_every_waiting_call_at_once() {
    let (connection, mut daemon) = connected().await;
    let serve = async move {
        for _ in 0..10 {
            daemon.request().await;
        }
    };
    let calls = join_all((0..10).map(|n| connection.call(query(n), Duration::from_secs(3600))));
    let (replies, ()) = tokio::join!(calls, serve);
    assert!(
        replies.iter().all(|reply| matches!(reply, Err(Lost { kind: LostKind::Closed, .. }))),
        "{replies:?}"
    );
    assert!(!connection.is_open());
    assert_eq!(connection.calls_waiting(), 0);
    let later = connection.call(query(0), SOON).await;
    assert_eq!(later.unwrap_err().kind, LostKind::Closed);
}

#[tokio::test]
async fn bytes_that_are_no_message_end_the_connection() {
    let (connection, daemon) = connected().await;
    let mut raw = daemon.writer.into_inner().into_inner();
    raw.write_all(&[0, 0, 0, 2, 250, 250]).await.unwrap();
    let reply = connection.call(query(1), SOON).await;
    assert_eq!(reply.unwrap_err().kind, LostKind::Closed);
}

#[tokio::test]
async fn a_timeout_leaves_nothing_behind_and_the_connection_whole() {
    let (connection, mut daemon) = connected().await;
    let late = connection.call(query(1), BRIEFLY).await;
    assert_eq!(late.unwrap_err().kind, LostKind::Timeout);
    assert_eq!(connection.calls_waiting(), 0);

    let first = daemon.request().await;
    daemon.reply(first.id, ReplyBody::Settled).await;
    let serve = async {
        let request = daemon.request().await;
        assert_ne!(request.id, first.id);
        daemon.reply(request.id, ReplyBody::Answer(Payload::from(vec![2]))).await;
    };
    let (reply, ()) = tokio::join!(connection.call(query(2), SOON), serve);
    assert_eq!(
        reply.unwrap(),
        ReplyBody::Answer(Payload::from(vec![2])),
        "the late reply must not be taken for this one"
    );
}

#[tokio::test]
async fn a_dropped_call_leaves_nothing_behind() {
    let (connection, _daemon) = connected().await;
    {
        let call = connection.call(query(1), SOON);
        tokio::pin!(call);
        assert!((&mut call).now_or_never().is_none());
        assert_eq!(connection.calls_waiting(), 1);
    }
    assert_eq!(connection.calls_waiting(), 0);
}

#[tokio::test]
async fn what_nobody_waits_for_any_more_when_its_turn_comes_is_not_sent() {
    let (connection, mut daemon) = connected().await;
    assert!(connection.call(query(1), SOON).now_or_never().is_none());
    let serve = async {
        let request = daemon.request().await;
        assert_eq!(request.body, query(2));
        daemon.reply(request.id, ReplyBody::Settled).await;
    };
    let (reply, ()) = tokio::join!(connection.call(query(2), SOON), serve);
    assert_eq!(reply.unwrap(), ReplyBody::Settled);
}

#[tokio::test]
async fn a_connection_that_nobody_uses_any_more_is_closed() {
    let (connection, mut daemon) = connected().await;
    drop(connection);
    assert!(daemon.reader.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_connection_whose_task_panicked_keeps_nobody_waiting() {
    let (connection, _daemon) = connected().await;
    let waiting = connection.call(query(1), 9 * SOON);
    let panics = connection.call_on(Box::new(|| panic!("as it is to")), query(2), 9 * SOON);
    let (waited, panicked) = tokio::time::timeout(SOON, join(waiting, panics)).await.unwrap();
    assert!(waited.is_err() && panicked.is_err() && !connection.is_open());
}

#[tokio::test(start_paused = true)]
async fn calls_to_a_peer_that_does_not_read_end_at_their_own_limits() {
    let (connection, _daemon) = connected().await;
    let big = RequestBody::Query(Payload::from(vec![0; 4096]));
    for _ in 0..5 {
        let calls = join_all((0..1000).map(|_| connection.call(big.clone(), BRIEFLY)));
        assert!(calls.await.iter().all(Result::is_err));
    }
    assert_eq!(connection.calls_waiting(), 0);
}

#[tokio::test]
async fn callers_that_want_a_connection_at_once_share_one_dial() {
    let (remote, prepared) = remote();
    let stream = prepared.stream();
    let callers = join_all((0..20).map(|_| remote.connect(SOON)));
    let (connections, _daemon) = tokio::join!(callers, Daemon::welcoming(stream));
    assert!(connections.iter().all(Result::is_ok));
    assert_eq!(prepared.dials.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_broken_connection_is_dialled_anew_and_the_store_stays_known_meanwhile() {
    let (remote, prepared) = remote();
    let stream = prepared.stream();
    let (first, daemon) = tokio::join!(remote.connect(SOON), Daemon::welcoming(stream));
    drop(daemon);
    assert!(first.unwrap().call(query(1), SOON).await.is_err());
    assert_eq!(remote.connect(SOON).await.err().unwrap().kind, UnreachableKind::Refused);
    assert_eq!(remote.last_welcome(), Some(welcome()));

    let stream = prepared.stream();
    let (second, _daemon) = tokio::join!(remote.connect(SOON), Daemon::welcoming(stream));
    assert!(second.unwrap().is_open());
    assert_eq!(prepared.dials.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn a_daemon_that_dies_before_its_hello_is_not_the_last_word() {
    let (remote, prepared) = remote();
    drop(prepared.stream());
    let successor = prepared.stream();
    let (connection, _daemon) = tokio::join!(remote.connect(SOON), Daemon::welcoming(successor));
    connection.unwrap();
    assert_eq!(prepared.dials.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn who_waited_for_a_daemon_that_died_shares_the_next_dial_too() {
    let (remote, prepared) = remote();
    let (dies, successor) = (prepared.stream(), prepared.stream());
    let callers = join_all((0..20).map(|_| remote.connect(SOON)));
    let daemons = async {
        drop(dies);
        tokio::time::sleep(BRIEFLY).await;
        Daemon::welcoming(successor).await
    };
    let (connections, _daemon) = tokio::join!(callers, daemons);
    assert!(connections.iter().all(Result::is_ok));
    assert_eq!(prepared.dials.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn an_attempt_that_was_given_up_on_is_continued() {
    let (remote, prepared) = remote();
    let stream = prepared.stream();
    assert_eq!(remote.connect(BRIEFLY).await.err().unwrap().kind, UnreachableKind::NoHello);
    let (connected, _daemon) = tokio::join!(remote.connect(SOON), Daemon::welcoming(stream));
    assert!(connected.is_ok());
    assert_eq!(prepared.dials.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn the_failure_of_an_abandoned_attempt_is_not_taken_for_an_answer() {
    let (remote, prepared) = remote();
    let abandoned = prepared.stream();
    assert!(remote.connect(BRIEFLY).await.is_err());
    drop(abandoned);
    let stream = prepared.stream();
    let (connected, _daemon) = tokio::join!(remote.connect(SOON), Daemon::welcoming(stream));
    assert!(connected.is_ok());
}

#[tokio::test]
async fn a_unix_socket_that_is_not_there_is_told_from_one_that_nobody_serves() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let remote = Remote::unix("article", path.clone(), Arc::new(FixedClock(0)));
    assert_eq!(remote.connect(SOON).await.err().unwrap().kind, UnreachableKind::NoSocket);
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert_eq!(remote.connect(SOON).await.err().unwrap().kind, UnreachableKind::Refused);
    // Nobody can serve one: no socket's path may be so long.
    let long = folder.path().join("s".repeat(200));
    let remote = Remote::unix("article", long, Arc::new(FixedClock(0)));
    let too_long = remote.connect(SOON).await.err().unwrap();
    assert_eq!(too_long.kind, UnreachableKind::NoSocket);
    assert!(too_long.message.ends_with("the path of a socket has at most 107 bytes"), "{}", too_long.message);
}

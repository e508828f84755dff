//! Real daemons in throwaway directories, and a small client that speaks the protocol.

#![allow(dead_code, reason = "each test binary uses its own part of this")]

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use futures::{SinkExt, StreamExt};
use like_protocol::codec::{ReplyReader, RequestWriter, client_end, decode, encode};
use like_protocol::ids::{SagaId, StepId};
use like_protocol::likes::ArticleId;
use like_protocol::likes::article::{Article, ArticleAnswer, ArticleCommand, ArticleOperation, ArticleQuery};
use like_protocol::message::*;
use like_protocol::time::{BootClock, Clock, Deadline};
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

/// The article service's binary.
pub const ARTICLED: &str = env!("CARGO_BIN_EXE_like-articled");
/// The user service's binary.
pub const USERD: &str = env!("CARGO_BIN_EXE_like-userd");

/// How long anything may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A directory for one daemon, and the daemon while it runs.
pub struct Place {
    pub temp: tempfile::TempDir,
    pub binary: &'static str,
}

impl Place {
    pub fn new(binary: &'static str) -> Self {
        Self { temp: tempfile::tempdir().unwrap(), binary }
    }

    pub fn socket(&self) -> PathBuf {
        self.temp.path().join("socket")
    }

    pub fn data(&self) -> PathBuf {
        self.temp.path().join("data")
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(self.binary);
        command.arg("--socket").arg(self.socket()).arg("--data").arg(self.data());
        command.env_remove("RUST_LOG").stderr(Stdio::piped()).stdin(Stdio::null());
        command
    }

    /// Starts the daemon and waits until it listens.
    pub fn start(&self) -> Daemon {
        self.start_with(|_| ())
    }

    pub fn start_with(&self, change: impl FnOnce(&mut Command)) -> Daemon {
        let mut command = self.command();
        change(&mut command);
        let mut daemon = Daemon { child: command.spawn().unwrap() };
        let begun = Instant::now();
        while std::os::unix::net::UnixStream::connect(self.socket()).is_err() {
            if let Some(status) = daemon.child.try_wait().unwrap() {
                panic!("the daemon ended with {status}: {}", daemon.stderr());
            }
            assert!(begun.elapsed() < PATIENCE, "the daemon does not listen");
            std::thread::sleep(Duration::from_millis(2));
        }
        daemon
    }

    /// Runs the daemon where it must fail at once: its exit code and what it printed.
    pub fn fails(&self, change: impl FnOnce(&mut Command)) -> (Option<i32>, String) {
        let mut command = self.command();
        change(&mut command);
        let mut daemon = Daemon { child: command.spawn().unwrap() };
        let status = daemon.wait();
        (status.code(), daemon.stderr())
    }
}

/// A running daemon; killed when dropped.
pub struct Daemon {
    pub child: Child,
}

impl Daemon {
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM; the daemon must end with exit code 0.
    pub fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = self.wait();
        assert!(status.success(), "{status}: {}", self.stderr());
    }

    pub fn wait(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "the daemon does not end");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// What an ended daemon printed.
    pub fn stderr(&mut self) -> String {
        let mut text = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_string(&mut text).unwrap();
        }
        text
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// A connection past its hellos.
pub struct Client {
    pub replies: ReplyReader<OwnedReadHalf>,
    pub requests: RequestWriter<OwnedWriteHalf>,
    pub welcome: Welcome,
    next: u64,
}

/// Connects and hears the daemon's hello.
pub async fn hello_from(socket: &Path) -> Option<ServerHello> {
    let (read, write) = UnixStream::connect(socket).await.unwrap().into_split();
    let (mut replies, _requests) = client_end(read, write);
    match replies.next().await?.ok()? {
        FromDaemon::Hello(hello) => Some(hello),
        FromDaemon::Reply(reply) => panic!("{reply:?}"),
    }
}

impl Client {
    pub async fn connect(socket: &Path) -> Self {
        let (read, write) = UnixStream::connect(socket).await.unwrap().into_split();
        let (mut replies, mut requests) = client_end(read, write);
        let first =
            tokio::time::timeout(PATIENCE, replies.next()).await.expect("a hello in time").unwrap().unwrap();
        let FromDaemon::Hello(ServerHello::Welcome(welcome)) = first else { panic!("{first:?}") };
        let hello = ClientHello { magic: MAGIC, protocol: PROTOCOL_VERSION, software: "test".to_owned() };
        requests.send(ToDaemon::Hello(hello)).await.unwrap();
        Self { replies, requests, welcome, next: 0 }
    }

    /// Sends a request and returns its id.
    pub async fn send(&mut self, body: RequestBody) -> std::io::Result<u64> {
        self.next += 1;
        self.requests.send(ToDaemon::Request(Request { id: self.next, body })).await?;
        Ok(self.next)
    }

    /// The id of the latest request.
    pub fn latest_id(&self) -> u64 {
        self.next
    }

    /// The next reply, or nothing once the daemon has closed the connection.
    pub async fn reply(&mut self) -> Option<Reply> {
        match tokio::time::timeout(PATIENCE, self.replies.next()).await.expect("a reply in time")?.ok()? {
            FromDaemon::Reply(reply) => Some(reply),
            FromDaemon::Hello(hello) => panic!("{hello:?}"),
        }
    }

    pub async fn ask(&mut self, body: RequestBody) -> ReplyBody {
        let id = self.send(body).await.unwrap();
        let reply = self.reply().await.expect("a reply");
        assert_eq!(reply.id, id);
        reply.body
    }

    pub async fn create_article(&mut self, id: u64) {
        let create = ArticleCommand::Create { id: Some(ArticleId(id)), title: format!("article {id}") };
        let answer = self.ask(RequestBody::Command(encode(&create).unwrap())).await;
        assert!(matches!(answer, ReplyBody::Answer(_)), "{answer:?}");
    }

    pub async fn article(&mut self, id: u64) -> Article {
        let query = encode(&ArticleQuery::Show(ArticleId(id))).unwrap();
        match self.ask(RequestBody::Query(query)).await {
            ReplyBody::Answer(answer) => match decode(&answer.0).unwrap() {
                ArticleAnswer::Article(article) => article,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    pub async fn status(&mut self) -> DaemonStatus {
        match self.ask(RequestBody::Status).await {
            ReplyBody::Status(status) => *status,
            other => panic!("{other:?}"),
        }
    }
}

/// A deadline a minute ahead.
pub fn deadline() -> Deadline {
    BootClock::open().unwrap().now().deadline_in(Duration::from_secs(60))
}

/// Step 0 of a saga, in a direction.
pub fn step<O: serde::Serialize>(saga: SagaId, direction: Direction, operation: &O) -> RequestBody {
    let (id, operation) = (StepId { saga, step: 0 }, encode(operation).unwrap());
    RequestBody::Step(StepRequest { id, direction, deadline: deadline(), operation })
}

/// A like more for article 1.
pub fn add_like(saga: SagaId) -> RequestBody {
    step(saga, Direction::Action, &ArticleOperation::AddLike(ArticleId(1)))
}

//! One participant: dials when it must, and shares one connection among all callers.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use like_protocol::codec;
use like_protocol::message::Welcome;
use like_protocol::time::Clock;

use super::connection::Connection;
use super::dial::{self, Dial};
use super::error::{Unreachable, UnreachableKind};
use super::hello;

/// One participant. Shared in an `Arc`; all its callers use one connection, which is dialled anew when it has broken.
///
/// Only one attempt at a connection is under way at a time, however many callers wait for it, each with its own limit.
/// An attempt that all its callers have given up on is continued by the next one: a daemon that is stopped for a while
/// finds one connection to answer, not one for each try.
pub struct Remote {
    role: &'static str,
    dial: Dial,
    clock: Arc<dyn Clock>,
    line: Mutex<Line>,
}

struct Line {
    state: LineState,
    last_welcome: Option<Welcome>,
    /// How many attempts were begun: tells one from another.
    attempts: u64,
}

enum LineState {
    Down,
    Dialling(Attempt),
    Up(Connection),
}

#[derive(Clone)]
struct Attempt {
    number: u64,
    connected: Shared<BoxFuture<'static, Result<Connection, Unreachable>>>,
}

/// What a caller finds when it wants a connection.
enum Found {
    Open(Connection),
    Begun(Attempt),
    UnderWay(Attempt),
}

impl Remote {
    /// The participant of a role behind a Unix socket.
    pub fn unix(role: &'static str, path: PathBuf, clock: Arc<dyn Clock>) -> Self {
        Self::new(role, Dial::unix(path), clock)
    }

    /// The participant of a role behind any kind of stream.
    pub fn new(role: &'static str, dial: Dial, clock: Arc<dyn Clock>) -> Self {
        let line = Line { state: LineState::Down, last_welcome: None, attempts: 0 };
        Self { role, dial, clock, line: Mutex::new(line) }
    }

    /// The role under which the participant must answer.
    pub fn role(&self) -> &'static str {
        self.role
    }

    /// Where it is dialled, for people.
    pub fn target(&self) -> String {
        self.dial.target().to_owned()
    }

    /// A connection whose hello has been read and checked: magic, protocol, role, and a boot clock that is ours.
    ///
    /// # Errors
    /// No such connection within `within`: certainly nothing was sent.
    pub async fn connect(&self, within: Duration) -> Result<Connection, Unreachable> {
        if let Some(open) = self.open() {
            return Ok(open);
        }
        // Dialling is rare, and its future large.
        match Box::pin(tokio::time::timeout(within, self.dialled_past_a_death())).await {
            Ok(connected) => connected,
            Err(_) => Err(Unreachable::no_hello(self.role, within)),
        }
    }

    /// The connection that stands, as far as is known.
    pub fn open(&self) -> Option<Connection> {
        match &self.line().state {
            LineState::Up(connection) if connection.is_open() => Some(connection.clone()),
            _ => None,
        }
    }

    /// The last welcome that was ever read from it: a store id stays known while the daemon is down.
    pub fn last_welcome(&self) -> Option<Welcome> {
        self.line().last_welcome.clone()
    }

    /// A daemon may die between accepting a connection and its hello. Behind socket activation its successor is on its
    /// way, and the next connection waits for it; without, the next dial is refused at once.
    async fn dialled_past_a_death(&self) -> Result<Connection, Unreachable> {
        match self.dialled().await {
            Err(died) if died.kind == UnreachableKind::Closed => self.dialled().await,
            decided => decided,
        }
    }

    async fn dialled(&self) -> Result<Connection, Unreachable> {
        let attempt = match self.open_or_attempt() {
            Found::Open(connection) => return Ok(connection),
            Found::Begun(attempt) => return self.await_attempt(attempt).await,
            Found::UnderWay(attempt) => attempt,
        };
        // It may have been given up on long ago, and its failure says nothing about this moment.
        if let Ok(connection) = self.await_attempt(attempt).await {
            return Ok(connection);
        }
        match self.open_or_attempt() {
            Found::Open(connection) => Ok(connection),
            Found::Begun(attempt) | Found::UnderWay(attempt) => self.await_attempt(attempt).await,
        }
    }

    fn open_or_attempt(&self) -> Found {
        let mut line = self.line();
        match &line.state {
            LineState::Up(connection) if connection.is_open() => return Found::Open(connection.clone()),
            LineState::Dialling(attempt) => return Found::UnderWay(attempt.clone()),
            LineState::Up(_) | LineState::Down => {}
        }
        line.attempts += 1;
        let connected = attempt(self.role, self.dial.clone(), self.clock.clone()).boxed().shared();
        let attempt = Attempt { number: line.attempts, connected };
        line.state = LineState::Dialling(attempt.clone());
        Found::Begun(attempt)
    }

    async fn await_attempt(&self, attempt: Attempt) -> Result<Connection, Unreachable> {
        let connected = attempt.connected.await;
        let mut line = self.line();
        let is_current =
            matches!(&line.state, LineState::Dialling(current) if current.number == attempt.number);
        if is_current {
            line.state = match &connected {
                Ok(connection) => {
                    line.last_welcome = Some(connection.welcome().clone());
                    LineState::Up(connection.clone())
                }
                Err(_) => LineState::Down,
            };
        }
        connected
    }

    /// A poisoned lock is used all the same: the line is whole between any two statements that change it.
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One attempt at a connection, without a limit of its own.
async fn attempt(role: &'static str, dial: Dial, clock: Arc<dyn Clock>) -> Result<Connection, Unreachable> {
    let target = dial.target();
    let before = clock.now();
    let stream = dial.dial().await.map_err(|error| {
        let (kind, message) = dial::explain(&error, role, target);
        Unreachable::new(role, kind, message)
    })?;
    let (read, write) = tokio::io::split(stream);
    let (mut reader, writer) = codec::client_end(read, write);
    let said = hello::read(&mut reader, role, target).await?;
    let welcome = hello::check(said, role, target, before, clock.now())?;
    tracing::debug!(role, target, store = %welcome.store, software = welcome.software, "connected");
    Ok(Connection::start(role, welcome, reader, writer))
}

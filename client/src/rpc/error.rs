//! The two ways in which a participant does not answer.

use std::time::Duration;

/// No connection with a checked hello came about: whatever was to be sent was certainly not sent.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Unreachable {
    /// Which participant.
    pub role: &'static str,
    /// Why, for programs.
    pub kind: UnreachableKind,
    /// Why, for people: a whole sentence without its full stop.
    pub message: String,
}

/// Why no connection with a checked hello came about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum UnreachableKind {
    /// There is no socket at the path.
    NoSocket,
    /// There is a socket, and nobody listens on it.
    Refused,
    /// The socket's mode, or the daemon, does not allow this user.
    PermissionDenied,
    /// The daemon serves as many connections as it allows, or as many wait for it.
    TooManyConnections,
    /// Connected, but no hello came in time: the daemon is starting, stopped or hung.
    NoHello,
    /// Connected, but the connection ended before a hello came.
    Closed,
    /// Another service than the expected one answered.
    WrongRole,
    /// What answered is no such daemon, or speaks another version of the protocol.
    Incompatible,
    /// The daemon's boot clock is not this process's: another kernel, or another time namespace.
    ClockSkew,
    /// Any other failure of the operating system.
    Other,
}

/// No reply to a request that may have been sent: it may have run, may run later, or may never run.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Lost {
    /// Which participant.
    pub role: &'static str,
    /// Why, for programs.
    pub kind: LostKind,
    /// Why, for people: a whole sentence without its full stop.
    pub message: String,
}

/// Why there was no reply.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LostKind {
    /// None came in time. The connection stands.
    Timeout,
    /// The connection broke.
    Closed,
}

impl Unreachable {
    pub(super) fn new(role: &'static str, kind: UnreachableKind, message: String) -> Self {
        Self { role, kind, message }
    }

    pub(super) fn no_hello(role: &'static str, within: Duration) -> Self {
        let message = format!(
            "the {role} service did not answer within {}: it is starting, stopped, or not running properly",
            rounded(within)
        );
        Self::new(role, UnreachableKind::NoHello, message)
    }
}

impl Lost {
    pub(super) fn timeout(role: &'static str, within: Duration) -> Self {
        let message = format!("no reply from the {role} service within {}", rounded(within));
        Self { role, kind: LostKind::Timeout, message }
    }

    pub(super) fn closed(role: &'static str, reason: &str) -> Self {
        let message = format!("the connection to the {role} service broke before its reply came ({reason})");
        Self { role, kind: LostKind::Closed, message }
    }
}

/// To the millisecond: what is left of a limit is never as round as the limit was.
fn rounded(within: Duration) -> String {
    let ms = within.saturating_add(Duration::from_micros(500)).as_millis();
    if ms.is_multiple_of(1000) { format!("{} s", ms / 1000) } else { format!("{ms} ms") }
}

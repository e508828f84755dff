//! What a runner works with.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use like_protocol::time::Clock;

use crate::log::Journal;
use crate::rpc::Remote;
use crate::saga::Definitions;

/// How long one attempt waits for its reply. A participant answers within a group commit, so this is long; what it
/// bounds is how long a daemon that hangs without closing its connection can keep a saga waiting.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);

/// After how many failures of a compensation in a row an operator is needed.
pub const ATTENTION_AFTER: u32 = 5;

/// How long what was recorded of ended sagas can be read.
pub const RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);

/// What a runner works with. Clones share the participants' connections.
#[derive(Clone)]
pub struct Context {
    /// Where slots are.
    pub journal: Journal,
    /// The kinds of saga it can drive.
    pub definitions: Definitions,
    /// The services.
    pub participants: Participants,
    /// The clock by which deadlines pass: the same as the participants'.
    pub clock: Arc<dyn Clock>,
    /// How it behaves.
    pub options: Options,
}

/// How a runner behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// See [`ATTEMPT_TIMEOUT`].
    pub attempt_timeout: Duration,
    /// See [`ATTENTION_AFTER`].
    pub attention_after: u32,
    /// See [`RETENTION`].
    pub retention: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { attempt_timeout: ATTEMPT_TIMEOUT, attention_after: ATTENTION_AFTER, retention: RETENTION }
    }
}

/// The services that sagas run against, by role.
#[derive(Clone, Default)]
pub struct Participants {
    by_role: HashMap<&'static str, Arc<Remote>>,
}

impl Participants {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// One service more.
    pub fn with(mut self, remote: Arc<Remote>) -> Self {
        self.by_role.insert(remote.role(), remote);
        self
    }

    /// The service of a role.
    pub fn find(&self, role: &str) -> Option<&Arc<Remote>> {
        self.by_role.get(role)
    }

    /// All services.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Remote>> {
        self.by_role.values()
    }
}

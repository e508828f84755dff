//! What a runner works with.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use like_protocol::ids::SagaId;
use like_protocol::time::Clock;
use tokio::sync::oneshot;

use crate::log::{Journal, JournalError, Keeping, Story};
use crate::rpc::Remote;
use crate::saga::{Begun, Definition, Definitions};

/// How long one attempt waits for its reply. A participant answers within a group commit, so this is long; what it
/// bounds is how long a daemon that hangs without closing its connection can keep a saga waiting.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);

/// After how many failures of a compensation in a row an operator is needed.
pub const ATTENTION_AFTER: u32 = 5;

/// How many sagas that were taken over have their turn at a time. The others wait for it, with no more than where they stand
/// in memory: so recovery takes little memory however much was left behind, and no more than a quarter of a daemon's queue. A
/// saga's turn is over when it ends, or rests before it tries again: so what is stuck holds up nobody.
pub const UNDER_WAY_MAX: usize = 1024;

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
    /// Who acts through it.
    pub origin: Origin,
    /// How it behaves.
    pub options: Options,
}

impl Context {
    /// How a saga that began so is driven, if that is known here.
    pub(super) fn definition_of(&self, begun: &Begun) -> Option<&Arc<dyn Definition>> {
        self.definitions.find(&begun.kind, begun.version)
    }

    /// Whether a saga could go on, but nobody here knows how. An end can be told all the same.
    pub(super) fn is_foreign(&self, story: &Story) -> bool {
        let unended =
            story.state.as_ref().filter(|state| state.ended().is_none() && !state.quarantined_now());
        unended.is_some_and(|state| self.definition_of(&state.begun).is_none())
    }

    /// Does work that reads, locks and syncs files where it holds up nobody: not on a thread that serves connections.
    ///
    /// # Errors
    /// It panicked.
    pub(super) async fn in_background<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JournalError> {
        let (hand_over, done) = oneshot::channel();
        let work = Box::new(move || drop(hand_over.send(work())));
        let ran = self.journal.disk().in_background(work).await;
        let panicked = |_| io::Error::other(ran.err().unwrap_or_default());
        done.await.map_err(panicked).map_err(|e| JournalError::io("work with", self.journal.path(), e))
    }
}

/// On whose behalf sagas are begun and operators act, and how what is begun is named.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// The user id that the log shows.
    pub uid: u32,
    /// Names a new saga: never the same name twice, in no process.
    pub new_saga: fn() -> SagaId,
}

impl Origin {
    /// This process: its user, and ids that carry the wall time.
    pub fn of_this_process() -> Self {
        Self { uid: rustix::process::getuid().as_raw(), new_saga: SagaId::generate }
    }
}

/// How a runner behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// See [`ATTEMPT_TIMEOUT`].
    pub attempt_timeout: Duration,
    /// See [`ATTENTION_AFTER`].
    pub attention_after: u32,
    /// What its log keeps.
    pub keeping: Keeping,
    /// See [`UNDER_WAY_MAX`].
    pub under_way_max: usize,
    /// Whether sagas beside which nothing goes on may hold up their thread while their log is synced, instead of two threads being
    /// woken for it. While the disk hangs so does that thread: not for programs that have something else to do on it.
    pub sync_here: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            attempt_timeout: ATTEMPT_TIMEOUT,
            attention_after: ATTENTION_AFTER,
            keeping: Keeping::default(),
            under_way_max: UNDER_WAY_MAX,
            sync_here: false,
        }
    }
}

/// The services that sagas run against, by role.
#[derive(Clone, Default)]
pub struct Participants {
    by_role: BTreeMap<&'static str, Arc<Remote>>,
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

    /// Whether no answer of theirs is awaited.
    pub fn are_quiet(&self) -> bool {
        self.all().filter_map(|remote| remote.open()).all(|open| open.is_quiet())
    }

    /// All services, by their roles.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Remote>> {
        self.by_role.values()
    }
}

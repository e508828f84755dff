//! What is going on right now: the services, what is open, what ended lately. Looked at anew at most once a second,
//! however many ask, and whenever somebody asks a few seconds later, whatever happened to the look before.

use std::sync::Arc;
use std::time::{Duration, Instant};

use like_client::likes::AskError;
use like_client::log::JournalError;
use like_client::view::moment;
use like_client::view::{HANGING_AFTER, SagaView, is_overdue};
use like_protocol::message::DaemonStatus;
use serde::Serialize;
use tokio::sync::Mutex;
use utoipa::ToSchema;

use crate::VERSION;
use crate::host::Host;
use crate::http::saga_documents::SagaSummary;
use crate::sagas::{Recent, SagaReader};

/// How long a look counts, and how often live updates look.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Reading the log costs at most one part in so many of the time, while that is quick.
const SHARE: u32 = 10;
/// The longest rest between two looks. A look that took long by no fault of the log's, as when the process was stopped
/// in the middle of it or the machine was busy, must not make an old picture last.
const REST_MAX: Duration = Duration::from_secs(5);
/// How long a service may take to say how it is.
const STATUS_WITHIN: Duration = Duration::from_millis(700);
/// How many open sagas are shown; those in trouble come first.
const OPEN_SHOWN_MAX: usize = 100;
/// How many of those that ended lately are shown.
const RECENT_SHOWN_MAX: usize = 20;

/// What is going on.
#[derive(Clone, Serialize, ToSchema)]
pub struct Overview {
    /// When this was so.
    #[schema(format = DateTime)]
    pub at: String,
    /// The gateway's version.
    pub version: &'static str,
    /// Whether sagas can be administered over HTTP at all.
    pub administration: bool,
    /// Both services.
    pub services: Vec<ServiceDocument>,
    /// How many sagas are open, and how they stand.
    pub counts: Counts,
    /// What of the saga log can't be read, is damaged or has no room, in words: sagas may stand there that nobody sees or
    /// finishes.
    pub problems: Vec<String>,
    /// Open sagas: those in trouble first, then the oldest; at most 100.
    pub open: Vec<SagaSummary>,
    /// What ended lately, newest first; at most 20.
    pub recent: Vec<SagaSummary>,
    /// Open sagas by kind and state, for metrics.
    #[serde(skip)]
    pub by_kind: Vec<(String, &'static str)>,
    /// The most attempts that an open saga has needed.
    #[serde(skip)]
    pub attempts_max: u32,
}

/// How many sagas are open, and how they stand.
#[derive(Clone, Copy, PartialEq, Default, Debug, Serialize, ToSchema)]
pub struct Counts {
    /// Going forward.
    pub running: usize,
    /// Going back.
    pub compensating: usize,
    /// With a damaged record.
    pub quarantined: usize,
    /// Ended, and not every service knows it yet.
    pub unsettled: usize,
    /// In need of an operator.
    pub needs_attention: usize,
    /// Open for more than five minutes.
    pub hanging: usize,
}

/// How a service is.
#[derive(Clone, PartialEq, Serialize, ToSchema)]
pub struct ServiceDocument {
    /// article or user.
    pub service: &'static str,
    /// Whether it answers.
    pub reachable: bool,
    /// Why it does not.
    pub problem: Option<String>,
    /// How it says it is.
    pub status: Option<ServiceStatus>,
}

/// How a service says it is.
#[derive(Clone, PartialEq, Serialize, ToSchema)]
pub struct ServiceStatus {
    /// Its version.
    pub version: String,
    /// Which store it serves.
    pub store_id: String,
    /// Open connections.
    pub connections: u32,
    /// Requests that wait in its queue.
    pub queued: u32,
    /// How many may wait there.
    pub queue_limit: u32,
    /// Steps that are not settled.
    pub unsettled: u64,
    /// Groups made durable since it started.
    pub groups: u64,
    /// Requests that those groups held.
    pub committed: u64,
    /// Bytes that its store takes on disk.
    pub store_bytes: u64,
    /// Bytes free on the store's file system.
    pub free_bytes: u64,
    /// Whether new likes are refused for want of disk space.
    pub storage_low: bool,
    /// How many rows of its store it has found damaged. `likectl status` names them.
    pub damaged: u64,
}

/// Looks at what is going on.
pub struct Lookout {
    host: Arc<Host>,
    sagas: SagaReader,
    administration: bool,
    latest: Mutex<Option<Look>>,
}

struct Look {
    counts_until: Instant,
    overview: Arc<Overview>,
}

impl Lookout {
    /// Looks at this host's services and at the log.
    pub fn new(host: Arc<Host>, sagas: SagaReader, administration: bool) -> Self {
        Self { host, sagas, administration, latest: Mutex::default() }
    }

    /// What is going on, or was a moment ago.
    ///
    /// # Errors
    /// The journal can't be read.
    pub async fn look(&self) -> Result<Arc<Overview>, JournalError> {
        let mut latest = self.latest.lock().await;
        if let Some(look) = latest.as_ref().filter(|look| Instant::now() < look.counts_until) {
            return Ok(Arc::clone(&look.overview));
        }
        let began = Instant::now();
        let (overview, reading) = self.look_anew().await?;
        let overview = Arc::new(overview);
        *latest = Some(Look {
            counts_until: counts_until(began, Instant::now(), reading),
            overview: Arc::clone(&overview),
        });
        Ok(overview)
    }

    /// What is going on, and how long reading the log took.
    async fn look_anew(&self) -> Result<(Overview, Duration), JournalError> {
        let (articles, users) =
            (self.host.articles.within(STATUS_WITHIN), self.host.users.within(STATUS_WITHIN));
        let (sagas, article, user) =
            futures::join!(self.sagas.recent(RECENT_SHOWN_MAX, Seen::of), articles.status(), users.status());
        let now_ms = moment::now_ms();
        let Recent { mut open, ended, problems, took } = sagas?;
        let hangs = |saga: &Seen| is_overdue(saga.started_ms, now_ms, HANGING_AFTER);
        // A stable sort: within each kind of trouble the oldest stays first.
        open.sort_by_key(|saga| (!saga.summary.needs_attention, !hangs(saga)));
        let overview = Overview {
            at: moment::show(moment::of_ms(now_ms)),
            version: VERSION,
            administration: self.administration,
            services: vec![service("article", article), service("user", user)],
            counts: Counts::of(&open, hangs),
            problems,
            by_kind: open.iter().map(Seen::kind_and_state).collect(),
            attempts_max: open.iter().map(|saga| saga.summary.attempts).max().unwrap_or_default(),
            open: open.into_iter().take(OPEN_SHOWN_MAX).map(|saga| saga.summary).collect(),
            recent: ended.into_iter().map(|saga| saga.summary).collect(),
        };
        Ok((overview, took))
    }
}

/// Until when a look counts. Only reading the log costs anything, so only that is followed by a rest in proportion;
/// waiting for a service is not, or the picture would be oldest when one is down.
fn counts_until(began: Instant, ended: Instant, reading: Duration) -> Instant {
    let rest = (reading * (SHARE - 1)).min(REST_MAX);
    (began + LOOK_EVERY).max(ended + rest)
}

/// What is remembered of a saga that was seen: one that is under way has little to tell, and thousands may be.
struct Seen {
    summary: SagaSummary,
    started_ms: u64,
    is_unfinished: bool,
}

impl Seen {
    fn of(saga: SagaView) -> Self {
        Self { summary: (&saga).into(), started_ms: saga.started_ms, is_unfinished: saga.is_unfinished() }
    }

    fn kind_and_state(&self) -> (String, &'static str) {
        (self.summary.kind.clone().unwrap_or_default(), self.summary.state)
    }
}

impl Counts {
    fn of(open: &[Seen], hangs: impl Fn(&Seen) -> bool) -> Self {
        let count = |which: &dyn Fn(&SagaSummary) -> bool| {
            open.iter().map(|saga| &saga.summary).filter(|saga| which(saga)).count()
        };
        Self {
            running: count(&|saga| saga.state == "running"),
            compensating: count(&|saga| saga.state == "compensating"),
            quarantined: count(&|saga| saga.state == "quarantined"),
            unsettled: open.iter().filter(|saga| !saga.is_unfinished).count(),
            needs_attention: count(&|saga| saga.needs_attention),
            hanging: open.iter().filter(|saga| hangs(saga)).count(),
        }
    }
}

impl Overview {
    /// Whether it tells the same as another, but for the time.
    pub fn same_as(&self, other: &Self) -> bool {
        self.counts == other.counts
            && self.services == other.services
            && self.problems == other.problems
            && self.open == other.open
            && self.recent == other.recent
    }
}

fn service<R: std::fmt::Debug>(
    service: &'static str,
    status: Result<DaemonStatus, AskError<R>>,
) -> ServiceDocument {
    match status {
        Ok(status) => {
            ServiceDocument { service, reachable: true, problem: None, status: Some(status.into()) }
        }
        Err(error) => {
            ServiceDocument { service, reachable: false, problem: Some(error.to_string()), status: None }
        }
    }
}

impl From<DaemonStatus> for ServiceStatus {
    fn from(status: DaemonStatus) -> Self {
        Self {
            version: status.software,
            store_id: status.store.to_string(),
            connections: status.connections,
            queued: status.queued,
            queue_limit: status.queue_limit,
            unsettled: status.unsettled,
            groups: status.groups,
            committed: status.committed,
            store_bytes: status.store_bytes,
            free_bytes: status.free_bytes,
            storage_low: status.storage_low,
            damaged: status.damaged,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_counts_for_seconds_however_long_it_took() {
        let began = Instant::now();
        let ms = Duration::from_millis;
        let counts_for = |took, reading| counts_until(began, began + took, reading) - began;
        assert_eq!(counts_for(ms(20), ms(5)), LOOK_EVERY);
        // A service that does not answer.
        assert_eq!(counts_for(ms(700), ms(5)), LOOK_EVERY);
        // A long log.
        assert_eq!(counts_for(ms(300), ms(300)), ms(3000));
        // A process that was stopped in the middle of it.
        assert_eq!(counts_for(ms(60_000), ms(60_000)), ms(60_000) + REST_MAX);
    }
}

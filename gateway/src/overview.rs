//! What is going on right now: the services, what is open, what ended lately. Looked at anew at most once a second,
//! however many ask, and whenever somebody asks a few seconds later, whatever happened to the look before.

use std::sync::Arc;
use std::time::{Duration, Instant};

use like_client::likes::AskError;
use like_client::log::JournalError;
use like_client::view::{Counts, HANGING_AFTER, SagaSummary, ServiceStatus, moment};
use like_protocol::message::DaemonStatus;
use serde::Serialize;
use tokio::sync::Mutex;
use utoipa::ToSchema;

use crate::VERSION;
use crate::host::Host;
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

impl ServiceDocument {
    fn timeless(&self) -> Self {
        let status = self.status.clone().map(|status| ServiceStatus { up_ms: 0, ..status });
        Self { status, ..self.clone() }
    }
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
            futures::join!(self.sagas.recent(RECENT_SHOWN_MAX), articles.status(), users.status());
        let now_ms = moment::now_ms();
        let Recent { mut open, ended, problems, took } = sagas?;
        // A stable sort: within each kind of trouble the oldest stays first.
        open.sort_by_key(|saga| (!saga.needs_attention, !saga.hangs(now_ms, HANGING_AFTER)));
        let overview = Overview {
            at: moment::show(moment::of_ms(now_ms)),
            version: VERSION,
            administration: self.administration,
            services: vec![service("article", article), service("user", user)],
            counts: Counts::of(open.iter(), now_ms),
            problems,
            by_kind: open.iter().map(|saga| (saga.kind.clone().unwrap_or_default(), saga.state)).collect(),
            attempts_max: open.iter().map(|saga| saga.attempts).max().unwrap_or_default(),
            open: open.into_iter().take(OPEN_SHOWN_MAX).collect(),
            recent: ended,
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

impl Overview {
    /// Whether it tells the same as another, but for the time.
    pub fn same_as(&self, other: &Self) -> bool {
        self.counts == other.counts
            && self
                .services
                .iter()
                .map(ServiceDocument::timeless)
                .eq(other.services.iter().map(ServiceDocument::timeless))
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
            ServiceDocument { service, reachable: true, problem: None, status: Some((&status).into()) }
        }
        Err(error) => {
            ServiceDocument { service, reachable: false, problem: Some(error.to_string()), status: None }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_a_service_has_been_up_for_longer_is_no_news() {
        let told = |up_ms, queued| {
            let status = ServiceStatus {
                version: String::new(),
                store_id: String::new(),
                pid: 1,
                up_ms,
                connections: 1,
                queued,
                queue_limit: 9,
                unsettled: 0,
                groups: 0,
                committed: 0,
                store_bytes: 0,
                free_bytes: 0,
                storage_low: false,
                damaged: 0,
            };
            Overview {
                at: up_ms.to_string(),
                version: VERSION,
                administration: false,
                services: vec![ServiceDocument {
                    service: "article",
                    reachable: true,
                    problem: None,
                    status: Some(status),
                }],
                counts: Counts::default(),
                problems: Vec::new(),
                open: Vec::new(),
                recent: Vec::new(),
                by_kind: Vec::new(),
                attempts_max: 0,
            }
        };
        assert!(told(1, 0).same_as(&told(2, 0)));
        assert!(!told(1, 0).same_as(&told(1, 1)));
    }

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

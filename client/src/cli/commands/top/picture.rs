//! What is shown, made of what was seen. Pure.

use like_protocol::message::DaemonStatus;
use serde::Serialize;

use super::follow::{LATELY_MS, Seen};
use super::look::{Look, ServiceSeen};
use crate::likes;
use crate::log::Owner;
use crate::view::{
    Counts, HANGING_AFTER, HistoryLine, OwnerView, SagaSummary, SagaView, ServiceStatus, advice, moment,
};

/// Over how long likes a second are counted.
const RATE_MS: u64 = 10_000;

/// How many open sagas are shown; those in trouble come first.
const OPEN_MAX: usize = 100;

/// What is shown. The JSON form is public.
#[derive(Serialize, Default, Debug)]
pub struct Picture {
    /// When it was so; empty before the first look.
    pub at: String,
    /// The journal's directory.
    pub journal: String,
    /// Both services.
    pub services: Vec<ServicePicture>,
    /// What of the journal can't be read or written, or is damaged.
    pub journal_problems: Vec<String>,
    /// How many sagas are open, and how they stand.
    pub counts: Counts,
    /// What ended lately.
    pub lately: Lately,
    /// Open sagas: those in trouble first, then the oldest; at most 100.
    pub open: Vec<SagaPicture>,
    /// What ended last, newest first; at most 20.
    pub recent: Vec<SagaPicture>,
}

/// A service as it is shown.
#[derive(Serialize, Debug)]
pub struct ServicePicture {
    /// article or user.
    pub service: &'static str,
    /// Where it listens.
    pub socket: String,
    /// Whether it answers.
    pub reachable: bool,
    /// Why it does not.
    pub problem: Option<String>,
    /// What may help.
    pub hint: Option<String>,
    /// How it says it is.
    #[serde(flatten)]
    pub answer: Option<ServiceAnswer>,
}

/// How a service says it is.
#[derive(Serialize, Debug)]
pub struct ServiceAnswer {
    /// All that it says.
    #[serde(flatten)]
    pub status: ServiceStatus,
    /// Requests made durable a second since the look before; none at the first one.
    pub requests_per_s: Option<f64>,
    /// How many requests a group held since the look before; none if there was no group.
    pub group_size: Option<f64>,
}

/// Sagas that ended lately.
#[derive(Serialize, Default, PartialEq, Debug)]
pub struct Lately {
    /// How many a second ended as completed, over the last ten seconds.
    pub completed_per_s: f64,
    /// How many a second ended otherwise, over the last ten seconds.
    pub undone_per_s: f64,
    /// How many ended in the last minute, as far as it is counted.
    pub ended: usize,
    /// Half of those took at most so long.
    pub p50_ms: Option<u64>,
    /// All but a hundredth of them took at most so long.
    pub p99_ms: Option<u64>,
    /// None of them took longer.
    pub max_ms: Option<u64>,
}

/// A saga as it is shown.
#[derive(Serialize, Debug)]
pub struct SagaPicture {
    /// The facts.
    #[serde(flatten)]
    pub summary: SagaSummary,
    /// What it is, in a few words.
    pub title: String,
    /// How long it has taken: until its end, or until now.
    pub took_ms: u64,
    /// Whether it has been open for more than five minutes.
    pub hangs: bool,
    /// What is the matter with it.
    pub trouble: Option<String>,
    /// The command that helps.
    pub command: Option<String>,
    /// The slot of the journal that it stands in.
    pub slot: u32,
    /// The live process that holds the slot.
    pub owner: Option<OwnerView>,
    /// All that happened to it.
    #[serde(skip)]
    pub history: Vec<HistoryLine>,
    /// What an operator may safely do next.
    #[serde(skip)]
    pub advice: Vec<String>,
}

impl Picture {
    /// What is shown of a look. Rates are told against the look before.
    pub fn of(look: &Look, before: Option<&Look>) -> Self {
        let definitions = likes::definitions();
        let summary = |seen: &Seen| SagaSummary::of(&seen.story, &definitions, look.attention_after);
        let mut open: Vec<_> = look.log.open.iter().map(|seen| (summary(seen), seen)).collect();
        // A stable sort: within each kind of trouble the oldest stays first.
        open.sort_by_key(|(saga, _)| (!saga.needs_attention, saga.is_unsettled()));
        let counts = Counts::of(open.iter().map(|(saga, _)| saga), look.at_ms);
        let before_of = |service| {
            let before = before?;
            Some((before.at_ms, before.services.iter().find(|seen| seen.service == service)?))
        };
        let service = |seen: &ServiceSeen| ServicePicture::of(seen, look.at_ms, before_of(seen.service));
        Self {
            at: moment::show(moment::of_ms(look.at_ms)),
            journal: look.journal.clone(),
            services: look.services.iter().map(service).collect(),
            journal_problems: look.log.problems.clone(),
            counts,
            lately: Lately::of(look),
            open: open.into_iter().take(OPEN_MAX).map(|(_, seen)| SagaPicture::of(seen, look)).collect(),
            recent: look.log.recent.iter().map(|seen| SagaPicture::of(seen, look)).collect(),
        }
    }

    /// Everything that can be chosen, in the order in which it is shown.
    pub fn sagas(&self) -> impl Iterator<Item = &SagaPicture> {
        self.open.iter().chain(self.recent.iter().filter(|recent| !self.is_open(recent)))
    }

    /// Whether a saga that ended is shown among the open ones: not every service knows of its end.
    fn is_open(&self, recent: &SagaPicture) -> bool {
        self.open.iter().any(|open| open.summary.saga_id == recent.summary.saga_id)
    }
}

impl ServicePicture {
    fn of(seen: &ServiceSeen, now_ms: u64, before: Option<(u64, &ServiceSeen)>) -> Self {
        let (answer, told) = match &seen.status {
            Ok(status) => {
                let before = before.and_then(|(at_ms, seen)| Some((at_ms, seen.status.as_ref().ok()?)));
                (Some(ServiceAnswer::of(status, now_ms, before)), None)
            }
            Err(told) => (None, Some(told.clone())),
        };
        let (problem, hint) = told.unzip();
        Self {
            service: seen.service,
            socket: seen.socket.clone(),
            reachable: answer.is_some(),
            problem,
            hint: hint.flatten(),
            answer,
        }
    }
}

impl ServiceAnswer {
    fn of(status: &DaemonStatus, now_ms: u64, before: Option<(u64, &DaemonStatus)>) -> Self {
        // A daemon that was started anew counts anew.
        let before = before.filter(|(_, before)| before.pid == status.pid && before.up_ms <= status.up_ms);
        let grown = before.map(|(at_ms, before)| {
            let groups = status.groups.saturating_sub(before.groups);
            let requests = status.committed.saturating_sub(before.committed);
            (now_ms.saturating_sub(at_ms), groups as f64, requests as f64)
        });
        let per_s = |(ms, _, requests): (u64, f64, f64)| (ms > 0).then(|| requests * 1000.0 / ms as f64);
        Self {
            status: status.into(),
            requests_per_s: grown.and_then(per_s),
            group_size: grown.filter(|(_, groups, _)| *groups > 0.0).map(|(_, groups, many)| many / groups),
        }
    }
}

impl Lately {
    fn of(look: &Look) -> Self {
        let since = |ms: u64| look.at_ms.saturating_sub(ms);
        let now = look.log.lately.iter().filter(|ended| ended.at_ms > since(RATE_MS));
        let completed = now.clone().filter(|ended| ended.state == "completed").count();
        let per_s = |many: usize| many as f64 * 1000.0 / RATE_MS as f64;
        let lately = look.log.lately.iter().filter(|ended| ended.at_ms > since(LATELY_MS));
        let mut took: Vec<_> = lately.map(|ended| ended.took_ms).collect();
        took.sort_unstable();
        // The smallest value that so many of a hundred don't exceed.
        let percentile = |percent: usize| took.get((took.len() * percent).div_ceil(100).max(1) - 1).copied();
        Self {
            completed_per_s: per_s(completed),
            undone_per_s: per_s(now.count() - completed),
            ended: took.len(),
            p50_ms: percentile(50),
            p99_ms: percentile(99),
            max_ms: took.last().copied(),
        }
    }
}

impl SagaPicture {
    fn of(seen: &Seen, look: &Look) -> Self {
        let view = SagaView::of(&seen.story, &likes::definitions(), look.attention_after);
        let hangs = view.hangs(look.at_ms, HANGING_AFTER);
        let owner = seen.owner.as_ref();
        let (trouble, command) = if view.is_open() { remedy(&view, owner, hangs) } else { (None, None) };
        Self {
            title: view.title(),
            took_ms: view.ended_ms.unwrap_or(look.at_ms).saturating_sub(view.started_ms),
            hangs,
            trouble,
            command,
            slot: seen.slot,
            owner: owner.map(OwnerView::from),
            advice: advice::advice(&view, owner),
            summary: view.summary,
            history: view.history,
        }
    }
}

/// What is the matter with an open saga, and the command that helps: the safest one, where several do.
fn remedy(saga: &SagaView, owner: Option<&Owner>, hangs: bool) -> (Option<String>, Option<String>) {
    let id = &saga.saga_id;
    let failed = saga.steps.iter().rev().find_map(|step| step.last_failure.clone());
    let stopped = owner.filter(|owner| owner.stopped);
    let (trouble, command) = match (stopped, owner) {
        _ if saga.state == "quarantined" => (
            Some("part of its record is damaged: nobody drives it any more".to_owned()),
            Some(format!("likectl saga force {id} --as completed|compensated --reason TEXT")),
        ),
        (Some(owner), _) => {
            (Some(format!("its runner, {owner}, does nothing")), Some(format!("kill -CONT {}", owner.pid)))
        }
        (None, None) if saga.is_unfinished() && !saga.known => {
            (Some("this program does not know its kind".to_owned()), Some(format!("likectl saga show {id}")))
        }
        // What is to be done there stands in the advice.
        (None, Some(owner)) if saga.needs_attention && advice::acts_itself(owner) => {
            (failed, Some(format!("likectl saga show {id}")))
        }
        _ if saga.needs_attention => (failed, Some(format!("likectl saga retry {id}"))),
        (None, None) if saga.is_unfinished() => {
            (failed.or(Some("no runner is seen to drive it".to_owned())), Some("likectl recover".to_owned()))
        }
        (None, None) if hangs => {
            (Some("not every service knows of its end".to_owned()), Some("likectl recover".to_owned()))
        }
        _ => (failed, None),
    };
    let trouble = trouble.or_else(|| hangs.then(|| "it has been open for more than five minutes".to_owned()));
    let command = command.or_else(|| hangs.then(|| format!("likectl saga show {id}")));
    (trouble, command)
}

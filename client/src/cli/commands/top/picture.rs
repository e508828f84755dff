//! What is shown, made of what was seen. Pure.

use like_protocol::message::DaemonStatus;
use serde::Serialize;

use super::follow::{LATELY_MS, Seen};
use super::look::{Look, ServiceSeen};
use crate::likes;
use crate::log::{Owner, Story};
use crate::view::{HANGING_AFTER, OwnerView, SagaView, advice, is_overdue, moment, state_word};

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
    /// Its version.
    pub version: String,
    /// Which store it serves.
    pub store_id: String,
    /// Its process id.
    pub pid: u32,
    /// For how long it has been ready.
    pub up_ms: u64,
    /// Open connections.
    pub connections: u32,
    /// Requests that wait in its queue.
    pub queued: u32,
    /// How many may wait there.
    pub queue_limit: u32,
    /// Steps that are not settled.
    pub unsettled: u64,
    /// Requests made durable a second since the look before; none at the first one.
    pub requests_per_s: Option<f64>,
    /// How many requests a group held since the look before; none if there was no group.
    pub group_size: Option<f64>,
    /// Bytes that its store takes on disk.
    pub store_bytes: u64,
    /// Bytes free on the store's file system.
    pub free_bytes: u64,
    /// Whether new actions are refused for want of disk space.
    pub storage_low: bool,
    /// How many rows of its store are damaged.
    pub damaged: u64,
}

/// How many sagas are open, and how they stand.
#[derive(Serialize, Default, PartialEq, Eq, Debug)]
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
    /// Its id.
    pub saga_id: String,
    /// What it is, in a few words.
    pub title: String,
    /// Its kind.
    pub kind: Option<String>,
    /// Its state, in the documented words.
    pub state: &'static str,
    /// The article that it is about.
    pub article_id: Option<u64>,
    /// The user that it is about.
    pub user_id: Option<u64>,
    /// When it began.
    pub started_at: String,
    /// When it ended.
    pub ended_at: Option<String>,
    /// How long it has taken: until its end, or until now.
    pub took_ms: u64,
    /// Whether every service has been told of its end.
    pub settled: bool,
    /// Whether an operator is needed.
    pub needs_attention: bool,
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
    /// All that the log tells of it.
    #[serde(skip)]
    pub view: SagaView,
    /// What an operator may safely do next.
    #[serde(skip)]
    pub advice: Vec<String>,
}

impl Picture {
    /// What is shown of a look. Rates are told against the look before.
    pub fn of(look: &Look, before: Option<&Look>) -> Self {
        let mut open: Vec<_> = look.log.open.iter().collect();
        let alarming = |story: &Story| {
            story.state.as_ref().is_none_or(|state| state.needs_attention(look.attention_after))
        };
        let ended = |story: &Story| {
            let state = story.state.as_ref();
            state.is_some_and(|state| state.ended().is_some() && !state.quarantined_now())
        };
        // A stable sort: within each kind of trouble the oldest stays first.
        open.sort_by_key(|seen| (!alarming(&seen.story), ended(&seen.story)));
        let count = |which: &dyn Fn(&Story) -> bool| open.iter().filter(|seen| which(&seen.story)).count();
        let in_state = |word| count(&|story| state_word(story.state.as_ref()) == word);
        let counts = Counts {
            running: in_state("running"),
            compensating: in_state("compensating"),
            quarantined: in_state("quarantined"),
            unsettled: count(&ended),
            needs_attention: count(&alarming),
            hanging: count(&|story| hangs(story, look.at_ms)),
        };
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
            open: open.into_iter().take(OPEN_MAX).map(|seen| SagaPicture::of(seen, look)).collect(),
            recent: look.log.recent.iter().map(|seen| SagaPicture::of(seen, look)).collect(),
        }
    }

    /// Everything that can be chosen, in the order in which it is shown.
    pub fn sagas(&self) -> impl Iterator<Item = &SagaPicture> {
        self.open.iter().chain(self.recent.iter().filter(|recent| !self.is_open(recent)))
    }

    /// Whether a saga that ended is shown among the open ones: not every service knows of its end.
    fn is_open(&self, recent: &SagaPicture) -> bool {
        self.open.iter().any(|open| open.saga_id == recent.saga_id)
    }
}

fn hangs(story: &Story, now_ms: u64) -> bool {
    let began_ms = story.records.first().map_or(0, |record| record.at_ms);
    is_overdue(began_ms, now_ms, HANGING_AFTER)
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
            version: status.software.clone(),
            store_id: status.store.to_string(),
            pid: status.pid,
            up_ms: status.up_ms,
            connections: status.connections,
            queued: status.queued,
            queue_limit: status.queue_limit,
            unsettled: status.unsettled,
            requests_per_s: grown.and_then(per_s),
            group_size: grown.filter(|(_, groups, _)| *groups > 0.0).map(|(_, groups, many)| many / groups),
            store_bytes: status.store_bytes,
            free_bytes: status.free_bytes,
            storage_low: status.storage_low,
            damaged: status.damaged,
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
        let open = view.is_open();
        let hangs = view.hangs(look.at_ms, HANGING_AFTER);
        let owner = seen.owner.as_ref();
        let (trouble, command) = if open { remedy(&view, owner, hangs) } else { (None, None) };
        Self {
            saga_id: view.saga_id.clone(),
            title: view.title(),
            kind: view.kind.clone(),
            state: view.state,
            article_id: view.article_id,
            user_id: view.user_id,
            started_at: view.started_at.clone(),
            ended_at: view.ended_at.clone(),
            took_ms: view.ended_ms.unwrap_or(look.at_ms).saturating_sub(view.started_ms),
            settled: view.settled,
            needs_attention: view.needs_attention,
            hangs,
            trouble,
            command,
            slot: seen.slot,
            owner: owner.map(OwnerView::from),
            advice: advice::advice(&view, owner),
            view,
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

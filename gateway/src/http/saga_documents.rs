//! Sagas as they are answered. Names are public, and the same as those of `likectl saga --json`.

use like_client::cli::timeline;
use like_client::cli::view::{SagaView, TURNED_BACK, Tone};
use like_client::log::Owner;
use serde::Serialize;
use utoipa::ToSchema;

use crate::sagas::Found;

/// A saga in a list.
#[derive(Clone, PartialEq, Serialize, ToSchema)]
pub struct SagaSummary {
    /// Its id.
    pub saga_id: String,
    /// Its kind; null if its beginning is lost.
    pub kind: Option<String>,
    /// running, compensating, completed, compensated, forced_completed, forced_compensated or quarantined.
    pub state: &'static str,
    /// The article that it is about.
    pub article_id: Option<u64>,
    /// The user that it is about.
    pub user_id: Option<u64>,
    /// When it began.
    #[schema(format = DateTime)]
    pub started_at: String,
    /// When it ended.
    #[schema(format = DateTime)]
    pub ended_at: Option<String>,
    /// Whether every service has been told of its end.
    pub settled: bool,
    /// Whether an operator is needed.
    pub needs_attention: bool,
    /// How many attempts at its steps were sent, compensations included.
    pub attempts: u32,
    /// What the last attempt came to, while nothing better is known; of one that was undone, why.
    pub last_failure: Option<String>,
}

impl From<&SagaView> for SagaSummary {
    fn from(saga: &SagaView) -> Self {
        Self {
            saga_id: saga.saga_id.clone(),
            kind: saga.kind.clone(),
            state: saga.state,
            article_id: saga.article_id,
            user_id: saga.user_id,
            started_at: saga.started_at.clone(),
            ended_at: saga.ended_at.clone(),
            settled: saga.settled,
            needs_attention: saga.needs_attention,
            attempts: saga.steps.iter().map(|step| step.attempts + step.compensation_attempts).sum(),
            last_failure: saga
                .steps
                .iter()
                .rev()
                .find_map(|step| step.last_failure.clone())
                .or_else(|| why_undone(saga)),
        }
    }
}

/// Why a saga was undone: what failed last of what it was to do, or else that it was turned back.
fn why_undone(saga: &SagaView) -> Option<String> {
    if saga.state != "compensated" {
        return None;
    }
    let failed = saga.events.iter().rfind(|event| event.action_type == "main" && event.status == "failed");
    let turned = || saga.history.iter().rev().find_map(|line| line.what.strip_prefix(TURNED_BACK));
    failed.and_then(|event| event.detail.clone()).or_else(|| turned().map(str::to_owned))
}

/// A saga with its timeline.
#[derive(Serialize, ToSchema)]
pub struct SagaDocument {
    /// The saga in short.
    #[serde(flatten)]
    summary: SagaSummary,
    /// Its steps, in order.
    steps: Vec<Step>,
    /// What happened at the services, in order.
    events: Vec<StepEvent>,
    /// Everything that happened, in order, in words.
    history: Vec<HistoryLine>,
    /// The slot of the journal that it stands in.
    slot: u32,
    /// The live process that holds the slot.
    owner: Option<OwnerDocument>,
    /// What an operator may do next, safest first.
    advice: Vec<String>,
}

/// A step of a saga.
#[derive(Serialize, ToSchema)]
struct Step {
    /// What it does.
    name: String,
    /// Where.
    service: String,
    /// not_sent, in_doubt, done, rejected or refused.
    action: &'static str,
    /// pending, failed or done; null if none is owed.
    compensation: Option<&'static str>,
    /// How many attempts at its action were sent.
    attempts: u32,
    /// How many attempts at its compensation were sent.
    compensation_attempts: u32,
    /// What the last attempt came to, while nothing better is known.
    last_failure: Option<String>,
}

/// Something that happened at a service.
#[derive(Serialize, ToSchema)]
struct StepEvent {
    /// When.
    #[schema(format = DateTime)]
    at: String,
    /// Where.
    service: String,
    /// main or compensation.
    action_type: &'static str,
    /// pending, done or failed.
    status: &'static str,
    /// The how-manieth attempt.
    attempt: u32,
    /// What is to be said about it.
    detail: Option<String>,
}

/// Something that happened to a saga.
#[derive(Serialize, ToSchema)]
struct HistoryLine {
    /// When.
    #[schema(format = DateTime)]
    at: String,
    /// How many milliseconds after the saga began.
    after_ms: u64,
    /// At which step, if at one.
    step: Option<String>,
    /// Where, if at a service.
    service: Option<String>,
    /// What, in words.
    what: String,
    /// good, bad, turn or plain: how it is to be taken.
    tone: &'static str,
}

/// A live process that holds a slot.
#[derive(Serialize, ToSchema)]
struct OwnerDocument {
    /// Its process id.
    pid: u32,
    /// Its command line.
    command: String,
    /// Whether it is stopped: it keeps its slot and does nothing.
    stopped: bool,
}

/// What an administrator's act came to.
#[derive(Serialize, ToSchema)]
pub struct Acted {
    /// The saga as it stands now.
    pub saga: SagaDocument,
    /// Of a forced end: what may be left broken.
    pub leaves_broken: Vec<String>,
}

impl SagaDocument {
    /// Of a saga that was found, and the live process that holds its slot.
    pub fn new(found: &Found, owner: Option<&Owner>) -> Self {
        let saga = &found.view;
        let step = |step: &like_client::cli::view::StepView| Step {
            name: step.name.clone(),
            service: step.service.clone(),
            action: step.action,
            compensation: step.compensation,
            attempts: step.attempts,
            compensation_attempts: step.compensation_attempts,
            last_failure: step.last_failure.clone(),
        };
        let event = |event: &like_client::cli::view::StepEvent| StepEvent {
            at: event.at.clone(),
            service: event.service.clone(),
            action_type: event.action_type,
            status: event.status,
            attempt: event.attempt,
            detail: event.detail.clone(),
        };
        let line = |line: &like_client::cli::view::HistoryLine| HistoryLine {
            at: line.at.clone(),
            after_ms: line.at_ms.saturating_sub(saga.started_ms),
            step: line.step.clone(),
            service: line.service.clone(),
            what: line.what.clone(),
            tone: match line.tone {
                Tone::Good => "good",
                Tone::Bad => "bad",
                Tone::Turn => "turn",
                Tone::Plain => "plain",
            },
        };
        Self {
            summary: saga.into(),
            steps: saga.steps.iter().map(step).collect(),
            events: saga.events.iter().map(event).collect(),
            history: saga.history.iter().map(line).collect(),
            slot: found.slot.number(),
            owner: owner.map(|owner| OwnerDocument {
                pid: owner.pid,
                command: owner.command.clone(),
                stopped: owner.stopped,
            }),
            advice: timeline::advice(saga, owner),
        }
    }
}

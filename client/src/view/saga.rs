//! A saga as it is shown: derived from its story in the log, by itself.

use std::time::Duration;

use serde::Serialize;

use super::advice::advice;
use super::moment;
use super::words::{TURNED_BACK, Teller};
use crate::log::{Owner, SagaRecord, Story};
use crate::runner::admin::ORPHAN_KIND;
use crate::saga::state::StepState;
use crate::saga::{Action, Definitions, End, Event, Phase, SagaState};

/// How long a saga may be open before it counts as hanging, if nobody says otherwise: as `check` has it by default.
pub const HANGING_AFTER: Duration = Duration::from_secs(5 * 60);

/// A saga as it is shown. The JSON form is public.
#[derive(Serialize, Debug)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SagaView {
    /// Its id.
    pub saga_id: String,
    /// Its kind; unknown if its beginning is lost.
    pub kind: Option<String>,
    /// Its state, in the documented words.
    pub state: &'static str,
    /// The article that it is about.
    pub article_id: Option<u64>,
    /// The user that it is about.
    pub user_id: Option<u64>,
    /// When it began.
    #[cfg_attr(feature = "schema", schema(format = DateTime))]
    pub started_at: String,
    /// When it ended.
    #[cfg_attr(feature = "schema", schema(format = DateTime))]
    pub ended_at: Option<String>,
    /// Whether every service has been told of its end.
    pub settled: bool,
    /// Whether an operator is needed.
    pub needs_attention: bool,
    /// How many attempts at its steps were sent, compensations included.
    pub attempts: u32,
    /// What the last attempt came to, while nothing better is known; of one that was undone, why.
    pub last_failure: Option<String>,
    /// Its steps, in order.
    pub steps: Vec<StepView>,
    /// What happened at the services, in order.
    pub events: Vec<StepEvent>,
    /// Everything that happened, in order, in words.
    pub history: Vec<HistoryLine>,
    /// For sorting and arithmetic: when it began, in milliseconds since the epoch.
    #[serde(skip)]
    pub started_ms: u64,
    /// When it ended, in milliseconds since the epoch.
    #[serde(skip)]
    pub ended_ms: Option<u64>,
}

/// A saga with where it stands, who drives it and what may be done. The JSON form is public.
#[derive(Serialize, Debug)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SagaDocument {
    /// All that the log tells of it.
    #[serde(flatten)]
    pub saga: SagaView,
    /// The slot of the journal that it stands in.
    pub slot: u32,
    /// The live process that holds the slot.
    pub owner: Option<OwnerView>,
    /// What an operator may do next, safest first.
    pub advice: Vec<String>,
}

impl SagaDocument {
    /// Of a saga in this slot, which `owner` holds if somebody does.
    pub fn new(saga: SagaView, slot: u32, owner: Option<&Owner>) -> Self {
        let advice = advice(&saga, owner);
        Self { saga, slot, owner: owner.map(OwnerView::from), advice }
    }
}

/// A step as it is shown.
#[derive(Serialize, Debug)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct StepView {
    /// What it does.
    pub name: String,
    /// Where.
    pub service: String,
    /// How its action stands: `not_sent`, `in_doubt`, `done`, `rejected`, `refused`.
    pub action: &'static str,
    /// How its compensation stands: `pending`, `failed`, `done`; none if none is owed.
    pub compensation: Option<&'static str>,
    /// How many attempts at its action were sent.
    pub attempts: u32,
    /// How many attempts at its compensation were sent.
    pub compensation_attempts: u32,
    /// How many attempts at its compensation have failed in a row, those that reached nobody among them.
    #[serde(skip)]
    pub compensation_failures: u32,
    /// What the last attempt came to, while nothing better is known.
    pub last_failure: Option<String>,
}

/// Something that happened at a service.
#[derive(Serialize, Debug)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct StepEvent {
    /// When.
    #[cfg_attr(feature = "schema", schema(format = DateTime))]
    pub at: String,
    /// Where.
    pub service: String,
    /// `main` or `compensation`.
    pub action_type: &'static str,
    /// `pending`, `done` or `failed`.
    pub status: &'static str,
    /// The how-manieth attempt.
    pub attempt: u32,
    /// What is to be said about it.
    pub detail: Option<String>,
}

/// Something that happened to a saga.
#[derive(Serialize, Debug)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct HistoryLine {
    /// When.
    #[cfg_attr(feature = "schema", schema(format = DateTime))]
    pub at: String,
    /// How many milliseconds after the saga began.
    pub after_ms: u64,
    /// At which step, if at one.
    pub step: Option<String>,
    /// Where, if at a service.
    pub service: Option<String>,
    /// What, in words.
    pub what: String,
    /// How it is to be taken.
    pub tone: Tone,
}

/// How something is to be taken.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Debug)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Tone {
    /// As it should be.
    Good,
    /// Not as it should be.
    Bad,
    /// A turn in the story.
    Turn,
    /// In passing.
    Plain,
}

impl SagaView {
    /// The view of a story. `definitions` explain kinds that are known; others are shown all the same.
    pub fn of(story: &Story, definitions: &Definitions, attention_after: u32) -> Self {
        let state = story.state.as_ref();
        let definition = state.and_then(|s| definitions.find(&s.begun.kind, s.begun.version)).map(|d| &**d);
        let subject = match (state, definition) {
            (Some(state), Some(definition)) => definition.subject(&state.begun.params).unwrap_or_default(),
            _ => Vec::new(),
        };
        let about = |name| subject.iter().find(|(n, _)| *n == name).map(|(_, value)| *value);
        let first_ms = story.records.first().map(|record| record.at_ms);
        let started_ms = first_ms.unwrap_or_default();
        let ended_ms = ended_ms(story);
        let teller = Teller { state, definition };
        let steps = state.map(steps).unwrap_or_default();
        let events = teller.step_events(story);
        let line = |record: &SagaRecord| teller.line(record, started_ms);
        let history: Vec<_> = story.records.iter().map(line).collect();
        let last_failure = steps.iter().rev().find_map(|step| step.last_failure.clone());
        let state_word = state_word(state);
        Self {
            saga_id: story.saga.to_string(),
            kind: state.map(|state| state.begun.kind.to_string()),
            state: state_word,
            article_id: about("article_id"),
            user_id: about("user_id"),
            // Not by its id: one that was only ended by force may have been begun by anybody.
            started_at: moment::show(moment::of_ms(started_ms)),
            ended_at: ended_ms.map(|ms| moment::show(moment::of_ms(ms))),
            settled: state.is_some_and(|state| state.settled),
            needs_attention: state.is_none_or(|state| state.needs_attention(attention_after)),
            attempts: steps.iter().map(|step| step.attempts + step.compensation_attempts).sum(),
            last_failure: last_failure.or_else(|| why_undone(state_word, &events, &history)),
            steps,
            events,
            history,
            started_ms,
            ended_ms,
        }
    }

    /// Whether it has not ended.
    pub fn is_unfinished(&self) -> bool {
        matches!(self.state, "running" | "compensating" | "quarantined")
    }

    /// Whether it has not ended, or has and not every service knows it.
    pub fn is_open(&self) -> bool {
        self.is_unfinished() || !self.settled
    }

    /// Whether it has been open for longer than `after`.
    pub fn hangs(&self, now_ms: u64, after: Duration) -> bool {
        self.is_open() && is_overdue(self.started_ms, now_ms, after)
    }

    /// What it is, in a few words: `like of article 1 by user 7`.
    pub fn title(&self) -> String {
        let kind = match self.kind.as_deref() {
            None => "saga whose beginning is lost",
            Some(ORPHAN_KIND) => "saga of which only the id is known",
            Some(kind) => kind,
        };
        match (self.article_id, self.user_id) {
            (Some(article), Some(user)) => format!("{kind} of article {article} by user {user}"),
            _ => kind.to_owned(),
        }
    }
}

/// Why a saga was undone: what failed last of what it was to do, or else that it was turned back.
fn why_undone(state_word: &str, events: &[StepEvent], history: &[HistoryLine]) -> Option<String> {
    if state_word != "compensated" {
        return None;
    }
    let failed = events.iter().rfind(|event| event.action_type == "main" && event.status == "failed");
    let turned = || history.iter().rev().find_map(|line| line.what.strip_prefix(TURNED_BACK));
    failed.and_then(|event| event.detail.clone()).or_else(|| turned().map(str::to_owned))
}

/// The documented word for where a saga stands.
pub fn state_word(state: Option<&SagaState>) -> &'static str {
    let Some(state) = state.filter(|state| !state.quarantined_now()) else { return "quarantined" };
    match state.phase {
        Phase::Forward => "running",
        Phase::Back(_) => "compensating",
        Phase::Ended(End::Completed) => "completed",
        Phase::Ended(End::Compensated) => "compensated",
        Phase::Forced(End::Completed) => "forced_completed",
        Phase::Forced(End::Compensated) => "forced_compensated",
    }
}

/// Every documented word for where a saga stands.
pub const STATE_WORDS: [&str; 7] = [
    "running",
    "compensating",
    "completed",
    "compensated",
    "forced_completed",
    "forced_compensated",
    "quarantined",
];

/// A live process that owns a saga's slot.
#[derive(Serialize, Debug)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct OwnerView {
    /// Its process id.
    pub pid: u32,
    /// Its command line.
    pub command: String,
    /// Whether it is stopped.
    pub stopped: bool,
}

impl From<&Owner> for OwnerView {
    fn from(owner: &Owner) -> Self {
        Self { pid: owner.pid, command: owner.command.clone(), stopped: owner.stopped }
    }
}

/// Whether what began then has taken longer than `after`.
pub fn is_overdue(started_ms: u64, now_ms: u64, after: Duration) -> bool {
    u128::from(now_ms.saturating_sub(started_ms)) > after.as_millis()
}

/// When a saga ended, in milliseconds since the epoch; `None` if it has not.
pub fn ended_ms(story: &Story) -> Option<u64> {
    let is_end = |event: &Event| matches!(event, Event::Ended(_) | Event::Forced { .. });
    story.records.iter().rev().find(|record| is_end(&record.event)).map(|record| record.at_ms)
}

fn steps(state: &SagaState) -> Vec<StepView> {
    let planned = state.begun.steps.iter().zip(&state.steps).enumerate();
    let view = |(number, (plan, step)): (usize, (&crate::saga::PlannedStep, &StepState))| StepView {
        name: plan.name.to_string(),
        service: service_of(state, number).to_owned(),
        action: match step.action {
            Action::NotSent => "not_sent",
            Action::InDoubt => "in_doubt",
            Action::Done(_) => "done",
            Action::Rejected(_) => "rejected",
            Action::Refused(_) => "refused",
        },
        compensation: match (&state.phase, step.compensated) {
            (_, true) => Some("done"),
            (Phase::Back(_), false) if step.compensation_failures > 0 => Some("failed"),
            (Phase::Back(_), false) if state.owes_compensation(number) => Some("pending"),
            _ => None,
        },
        attempts: step.action_attempts,
        compensation_attempts: step.compensation_attempts,
        compensation_failures: step.compensation_failures,
        last_failure: step.last_failure.as_ref().map(|failure| failure.detail.clone()),
    };
    planned.map(view).collect()
}

pub(super) fn service_of(state: &SagaState, step: usize) -> &str {
    let planned = state.begun.steps.get(step);
    let at = planned.and_then(|plan| state.begun.participants.get(usize::from(plan.participant)));
    at.map_or("unknown", |participant| &*participant.role)
}

//! A saga as it is shown: derived from its story in the log, by itself.

use std::time::Duration;

use like_protocol::message::Payload;
use serde::Serialize;

use super::moment;
use crate::log::{Owner, Story};
use crate::runner::admin::ORPHAN_KIND;
use crate::saga::event::Failure;
use crate::saga::state::StepState;
use crate::saga::{Action, Definition, Definitions, End, Event, Phase, SagaState, TurnBack};

/// How long a saga may be open before it counts as hanging, if nobody says otherwise: as `check` has it by default.
pub const HANGING_AFTER: Duration = Duration::from_secs(5 * 60);

/// A saga as it is shown. The JSON form is public.
#[derive(Serialize, Debug)]
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
    pub started_at: String,
    /// When it ended.
    pub ended_at: Option<String>,
    /// Whether every service has been told of its end.
    pub settled: bool,
    /// Whether an operator is needed.
    pub needs_attention: bool,
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

/// A step as it is shown.
#[derive(Serialize, Debug)]
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
pub struct StepEvent {
    /// When.
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
pub struct HistoryLine {
    /// When.
    pub at: String,
    /// When, in milliseconds since the epoch.
    #[serde(skip)]
    pub at_ms: u64,
    /// At which step, if at one.
    pub step: Option<String>,
    /// Where, if at a service.
    pub service: Option<String>,
    /// What, in words.
    pub what: String,
    /// How it is to be taken.
    #[serde(skip)]
    pub tone: Tone,
}

/// How something is to be taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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
        Self {
            saga_id: story.saga.to_string(),
            kind: state.map(|state| state.begun.kind.to_string()),
            state: state_word(state),
            article_id: about("article_id"),
            user_id: about("user_id"),
            // Not by its id: one that was only ended by force may have been begun by anybody.
            started_at: moment::show(moment::of_ms(started_ms)),
            ended_at: ended_ms.map(|ms| moment::show(moment::of_ms(ms))),
            settled: state.is_some_and(|state| state.settled),
            needs_attention: state.is_none_or(|state| state.needs_attention(attention_after)),
            steps: state.map(steps).unwrap_or_default(),
            events: teller.step_events(story),
            history: story.records.iter().map(|record| teller.line(record.at_ms, &record.event)).collect(),
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

/// How a line of history begins that tells why a saga turned back.
pub const TURNED_BACK: &str = "turned back: ";

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

fn service_of(state: &SagaState, step: usize) -> &str {
    let planned = state.begun.steps.get(step);
    let at = planned.and_then(|plan| state.begun.participants.get(usize::from(plan.participant)));
    at.map_or("unknown", |participant| &*participant.role)
}

/// Puts a saga's events into words.
struct Teller<'a> {
    state: Option<&'a SagaState>,
    definition: Option<&'a dyn Definition>,
}

impl Teller<'_> {
    fn step_events(&self, story: &Story) -> Vec<StepEvent> {
        let mut attempts = std::collections::HashMap::new();
        let mut told = Vec::new();
        for record in &story.records {
            let Some((step, compensation, status, detail)) = self.at_step(&record.event) else { continue };
            if let Event::ActionSent { attempt, .. } | Event::CompensationSent { attempt, .. } = record.event
            {
                attempts.insert((step, compensation), attempt);
            }
            told.push(StepEvent {
                at: moment::show(moment::of_ms(record.at_ms)),
                service: self.service(step),
                action_type: if compensation { "compensation" } else { "main" },
                status,
                attempt: attempts.get(&(step, compensation)).copied().unwrap_or_default(),
                detail,
            });
        }
        told
    }

    /// Step, whether it is about its compensation, status, detail; of an event that happens at a step.
    fn at_step(&self, event: &Event) -> Option<(u8, bool, &'static str, Option<String>)> {
        let told = match event {
            Event::ActionSent { step, .. } => (*step, false, "pending", None),
            Event::ActionDone { step, .. } => (*step, false, "done", None),
            Event::ActionRejected { step, rejection } => {
                (*step, false, "failed", Some(self.rejection(*step, rejection)))
            }
            Event::ActionRefused { step, refusal } => {
                (*step, false, "failed", Some(format!("refused: {refusal:?}").to_lowercase()))
            }
            Event::ActionFailed { step, failure } => (*step, false, "failed", Some(failure.detail.clone())),
            Event::CompensationSent { step, .. } => (*step, true, "pending", None),
            Event::CompensationDone { step } => (*step, true, "done", None),
            Event::CompensationFailed { step, failure, .. } => {
                (*step, true, "failed", Some(failure.detail.clone()))
            }
            _ => return None,
        };
        Some(told)
    }

    fn line(&self, at_ms: u64, event: &Event) -> HistoryLine {
        let step = self.at_step(event).map(|(step, ..)| step);
        let (tone, what) = self.words(event);
        HistoryLine {
            at: moment::show(moment::of_ms(at_ms)),
            at_ms,
            step: step.map(|step| self.name(step)),
            service: step.map(|step| self.service(step)),
            what,
            tone,
        }
    }

    fn words(&self, event: &Event) -> (Tone, String) {
        match event {
            Event::Begun(begun) if begun.kind == ORPHAN_KIND => {
                (Tone::Plain, "stood in no log: written down only to be given an end".to_owned())
            }
            Event::Begun(begun) => (Tone::Plain, format!("begun for uid {}", begun.by_uid)),
            Event::ActionSent { attempt: 1, .. } => (Tone::Plain, "sent".to_owned()),
            Event::ActionSent { attempt, .. } => (Tone::Plain, format!("sent, attempt {attempt}")),
            Event::ActionDone { .. } => (Tone::Good, "done".to_owned()),
            Event::ActionRejected { step, rejection } => {
                (Tone::Bad, format!("rejected: {}", self.rejection(*step, rejection)))
            }
            Event::ActionRefused { refusal, .. } => {
                (Tone::Bad, format!("refused: {refusal:?}").to_lowercase())
            }
            Event::ActionFailed { failure, .. } => (Tone::Bad, format!("failed: {}", words(failure))),
            Event::TurnedBack(why) => (Tone::Turn, format!("{TURNED_BACK}{}", self.why_back(why))),
            Event::CompensationSent { attempt: 1, .. } => (Tone::Plain, "compensation sent".to_owned()),
            Event::CompensationSent { attempt, .. } => {
                (Tone::Plain, format!("compensation sent, attempt {attempt}"))
            }
            Event::CompensationDone { .. } => (Tone::Good, "compensated".to_owned()),
            Event::CompensationFailed { in_a_row, failure, .. } => {
                (Tone::Bad, format!("compensation failed ({in_a_row} in a row): {}", words(failure)))
            }
            Event::Ended(End::Completed) => (Tone::Turn, "completed".to_owned()),
            Event::Ended(End::Compensated) => (Tone::Turn, "compensated: nothing is left of it".to_owned()),
            Event::Forced { end, reason, by_uid, leaves_broken } => {
                (Tone::Turn, forced(*end, reason, *by_uid, leaves_broken))
            }
            Event::TakenOver { by_pid } => {
                (Tone::Turn, format!("taken over from a dead runner by pid {by_pid}"))
            }
            Event::Resumed { by_uid, .. } => (Tone::Turn, format!("given a new deadline by uid {by_uid}")),
            Event::Settled => (Tone::Plain, "settled: every service knows the end".to_owned()),
            Event::Quarantined { detail } => (Tone::Bad, format!("quarantined: {detail}")),
        }
    }

    fn why_back(&self, why: &TurnBack) -> String {
        match why {
            TurnBack::Rejected { step } => format!("a rule forbids `{}`", self.name(*step)),
            TurnBack::Refused { step } => format!("`{}` was refused", self.name(*step)),
            TurnBack::Deadline { step } => {
                format!("the deadline passed before `{}` was done", self.name(*step))
            }
            TurnBack::Operator { by_uid } => format!("by the word of uid {by_uid}"),
        }
    }

    fn rejection(&self, step: u8, rejection: &Payload) -> String {
        match self.definition {
            Some(definition) => definition.explain_rejection(usize::from(step), rejection),
            None => "a rule of a kind of saga that is not known here".to_owned(),
        }
    }

    fn name(&self, step: u8) -> String {
        let planned = self.state.and_then(|state| state.begun.steps.get(usize::from(step)));
        planned.map_or_else(|| format!("step {step}"), |plan| plan.name.to_string())
    }

    fn service(&self, step: u8) -> String {
        self.state.map_or_else(|| "unknown".to_owned(), |s| service_of(s, usize::from(step)).to_owned())
    }
}

fn words(failure: &Failure) -> &str {
    &failure.detail
}

fn forced(end: End, reason: &str, by_uid: u32, leaves_broken: &[String]) -> String {
    let end = match end {
        End::Completed => "completed",
        End::Compensated => "compensated",
    };
    let broken = if leaves_broken.is_empty() {
        String::new()
    } else {
        format!("; may be left broken: {}", leaves_broken.join(", "))
    };
    format!("counts as {end} by the word of uid {by_uid}: {reason}{broken}")
}

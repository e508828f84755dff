//! A saga as it is shown: derived from its story in the log, by itself.

use std::ops::Deref;

use serde::Serialize;

use super::advice::advice;
use super::summary::{SagaSummary, started_ms};
use super::words::Teller;
use crate::log::{Owner, Story};
use crate::saga::state::StepState;
use crate::saga::{Action, Definitions, Phase, SagaState};

/// A saga as it is shown. The JSON form is public.
#[derive(Serialize, Debug)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SagaView {
    /// The facts, as in a list.
    #[serde(flatten)]
    pub summary: SagaSummary,
    /// Its steps, in order.
    pub steps: Vec<StepView>,
    /// What happened at the services, in order.
    pub events: Vec<StepEvent>,
    /// Everything that happened, in order, in words.
    pub history: Vec<HistoryLine>,
    /// Whether this program knows how to drive it.
    #[serde(skip)]
    pub known: bool,
}

/// A view is a summary with more.
impl Deref for SagaView {
    type Target = SagaSummary;

    fn deref(&self) -> &SagaSummary {
        &self.summary
    }
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
        let teller = Teller::of(story, definitions);
        let started_ms = started_ms(story);
        Self {
            summary: SagaSummary::of(story, definitions, attention_after),
            steps: story.state.as_ref().map(steps).unwrap_or_default(),
            events: teller.step_events(story),
            history: story.records.iter().map(|record| teller.line(record, started_ms)).collect(),
            known: teller.definition.is_some(),
        }
    }
}

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

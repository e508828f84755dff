//! What happened to a saga, in words.

use like_protocol::message::Payload;

use super::moment;
use super::saga::{HistoryLine, StepEvent, Tone, service_of};
use crate::log::{SagaRecord, Story};
use crate::runner::admin::ORPHAN_KIND;
use crate::saga::event::Failure;
use crate::saga::{Definition, Definitions, End, Event, SagaState, TurnBack};

/// How a line of history begins that tells why a saga turned back.
pub const TURNED_BACK: &str = "turned back: ";

/// Puts a saga's events into words.
pub(super) struct Teller<'a> {
    state: Option<&'a SagaState>,
    pub definition: Option<&'a dyn Definition>,
}

impl<'a> Teller<'a> {
    /// Of this story; its kind may be unknown.
    pub fn of(story: &'a Story, definitions: &'a Definitions) -> Self {
        let state = story.state.as_ref();
        let definition = state.and_then(|s| definitions.find(&s.begun.kind, s.begun.version)).map(|d| &**d);
        Self { state, definition }
    }

    /// What happened at the services, in order.
    pub fn step_events(&self, story: &Story) -> Vec<StepEvent> {
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

    /// A record of a saga that began then.
    pub fn line(&self, record: &SagaRecord, started_ms: u64) -> HistoryLine {
        let step = self.at_step(&record.event).map(|(step, ..)| step);
        let (tone, what) = self.words(&record.event);
        HistoryLine {
            at: moment::show(moment::of_ms(record.at_ms)),
            after_ms: record.at_ms.saturating_sub(started_ms),
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
    let broken = if leaves_broken.is_empty() {
        String::new()
    } else {
        format!("; may be left broken: {}", leaves_broken.join(", "))
    };
    format!("counts as {end} by the word of uid {by_uid}: {reason}{broken}")
}

//! What a saga's events add up to: the transition function `(state, event) -> state`.
//!
//! An event that does not fit the state is an error and never ignored. State is derived from the log alone.

use std::sync::Arc;

use like_protocol::message::Payload;
use like_protocol::time::{Deadline, Now};

use super::event::{Begun, End, Event, Failure, FailureKind, Refusal, TurnBack};

/// A saga as its events left it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SagaState {
    /// How it began.
    pub begun: Arc<Begun>,
    /// Which way it goes.
    pub phase: Phase,
    /// Its steps, in order.
    pub steps: Vec<StepState>,
    /// Its latest deadline.
    pub deadline: Deadline,
    /// Whether a runner has died on it while it went forward. What the log lost then could have been acknowledged, so
    /// such a saga never gives up on an unknown outcome: it goes forward, past its deadline too, until it is certain.
    pub taken_over_forward: bool,
    /// The last failure of the step that the saga turned back at, if one was recorded: why a deadline passed in vain.
    pub turned_back_after: Option<Failure>,
    /// Whether every participant has confirmed its end.
    pub settled: bool,
    /// Why nobody may drive it, if nobody may.
    pub quarantined: Option<String>,
}

/// Which way a saga goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Forward: the actions that aren't done are to be done.
    Forward,
    /// Back: what may have been done is to be undone. Never left but by an end.
    Back(TurnBack),
    /// Ended by itself.
    Ended(End),
    /// Ended by an operator.
    Forced(End),
}

/// A step as the saga's events left it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StepState {
    /// How its action stands.
    pub action: Action,
    /// How many attempts at its action have been sent.
    pub action_attempts: u32,
    /// Whether it is undone.
    pub compensated: bool,
    /// How many attempts at its compensation have been sent.
    pub compensation_attempts: u32,
    /// How many of them have failed in a row.
    pub compensation_failures: u32,
    /// The last failure of either, while nothing better is known.
    pub last_failure: Option<Failure>,
}

/// How an action stands.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Action {
    /// No request of it has left.
    #[default]
    NotSent,
    /// It was sent, and no final answer is known.
    InDoubt,
    /// It has run.
    Done(Payload),
    /// A business rule forbade it.
    Rejected(Payload),
    /// The step's history forbade it.
    Refused(Refusal),
}

/// An event that does not fit the state of its saga: the log or its writer is broken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("event {event} does not fit a saga that is {state}")]
pub struct Illegal {
    event: String,
    state: String,
}

impl SagaState {
    /// The state of a saga that has just begun.
    pub fn begin(begun: Arc<Begun>) -> Self {
        let steps = begun.steps.iter().map(|_| StepState::default()).collect();
        let deadline = begun.deadline;
        Self {
            begun,
            phase: Phase::Forward,
            steps,
            deadline,
            taken_over_forward: false,
            turned_back_after: None,
            settled: false,
            quarantined: None,
        }
    }

    /// The state after one more event. Nothing but a forced end fits a saga that is quarantined.
    ///
    /// # Errors
    /// The event does not fit; the state is as it was.
    pub fn apply(&mut self, event: &Event) -> Result<(), Illegal> {
        let fits = match event {
            Event::Begun(_) => false,
            Event::Forced { end, .. } => self.force(*end),
            _ if self.quarantined_now() => false,
            Event::ActionSent { step, attempt } => self.action_sent(*step, *attempt),
            Event::ActionDone { step, reply } => self.action_ends(*step, Action::Done(reply.clone())),
            Event::ActionRejected { step, rejection } => {
                self.action_ends(*step, Action::Rejected(rejection.clone()))
            }
            Event::ActionRefused { step, refusal } => self.action_ends(*step, Action::Refused(*refusal)),
            Event::ActionFailed { step, failure } => self.action_failed(*step, failure),
            Event::TurnedBack(why) => self.turn_back(why),
            Event::CompensationSent { step, attempt } => self.compensation_sent(*step, *attempt),
            Event::CompensationDone { step } => self.compensation_done(*step),
            Event::CompensationFailed { step, in_a_row, failure } => {
                self.compensation_failed(*step, *in_a_row, failure)
            }
            Event::Ended(end) => self.end(*end),
            Event::TakenOver { .. } => self.taken_over(),
            Event::Resumed { deadline, .. } => self.resume(*deadline),
            Event::Settled => self.settle(),
            Event::Quarantined { detail } => self.quarantine(detail),
        };
        if fits { Ok(()) } else { Err(Illegal { event: format!("{event:?}"), state: self.in_words() }) }
    }

    /// As [`SagaState::apply`], for a saga of which events may be lost: once it is quarantined, an end that stands on
    /// record still counts, and what an operator decided; everything else is passed over.
    ///
    /// # Errors
    /// The event does not fit a saga that is not quarantined.
    pub fn apply_where_readable(&mut self, event: &Event) -> Result<(), Illegal> {
        match event {
            _ if self.quarantined.is_none() => self.apply(event),
            Event::Ended(end) if self.ended().is_none() => {
                self.phase = Phase::Ended(*end);
                Ok(())
            }
            Event::Forced { .. } | Event::Settled => self.apply(event),
            _ => Ok(()),
        }
    }

    /// The step that decides what is next: the first whose action was forbidden, or else the first that is not done.
    pub fn current_step(&self) -> Option<usize> {
        let forbidden = |step: &StepState| matches!(step.action, Action::Rejected(_) | Action::Refused(_));
        let open = |step: &StepState| !matches!(step.action, Action::Done(_));
        self.steps.iter().position(forbidden).or_else(|| self.steps.iter().position(open))
    }

    /// Whether a step's action may be sent, again if it was sent before: actions start in the order of their steps, and
    /// none once one was forbidden.
    pub fn may_be_sent(&self, step: usize) -> bool {
        let fits = |(at, other): (usize, &StepState)| match other.action {
            Action::NotSent => at >= step,
            Action::InDoubt => true,
            Action::Done(_) => at != step,
            Action::Rejected(_) | Action::Refused(_) => false,
        };
        self.forward() && step < self.steps.len() && self.steps.iter().enumerate().all(fits)
    }

    /// Whether a step's action may have been sent: if the log says so, or if a runner died on the saga while it went
    /// forward. What the log lost then could have been that a step was sent beside the one that failed.
    pub fn may_have_been_sent(&self, step: usize) -> bool {
        self.taken_over_forward || self.steps.get(step).is_some_and(|s| s.action != Action::NotSent)
    }

    /// The recorded replies of the steps before `step`; `None` if one of them is missing.
    pub fn replies_before(&self, step: usize) -> Option<Vec<Payload>> {
        let before = self.steps.get(..step)?;
        before
            .iter()
            .map(|s| if let Action::Done(reply) = &s.action { Some(reply.clone()) } else { None })
            .collect()
    }

    /// The recorded reply of every step that has one.
    pub fn replies(&self) -> Vec<Option<Payload>> {
        let reply = |step: &StepState| match &step.action {
            Action::Done(reply) => Some(reply.clone()),
            _ => None,
        };
        self.steps.iter().map(reply).collect()
    }

    /// How it ended, by itself or by an operator.
    pub fn ended(&self) -> Option<End> {
        match self.phase {
            Phase::Ended(end) | Phase::Forced(end) => Some(end),
            Phase::Forward | Phase::Back(_) => None,
        }
    }

    /// Whether its end was forced.
    pub fn forced(&self) -> bool {
        matches!(self.phase, Phase::Forced(_))
    }

    /// Whether a step must be compensated before a saga that goes back can end: if it may have been sent, the failing
    /// one included, and every one if an operator turned the saga back.
    pub fn owes_compensation(&self, step: usize) -> bool {
        let all = matches!(self.phase, Phase::Back(TurnBack::Operator { .. }));
        self.steps.get(step).is_some_and(|s| !s.compensated && (all || self.may_have_been_sent(step)))
    }

    /// Whether a participant may hold something of a step and is to be told how the saga ended: every one if it was
    /// forced, or if events are lost.
    pub fn owes_settlement(&self, step: usize) -> bool {
        let may_hold = |s: &StepState| s.action != Action::NotSent || s.compensation_attempts > 0;
        self.forced() || self.quarantined.is_some() || self.steps.get(step).is_some_and(may_hold)
    }

    /// Whether an operator is needed: a compensation has failed so often in a row; or going on is in vain, because a
    /// participant has another store than the saga began with, or a damaged row in the saga's way; or the saga is
    /// quarantined.
    pub fn needs_attention(&self, failures_in_a_row: u32) -> bool {
        let stuck = match self.phase {
            Phase::Back(_) => {
                self.steps.iter().any(|s| !s.compensated && s.compensation_failures >= failures_in_a_row)
            }
            Phase::Forward => self.steps.iter().any(|s| s.last_failure.as_ref().is_some_and(is_in_vain)),
            Phase::Ended(_) | Phase::Forced(_) => false,
        };
        stuck || self.quarantined_now()
    }

    /// Whether it is quarantined and has not been given an end.
    pub fn quarantined_now(&self) -> bool {
        self.quarantined.is_some() && self.ended().is_none()
    }

    fn step(&mut self, step: u8) -> Option<&mut StepState> {
        self.steps.get_mut(usize::from(step))
    }

    fn forward(&self) -> bool {
        self.phase == Phase::Forward
    }

    fn action_sent(&mut self, step: u8, attempt: u32) -> bool {
        let may_be_sent = self.may_be_sent(usize::from(step));
        let Some(s) = self.step(step) else { return false };
        if !may_be_sent || attempt <= s.action_attempts {
            return false;
        }
        s.action = Action::InDoubt;
        s.action_attempts = attempt;
        true
    }

    fn action_ends(&mut self, step: u8, action: Action) -> bool {
        let forward = self.forward();
        let Some(s) = self.step(step) else { return false };
        if !forward || s.action != Action::InDoubt {
            return false;
        }
        // Only that it came too late says less than why it had not been done before.
        if action != Action::Refused(Refusal::Expired) {
            s.last_failure = None;
        }
        s.action = action;
        true
    }

    fn action_failed(&mut self, step: u8, failure: &Failure) -> bool {
        let forward = self.forward();
        let Some(s) = self.step(step) else { return false };
        // One beside it may have been forbidden meanwhile.
        if !forward || !matches!(s.action, Action::NotSent | Action::InDoubt) {
            return false;
        }
        s.last_failure = Some(failure.clone());
        true
    }

    fn turn_back(&mut self, why: &TurnBack) -> bool {
        if !self.forward() {
            return false;
        }
        let explained = match why {
            TurnBack::Rejected { step } => {
                matches!(self.step(*step), Some(StepState { action: Action::Rejected(_), .. }))
            }
            TurnBack::Refused { step } => {
                matches!(self.step(*step), Some(StepState { action: Action::Refused(_), .. }))
            }
            TurnBack::Deadline { step } => {
                !self.taken_over_forward && self.current_step() == Some(usize::from(*step))
            }
            TurnBack::Operator { .. } => true,
        };
        if explained {
            let failing = self.current_step().and_then(|step| self.steps.get(step));
            self.turned_back_after = failing.and_then(|step| step.last_failure.clone());
            self.phase = Phase::Back(why.clone());
        }
        explained
    }

    fn compensation_sent(&mut self, step: u8, attempt: u32) -> bool {
        let owed = matches!(self.phase, Phase::Back(_)) && self.owes_compensation(usize::from(step));
        let Some(s) = self.step(step) else { return false };
        if !owed || attempt <= s.compensation_attempts {
            return false;
        }
        s.compensation_attempts = attempt;
        true
    }

    fn compensation_done(&mut self, step: u8) -> bool {
        let back = matches!(self.phase, Phase::Back(_));
        let Some(s) = self.step(step) else { return false };
        if !back || s.compensated || s.compensation_attempts == 0 {
            return false;
        }
        s.compensated = true;
        s.compensation_failures = 0;
        s.last_failure = None;
        true
    }

    fn compensation_failed(&mut self, step: u8, in_a_row: u32, failure: &Failure) -> bool {
        let owed = matches!(self.phase, Phase::Back(_)) && self.owes_compensation(usize::from(step));
        let Some(s) = self.step(step) else { return false };
        if !owed || in_a_row == 0 {
            return false;
        }
        s.compensation_failures = in_a_row;
        s.last_failure = Some(failure.clone());
        true
    }

    fn end(&mut self, end: End) -> bool {
        let due = match (&self.phase, end) {
            (Phase::Forward, End::Completed) => self.current_step().is_none(),
            (Phase::Back(_), End::Compensated) => (0..self.steps.len()).all(|s| !self.owes_compensation(s)),
            _ => false,
        };
        if due {
            self.phase = Phase::Ended(end);
        }
        due
    }

    fn force(&mut self, end: End) -> bool {
        let open = self.ended().is_none();
        if open {
            self.phase = Phase::Forced(end);
        }
        open
    }

    fn taken_over(&mut self) -> bool {
        if self.settled {
            return false;
        }
        self.taken_over_forward |= self.forward();
        true
    }

    /// A new deadline never shortens the old one: a copy of a request that names that may still be on its way, and what
    /// participants remember is kept until the deadline that the settlement carries.
    fn resume(&mut self, deadline: Deadline) -> bool {
        let forward = self.forward();
        let is_later = deadline.boot != self.deadline.boot || deadline.at_ms > self.deadline.at_ms;
        if forward && is_later {
            self.deadline = deadline;
        }
        forward
    }

    fn settle(&mut self) -> bool {
        let ended = self.ended().is_some() && !self.settled;
        self.settled |= ended;
        ended
    }

    fn quarantine(&mut self, detail: &str) -> bool {
        let open = self.ended().is_none();
        if open {
            self.quarantined = Some(detail.to_owned());
        }
        open
    }

    /// One word for the phase, for error messages.
    fn in_words(&self) -> String {
        let phase = match &self.phase {
            Phase::Forward => "going forward",
            Phase::Back(_) => "going back",
            Phase::Ended(_) => "ended",
            Phase::Forced(_) => "ended by force",
        };
        format!("{phase} with steps {:?}", self.steps)
    }
}

/// Whether a saga that goes forward may still be given up at `now`: its deadline has passed and no runner has died on it.
pub(super) fn may_give_up(state: &SagaState, now: &Now) -> bool {
    !state.taken_over_forward && state.deadline.passed(now)
}

/// Whether trying again is in vain until a person has seen to something.
fn is_in_vain(failure: &Failure) -> bool {
    matches!(failure.kind, FailureKind::OtherStore | FailureKind::Damaged)
}

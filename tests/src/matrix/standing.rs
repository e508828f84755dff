//! How the victim's saga stands in the log, and how it must: the expectation, as a pure model.
//!
//! `kill -9` loses nothing that was written, so where a runner was killed says by itself how its saga must stand
//! afterwards; and how it stands says, with the mode of recovery, how it must end.

use like_client::saga::state::Action;
use like_client::saga::{End, Phase, SagaState};
use like_protocol::failpoint::Failpoint;
use like_protocol::time::Now;

use super::case::Mode;

/// How a saga stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// In no log.
    NotBegun,
    /// Going forward.
    Forward(Forward),
    /// Going back.
    Back,
    /// Ended.
    Ended(End),
}

/// How far a saga is that goes forward.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Forward {
    /// Whether its deadline has passed.
    pub late: bool,
    /// What is known of its actions.
    pub actions: Actions,
}

/// What the log knows of a saga's actions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Actions {
    /// One has been answered so that the saga must turn back.
    Failed,
    /// All have been done.
    Done,
    /// All have been sent, and not all were answered.
    Sent,
    /// One was certainly never sent.
    Short,
}

/// How a saga must end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expected {
    /// Not at all: it stands in no log.
    NoSaga,
    /// So.
    Exactly(End),
    /// One way or the other.
    Either,
}

impl Standing {
    /// What a log says, if it knows the saga.
    ///
    /// # Panics
    /// An operator has forced its end: nobody does that here.
    pub fn of(state: Option<&SagaState>, now: &Now) -> Self {
        let Some(state) = state else { return Self::NotBegun };
        match state.phase {
            Phase::Forward => Self::Forward(Forward::of(state, now)),
            Phase::Back(_) => Self::Back,
            Phase::Ended(end) => Self::Ended(end),
            Phase::Forced(_) => unreachable!("nobody forces an end"),
        }
    }

    /// The end to which recovery brings it. `turns_back`: a rule forbids what it wants.
    pub fn end(self, turns_back: bool, mode: Mode) -> Expected {
        let natural = Expected::Exactly(if turns_back { End::Compensated } else { End::Completed });
        match (self, mode) {
            (Self::NotBegun, _) => Expected::NoSaga,
            (Self::Ended(end), _) => Expected::Exactly(end),
            (Self::Back, _) | (Self::Forward(_), Mode::Compensate) => Expected::Exactly(End::Compensated),
            (Self::Forward(forward), _) if forward.actions == Actions::Failed => {
                Expected::Exactly(End::Compensated)
            }
            (Self::Forward(forward), Mode::GoOn) if forward.late && !turns_back => match forward.actions {
                Actions::Sent => Expected::Either,
                // The deadline has passed: it is refused.
                Actions::Short => Expected::Exactly(End::Compensated),
                Actions::Done | Actions::Failed => natural,
            },
            (Self::Forward(_), _) => natural,
        }
    }

    /// Whether a saga that stood like `self` may stand like `later`: nothing that was written is taken back.
    pub fn may_become(self, later: Self) -> bool {
        match (self, later) {
            (Self::NotBegun, later) => later == Self::NotBegun,
            (Self::Ended(end), later) => later == Self::Ended(end),
            (Self::Back, later) => matches!(later, Self::Back | Self::Ended(End::Compensated)),
            (Self::Forward(_), later) => later != Self::NotBegun,
        }
    }

    /// Whether this is how a saga stands whose runner was killed at `point`, having stood like `before` when the runner
    /// set out ([`Standing::NotBegun`] for the victim, which begins it).
    ///
    /// # Panics
    /// No runner passes that point.
    pub fn fits_death(self, before: Self, point: Failpoint) -> bool {
        use Failpoint as P;
        match point {
            P::SlotLocked | P::CarryWritten | P::CarrySynced | P::CarryDone => before.is_like(self),
            // What was only appended dies with its process.
            P::BeginAppended => self == Self::NotBegun,
            P::BeginSynced | P::ActionSentWritten | P::ActionReplied | P::ActionOutcomeAppended => {
                matches!(self, Self::Forward(_))
            }
            P::TurnBackWritten | P::TurnBackSynced | P::CompensationSentWritten | P::CompensationReplied => {
                self == Self::Back
            }
            P::EndWritten | P::EndSynced | P::SettleReplied | P::SettledWritten => {
                matches!(self, Self::Ended(_))
            }
            P::GroupEvaluated | P::GroupApplied | P::GroupSynced | P::GroupAnswered => {
                unreachable!("no runner passes {}", point.name())
            }
        }
    }

    /// The same, whatever the time is.
    pub fn is_like(self, other: Self) -> bool {
        match (self, other) {
            (Self::Forward(one), Self::Forward(other)) => one.actions == other.actions,
            (one, other) => one == other,
        }
    }
}

impl Forward {
    fn of(state: &SagaState, now: &Now) -> Self {
        let actions =
            if state.steps.iter().any(|s| matches!(s.action, Action::Rejected(_) | Action::Refused(_))) {
                Actions::Failed
            } else if state.steps.iter().all(|step| matches!(step.action, Action::Done(_))) {
                Actions::Done
            } else if state.steps.iter().all(|step| step.action_attempts > 0) {
                Actions::Sent
            } else {
                Actions::Short
            };
        Self { late: state.deadline.passed(now), actions }
    }
}

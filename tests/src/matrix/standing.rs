//! What the saga log must say of a saga whose runner died at a point: the expectation, as a pure model.
//!
//! `kill -9` loses nothing that was written, so the point alone says which way the saga goes.

use like_client::saga::End;
use like_protocol::failpoint::Failpoint;

use super::Mode;

/// How the victim's saga stands in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It does not.
    NotBegun,
    /// Going forward.
    Forward,
    /// Going back.
    Back,
    /// Ended.
    Ended(End),
    /// Going forward or completed: several sagas were under way, and the point was passed by one of them.
    ForwardOrCompleted,
}

/// How the victim's saga must end.
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
    /// The end to which a runner that starts from here brings it. `turns_back`: a rule forbids what it wants.
    pub fn end(self, turns_back: bool, mode: Mode) -> Expected {
        let forward = if turns_back { End::Compensated } else { End::Completed };
        match (self, mode) {
            (Self::NotBegun, _) => Expected::NoSaga,
            (Self::Ended(end), _) => Expected::Exactly(end),
            (Self::Back, _) | (Self::Forward, Mode::Compensate) => Expected::Exactly(End::Compensated),
            (Self::Forward, _) => Expected::Exactly(forward),
            (Self::ForwardOrCompleted, Mode::Compensate) if !turns_back => Expected::Either,
            (Self::ForwardOrCompleted, _) => Expected::Exactly(forward),
        }
    }

    /// How it stands after a process that drove it from here has died at `point`.
    pub fn after_death(self, point: Failpoint, turns_back: bool, mode: Mode) -> Self {
        use Failpoint as P;
        match point {
            P::SlotLocked | P::CarryWritten | P::CarrySynced | P::CarryDone => self,
            P::BeginWritten
            | P::BeginSynced
            | P::ActionSentWritten
            | P::ActionReplied
            | P::ActionOutcomeWritten => Self::Forward,
            P::TurnBackWritten | P::TurnBackSynced | P::CompensationSentWritten | P::CompensationReplied => {
                Self::Back
            }
            P::EndWritten | P::EndSynced | P::SettleReplied | P::SettledWritten => {
                match self.end(turns_back, mode) {
                    Expected::Exactly(end) => Self::Ended(end),
                    other => unreachable!("a saga that ended is {other:?}"),
                }
            }
            P::GroupEvaluated | P::GroupApplied | P::GroupSynced | P::GroupAnswered => {
                unreachable!("no runner passes {}", point.name())
            }
        }
    }
}

//! What is to be done about a saga: the pure decision `state -> next`.

use like_protocol::time::Now;

use super::event::{End, Event, TurnBack};
use super::state::{Action, Phase, SagaState, may_give_up};

/// What is to be done next about a saga.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Next {
    /// Send this step's action, again if it was sent before, and the actions that go beside it.
    Act(usize),
    /// Turn back: write it, sync it, then ask again.
    TurnBack(TurnBack),
    /// Send the compensations of these steps, started in this order (the last step first). One whose participant is
    /// down does not hold up the others.
    Compensate(Vec<usize>),
    /// Write this end.
    End(End),
    /// The end must be synced and these steps' participants told of it.
    Settle(Vec<usize>),
    /// Nothing: the saga is settled, or quarantined until an operator forces its end.
    Nothing,
}

/// What a saga's next deed rests on: until this event is durable, it is not done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Milestone {
    /// Its `Begun`: otherwise a power loss could leave requests of a saga that nobody knows.
    Begun,
    /// Its `TurnedBack`: otherwise what was told to have failed, or was undone in part, could go forward again.
    TurnedBack,
    /// Its end: otherwise participants could forget what the log still means to ask.
    Ended,
}

impl Next {
    /// What must be durable before this is done. Whatever else was written before needs only to be written: every step
    /// can be repeated.
    pub fn rests_on(&self) -> Option<Milestone> {
        match self {
            Self::Act(_) => Some(Milestone::Begun),
            Self::Compensate(_) | Self::End(End::Compensated) => Some(Milestone::TurnedBack),
            Self::Settle(_) => Some(Milestone::Ended),
            Self::TurnBack(_) | Self::End(End::Completed) | Self::Nothing => None,
        }
    }
}

impl Event {
    /// The milestone that this event is, if it is one.
    pub fn milestone(&self) -> Option<Milestone> {
        match self {
            Self::Begun(_) => Some(Milestone::Begun),
            Self::TurnedBack(_) => Some(Milestone::TurnedBack),
            Self::Ended(_) | Self::Forced { .. } => Some(Milestone::Ended),
            _ => None,
        }
    }
}

impl SagaState {
    /// What is to be done next, as of `now`.
    pub fn next(&self, now: &Now) -> Next {
        if self.quarantined_now() {
            return Next::Nothing;
        }
        match &self.phase {
            Phase::Forward => self.next_forward(now),
            Phase::Back(_) => self.next_back(),
            Phase::Ended(_) | Phase::Forced(_) if self.settled => Next::Nothing,
            Phase::Ended(_) | Phase::Forced(_) => {
                Next::Settle((0..self.steps.len()).filter(|step| self.owes_settlement(*step)).collect())
            }
        }
    }

    fn next_forward(&self, now: &Now) -> Next {
        let Some(current) = self.current_step() else {
            return Next::End(End::Completed);
        };
        // A saga's steps are counted in a u8 from the start: `Begun` holds the plan, and plans are short.
        let step = u8::try_from(current).unwrap_or(u8::MAX);
        match &self.steps[current].action {
            Action::Rejected(_) => Next::TurnBack(TurnBack::Rejected { step }),
            Action::Refused(_) => Next::TurnBack(TurnBack::Refused { step }),
            _ if may_give_up(self, now) => Next::TurnBack(TurnBack::Deadline { step }),
            _ => Next::Act(current),
        }
    }

    fn next_back(&self) -> Next {
        let owed: Vec<_> = (0..self.steps.len()).rev().filter(|step| self.owes_compensation(*step)).collect();
        if owed.is_empty() { Next::End(End::Compensated) } else { Next::Compensate(owed) }
    }
}

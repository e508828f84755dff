//! The rule every saga step is decided by: the sub-transaction barrier, as one pure function.
//!
//! | operation record | action arrives | compensation arrives |
//! | --- | --- | --- |
//! | none, deadline not passed | run it | leave a tombstone, so that the action can never run |
//! | none, deadline passed | refuse it: expired | done, nothing is written: the action can't run any more |
//! | applied | answer what it answered before | undo it, once |
//! | undone, cancelled | refuse it: compensated | done already |
//! | applied and settled | answer what it answered before | refuse it: final |
//!
//! It is monotone: a step never comes back from a later row to an earlier one while a copy of one of its requests can
//! still arrive, however often and in whatever order they do. Forgetting a record leads to the second row, never to
//! the first, because only settled records whose deadline has passed are forgotten (see [`super::collect`]).

use like_protocol::message::{Direction, Refusal};
use like_protocol::time::{Deadline, Now};

/// What an operation record says happened to its step here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// The action has run.
    Applied,
    /// The action has run and was undone.
    Undone,
    /// The action has not run and never will: a tombstone.
    Cancelled,
}

/// An operation record as far as the rule looks at it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// What happened.
    pub state: State,
    /// Whether the saga's end has been told: then what happened is final.
    pub settled: bool,
}

/// What is to be done about a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Run the action, if no lock and no business rule is against it.
    Run,
    /// Answer what the action answered when it ran.
    Repeat,
    /// Undo the action.
    Undo,
    /// Leave a tombstone.
    Cancel,
    /// The step is undone, or can't run any more: say so.
    UndoneAlready,
    /// Refuse the request.
    Refuse(Refusal),
}

/// Decides about one request from the step's record, if there is one, and the deadline that the request names.
pub fn verdict(record: Option<Standing>, direction: Direction, deadline: &Deadline, now: &Now) -> Verdict {
    use State::{Applied, Cancelled, Undone};
    match (direction, record.map(|record| (record.state, record.settled))) {
        (Direction::Action, None) if deadline.passed(now) => Verdict::Refuse(Refusal::Expired),
        (Direction::Action, None) => Verdict::Run,
        (Direction::Action, Some((Applied, _))) => Verdict::Repeat,
        (Direction::Action, Some((Undone | Cancelled, _))) => Verdict::Refuse(Refusal::Compensated),
        (Direction::Compensation, None) if deadline.passed(now) => Verdict::UndoneAlready,
        (Direction::Compensation, None) => Verdict::Cancel,
        (Direction::Compensation, Some((Applied, false))) => Verdict::Undo,
        (Direction::Compensation, Some((Applied, true))) => Verdict::Refuse(Refusal::Final),
        (Direction::Compensation, Some((Undone | Cancelled, _))) => Verdict::UndoneAlready,
    }
}

#[cfg(test)]
mod tests {
    use Direction::{Action, Compensation};
    use like_protocol::ids::BootId;

    use super::*;

    const NOW: Now = Now { boot: BootId::from_bytes([1; 16]), at_ms: 100 };
    const AHEAD: Deadline = Deadline { boot: NOW.boot, at_ms: 101 };
    const PASSED: Deadline = Deadline { boot: NOW.boot, at_ms: 100 };
    const LAST_BOOT: Deadline = Deadline { boot: BootId::from_bytes([2; 16]), at_ms: 999 };

    #[track_caller]
    fn row(record: Option<(State, bool)>, deadline: Deadline, action: Verdict, compensation: Verdict) {
        let record = record.map(|(state, settled)| Standing { state, settled });
        assert_eq!(verdict(record, Action, &deadline, &NOW), action, "action");
        assert_eq!(verdict(record, Compensation, &deadline, &NOW), compensation, "compensation");
    }

    #[test]
    fn without_a_record_the_deadline_decides() {
        row(None, AHEAD, Verdict::Run, Verdict::Cancel);
        row(None, PASSED, Verdict::Refuse(Refusal::Expired), Verdict::UndoneAlready);
        row(None, LAST_BOOT, Verdict::Refuse(Refusal::Expired), Verdict::UndoneAlready);
    }

    #[test]
    fn with_a_record_the_deadline_does_not_matter() {
        for deadline in [AHEAD, PASSED, LAST_BOOT] {
            row(Some((State::Applied, false)), deadline, Verdict::Repeat, Verdict::Undo);
            row(Some((State::Applied, true)), deadline, Verdict::Repeat, Verdict::Refuse(Refusal::Final));
            for state in [State::Undone, State::Cancelled] {
                for settled in [false, true] {
                    let refused = Verdict::Refuse(Refusal::Compensated);
                    row(Some((state, settled)), deadline, refused, Verdict::UndoneAlready);
                }
            }
        }
    }
}

//! Which operation records may be forgotten, and when.
//!
//! A record may go only when its saga is settled here *and* its deadline has passed. Before that a late copy of the
//! action could still arrive, find nothing, and run; afterwards it is refused as expired. The clock that refuses is
//! the clock that collects, read once per group, so the two agree to the millisecond.
//!
//! The order in which records become due is kept in memory and rebuilt from the records at every start.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use like_protocol::ids::StepId;
use like_protocol::time::{Deadline, Now};

/// Settled records in the order of their deadlines. An entry is a hint: the record decides, since its deadline may
/// have been moved on after the entry was made.
#[derive(Clone, Default, Debug)]
pub struct Due {
    steps: BinaryHeap<Reverse<(u64, StepId)>>,
}

impl Due {
    /// Notes a settled record and its deadline. Each record is noted once, until [`Due::pop`] returns it.
    pub fn note(&mut self, id: StepId, deadline: &Deadline, now: &Now) {
        let due_ms = if deadline.passed(now) { 0 } else { deadline.at_ms };
        self.steps.push(Reverse((due_ms, id)));
    }

    /// Takes out the next record whose deadline, as it was noted, has passed.
    pub fn pop(&mut self, now: &Now) -> Option<StepId> {
        let Reverse((due_ms, id)) = *self.steps.peek()?;
        if due_ms > now.at_ms {
            return None;
        }
        self.steps.pop();
        Some(id)
    }

    /// Forgets a record's entry, if it has one. Looks at all entries.
    pub fn forget(&mut self, id: &StepId) {
        self.steps.retain(|Reverse((_, noted))| noted != id);
    }

    /// When the next record becomes due, in milliseconds of this boot's clock.
    pub fn next_ms(&self) -> Option<u64> {
        self.steps.peek().map(|Reverse((due_ms, _))| *due_ms)
    }

    /// How many records are noted.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

#[cfg(test)]
impl Due {
    /// The steps that are noted.
    pub(super) fn steps(&self) -> std::collections::BTreeSet<StepId> {
        let steps: std::collections::BTreeSet<_> = self.steps.iter().map(|Reverse((_, id))| *id).collect();
        assert_eq!(steps.len(), self.steps.len(), "each record is noted once");
        steps
    }
}

#[cfg(test)]
mod tests {
    use like_protocol::ids::{BootId, SagaId};

    use super::*;

    fn step(number: u8) -> StepId {
        StepId { saga: SagaId::from_bytes([number; 16]), step: 0 }
    }

    #[test]
    fn records_come_up_in_the_order_of_their_deadlines_and_not_before() {
        let mut now = Now { boot: BootId::from_bytes([1; 16]), at_ms: 10 };
        let mut due = Due::default();
        for (number, at_ms) in [(1, 30), (2, 20), (3, 40)] {
            due.note(step(number), &Deadline { boot: now.boot, at_ms }, &now);
        }
        due.note(step(4), &Deadline { boot: BootId::from_bytes([9; 16]), at_ms: 99 }, &now);
        assert_eq!((due.pop(&now), due.pop(&now)), (Some(step(4)), None));
        assert_eq!((due.next_ms(), due.len(), due.is_empty()), (Some(20), 3, false));
        now.at_ms = 19;
        assert_eq!(due.pop(&now), None);
        now.at_ms = 30;
        assert_eq!((due.pop(&now), due.pop(&now), due.pop(&now)), (Some(step(2)), Some(step(1)), None));
        now.at_ms = 40;
        assert_eq!((due.pop(&now), due.next_ms()), (Some(step(3)), None));
        assert!(due.is_empty());
    }
}

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

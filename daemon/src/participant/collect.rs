//! Which operation records may be forgotten, and when.
//!
//! A record may go only when its saga is settled here *and* its deadline has passed. Before that a late copy of the
//! action could still arrive, find nothing, and run; afterwards it is refused as expired. The clock that refuses is
//! the clock that collects, read once per group, so the two agree to the millisecond.
//!
//! The order in which records become due is kept in memory and rebuilt from the records at every start.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use like_protocol::ids::StepId;
use like_protocol::time::{Deadline, Now};

/// Settled records in the order of their deadlines. An entry is a hint: the record decides, since its deadline may
/// have been moved on after the entry was made.
#[derive(Clone, Default, Debug)]
pub struct Due {
    /// Nearly all are settled in the order of their deadlines: those that were are taken out where they were put in.
    in_order: VecDeque<Entry>,
    /// Those that came behind a later one.
    others: BinaryHeap<Reverse<Entry>>,
}

/// When a record becomes due, and whose it is.
type Entry = (u64, StepId);

impl Due {
    /// Notes a settled record and its deadline. Each record is noted once, until [`Due::pop`] returns it.
    pub fn note(&mut self, id: StepId, deadline: &Deadline, now: &Now) {
        let due_ms = if deadline.passed(now) { 0 } else { deadline.at_ms };
        match self.in_order.back() {
            Some((latest_ms, _)) if due_ms < *latest_ms => self.others.push(Reverse((due_ms, id))),
            _ => self.in_order.push_back((due_ms, id)),
        }
    }

    /// Takes out the next record whose deadline, as it was noted, has passed.
    pub fn pop(&mut self, now: &Now) -> Option<StepId> {
        let next_ms = self.next_ms().filter(|due_ms| *due_ms <= now.at_ms)?;
        let in_order = self.in_order.pop_front_if(|(due_ms, _)| *due_ms == next_ms);
        in_order.or_else(|| self.others.pop().map(|Reverse(entry)| entry)).map(|(_, id)| id)
    }

    /// Forgets a record's entry, if it has one. Looks at all entries.
    pub fn forget(&mut self, id: &StepId) {
        self.in_order.retain(|(_, noted)| noted != id);
        self.others.retain(|Reverse((_, noted))| noted != id);
    }

    /// When the next record becomes due, in milliseconds of this boot's clock.
    pub fn next_ms(&self) -> Option<u64> {
        let (in_order, others) = (self.in_order.front(), self.others.peek());
        in_order.into_iter().chain(others.map(|Reverse(entry)| entry)).map(|(due_ms, _)| *due_ms).min()
    }

    /// How many records are noted.
    pub fn len(&self) -> usize {
        self.in_order.len() + self.others.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
impl Due {
    /// The steps that are noted.
    pub(super) fn steps(&self) -> std::collections::BTreeSet<StepId> {
        let entries = self.in_order.iter().chain(self.others.iter().map(|Reverse(entry)| entry));
        let steps: std::collections::BTreeSet<_> = entries.map(|(_, id)| *id).collect();
        assert_eq!(steps.len(), self.len(), "each record is noted once");
        steps
    }
}

#[cfg(test)]
mod tests {
    use like_protocol::ids::{BootId, SagaId};
    use proptest::prelude::*;

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

    proptest! {
        #[test]
        fn whatever_the_order_they_are_noted_in_the_next_to_come_up_is_the_first_that_is_due(
            acts in proptest::collection::vec(prop_oneof![(0..30_u64).prop_map(Some), Just(None)], 0..60),
            forgotten: proptest::sample::Index,
        ) {
            let mut now = Now { boot: BootId::from_bytes([1; 16]), at_ms: 0 };
            let (mut due, mut noted) = (Due::default(), Vec::new());
            for (number, act) in (0..).zip(acts) {
                let first = noted.iter().map(|(at_ms, _)| *at_ms).min();
                prop_assert_eq!((due.next_ms(), due.len()), (first, noted.len()));
                if let Some(ahead_ms) = act {
                    let at_ms = now.at_ms + 1 + ahead_ms;
                    due.note(step(number), &Deadline { boot: now.boot, at_ms }, &now);
                    noted.push((at_ms, step(number)));
                } else if let Some(first) = first {
                    now.at_ms = first - 1;
                    prop_assert_eq!(due.pop(&now), None);
                    now.at_ms = first;
                    let popped = (first, due.pop(&now).unwrap());
                    prop_assert!(noted.contains(&popped), "{popped:?} of {noted:?}");
                    noted.retain(|entry| *entry != popped);
                }
            }
            if !noted.is_empty() {
                due.forget(&noted.swap_remove(forgotten.index(noted.len())).1);
                prop_assert_eq!(due.steps(), noted.into_iter().map(|(_, id)| id).collect());
            }
        }
    }
}

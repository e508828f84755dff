//! Semantic locks: what unsettled sagas hold.
//!
//! Nothing of this is stored. An operation record that is not settled holds what the domain says its operation holds,
//! whether it was undone or not; so the index is rebuilt from the records at every start, and a lock can always be
//! traced to a saga.

use foldhash::HashMap;
use like_protocol::ids::SagaId;

use crate::store::Key;

/// What a lock is about, in bytes that the domain makes up. It is as long as a key of the domain's, and no key.
pub type Resource = Key;

/// What an operation holds from the moment it has run until its saga is settled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hold {
    /// What is held.
    pub resource: Resource,
    /// How.
    pub mode: Mode,
}

/// How something is held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// No other saga's operation that wants it exclusively runs.
    Exclusive,
    /// It keeps nobody out and is only counted: how many unsettled steps touch this?
    Shared,
}

/// Who holds what.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Holds {
    /// The holder, and how many of its steps hold it.
    exclusive: HashMap<Resource, (SagaId, u32)>,
    shared: HashMap<Resource, u32>,
}

impl Holds {
    /// The first of other sagas that has one of `wanted` exclusively where `saga` wants it so too.
    pub fn conflict(&self, saga: SagaId, wanted: &[Hold]) -> Option<SagaId> {
        let exclusive = wanted.iter().filter(|hold| hold.mode == Mode::Exclusive);
        exclusive.filter_map(|hold| self.holder(&hold.resource)).find(|holder| *holder != saga)
    }

    /// Takes what an operation of `saga` holds. Conflicts were ruled out before.
    pub fn take(&mut self, saga: SagaId, holds: Vec<Hold>) {
        for Hold { resource, mode } in holds {
            match mode {
                Mode::Exclusive => {
                    let (holder, steps) = self.exclusive.entry(resource).or_insert((saga, 0));
                    assert_eq!(*holder, saga, "two sagas hold the same resource");
                    *steps += 1;
                }
                Mode::Shared => *self.shared.entry(resource).or_default() += 1,
            }
        }
    }

    /// Gives back what [`Holds::take`] took.
    pub fn release(&mut self, saga: SagaId, holds: &[Hold]) {
        for Hold { resource, mode } in holds {
            let left = match mode {
                Mode::Exclusive => self.exclusive.get_mut(resource).map(|(holder, steps)| {
                    assert_eq!(*holder, saga, "only the holder gives a resource back");
                    steps
                }),
                Mode::Shared => self.shared.get_mut(resource),
            };
            let Some(left) = left else { unreachable!("what is given back was taken") };
            *left -= 1;
            if *left == 0 {
                match mode {
                    Mode::Exclusive => drop(self.exclusive.remove(resource)),
                    Mode::Shared => drop(self.shared.remove(resource)),
                }
            }
        }
    }

    /// The saga that holds `resource` exclusively.
    pub fn holder(&self, resource: &[u8]) -> Option<SagaId> {
        self.exclusive.get(resource).map(|(holder, _)| *holder)
    }

    /// How many unsettled steps hold `resource` in shared mode.
    pub fn touching(&self, resource: &[u8]) -> u32 {
        self.shared.get(resource).copied().unwrap_or(0)
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.exclusive.is_empty() && self.shared.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: SagaId = SagaId::from_bytes([1; 16]);
    const TWO: SagaId = SagaId::from_bytes([2; 16]);

    fn hold(name: u8, mode: Mode) -> Hold {
        Hold { resource: vec![name].into(), mode }
    }

    #[test]
    fn an_exclusive_hold_keeps_other_sagas_out_but_not_its_own() {
        let mut holds = Holds::default();
        let wanted = [hold(7, Mode::Exclusive)];
        holds.take(ONE, wanted.to_vec());
        assert_eq!(holds.conflict(TWO, &wanted), Some(ONE));
        assert_eq!(holds.conflict(TWO, &[hold(8, Mode::Exclusive)]), None);
        assert_eq!(holds.conflict(ONE, &wanted), None);
        holds.take(ONE, wanted.to_vec());
        holds.release(ONE, &wanted);
        assert_eq!(holds.holder(&[7]), Some(ONE), "one step of it still holds");
        assert!(!holds.is_empty());
        holds.release(ONE, &wanted);
        assert_eq!(holds.conflict(TWO, &wanted), None);
        assert!(holds.is_empty());
    }

    #[test]
    fn a_shared_hold_is_only_counted() {
        let mut holds = Holds::default();
        let wanted = [hold(7, Mode::Shared)];
        holds.take(ONE, wanted.to_vec());
        holds.take(TWO, wanted.to_vec());
        assert_eq!(holds.conflict(TWO, &wanted), None);
        assert_eq!(holds.touching(&[7]), 2);
        holds.release(ONE, &wanted);
        assert_eq!(holds.touching(&[7]), 1);
        assert!(!holds.is_empty());
        holds.release(TWO, &wanted);
        assert!(holds.is_empty());
    }
}

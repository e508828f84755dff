//! Where there is nothing: stretches of keys that a scan has found empty, so that the next one need not go through what was
//! deleted there.
//!
//! A table that is used as a queue, rows added at its end and deleted at its front, is otherwise the worst that can be put into
//! layers: whoever looks for its first row passes, again and again, every row that was ever deleted and is not merged away.

use std::cell::RefCell;

/// How many are known at most; those go that were of use least recently. Enough for the queues of a domain, and looked through
/// for every row that is written.
const GAPS_MAX: usize = 8;

/// Stretches of keys under which there is nothing.
#[derive(Default, Debug)]
pub struct Gaps(RefCell<Vec<Gap>>);

/// There is no key from `from` on and below `to`.
#[derive(Debug)]
struct Gap {
    from: Vec<u8>,
    to: Vec<u8>,
}

impl Gap {
    fn has(&self, key: &[u8]) -> bool {
        self.from.as_slice() <= key && key < self.to.as_slice()
    }
}

impl Gaps {
    /// The end of the gap that a key lies in.
    pub fn end_of(&self, key: &[u8]) -> Option<Vec<u8>> {
        let mut gaps = self.0.borrow_mut();
        let at = gaps.iter().position(|gap| gap.has(key))?;
        gaps[..=at].rotate_right(1);
        Some(gaps[0].to.clone())
    }

    /// There is nothing from `from` on and below `to`.
    pub fn note(&self, from: &[u8], to: &[u8]) {
        let mut gaps = self.0.borrow_mut();
        let known = gaps.iter_mut().find(|gap| gap.has(from) || gap.to == from);
        match known {
            Some(gap) if gap.to.as_slice() < to => gap.to = to.to_vec(),
            Some(_) => {}
            None if from < to => {
                gaps.truncate(GAPS_MAX - 1);
                gaps.insert(0, Gap { from: from.to_vec(), to: to.to_vec() });
            }
            None => {}
        }
    }

    /// Something is put under a key.
    pub fn put(&self, key: &[u8]) {
        for gap in self.0.borrow_mut().iter_mut().filter(|gap| gap.has(key)) {
            gap.to = key.to_vec();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nothing_that_was_put_lies_in_a_gap(
            acts in proptest::collection::vec((any::<bool>(), 0..20_u8), 0..200),
        ) {
            let (gaps, mut keys) = (Gaps::default(), BTreeSet::new());
            for (puts, key) in acts {
                if puts {
                    gaps.put(&[key]);
                    keys.insert(key);
                } else {
                    let first = keys.range(key..).next().copied().unwrap_or(20);
                    gaps.note(&[key], &[first]);
                    keys.remove(&first);
                }
                for key in 0..20 {
                    if let Some(end) = gaps.end_of(&[key]) {
                        prop_assert_eq!(keys.range(key..end[0]).next(), None);
                    }
                }
            }
        }
    }

    #[test]
    fn the_gap_in_front_of_a_queue_is_kept_however_many_others_are_noted() {
        let gaps = Gaps::default();
        gaps.note(&[1, 0], &[1, 9]);
        for other in 2..100 {
            gaps.note(&[other], &[other, 1]);
            assert_eq!(gaps.end_of(&[1, 0]), Some(vec![1, 9]));
            gaps.put(&[1, 8]);
            gaps.note(&[1, 8], &[1, 9]);
        }
    }
}

//! A store as one group of requests sees it.
//!
//! Requests of a group are evaluated one after the other; each reads what those before it wrote, and nothing of it is
//! applied before all are evaluated. A request that comes to nothing leaves nothing.
//!
//! This is the one place where values get their checksums and where those are checked: above it nobody sees them, below
//! it nobody knows them.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::fields::{Malformed, Stored};
use super::gaps::Gaps;
use super::seal::{open, seal};
use super::{Batch, Damage, Key, KeyRange, Row, Store, StoreError, firsts_by};

/// A row as it was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// Its key.
    pub key: Key,
    /// Its value, or what is wrong with it.
    pub value: Result<Vec<u8>, Malformed>,
}

impl Found {
    /// The value, read as a `T`.
    ///
    /// # Errors
    /// The row is damaged, or no `T`.
    pub fn load<T: Stored>(&self) -> Result<T, StoreError> {
        let value = self.value.as_ref().map_err(|e| *e);
        value.and_then(|value| T::load_all(value)).map_err(|e| StoreError::damaged(&self.key, e))
    }
}

/// A store and the writes of a group that are not applied yet.
pub struct Tx<'a> {
    store: &'a dyn Store,
    /// Writes of finished requests.
    kept: Batch,
    /// Writes of the request that is being evaluated, each key once. They are few, and this takes memory once for a whole group.
    request: Vec<(Key, Option<Vec<u8>>)>,
    /// What the group has emptied: each of its requests may look for the first row of the same queue, and take some away.
    gaps: Gaps,
    /// Damaged rows that the request goes on without.
    noticed: RefCell<Vec<Damage>>,
}

impl<'a> Tx<'a> {
    /// A group that has written nothing.
    pub fn new(store: &'a dyn Store) -> Self {
        let (kept, request, gaps, noticed) = Default::default();
        Self { store, kept, request, gaps, noticed }
    }

    /// The value under `key`.
    ///
    /// # Errors
    /// The store can't be read, or the row is damaged.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let in_request = self.request.iter().find(|(written, _)| written[..] == *key);
        let in_kept = || self.kept.get(&Key::from_slice(key));
        if let Some(written) = in_request.map(|(_, value)| value).or_else(in_kept) {
            return Ok(written.clone());
        }
        let stored = self.store.get(key)?;
        stored.map(|sealed| open(key, sealed).map_err(|e| StoreError::damaged(key, e))).transpose()
    }

    /// The value under `key`, read as a `T`.
    ///
    /// # Errors
    /// The store can't be read, or the row is damaged or no `T`.
    pub fn load<T: Stored>(&self, key: &[u8]) -> Result<Option<T>, StoreError> {
        let value = self.get(key)?;
        value.map(|value| T::load_all(&value).map_err(|e| StoreError::damaged(key, e))).transpose()
    }

    /// The first `limit` rows of `range`. A damaged row is found like any other and says so itself.
    ///
    /// # Errors
    /// The store can't be read.
    pub fn scan(&self, range: &KeyRange, limit: usize) -> Result<Vec<Found>, StoreError> {
        let behind_gap = self.gaps.end_of(&range.from).map(|from| KeyRange { from, to: range.to.clone() });
        let range = behind_gap.as_ref().unwrap_or(range);
        let written = self.written_in(range);
        if written.is_empty() {
            return Ok(self.store.scan(range, limit)?.into_iter().map(opened).collect());
        }
        // As many rows more than asked for as may turn out to be deleted: the first `limit` of what remains are
        // then certainly the first of the range.
        let deleted = written.values().filter(|value| value.is_none()).count();
        let stored = self.store.scan(range, limit.saturating_add(deleted))?.into_iter().map(opened);
        let mut rows: BTreeMap<_, _> = stored.map(|Found { key, value }| (key, value)).collect();
        for (key, value) in written {
            match value {
                Some(value) => rows.insert(Key::from_slice(key), Ok(value.clone())),
                None => rows.remove(key),
            };
        }
        if deleted > 0 && limit > 0 {
            let first = rows.first_key_value().map_or(range.to.as_slice(), |(key, _)| key);
            self.gaps.note(&range.from, first);
        }
        Ok(rows.into_iter().take(limit).map(|(key, value)| Found { key, value }).collect())
    }

    /// The first row of each of the first `limit` groups of `range`, as [`Store::firsts`] has them.
    ///
    /// # Errors
    /// The store can't be read.
    pub fn firsts(&self, range: &KeyRange, shared: usize, limit: usize) -> Result<Vec<Found>, StoreError> {
        if self.written_in(range).is_empty() {
            return Ok(self.store.firsts(range, shared, limit)?.into_iter().map(opened).collect());
        }
        firsts_by(range, shared, limit, |range| Ok(self.scan(range, 1)?.pop()), |found| &found.key)
    }

    /// The last key of `range`, whatever its value is.
    ///
    /// # Errors
    /// The store can't be read.
    pub fn last_key(&self, range: &KeyRange) -> Result<Option<Key>, StoreError> {
        let written = self.written_in(range);
        let mut stored = self.store.last(range)?.map(|(key, _)| key);
        while let Some(key) = &stored {
            if !written.contains_key(key.as_slice()) {
                break;
            }
            stored = self.store.last(&range.clone().before(key))?.map(|(key, _)| key);
        }
        let written = written.into_iter().rev().find(|(_, value)| value.is_some());
        Ok(stored.max(written.map(|(key, _)| Key::from_slice(key))))
    }

    /// Notes a damaged row that the request goes on without.
    pub fn note_damage(&self, damage: Damage) {
        self.noticed.borrow_mut().push(damage);
    }

    /// What was noted since it was asked for last.
    pub fn take_noticed(&mut self) -> Vec<Damage> {
        std::mem::take(self.noticed.get_mut())
    }

    /// Puts a value.
    pub fn put(&mut self, key: impl Into<Key>, value: Vec<u8>) {
        self.write(key.into(), Some(value));
    }

    /// Deletes a key, whether or not it is there.
    pub fn delete(&mut self, key: impl Into<Key>) {
        self.write(key.into(), None);
    }

    fn write(&mut self, key: Key, value: Option<Vec<u8>>) {
        if value.is_some() {
            self.gaps.put(&key);
        }
        match self.request.iter_mut().find(|(written, _)| *written == key) {
            Some((_, written)) => *written = value,
            None => self.request.push((key, value)),
        }
    }

    /// Ends a request: its writes are the group's from now on.
    pub fn keep(&mut self) {
        self.kept.extend(self.request.drain(..));
    }

    /// Ends a request that comes to nothing: its writes are forgotten.
    pub fn forget(&mut self) {
        if !self.request.is_empty() {
            self.request.clear();
            // What it had deleted is there again.
            self.gaps = Gaps::default();
        }
    }

    /// Whether no request has written anything that was kept.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Whether a finished request of the group has put or deleted `key`.
    pub fn has_written(&self, key: &[u8]) -> bool {
        self.kept.contains_key(key)
    }

    /// What is to be applied, as one: every value with its checksum.
    pub fn into_batch(mut self) -> Batch {
        debug_assert!(self.request.is_empty(), "every request is kept or forgotten");
        for (key, value) in &mut self.kept {
            if let Some(value) = value {
                *value = seal(key, std::mem::take(value));
            }
        }
        self.kept
    }

    /// The latest writes in a range.
    fn written_in(&self, range: &KeyRange) -> BTreeMap<&[u8], &Option<Vec<u8>>> {
        if range.is_empty() {
            return BTreeMap::new();
        }
        let kept = self.kept.range::<[u8], _>(range.bounds());
        let in_request = self.request.iter().filter(|(key, _)| range.has(key));
        let all = kept.chain(in_request.map(|(key, value)| (key, value)));
        all.map(|(key, value)| (key.as_slice(), value)).collect()
    }
}

fn opened((key, sealed): Row) -> Found {
    let value = open(&key, sealed);
    Found { key, value }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use proptest::prelude::*;

    use super::super::MemoryStore;
    use super::super::memory::Watched;
    use super::*;

    #[test]
    fn a_request_that_is_forgotten_leaves_nothing() {
        let store = MemoryStore::default();
        let mut tx = Tx::new(&store);
        tx.put(vec![1], vec![1]);
        tx.forget();
        assert_eq!(tx.get(&[1]).unwrap(), None);
        assert!(tx.is_empty() && tx.into_batch().is_empty());
    }

    /// A write: key, value or deletion, and whether its request ends after it (kept or forgotten).
    fn writes() -> impl Strategy<Value = Vec<(u8, Option<u8>, Option<bool>)>> {
        proptest::collection::vec((0..12u8, any::<Option<u8>>(), any::<Option<bool>>()), 0..60)
    }

    proptest! {
        #[test]
        fn a_group_reads_exactly_what_it_will_have_written(
            before in proptest::collection::btree_map(0..12u8, any::<u8>(), 0..12),
            writes in writes(), from in 0..12u8, to in 0..13u8, limit in 0..14usize,
        ) {
            let mut store = MemoryStore::default();
            store.apply(before.iter().map(|(k, v)| (vec![*k].into(), Some(seal(&[*k], [*v])))).collect()).unwrap();
            let mut tx = Tx::new(&store);
            for (key, value, end) in writes {
                match value {
                    Some(value) => tx.put(vec![key], vec![value]),
                    None => tx.delete(vec![key]),
                }
                // What is seen on the way must not change what is seen in the end.
                tx.scan(&KeyRange { from: vec![from.min(key)], to: vec![to] }, usize::from(key % 3)).unwrap();
                match end {
                    Some(true) => tx.keep(),
                    Some(false) => tx.forget(),
                    None => {}
                }
            }
            tx.keep();

            let range = KeyRange { from: vec![from], to: vec![to] };
            let gets: Vec<_> = (0..12u8).map(|key| tx.get(&[key]).unwrap()).collect();
            let (rows, last) = (tx.scan(&range, limit).unwrap(), tx.last_key(&range).unwrap());
            prop_assert_eq!(&tx.firsts(&range, 1, limit).unwrap(), &rows, "each is a group by itself");
            let mut after = store.clone();
            after.apply(tx.into_batch()).unwrap();
            let (stored, after) = (after.clone(), Tx::new(&after));
            prop_assert_eq!(gets, (0..12u8).map(|key| after.get(&[key]).unwrap()).collect::<Vec<_>>());
            prop_assert_eq!(rows, after.scan(&range, limit).unwrap());
            prop_assert_eq!(&last, &after.last_key(&range).unwrap());
            prop_assert_eq!(last, stored.last(&range).unwrap().map(|(key, _)| key));
        }
    }

    #[test]
    fn what_a_group_has_taken_from_a_queue_it_does_not_go_through_again_and_again() {
        let read = AtomicUsize::new(0);
        let sees = |_: &[u8]| {
            read.fetch_add(1, Ordering::Relaxed);
            Ok(())
        };
        let mut store = Watched { rows: MemoryStore::default(), sees };
        let queued = (0..1000u16).map(|number| Key::from_slice(&number.to_be_bytes()));
        store.apply(queued.map(|key| (key.clone(), Some(seal(&key, [])))).collect()).unwrap();
        let mut tx = Tx::new(&store);
        let queue = KeyRange { from: vec![0], to: vec![9] };
        for taken in (0..1000u16).step_by(2) {
            let rows = tx.scan(&queue, 2).unwrap();
            let numbers = [taken, taken + 1].map(|number| number.to_be_bytes().to_vec());
            assert_eq!(rows.iter().map(|row| row.key.to_vec()).collect::<Vec<_>>(), numbers);
            rows.into_iter().for_each(|row| tx.delete(row.key));
            tx.keep();
        }
        assert!(tx.scan(&queue, 2).unwrap().is_empty());
        assert_eq!(read.load(Ordering::Relaxed), 2 * 1000, "each row is found once and passed once");
    }

    #[test]
    fn damage_is_told_by_whoever_reads_the_row_and_spoils_no_other() {
        let mut store = MemoryStore::default();
        let mut rows: Batch = (1..=3u8).map(|key| (vec![key].into(), Some(seal(&[key], [key])))).collect();
        rows.insert(vec![2].into(), Some(seal(&[1], [1])));
        store.apply(rows).unwrap();
        let tx = Tx::new(&store);
        assert!(matches!(tx.get(&[2]), Err(StoreError::Damaged(damage)) if damage.key[..] == [2]));
        let found = tx.scan(&KeyRange { from: vec![0], to: vec![9] }, 9).unwrap();
        assert_eq!(found.iter().map(|row| row.value.is_ok()).collect::<Vec<_>>(), [true, false, true]);
        assert_eq!(tx.last_key(&KeyRange { from: vec![0], to: vec![3] }).unwrap(), Some(vec![2].into()));
    }
}

//! A store, and a base of one, without a disk: for tests and simulations.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use super::base::{Base, Change};
use super::run_list::RunList;
use super::{Batch, Key, KeyRange, Row, Store, StoreError};
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::sync::{Mutex, MutexGuard};

/// Rows in memory.
///
/// It knows what a power loss would leave: [`MemoryStore::lose_power`] takes back whatever was applied after the
/// last sync.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct MemoryStore {
    rows: BTreeMap<Key, Vec<u8>>,
    /// What `rows` held before each batch since the last sync.
    undo: Vec<Batch>,
}

impl MemoryStore {
    /// The rows as they would be found after a power loss at this moment.
    pub fn lose_power(&mut self) {
        while let Some(batch) = self.undo.pop() {
            put(&mut self.rows, batch);
        }
    }

    /// All rows, in the order of their keys.
    pub fn rows(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.rows.iter().map(|(key, value)| (key.as_slice(), value.as_slice()))
    }
}

/// Puts a batch into rows. What stood there before is a batch as well, which takes it back.
pub fn put(rows: &mut BTreeMap<Key, Vec<u8>>, batch: Batch) -> Batch {
    let mut before = Batch::new();
    for (key, value) in batch {
        let old = match value {
            Some(value) => rows.insert(key.clone(), value),
            None => rows.remove(&key),
        };
        before.insert(key, old);
    }
    before
}

impl Store for MemoryStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.rows.get(key).cloned())
    }

    fn scan(&self, range: &KeyRange, limit: usize) -> Result<Vec<Row>, StoreError> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let rows = self.rows.range::<[u8], _>(range.bounds());
        Ok(rows.take(limit).map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn last(&self, range: &KeyRange) -> Result<Option<Row>, StoreError> {
        if range.is_empty() {
            return Ok(None);
        }
        let last = self.rows.range::<[u8], _>(range.bounds()).next_back();
        Ok(last.map(|(key, value)| (key.clone(), value.clone())))
    }

    fn apply(&mut self, batch: Batch) -> Result<(), StoreError> {
        let before = put(&mut self.rows, batch);
        self.undo.push(before);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.undo.clear();
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.rows.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum()
    }
}

/// Rows in memory, and somebody who is shown the key of each row that is read, and may refuse that.
#[cfg(test)]
pub(crate) struct Watched<F> {
    pub rows: MemoryStore,
    pub sees: F,
}

#[cfg(test)]
impl<F: Fn(&[u8]) -> Result<(), StoreError> + Send> Store for Watched<F> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        (self.sees)(key)?;
        self.rows.get(key)
    }

    fn scan(&self, range: &KeyRange, limit: usize) -> Result<Vec<Row>, StoreError> {
        let rows = self.rows.scan(range, limit)?;
        rows.iter().try_for_each(|(key, _)| (self.sees)(key))?;
        Ok(rows)
    }

    fn last(&self, range: &KeyRange) -> Result<Option<Row>, StoreError> {
        let row = self.rows.last(range)?;
        row.iter().try_for_each(|(key, _)| (self.sees)(key))?;
        Ok(row)
    }

    fn apply(&mut self, batch: Batch) -> Result<(), StoreError> {
        self.rows.apply(batch)
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.rows.sync()
    }

    fn bytes(&self) -> u64 {
        self.rows.bytes()
    }
}

/// A base in memory, with no runs yet.
#[derive(Debug)]
pub struct MemoryBase {
    values: Mutex<BTreeMap<Key, Vec<u8>>>,
    row: Mutex<Vec<u8>>,
    /// How often a value was read.
    pub reads: AtomicUsize,
    /// Whether there is no space to feed it anything.
    pub is_full: AtomicBool,
}

impl Default for MemoryBase {
    fn default() -> Self {
        let row = Mutex::new(RunList::default().encode());
        Self { values: Mutex::default(), row, reads: AtomicUsize::new(0), is_full: AtomicBool::new(false) }
    }
}

impl MemoryBase {
    /// Its values.
    pub fn values(&self) -> MutexGuard<'_, BTreeMap<Key, Vec<u8>>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The row that stands for all the others.
    pub fn row(&self) -> MutexGuard<'_, Vec<u8>> {
        self.row.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Base for MemoryBase {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        Ok(self.values().get(key).cloned())
    }

    fn keys(&self, range: &KeyRange, limit: usize) -> Result<Vec<Key>, StoreError> {
        let values = self.values();
        Ok(values.range::<[u8], _>(range.bounds()).take(limit).map(|(key, _)| key.clone()).collect())
    }

    /// So few at once that checkpoints and merges have many steps.
    fn feed(&self, changes: &mut dyn Iterator<Item = Change<'_>>) -> Result<Option<Key>, StoreError> {
        if self.is_full.load(Ordering::Relaxed) {
            return Err(StoreError::Full { what: "feed", source: "no space".into() });
        }
        let batch: Batch = changes.take(3).map(|(key, value)| (key.clone(), value.clone())).collect();
        put(&mut self.values(), batch);
        Ok(changes.next().map(|(key, _)| key.clone()))
    }

    fn concluded(&self) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(Some(self.row().clone()))
    }

    fn conclude(&self, row: &[u8]) -> Result<(), StoreError> {
        *self.row() = row.to_vec();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(changes: &[(u8, Option<u8>)]) -> Batch {
        changes.iter().map(|&(key, value)| (vec![key].into(), value.map(|value| vec![value]))).collect()
    }

    #[test]
    fn a_power_loss_takes_back_what_was_not_synced_and_nothing_else() {
        let mut store = MemoryStore::default();
        store.apply(batch(&[(1, Some(1)), (2, Some(2))])).unwrap();
        store.sync().unwrap();
        let synced = store.clone();
        store.apply(batch(&[(1, None), (3, Some(3))])).unwrap();
        store.apply(batch(&[(1, Some(9)), (2, Some(9))])).unwrap();
        store.lose_power();
        assert_eq!(store, synced);
    }
}

//! A store as one group of requests sees it.
//!
//! Requests of a group are evaluated one after the other; each reads what those before it wrote, and nothing of it is
//! applied before all are evaluated. A request that comes to nothing leaves nothing.

use std::collections::BTreeMap;

use super::{Batch, KeyRange, Row, Store, StoreError};

/// How many writes one batch gathers before the next request begins a new one. Far larger batches make sled's
/// memory grow tenfold. Requests are never split, so a group is whole requests whatever survives a crash.
pub const BATCH_WRITES_MAX: usize = 128;

/// A store and the writes of a group that are not applied yet.
pub struct Tx<'a> {
    store: &'a dyn Store,
    /// Writes of finished requests, in the order in which they will be applied.
    kept: Vec<Batch>,
    /// Writes of the request that is being evaluated.
    request: Batch,
}

impl<'a> Tx<'a> {
    /// A group that has written nothing.
    pub fn new(store: &'a dyn Store) -> Self {
        Self { store, kept: Vec::new(), request: Batch::new() }
    }

    /// The value under `key`.
    ///
    /// # Errors
    /// The store can't be read.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.layers_newest_first().find_map(|batch| batch.get(key)) {
            Some(written) => Ok(written.clone()),
            None => self.store.get(key),
        }
    }

    /// The first `limit` rows of `range`.
    ///
    /// # Errors
    /// The store can't be read.
    pub fn scan(&self, range: &KeyRange, limit: usize) -> Result<Vec<Row>, StoreError> {
        let written = self.written_in(range);
        if written.is_empty() {
            return self.store.scan(range, limit);
        }
        // As many rows more than asked for as may turn out to be deleted: the first `limit` of what remains are
        // then certainly the first of the range.
        let deleted = written.values().filter(|value| value.is_none()).count();
        let mut rows: BTreeMap<_, _> =
            self.store.scan(range, limit.saturating_add(deleted))?.into_iter().collect();
        for (key, value) in written {
            match value {
                Some(value) => rows.insert(key.to_vec(), value.clone()),
                None => rows.remove(key),
            };
        }
        Ok(rows.into_iter().take(limit).collect())
    }

    /// The last row of `range`.
    ///
    /// # Errors
    /// The store can't be read.
    pub fn last(&self, range: &KeyRange) -> Result<Option<Row>, StoreError> {
        let written = self.written_in(range);
        let mut stored = self.store.last(range)?;
        while let Some((key, _)) = &stored {
            if !written.contains_key(key.as_slice()) {
                break;
            }
            stored = self.store.last(&range.clone().before(key))?;
        }
        let written = written.into_iter().rev().find_map(|(key, value)| Some((key.to_vec(), value.clone()?)));
        Ok(stored.max(written))
    }

    /// Puts a value.
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.request.insert(key, Some(value));
    }

    /// Deletes a key, whether or not it is there.
    pub fn delete(&mut self, key: Vec<u8>) {
        self.request.insert(key, None);
    }

    /// Ends a request: its writes are the group's from now on.
    pub fn keep(&mut self) {
        if self.request.is_empty() {
            return;
        }
        let request = std::mem::take(&mut self.request);
        match self.kept.last_mut() {
            Some(batch) if batch.len() + request.len() <= BATCH_WRITES_MAX => batch.extend(request),
            _ => self.kept.push(request),
        }
    }

    /// Ends a request that comes to nothing: its writes are forgotten.
    pub fn forget(&mut self) {
        self.request.clear();
    }

    /// Whether no request has written anything that was kept.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// What is to be applied, in this order.
    pub fn into_batches(self) -> Vec<Batch> {
        debug_assert!(self.request.is_empty(), "every request is kept or forgotten");
        self.kept
    }

    fn layers_newest_first(&self) -> impl Iterator<Item = &Batch> {
        std::iter::once(&self.request).chain(self.kept.iter().rev())
    }

    /// The latest writes in a range.
    fn written_in(&self, range: &KeyRange) -> BTreeMap<&[u8], &Option<Vec<u8>>> {
        if range.is_empty() {
            return BTreeMap::new();
        }
        let layers = self.kept.iter().chain(std::iter::once(&self.request));
        layers
            .flat_map(|batch| batch.range(range.from.clone()..range.to.clone()))
            .map(|(key, value)| (key.as_slice(), value))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::MemoryStore;
    use super::*;

    #[test]
    fn a_request_that_is_forgotten_leaves_nothing() {
        let store = MemoryStore::default();
        let mut tx = Tx::new(&store);
        tx.put(vec![1], vec![1]);
        tx.forget();
        assert_eq!(tx.get(&[1]).unwrap(), None);
        assert!(tx.is_empty() && tx.into_batches().is_empty());
    }

    #[test]
    fn batches_are_cut_between_requests_only() {
        let store = MemoryStore::default();
        let mut tx = Tx::new(&store);
        for request in 0..10u8 {
            for row in 0..50u8 {
                tx.put(vec![request, row], vec![]);
            }
            tx.keep();
        }
        let batches = tx.into_batches();
        assert_eq!(batches.iter().map(Batch::len).collect::<Vec<_>>(), [100; 5]);
    }

    #[test]
    fn a_request_larger_than_a_batch_is_not_split() {
        let store = MemoryStore::default();
        let mut tx = Tx::new(&store);
        for row in 0..=255u8 {
            tx.put(vec![row], vec![]);
        }
        tx.keep();
        assert_eq!(tx.into_batches().len(), 1);
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
            store.apply(before.iter().map(|(k, v)| (vec![*k], Some(vec![*v]))).collect()).unwrap();
            let mut tx = Tx::new(&store);
            for (key, value, end) in writes {
                match value {
                    Some(value) => tx.put(vec![key], vec![value]),
                    None => tx.delete(vec![key]),
                }
                match end {
                    Some(true) => tx.keep(),
                    Some(false) => tx.forget(),
                    None => {}
                }
            }
            tx.keep();

            let range = KeyRange { from: vec![from], to: vec![to] };
            let gets: Vec<_> = (0..12u8).map(|key| tx.get(&[key]).unwrap()).collect();
            let (rows, last) = (tx.scan(&range, limit).unwrap(), tx.last(&range).unwrap());
            let mut after = store.clone();
            for batch in tx.into_batches() {
                after.apply(batch).unwrap();
            }
            prop_assert_eq!(gets, (0..12u8).map(|key| after.get(&[key]).unwrap()).collect::<Vec<_>>());
            prop_assert_eq!(rows, after.scan(&range, limit).unwrap());
            prop_assert_eq!(last, after.last(&range).unwrap());
        }
    }
}

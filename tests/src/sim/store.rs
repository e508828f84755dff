//! The daemons' stores: batches that were not synced may go, the latest first, with the daemon or with the power.

use std::collections::BTreeMap;
use std::io;

use like_daemon::store::{Batch, KeyRange, Row, Store, StoreError};

use super::faults::{Fault, Flaw};
use super::world::{Host, Role, SYNCS_STORE, World, lock};

/// What is kept of a store when its daemon is gone.
#[derive(Default, Debug)]
pub struct StoreState {
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    /// What `rows` held before each batch since the last sync.
    undo: Vec<Batch>,
    /// Whether the next write, or the next sync, fails.
    pub fails_next: Option<StoreFailing>,
    /// Until when its disk is short of space.
    pub low_until_ms: u64,
}

/// What can be made to fail once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StoreFailing {
    /// The next write.
    Write,
    /// The next sync.
    Sync,
}

impl StoreState {
    /// All rows, in the order of their keys.
    pub fn rows(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.rows.iter().map(|(key, value)| (key.as_slice(), value.as_slice()))
    }

    fn write(&mut self, batch: Batch) -> Batch {
        let mut before = Batch::new();
        for (key, value) in batch {
            let old = match value {
                Some(value) => self.rows.insert(key.clone(), value),
                None => self.rows.remove(&key),
            };
            before.insert(key, old);
        }
        before
    }

    /// The daemon is gone, with or without the power: of what was not synced, the first batches may be there.
    pub fn lose(&mut self, world: &World, role: Role) {
        let kept = world.below(self.undo.len() as u64 + 1) as usize;
        while self.undo.len() > kept {
            let Some(batch) = self.undo.pop() else { break };
            world.fault(Fault::BatchesLost, 0);
            lock(&world.oracle).rows_changed(world, role, &batch);
            self.write(batch);
        }
        self.undo.clear();
        self.fails_next = None;
    }
}

/// A store as its daemon uses it.
pub struct SimStore {
    /// The daemon.
    pub host: Host,
    /// Which one.
    pub role: Role,
}

impl SimStore {
    fn state<T>(&self, what: impl FnOnce(&mut StoreState) -> T) -> T {
        what(&mut lock(&self.host.world.stores[self.role as usize]))
    }

    fn change(
        &mut self,
        what: &'static str,
        failing: StoreFailing,
        fault: Fault,
        change: impl FnOnce(&World, &mut StoreState),
    ) -> Result<(), StoreError> {
        let world = &self.host.world;
        let done = world.operate(&self.host.life, what, || {
            let mut state = lock(&world.stores[self.role as usize]);
            if state.fails_next.take_if(|next| *next == failing).is_some() {
                world.fault(fault, self.host.life.pid);
                // What a write that failed has done is not known.
                if failing == StoreFailing::Write && world.percent(50) {
                    change(world, &mut state);
                }
                return Err(io::Error::other("input/output error"));
            }
            change(world, &mut state);
            Ok(())
        });
        done.map_err(|e| StoreError::Failed { what, source: Box::new(e) })
    }
}

impl Store for SimStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.state(|state| state.rows.get(key).cloned()))
    }

    fn scan(&self, range: &KeyRange, limit: usize) -> Result<Vec<Row>, StoreError> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        Ok(self.state(|state| {
            let rows = state.rows.range(range.from.clone()..range.to.clone());
            rows.take(limit).map(|(key, value)| (key.clone(), value.clone())).collect()
        }))
    }

    fn last(&self, range: &KeyRange) -> Result<Option<Row>, StoreError> {
        if range.is_empty() {
            return Ok(None);
        }
        Ok(self.state(|state| {
            let last = state.rows.range(range.from.clone()..range.to.clone()).next_back();
            last.map(|(key, value)| (key.clone(), value.clone()))
        }))
    }

    fn apply(&mut self, batch: Batch) -> Result<(), StoreError> {
        let (role, pid) = (self.role, self.host.life.pid);
        self.change("write", StoreFailing::Write, Fault::StoreWriteFailed, |world, state| {
            let mut batch = batch;
            if world.has(Flaw::RowsLost) && world.percent(1) {
                batch.pop_last();
            }
            world.note(pid, "batch", batch.len() as u64, state.undo.len() as u64);
            lock(&world.oracle).rows_changed(world, role, &batch);
            let before = state.write(batch);
            state.undo.push(before);
        })
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        let pid = self.host.life.pid;
        self.change(SYNCS_STORE, StoreFailing::Sync, Fault::StoreSyncFailed, |world, state| {
            world.note(pid, "commits", state.undo.len() as u64, 0);
            if !world.has(Flaw::StoreSyncLies) {
                state.undo.clear();
            }
        })
    }

    fn bytes(&self) -> u64 {
        0
    }
}

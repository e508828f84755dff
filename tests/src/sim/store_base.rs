//! What stands in for sled: values in memory of which a crash, of the daemon or the host, leaves the batches that were
//! synced, and of the others the first ones.

use std::collections::BTreeMap;
use std::io;

use like_daemon::store::base::{Base, Change};
use like_daemon::store::memory::put;
use like_daemon::store::run::run_of;
use like_daemon::store::run_list::RunList;
use like_daemon::store::{Batch, Key, KeyRange, StoreError};

use super::faults::{Chore, Fault};
use super::store::StoreFailing;
use super::world::{Host, Service, World, lock};

/// Far fewer than in earnest, so that checkpoints and merges have many steps: values of a batch, and batches between two syncs.
const BATCH_ROWS: usize = 3;
const BATCHES: usize = 2;

/// What is kept of a base when its daemon is gone.
#[derive(Default, Debug)]
pub struct BaseState {
    rows: BTreeMap<Key, Vec<u8>>,
    /// What was concluded last.
    list: RunList,
    /// What there was before each batch since the last sync.
    undo: Vec<(Batch, RunList)>,
    /// What fails the next time it is done.
    pub fails_next: Option<StoreFailing>,
}

impl BaseState {
    fn write(&mut self, batch: Batch, list: RunList) -> (Batch, RunList) {
        (put(&mut self.rows, batch), std::mem::replace(&mut self.list, list))
    }

    /// The list of runs.
    pub fn list(&self) -> &RunList {
        &self.list
    }

    /// A run that has something in it and is not in the list.
    pub fn nobodys(&self) -> Option<u64> {
        let runs = self.rows.keys().filter_map(|place| run_of(place));
        runs.into_iter().find(|run| self.list.runs.iter().all(|entry| entry.run != *run))
    }

    /// The daemon is gone, with or without the power.
    pub fn lose(&mut self, world: &World) {
        let kept = world.below(self.undo.len() as u64 + 1) as usize;
        while self.undo.len() > kept {
            let Some((batch, list)) = self.undo.pop() else { break };
            world.fault(Fault::BaseBatchesLost, 0);
            self.write(batch, list);
        }
        self.undo.clear();
        self.fails_next = None;
    }
}

/// A base as its daemon uses it.
pub struct SimBase {
    /// The daemon.
    pub host: Host,
    /// Which one.
    pub role: Service,
}

impl SimBase {
    fn state<T>(&self, what: impl FnOnce(&mut BaseState) -> T) -> T {
        what(&mut lock(&self.host.world.stores[self.role as usize]).base)
    }

    fn operate(
        &self,
        what: &'static str,
        failing: StoreFailing,
        effect: impl FnOnce(&mut BaseState),
    ) -> Result<(), StoreError> {
        let world = &self.host.world;
        let done = world.operate(&self.host.life, what, || {
            world.note(self.host.life.pid, what, self.role as u64, 0);
            self.state(|state| {
                if state.fails_next.take_if(|next| *next == failing).is_some() {
                    world.fault(Fault::BaseFailed, self.host.life.pid);
                    return Err(io::Error::other("input/output error"));
                }
                effect(state);
                Ok(())
            })
        });
        done.map_err(|e| StoreError::Failed { what, source: Box::new(e) })
    }

    fn apply(&self, batch: Batch, list: Option<RunList>) -> Result<(), StoreError> {
        self.operate("feeds base", StoreFailing::Write, |state| {
            let list = list.unwrap_or_else(|| state.list.clone());
            let before = state.write(batch, list);
            state.undo.push(before);
        })
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.operate("syncs base", StoreFailing::Sync, |state| state.undo.clear())
    }
}

impl Base for SimBase {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.state(|state| state.rows.get(key).cloned()))
    }

    fn keys(&self, range: &KeyRange, limit: usize) -> Result<Vec<Key>, StoreError> {
        Ok(self.state(|state| {
            let rows = state.rows.range::<[u8], _>(range.bounds());
            rows.take(limit).map(|(key, _)| key.clone()).collect()
        }))
    }

    fn feed(&self, changes: &mut dyn Iterator<Item = Change<'_>>) -> Result<Option<Key>, StoreError> {
        let mut changes = changes.peekable();
        for _ in 0..BATCHES {
            let batch: Batch =
                changes.by_ref().take(BATCH_ROWS).map(|(key, value)| (key.clone(), value.clone())).collect();
            if !batch.is_empty() {
                self.apply(batch, None)?;
            }
        }
        self.sync()?;
        Ok(changes.peek().map(|(key, _)| (*key).clone()))
    }

    fn concluded(&self) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(Some(self.state(|state| state.list.encode())))
    }

    fn conclude(&self, row: &[u8]) -> Result<(), StoreError> {
        let list =
            RunList::decode(row).map_err(|e| StoreError::Failed { what: "conclude", source: e.into() })?;
        let is_checkpoint = self.state(|state| state.list.through != list.through);
        self.apply(Batch::new(), Some(list))?;
        self.sync()?;
        let done = if is_checkpoint { Chore::CheckpointConcluded } else { Chore::MergeConcluded };
        self.host.world.fired.chore(done);
        Ok(())
    }
}

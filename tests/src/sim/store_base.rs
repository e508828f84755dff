//! What stands in for sled: rows in memory of which a crash, of the daemon or the host, leaves the batches that were
//! synced, and of the others the first ones.

use std::collections::BTreeMap;
use std::io;

use like_daemon::store::checkpoint::{Base, Change};
use like_daemon::store::memory::put;
use like_daemon::store::merged::LayerRows;
use like_daemon::store::{Batch, KeyRange, StoreError};

use super::faults::{Chore, Fault};
use super::store::StoreFailing;
use super::world::{Host, Role, World, lock};

/// Far fewer than in earnest, so that checkpoints have many steps: rows of a batch, and batches between two syncs.
const BATCH_ROWS: usize = 3;
const BATCHES: usize = 2;

/// What is kept of a base when its daemon is gone.
#[derive(Default, Debug)]
pub struct BaseState {
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Up to which record it holds everything.
    pub checkpoint: u64,
    /// What there was before each batch since the last sync.
    undo: Vec<(Batch, u64)>,
    /// What fails the next time it is done.
    pub fails_next: Option<StoreFailing>,
}

impl BaseState {
    fn write(&mut self, batch: Batch, checkpoint: u64) -> (Batch, u64) {
        (put(&mut self.rows, batch), std::mem::replace(&mut self.checkpoint, checkpoint))
    }

    /// The daemon is gone, with or without the power.
    pub fn lose(&mut self, world: &World) {
        let kept = world.below(self.undo.len() as u64 + 1) as usize;
        while self.undo.len() > kept {
            let Some((batch, checkpoint)) = self.undo.pop() else { break };
            world.fault(Fault::BaseBatchesLost, 0);
            self.write(batch, checkpoint);
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
    pub role: Role,
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

    fn apply(&self, batch: Batch, checkpoint: Option<u64>) -> Result<(), StoreError> {
        self.operate("feeds base", StoreFailing::Write, |state| {
            let checkpoint = checkpoint.unwrap_or(state.checkpoint);
            let before = state.write(batch, checkpoint);
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

    fn rows(&self, range: &KeyRange) -> LayerRows<'_> {
        let rows: Vec<_> = self.state(|state| {
            let rows = state.rows.range(range.from.clone()..range.to.clone());
            rows.map(|(key, value)| Ok((key.clone(), Some(value.clone())))).collect()
        });
        Box::new(rows.into_iter())
    }

    fn last_key(&self, range: &KeyRange) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.state(|state| {
            let last = state.rows.range(range.from.clone()..range.to.clone()).next_back();
            last.map(|(key, _)| key.clone())
        }))
    }

    fn feed(&self, rows: &mut dyn Iterator<Item = Change<'_>>) -> Result<Option<Vec<u8>>, StoreError> {
        let mut rows = rows.peekable();
        for _ in 0..BATCHES {
            let batch = rows.by_ref().take(BATCH_ROWS);
            self.apply(batch.map(|(key, value)| (key.clone(), value.clone())).collect(), None)?;
        }
        self.sync()?;
        Ok(rows.peek().map(|(key, _)| (*key).clone()))
    }

    fn conclude(&self, number: u64) -> Result<(), StoreError> {
        self.apply(Batch::new(), Some(number))?;
        self.sync()?;
        self.host.world.fired.chore(Chore::CheckpointConcluded);
        Ok(())
    }
}

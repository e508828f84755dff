//! The daemons' stores: the real commit log, its checkpoints, runs, merges and opening, on a disk and over a base that are simulated;
//! and beside it what the store must hold, kept apart from it.

use std::collections::BTreeMap;
use std::sync::Arc;

use like_daemon::store::carried::CARRIED;
use like_daemon::store::disk::Disk;
use like_daemon::store::memory::put;
use like_daemon::store::open_error::OpenError;
use like_daemon::store::room::{Look, Room};
use like_daemon::store::{Batch, Key, KeyRange, LoggedStore, Row, Store, StoreError};

use super::faults::{Fault, Flaw};
use super::store_base::{BaseState, SimBase};
use super::store_disk::{StoreDisk, StoreFiles};
use super::world::{Host, Service, World, lock};

/// What is kept of a store when its daemon is gone, and what is known of it.
#[derive(Default, Debug)]
pub struct StoreState {
    /// Its own files.
    pub files: StoreFiles,
    /// What stands in for sled.
    pub base: BaseState,
    /// Until when its disk is short of space.
    pub low_until_ms: u64,
    /// What it must hold if nothing that was applied is lost.
    rows: BTreeMap<Key, Vec<u8>>,
    /// What `rows` held before each batch since the last sync: only these may be lost, the latest first.
    undo: Vec<Batch>,
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
    /// All rows that it must hold, in the order of their keys.
    pub fn rows(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.rows.iter().map(|(key, value)| (key.as_slice(), value.as_slice()))
    }

    /// The daemon is gone, with or without the power.
    pub fn lose(&mut self, world: &World, power: bool) {
        self.base.lose(world);
        if power {
            self.files.lose_power(world);
        }
    }

    /// No more faults.
    pub fn heal(&mut self) {
        (self.files.fails_next, self.base.fails_next) = (None, None);
        (self.files.full_until_ms, self.low_until_ms) = (0, 0);
    }

    /// It has been opened, and holds this: everything that was synced, and of what was not, the first batches, each as a
    /// whole.
    fn found(&mut self, world: &World, role: Service, found: &[Row]) {
        let is_so = |rows: &BTreeMap<Key, Vec<u8>>| {
            rows.len() == found.len()
                && rows.iter().zip(found).all(|(row, found)| row == (&found.0, &found.1))
        };
        while !is_so(&self.rows) {
            let Some(batch) = self.undo.pop() else {
                return world
                    .broken(format!("the {role:?} store does not hold what was durable: {found:02x?}"));
            };
            world.fault(Fault::BatchesLost, 0);
            lock(&world.oracle).rows_changed(world, role, &batch);
            put(&mut self.rows, batch);
        }
        self.undo.clear();
    }
}

/// How many runs a store may add after it was short of space before it merges again: one of a checkpoint that was under way, and one
/// before which a merge that was given up is not tried again.
const ADDED_LATE: usize = 2;

/// Whether there is room for merges on a daemon's disk.
fn room(host: &Host, role: Service) -> Look {
    let host = host.clone();
    Arc::new(move || {
        let low = lock(&host.world.stores[role as usize]).low_until_ms > host.world.now_ms();
        Ok(Room { free_bytes: if low { 0 } else { 1 << 40 }, reserve_bytes: 1 << 20 })
    })
}

/// A store as its daemon uses it.
pub struct SimStore {
    host: Host,
    role: Service,
    store: LoggedStore<()>,
    /// How many runs it had when it was opened, or was last short of space and what was begun then may add.
    unmerged: usize,
    /// When it was last synced.
    synced_ms: u64,
}

impl SimStore {
    /// Opens a daemon's store. Nothing if that can't be done just now.
    pub fn open(host: &Host, role: Service) -> Option<Self> {
        let disk = Arc::new(StoreDisk::new(host, role));
        let last = format!("{CARRIED}{}", lock(&host.world.stores[role as usize]).base.list().through);
        let names = disk.list().ok()?;
        if names.iter().any(|name| name.starts_with(CARRIED) && *name != last) {
            host.world.fault(Fault::CheckpointCutShort, host.life.pid);
        }
        if lock(&host.world.stores[role as usize]).base.nobodys().is_some() {
            host.world.fault(Fault::RunCutShort, host.life.pid);
        }
        let base = Arc::new(SimBase { host: host.clone(), role });
        let plan = &host.world.plan;
        let opened = LoggedStore::over(disk, base, plan.store_log_bytes, plan.store_shape, ());
        let store = match opened {
            Ok(store) => store.within(room(host, role)),
            Err(OpenError::Refused { .. }) => {
                if host.life.is_dead() {
                    host.world.fault(Fault::StartCutShort, host.life.pid);
                }
                return None;
            }
            Err(refused) => {
                host.world.broken(format!("no fault damages stores, but {refused}"));
                return None;
            }
        };
        let all = KeyRange { from: Vec::new(), to: vec![u8::MAX] };
        let rows = store.scan(&all, usize::MAX).ok()?;
        lock(&host.world.stores[role as usize]).found(&host.world, role, &rows);
        // What a process before could not merge is there still.
        let unmerged = store.runs().runs.len();
        Some(Self { host: host.clone(), role, store, unmerged, synced_ms: host.world.now_ms() })
    }

    fn state<T>(&self, what: impl FnOnce(&mut StoreState) -> T) -> T {
        what(&mut lock(&self.host.world.stores[self.role as usize]))
    }

    /// What is read must be what was written.
    fn same<T: PartialEq + std::fmt::Debug>(&self, read: T, expected: T) -> T {
        if read != expected {
            let role = self.role;
            self.host.world.broken(format!("the {role:?} store reads {read:02x?}, not {expected:02x?}"));
        }
        read
    }
}

impl Store for SimStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let read = self.store.get(key)?;
        Ok(self.same(read, self.state(|state| state.rows.get(key).cloned())))
    }

    fn scan(&self, range: &KeyRange, limit: usize) -> Result<Vec<Row>, StoreError> {
        let read = self.store.scan(range, limit)?;
        if range.is_empty() {
            return Ok(read);
        }
        let expected = self.state(|state| {
            let rows = state.rows.range::<[u8], _>(range.bounds());
            rows.take(limit).map(|(key, value)| (key.clone(), value.clone())).collect()
        });
        Ok(self.same(read, expected))
    }

    fn firsts(&self, range: &KeyRange, shared: usize, limit: usize) -> Result<Vec<Row>, StoreError> {
        let read = self.store.firsts(range, shared, limit)?;
        if range.is_empty() {
            return Ok(read);
        }
        let expected = self.state(|state| {
            let mut firsts: Vec<Row> = Vec::new();
            for (key, value) in state.rows.range::<[u8], _>(range.bounds()) {
                let group = |key: &Key| key.get(..shared).map(<[u8]>::to_vec);
                if firsts.last().is_none_or(|(last, _)| group(key).is_none() || group(last) != group(key)) {
                    firsts.push((key.clone(), value.clone()));
                }
            }
            firsts.truncate(limit);
            firsts
        });
        Ok(self.same(read, expected))
    }

    fn last(&self, range: &KeyRange) -> Result<Option<Row>, StoreError> {
        let read = self.store.last(range)?;
        if range.is_empty() {
            return Ok(read);
        }
        let expected = self.state(|state| {
            let last = state.rows.range::<[u8], _>(range.bounds()).next_back();
            last.map(|(key, value)| (key.clone(), value.clone()))
        });
        Ok(self.same(read, expected))
    }

    fn apply(&mut self, mut batch: Batch) -> Result<(), StoreError> {
        let world = Arc::clone(&self.host.world);
        if world.has(Flaw::RowsLost) && world.percent(1) {
            batch.pop_last();
        }
        world.note(self.host.life.pid, "batch", batch.len() as u64, 0);
        lock(&world.oracle).rows_changed(&world, self.role, &batch);
        self.state(|state| {
            let before = put(&mut state.rows, batch.clone());
            state.undo.push(before);
        });
        self.store.apply(batch)
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.store.sync()?;
        let (runs, most) = (self.store.runs().runs.len(), self.host.world.plan.store_shape.runs_max);
        // It may have been short between two syncs.
        if self.state(|state| state.low_until_ms) > self.synced_ms {
            self.unmerged = runs + ADDED_LATE;
        }
        self.synced_ms = self.host.world.now_ms();
        if runs > most.max(self.unmerged) {
            let role = self.role;
            self.host.world.broken(format!("the {role:?} store has {runs} runs where {most} are the most"));
        }
        self.state(|state| state.undo.clear());
        self.host.world.note(self.host.life.pid, "durable", 0, 0);
        Ok(())
    }

    fn tidy(&mut self) {
        // Nobody may rely on it.
        if self.host.world.percent(50) {
            self.store.tidy();
        }
    }

    fn bytes(&self) -> u64 {
        self.store.bytes()
    }
}

//! What a base holds: sorted runs, the newest first, each hiding what older ones say.
//!
//! This is the one place that changes the list of runs: a checkpoint adds one, a merge puts one in the place of several.
//! In this order, and each durable before the next: the blocks and the index of a new run, the list that names it, the
//! removal of what the list no longer names. Wherever that is cut short, the base holds what the list says, and some blocks
//! besides that are nobody's. Those are removed at leisure after the next start, and until then nothing is written under their
//! numbers.

use std::path::Path;
use std::sync::{Arc, PoisonError};

use tracing::warn;

use super::base::{Base, VALUE_BYTES_MAX};
use super::filter::Hashed;
use super::merged::LayerRows;
use super::open_error::OpenError;
use super::room::{Allowance, Look, taken_by};
use super::run::{Run, RunRows, places, run_of};
use super::run_list::{ENTRY_BYTES_MAX, Entry, RunList};
use super::run_writer::RunWriter;
use super::{Key, KeyRange, StoreError};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard, RwLock};

/// So many blocks are removed at once, if the base takes as many.
const REMOVED_AT_ONCE: usize = 32;

/// How runs are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// How long a block becomes, unless one row alone is longer. Not more than a value of a base may be.
    pub block_bytes: usize,
    /// So many runs that were merged equally often are merged into one. At least 2.
    pub fan_in: usize,
    /// With so many runs no further checkpoint is made before some are merged.
    pub runs_max: usize,
}

impl Shape {
    /// As stores have it.
    ///
    /// *Blocks of 4000 bytes*: some hundred rows, and no longer than values of a base may be. *Four runs into one*: a row is
    /// written once for each fourfold growth of the store, some five times for ten million likes, and at most three runs of
    /// each size are looked through, some fifteen. *48 runs*: more than there are where merges keep up, and a list of them
    /// stays far below a value's limit.
    pub const USUAL: Self = Self { block_bytes: 4000, fan_in: 4, runs_max: 48 };
}

/// What the list says at one time.
#[derive(Clone, Default, Debug)]
pub struct Listed {
    /// Everything up to the record of this number is in the runs.
    pub through: u64,
    /// The runs, the oldest first.
    pub runs: Vec<Arc<Run>>,
}

impl Listed {
    /// The list, as the base has it.
    fn row(&self) -> Vec<u8> {
        let runs = self.runs.iter().map(|run| run.entry).collect();
        RunList { through: self.through, runs }.encode()
    }
}

/// A run that no list names: its blocks are to be removed.
#[derive(Debug)]
struct Gone {
    run: u64,
    /// Held by whoever may still read it.
    held: Option<Arc<Run>>,
}

/// The runs of a base.
pub struct Runs {
    base: Arc<dyn Base>,
    shape: Shape,
    /// Held while the list is changed, which takes a sync.
    changing: Mutex<()>,
    /// Held for a moment.
    listed: RwLock<Arc<Listed>>,
    gone: Mutex<Vec<Gone>>,
    /// The number of the next run: above all under which there is anything.
    next: AtomicU64,
    allowance: Arc<Allowance>,
}

impl Runs {
    /// The runs in the base of the store in `path`, and the number of the record up to which everything is in them.
    ///
    /// # Errors
    /// The base can't be read, or the list or an index is missing or damaged.
    pub fn open(path: &Path, base: Arc<dyn Base>, shape: Shape) -> Result<(Self, u64), OpenError> {
        let of_store = |e: StoreError| match e {
            StoreError::Damaged(damage) => {
                OpenError::Damaged { path: path.to_owned(), what: damage.to_string() }
            }
            failed @ (StoreError::Failed { .. } | StoreError::Full { .. }) => {
                OpenError::refused(path, failed)
            }
        };
        let row = base.concluded().map_err(of_store)?;
        let row = row.ok_or_else(|| OpenError::Lost { path: path.to_owned() })?;
        let list = RunList::decode(&row)
            .map_err(|why| OpenError::Damaged { path: path.to_owned(), what: why.to_string() })?;
        let load = |entry: &Entry| Run::load(&*base, *entry).map(Arc::new);
        let runs = list.runs.iter().map(load).collect::<Result<Vec<_>, _>>().map_err(of_store)?;
        let (gone, next) = leftovers(&*base, &list).map_err(of_store)?;
        let listed = Listed { through: list.through, runs };
        let runs = Self {
            base,
            shape,
            changing: Mutex::default(),
            listed: RwLock::new(Arc::new(listed)),
            gone: Mutex::new(gone),
            next: AtomicU64::new(next),
            allowance: Arc::default(),
        };
        Ok((runs, list.through))
    }

    /// How runs are made.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// What feeds them.
    pub fn base(&self) -> &Arc<dyn Base> {
        &self.base
    }

    /// What the list says now. Whoever holds it can read these runs as long.
    pub fn listed(&self) -> Arc<Listed> {
        Arc::clone(&self.listed.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether no checkpoint should add another run before some are merged.
    pub fn are_too_many(&self) -> bool {
        self.listed().runs.len() >= self.shape.runs_max
    }

    /// Whether the list has a place for another run.
    pub fn have_place(&self) -> bool {
        self.listed().row().len() + ENTRY_BYTES_MAX <= VALUE_BYTES_MAX
    }

    /// Looks at the disk in this way, and merges only what fits there from now on.
    pub fn within(&self, look: Look) {
        self.allowance.watch(look);
    }

    /// What merges may take of the disk.
    pub fn allowance(&self) -> &Arc<Allowance> {
        &self.allowance
    }

    /// How much disk so many values of runs take, in bytes.
    pub fn bytes_of(&self, values: u64) -> u64 {
        taken_by(values, self.shape.block_bytes)
    }

    /// The value under `key`.
    ///
    /// # Errors
    /// The base can't be read, or the block in which the key would be is damaged.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let hashed = Hashed::of(key);
        for run in self.listed().runs.iter().rev().filter(|run| run.may_have(hashed)) {
            if let Some(said) = run.get(&*self.base, key)? {
                return Ok(said);
            }
        }
        Ok(None)
    }

    /// The rows of a range as layers, the newest first.
    pub fn rows(&self, range: &KeyRange) -> Vec<LayerRows<'static>> {
        let listed = self.listed();
        let newest_first = listed.runs.iter().rev();
        newest_first.map(|run| self.rows_of(run, &range.from).within(range)).collect()
    }

    /// The last key of a range of which any run says anything.
    ///
    /// # Errors
    /// The base can't be read, or the block in which it would be is damaged.
    pub fn last_key(&self, range: &KeyRange) -> Result<Option<Key>, StoreError> {
        let mut last = None;
        for run in &self.listed().runs {
            last = last.max(run.last_key(&*self.base, range)?);
        }
        Ok(last)
    }

    /// The rows of a run from about `from` on.
    pub fn rows_of(&self, run: &Arc<Run>, from: &[u8]) -> RunRows {
        RunRows::of(Arc::clone(&self.base), Arc::clone(run), from)
    }

    /// Begins a run of at most so many rows.
    pub fn begin(&self, level: u64, rows_max: u64) -> RunWriter {
        let run = self.next.fetch_add(1, Ordering::Relaxed);
        RunWriter::begin(run, level, rows_max, self.shape.block_bytes)
    }

    /// Says, durably, that everything up to record `through` is in the runs, the newest of which is this one. All of it must be
    /// durable.
    ///
    /// # Errors
    /// The base can't be written or synced.
    pub fn add(&self, newest: Option<Run>, through: u64) -> Result<(), StoreError> {
        self.change(|listed| {
            listed.through = through;
            listed.runs.extend(newest.map(Arc::new));
        })
    }

    /// Puts one run, or none, in the place of some that follow each other, durably. All of it must be durable.
    ///
    /// # Errors
    /// The base can't be written or synced.
    pub fn replace(&self, merged: Vec<Arc<Run>>, by: Option<Run>) -> Result<(), StoreError> {
        self.change(|listed| {
            let is_first =
                |run: &Arc<Run>| merged.first().is_some_and(|first| run.entry.run == first.entry.run);
            if let Some(at) = listed.runs.iter().position(is_first) {
                listed.runs.splice(at..at + merged.len(), by.map(Arc::new));
            }
        })?;
        let gone = merged.into_iter().map(|run| Gone { run: run.entry.run, held: Some(run) });
        self.gone().extend(gone);
        Ok(())
    }

    /// Gives up a run that is not in the list yet.
    pub fn give_up(&self, writer: &RunWriter) {
        self.gone().push(Gone { run: writer.entry().run, held: None });
    }

    /// Whether there are blocks to remove that nobody reads, and room to do it.
    pub fn has_gone(&self) -> bool {
        self.gone().iter().any(Gone::is_free) && self.allowance.may_remove(self.listed().through)
    }

    /// Removes some blocks that are in no run any more and that nobody reads, if there is room for that. Whether there were
    /// any.
    ///
    /// # Errors
    /// The base can't be read, written or synced, or has no space.
    pub fn remove_some(&self) -> Result<bool, StoreError> {
        let free = self.gone().iter().find(|gone| gone.is_free()).map(|gone| gone.run);
        let Some(run) = free.filter(|_| self.allowance.may_remove(self.listed().through)) else {
            return Ok(false);
        };
        let is_done = match self.remove_some_of(run) {
            Err(StoreError::Damaged(damage)) => {
                warn!("{damage}: blocks beside it that nobody needs are left until the next start");
                true
            }
            removed => removed?,
        };
        if is_done {
            self.gone().retain(|gone| gone.run != run);
        }
        Ok(true)
    }

    /// Removes some blocks of a run. Whether there were none any more.
    fn remove_some_of(&self, run: u64) -> Result<bool, StoreError> {
        let removed = self.base.keys(&places(run..run + 1), REMOVED_AT_ONCE)?;
        self.base.feed(&mut removed.iter().map(|key| (key, &None)))?;
        Ok(removed.is_empty())
    }

    fn gone(&self) -> MutexGuard<'_, Vec<Gone>> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the list: first in the base, then here.
    fn change(&self, how: impl FnOnce(&mut Listed)) -> Result<(), StoreError> {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut listed = Listed::clone(&self.listed());
        how(&mut listed);
        let row = listed.row();
        if row.len() > VALUE_BYTES_MAX {
            return Err(StoreError::failed(
                "keep the list of runs",
                "there are too many that can't be merged",
            ));
        }
        self.base.conclude(&row)?;
        *self.listed.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(listed);
        Ok(())
    }
}

impl Gone {
    /// Whether nobody reads it: nobody can begin to.
    fn is_free(&self) -> bool {
        self.held.as_ref().is_none_or(|run| Arc::strong_count(run) == 1)
    }
}

/// Runs that the list does not name, and a number above those of all runs. Looks once between any two runs of the list and once for
/// each that it does not name, whatever is in them.
fn leftovers(base: &dyn Base, list: &RunList) -> Result<(Vec<Gone>, u64), StoreError> {
    let mut named: Vec<_> = list.runs.iter().map(|entry| entry.run).collect();
    named.sort_unstable();
    named.push(u64::MAX);
    let (mut gone, mut from, mut next) = (Vec::new(), 0, 0);
    for named in named {
        while let Some(run) = base.keys(&places(from..named), 1)?.first().and_then(|key| run_of(key)) {
            gone.push(Gone { run, held: None });
            (from, next) = (run + 1, run + 1);
        }
        if named != u64::MAX {
            (from, next) = (named + 1, named + 1);
        }
    }
    Ok((gone, next))
}

#[cfg(test)]
#[path = "runs_tests.rs"]
mod tests;

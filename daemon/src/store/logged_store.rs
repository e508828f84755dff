//! The store of a daemon: a commit log in front, what it holds in memory, and sorted runs that it is put into at leisure.
//!
//! A change is one record in the log, and durable with it; groups of them share a sync. What the log holds is kept in
//! memory as well, as a layer over the runs. When the log has grown to some size, the layer is frozen, a checkpoint makes a
//! run of it in the background, and the log goes on in a new segment. The engine's rows never get that far: they
//! live for seconds, so a checkpoint carries them over in a file of their own, and all of them are in memory. Merges keep the
//! runs few, in the background as well.
//!
//! ```text
//! read:   changes (active) -> changes of the checkpoint under way (frozen) -> carried rows, or the runs, the newest first
//! write:  log, then active
//! start:  runs and carried rows of the last checkpoint, then the log behind it
//! ```
//!
//! The idea is that of every log-structured store (O'Neil et al., "The Log-Structured Merge-Tree", 1996). What it is
//! for here: a sync of one preallocated file for each group, where sled writes, flushes and wakes seven threads; rows that
//! change often reach sled once for each checkpoint, those that live for seconds never, and the others a hundred at a time.

use std::io;
use std::path::Path;
use std::sync::Arc;

use like_protocol::ids::StoreId;

use super::aside::Aside;
use super::base::{Base, SledBase};
use super::carried;
use super::checkpoint::{Checkpoint, Work};
use super::commit_log::{self, CommitLog};
use super::data_dir::DataDir;
use super::disk::{Disk, RealDisk};
use super::gaps::Gaps;
use super::mark::Mark;
use super::merge::{self, Merges};
use super::merged::{Merged, rows_of};
use super::open_error::OpenError;
use super::room::Look;
use super::run_list::RunList;
use super::runs::{Listed, Runs, Shape};
use super::{Batch, DOMAIN_TAG_FIRST, Key, KeyRange, Row, Store, StoreError, behind_group};

/// How large the log grows before a checkpoint, if nobody says otherwise. What it holds is held in memory as well, and is
/// read at the next start (some hundred milliseconds); a larger one writes rows that change often less often.
pub const LOG_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// The longest key: how long one is stands in one byte.
pub const KEY_BYTES_MAX: usize = u8::MAX as usize;

/// The longest value of a row, with its checksum. Alone in a block, with the longest of keys, it is no longer than a value of the
/// base may be.
pub const VALUE_BYTES_MAX: usize = 4 * 1024;

/// So many deleted rows in front of the first one of a range are remembered, so as not to be passed again.
const PASSED_MAX: usize = 8;

/// How many rows are freed for each that is written: all that a checkpoint leaves, long before the next one ends.
const FREED_PER_WRITE: usize = 4;

/// How many segments a log may have: one for each start since the last checkpoint.
const SEGMENTS_MAX: usize = 16;

/// A store in a directory of its own, which it holds locked.
pub struct LoggedStore<Lock = DataDir> {
    // Declared before the lock, so that everything is closed while that is still held.
    checkpoint: Option<Checkpoint>,
    merges: Option<Aside<Merges>>,
    runs: Arc<Runs>,
    disk: Arc<dyn Disk>,
    log: CommitLog,
    mark: Mark,
    /// What the last batch changed, until it is put to the rest.
    fresh: Batch,
    /// What changed since the last checkpoint was begun, up to there.
    active: Batch,
    /// The engine's rows as the last checkpoint that ended left them.
    carried: Arc<Batch>,
    /// What the last checkpoint has made superfluous, and is freed little by little: half a million rows at once take the
    /// allocator a fifth of a second. What is left of it the next one frees: there are more rows to free than that where the engine's,
    /// each checkpoint leaves all of which behind, are many and the log is short.
    unneeded: Vec<Batch>,
    /// Where there is nothing of the domain's.
    gaps: Gaps,
    log_bytes_max: u64,
    lock: Lock,
}

impl LoggedStore {
    /// Opens the store in `data`; makes it if the directory is new, and then returns only when it is durable. So is
    /// everything that is found in it.
    ///
    /// # Errors
    /// sled or the file system refused, or something durable is missing or damaged.
    pub fn open(data: DataDir) -> Result<Self, OpenError> {
        Self::open_with(data, LOG_BYTES_MAX, Shape::USUAL)
    }

    /// The same, with a checkpoint whenever the log has grown to so many bytes, and with such runs.
    ///
    /// # Errors
    /// As [`LoggedStore::open`].
    pub fn open_with(mut data: DataDir, log_bytes_max: u64, shape: Shape) -> Result<Self, OpenError> {
        let disk = RealDisk::of(data.path(), data.directory()?);
        let base = SledBase::open(&mut data, &RunList::default().encode())?;
        Self::over(Arc::new(disk), Arc::new(base), log_bytes_max, shape, data)
    }

    /// The store's id.
    pub fn id(&self) -> StoreId {
        self.lock.store_id()
    }
}

impl<Lock> LoggedStore<Lock> {
    /// Goes on with the store whose own files are on `disk`, over a base with its runs. Makes a checkpoint whenever the log
    /// has grown to so many bytes. The lock is what keeps others away.
    ///
    /// # Errors
    /// The file system refused, or something durable is missing or damaged.
    pub fn over(
        disk: Arc<dyn Disk>,
        base: Arc<dyn Base>,
        log_bytes_max: u64,
        shape: Shape,
        lock: Lock,
    ) -> Result<Self, OpenError> {
        let path = disk.path();
        let refused = |e: io::Error| OpenError::refused(path, e);
        let (runs, checkpoint) = Runs::open(path, base, shape)?;
        let (mark, durable) = Mark::open(&*disk).map_err(refused)?;
        let carried = carried::read(&*disk, checkpoint);
        let (carried, bytes) = carried.map_err(|e| OpenError::of_carried(path, e))?;
        runs.allowance().carries(bytes);
        let mut found =
            commit_log::read(&*disk, checkpoint, durable).map_err(|e| OpenError::of_log(path, e))?;
        carried::remove_others(&*disk, checkpoint).map_err(refused)?;
        let log = CommitLog::go_on(Arc::clone(&disk), &found, log_bytes_max).map_err(refused)?;
        mark.note(found.last);
        let active = std::mem::take(&mut found.rows);
        let (checkpoint, merges, runs, carried) = (None, None, Arc::new(runs), Arc::new(carried));
        let (gaps, unneeded, fresh) = (Gaps::default(), Vec::new(), Batch::new());
        Ok(Self {
            checkpoint,
            merges,
            runs,
            disk,
            log,
            mark,
            fresh,
            active,
            carried,
            unneeded,
            gaps,
            log_bytes_max,
            lock,
        })
    }

    /// The same store, which looks at its disk in this way from now on, and merges only what fits there beside the reserve.
    pub fn within(self, look: Look) -> Self {
        self.runs.within(look);
        self
    }

    /// How it looks at its disk.
    pub fn space(&self) -> Look {
        let allowance = Arc::clone(self.runs.allowance());
        Arc::new(move || allowance.look())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.disk.path()
    }

    /// The runs that hold what checkpoints have taken out of the log.
    pub fn runs(&self) -> Arc<Listed> {
        self.runs.listed()
    }

    /// The layers above the runs, the newest first.
    fn changes(&self) -> impl Iterator<Item = &Batch> {
        let active = [&self.fresh, &self.active];
        active.into_iter().chain(self.checkpoint.as_ref().map(|under_way| &*under_way.changes))
    }

    /// The rows of a range, which is not empty, out of all layers.
    fn rows(&self, range: &KeyRange) -> Merged<'_> {
        let changes = self.changes().map(|layer| rows_of(layer, range));
        let below = std::iter::once(rows_of(&self.carried, range)).chain(self.runs.rows(range));
        Merged::of(changes.chain(below))
    }

    /// Notes that a scan has found nothing from `from` on before its first row, or in all of the range. Then the gap goes on to
    /// the next row behind it, wherever that is.
    fn note_gap(&self, from: &[u8], range: &KeyRange, first: Option<&Row>) {
        let Some((tag, _)) = from.split_first().filter(|_| !is_engines(from)) else { return };
        if let Some((key, _)) = first {
            return self.gaps.note(from, key);
        }
        let behind = KeyRange { from: range.to.clone(), ..KeyRange::prefix(&[*tag]) };
        let next = if behind.is_empty() { None } else { self.rows(&behind).next() };
        match next {
            None => self.gaps.note(from, &range.to.clone().max(behind.to)),
            Some(Ok((key, _))) => self.gaps.note(from, &key),
            // Whoever asks for rows there is told.
            Some(Err(_)) => self.gaps.note(from, &range.to),
        }
    }

    /// Takes over what a checkpoint has come to, and begins the next one when it is time. Everything in the log must be
    /// durable. Who writes faster than checkpoints are made brings the one under way to its end here.
    fn checkpoint(&mut self) -> Result<(), StoreError> {
        let (bytes, segments) = (self.log.bytes(), self.log.segments());
        let is_full = bytes >= self.log_bytes_max || segments >= SEGMENTS_MAX;
        if !self.end_checkpoint(bytes >= 2 * self.log_bytes_max)? || !is_full {
            return Ok(());
        }
        self.merge_until_few()?;
        if !self.runs.have_place() && self.runs.allowance().is_short() {
            // The log goes on, as long as there is room for that.
            return Ok(());
        }
        self.put_away();
        let rolled = self.log.roll().map_err(|e| StoreError::failed("begin a segment of the log", e))?;
        let work = Work {
            disk: Arc::clone(&self.disk),
            runs: Arc::clone(&self.runs),
            carried: Arc::clone(&self.carried),
            changes: Arc::new(std::mem::take(&mut self.active)),
            through: self.log.last(),
            segments: rolled,
            unneeded: std::mem::take(&mut self.unneeded),
        };
        self.checkpoint = Some(Checkpoint::begin(work)?);
        if segments >= 2 * SEGMENTS_MAX {
            // Every process so far has ended before its checkpoint did, and this one may as well.
            self.end_checkpoint(true)?;
        }
        Ok(())
    }

    /// Takes over what the checkpoint under way has come to, if it has ended; or brings it to its end here. Whether none is under way.
    fn end_checkpoint(&mut self, at_once: bool) -> Result<bool, StoreError> {
        let Some(under_way) = &self.checkpoint else { return Ok(true) };
        let Some(carried) = (if at_once { under_way.finish()? } else { under_way.ended()? }) else {
            return Ok(false);
        };
        let before = std::mem::replace(&mut self.carried, carried);
        let changes = self.checkpoint.take().map(Checkpoint::into_changes);
        self.unneeded.extend(changes.into_iter().chain([before]).filter_map(Arc::into_inner));
        Ok(true)
    }

    /// Puts what the last batch changed to what changed before. Each row is looked for a place among very many, which takes longer than
    /// to write it into the log.
    fn put_away(&mut self) {
        let fresh = std::mem::take(&mut self.fresh);
        self.free(FREED_PER_WRITE * fresh.len());
        self.active.extend(fresh);
    }

    /// Frees some of the rows that nobody needs any more.
    fn free(&mut self, mut rows: usize) {
        while rows > 0
            && let Some(layer) = self.unneeded.last_mut()
        {
            while rows > 0 && layer.pop_first().is_some() {
                rows -= 1;
            }
            if layer.is_empty() {
                self.unneeded.pop();
            }
        }
    }

    /// Begins to merge runs when there is something to merge and nobody at it.
    fn merge(&mut self) -> Result<(), StoreError> {
        if let Some(under_way) = &self.merges {
            if under_way.ended()?.is_none() {
                return Ok(());
            }
            self.merges = None;
        }
        if merge::is_due(&self.runs) {
            let merges = Merges::of(Arc::clone(&self.runs));
            self.merges = Some(Aside::begin(&*self.disk, "merge", merges)?);
        }
        Ok(())
    }

    /// Lets no more runs be made than are merged: takes the steps of merges here if there are too many. Who can't merge for want
    /// of room has too many, and goes on.
    fn merge_until_few(&mut self) -> Result<(), StoreError> {
        while self.runs.are_too_many() {
            let before = self.runs.listed().runs.len();
            self.merge()?;
            let Some(under_way) = &self.merges else { break };
            if under_way.hurry_while(|| self.runs.are_too_many())?.is_some() {
                self.merges = None;
                if self.runs.listed().runs.len() >= before {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// Whether a key is one of the engine's.
fn is_engines(key: &[u8]) -> bool {
    key.first().is_some_and(|tag| *tag < DOMAIN_TAG_FIRST)
}

impl<Lock: Send> Store for LoggedStore<Lock> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let key = Key::from_slice(key);
        if let Some(changed) = self.changes().find_map(|layer| layer.get(&key)) {
            return Ok(changed.clone());
        }
        if is_engines(&key) { Ok(self.carried.get(&key).cloned().flatten()) } else { self.runs.get(&key) }
    }

    fn scan(&self, range: &KeyRange, limit: usize) -> Result<Vec<Row>, StoreError> {
        let mut range = range.clone();
        let from = range.from.clone();
        if let Some(end) = self.gaps.end_of(&from) {
            range.from = end;
        }
        if range.is_empty() || limit == 0 {
            return Ok(Vec::new());
        }
        let mut rows = self.rows(&range);
        let first = rows.next().transpose()?;
        if first.is_none() || rows.passed() >= PASSED_MAX {
            self.note_gap(&from, &range, first.as_ref());
        }
        first.into_iter().map(Ok).chain(rows).take(limit).collect()
    }

    fn firsts(&self, range: &KeyRange, shared: usize, limit: usize) -> Result<Vec<Row>, StoreError> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        // The layers are gone through once: a group's first row often lies in a block that is at hand already.
        let (mut rows, mut from, mut firsts) = (self.rows(range), range.from.clone(), Vec::new());
        while firsts.len() < limit {
            if let Some(end) = self.gaps.end_of(&from) {
                rows.skip_to(&end);
            }
            let passed = rows.passed();
            let first = rows.next().transpose()?;
            if first.is_none() || rows.passed() - passed >= PASSED_MAX {
                self.note_gap(&from, range, first.as_ref());
            }
            let Some(row) = first else { break };
            from = behind_group(&row.0, shared);
            rows.skip_to(&from);
            firsts.push(row);
        }
        Ok(firsts)
    }

    fn last(&self, range: &KeyRange) -> Result<Option<Row>, StoreError> {
        let mut range = range.clone();
        while !range.is_empty() {
            let in_memory = self.changes().chain([&*self.carried]);
            let last_of = |layer: &Batch| {
                let last = layer.range::<[u8], _>(range.bounds()).next_back();
                last.map(|(key, _)| key.clone())
            };
            let Some(key) = in_memory.filter_map(last_of).chain(self.runs.last_key(&range)?).max() else {
                break;
            };
            if let Some(value) = self.get(&key)? {
                return Ok(Some((key, value)));
            }
            range = range.before(&key);
        }
        Ok(None)
    }

    fn apply(&mut self, batch: Batch) -> Result<(), StoreError> {
        for (key, value) in &batch {
            let value = value.as_deref().unwrap_or_default();
            assert!(key.len() <= KEY_BYTES_MAX, "a key of {} bytes", key.len());
            assert!(value.len() <= VALUE_BYTES_MAX, "a value of {} bytes", value.len());
        }
        self.put_away();
        self.log.append(&batch).map_err(|e| StoreError::failed("write to the log of the store", e))?;
        batch.iter().filter(|(_, value)| value.is_some()).for_each(|(key, _)| self.gaps.put(key));
        self.fresh = batch;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.log.sync().map_err(|e| StoreError::failed("sync the log of the store", e))?;
        self.mark.note(self.log.last());
        self.checkpoint()?;
        self.merge()
    }

    fn tidy(&mut self) {
        self.put_away();
    }

    fn bytes(&self) -> u64 {
        self.disk.bytes()
    }
}

#[cfg(test)]
#[path = "logged_store_tests.rs"]
mod tests;

//! A checkpoint: what the commit log holds goes where it needs no log any more, beside whatever the store does meanwhile.
//!
//! In these steps, and each durable before the next: the engine's rows into a file of their own ([`super::carried`]),
//! the domain's into the base, the word of the base that all of it is there; then the segments go, and the file of the
//! checkpoint before. Wherever this is cut short, the log still holds all of it, and putting it in once more changes
//! nothing: rows say what is, not what was done.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, TryLockError};
use std::thread::JoinHandle;

use super::disk::Disk;
use super::merged::LayerRows;
use super::{Batch, DOMAIN_TAG_FIRST, KeyRange, StoreError, carried, commit_log};

/// Where checkpoints put the domain's rows. It may be read while it is fed.
pub trait Base: Send + Sync {
    /// The value under `key`.
    ///
    /// # Errors
    /// It can't be read.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// The rows of a range, which is not empty.
    fn rows(&self, range: &KeyRange) -> LayerRows<'_>;

    /// The last key of a range, which is not empty.
    ///
    /// # Errors
    /// It can't be read.
    fn last_key(&self, range: &KeyRange) -> Result<Option<Vec<u8>>, StoreError>;

    /// Puts rows in, from the first one on, as many as may go in without a sync between them: durably, but not
    /// atomically. Tells the key of the first one that is left.
    ///
    /// # Errors
    /// It can't be written or synced.
    fn feed(&self, rows: &mut dyn Iterator<Item = Change<'_>>) -> Result<Option<Vec<u8>>, StoreError>;

    /// Says, durably, that everything up to record `number` is in it.
    ///
    /// # Errors
    /// It can't be written or synced.
    fn conclude(&self, number: u64) -> Result<(), StoreError>;
}

/// A key, and its value unless it is deleted.
pub type Change<'a> = (&'a Vec<u8>, &'a Option<Vec<u8>>);

/// What is to be put where it belongs.
pub struct Work {
    /// Where the store's own files are.
    pub disk: Arc<dyn Disk>,
    /// Where the domain's rows go.
    pub base: Arc<dyn Base>,
    /// The engine's rows, as the checkpoint before left them.
    pub carried: Arc<Batch>,
    /// Everything that changed since.
    pub changes: Arc<Batch>,
    /// The number of the record that the changes go up to.
    pub through: u64,
    /// The segments that hold the changes.
    pub segments: Vec<u64>,
}

enum Step {
    Carry,
    /// From this key on.
    Feed(Vec<u8>),
    Conclude,
    Remove,
}

/// How far it has got.
struct Progress {
    work: Work,
    /// What comes next; nothing when it has ended.
    next: Option<Step>,
    /// Why it failed, until that is told.
    failed: Option<StoreError>,
    /// The engine's rows as it leaves them, once they are written.
    kept: Arc<Batch>,
}

/// A checkpoint under way. When it is dropped, it ends as early as it can, and has ended.
pub struct Checkpoint {
    /// What changed since the checkpoint before: hides what is below until this has ended.
    pub changes: Arc<Batch>,
    progress: Arc<Mutex<Progress>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpoint {
    /// Begins it.
    ///
    /// # Errors
    /// There can be no thread for it.
    pub fn begin(work: Work) -> Result<Self, StoreError> {
        let (disk, changes) = (Arc::clone(&work.disk), Arc::clone(&work.changes));
        let kept = Arc::clone(&work.carried);
        let progress = Arc::new(Mutex::new(Progress { work, next: Some(Step::Carry), failed: None, kept }));
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, asked) = (Arc::clone(&progress), Arc::clone(&stop));
        let go_on = move || {
            !asked.load(Ordering::Relaxed) && shared.lock().is_ok_and(|mut progress| progress.go_on())
        };
        let thread = disk.in_background(Box::new(go_on));
        let thread = thread.map_err(|e| StoreError::failed("start a checkpoint of the store", e))?;
        Ok(Self { changes, progress, stop, thread })
    }

    /// The engine's rows as it leaves them, if it has ended.
    ///
    /// # Errors
    /// It failed.
    pub fn ended(&self) -> Result<Option<Arc<Batch>>, StoreError> {
        match self.progress.try_lock() {
            Ok(mut progress) => progress.outcome(),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Poisoned(_)) => Err(panicked()),
        }
    }

    /// Brings it to its end: the engine's rows as it leaves them.
    ///
    /// # Errors
    /// It failed.
    pub fn finish(&self) -> Result<Option<Arc<Batch>>, StoreError> {
        let mut progress = self.progress.lock().map_err(|_| panicked())?;
        while progress.go_on() {}
        progress.outcome()
    }
}

fn panicked() -> StoreError {
    StoreError::failed("make a checkpoint of the store", "its thread panicked")
}

impl Drop for Checkpoint {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // What it came to was told, or there is nobody left to tell.
            let _told = thread.join();
        }
    }
}

impl Progress {
    /// Takes the next step. Whether there is another one.
    fn go_on(&mut self) -> bool {
        let Some(step) = self.next.take() else { return false };
        match self.take(step) {
            Ok(next) => self.next = next,
            Err(failed) => self.failed = Some(failed),
        }
        self.next.is_some()
    }

    fn outcome(&mut self) -> Result<Option<Arc<Batch>>, StoreError> {
        match self.failed.take() {
            Some(failed) => Err(failed),
            None => Ok(self.next.is_none().then(|| Arc::clone(&self.kept))),
        }
    }

    fn take(&mut self, step: Step) -> Result<Option<Step>, StoreError> {
        let failed = |e| StoreError::failed("write a checkpoint of the store", e);
        let Work { disk, base, changes, through, segments, .. } = &self.work;
        Ok(match step {
            Step::Carry => {
                let kept = self.work.carried_on();
                carried::write(&**disk, *through, &kept).map_err(failed)?;
                self.kept = Arc::new(kept);
                Some(Step::Feed(vec![DOMAIN_TAG_FIRST]))
            }
            Step::Feed(from) => {
                Some(base.feed(&mut changes.range(from..))?.map_or(Step::Conclude, Step::Feed))
            }
            Step::Conclude => {
                base.conclude(*through)?;
                Some(Step::Remove)
            }
            Step::Remove => {
                carried::remove_others(&**disk, *through).map_err(failed)?;
                commit_log::remove(&**disk, segments).map_err(failed)?;
                None
            }
        })
    }
}

impl Work {
    /// The engine's rows that are left.
    fn carried_on(&self) -> Batch {
        let mut kept = Batch::clone(&self.carried);
        for (key, value) in self.changes.range(..vec![DOMAIN_TAG_FIRST]) {
            match value {
                Some(_) => drop(kept.insert(key.clone(), value.clone())),
                None => drop(kept.remove(key)),
            }
        }
        kept
    }
}

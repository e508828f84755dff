//! A checkpoint: what the commit log holds goes where it needs no log any more, in a thread of its own.
//!
//! In this order, and each step durable before the next: the engine's rows into a file of their own ([`super::carried`]),
//! the domain's into the base, the word of the base that all of it is there; then the segments go, and the file of the
//! checkpoint before. Wherever this is cut short, the log still holds all of it, and putting it in once more changes
//! nothing: rows say what is, not what was done.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread::{self, JoinHandle};

use super::base::Base;
use super::{Batch, DOMAIN_TAG_FIRST, StoreError, carried, commit_log};

/// What is to be put where it belongs.
pub struct Work {
    /// The directory of the store.
    pub dir: PathBuf,
    /// Where the domain's rows go.
    pub base: Base,
    /// The engine's rows, as the checkpoint before left them.
    pub carried: Arc<Batch>,
    /// Everything that changed since.
    pub changes: Arc<Batch>,
    /// The number of the record that the changes go up to.
    pub through: u64,
    /// The segments that hold the changes.
    pub segments: Vec<u64>,
}

/// A checkpoint under way. When it is dropped, it ends as early as it can, and has ended.
pub struct Checkpoint {
    /// What changed since the checkpoint before: hides what is below until this has ended.
    pub changes: Arc<Batch>,
    done: Receiver<Result<Option<Batch>, StoreError>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpoint {
    /// Begins it.
    ///
    /// # Errors
    /// There can be no thread for it.
    pub fn begin(work: Work) -> Result<Self, StoreError> {
        let (tell, done) = mpsc::sync_channel(1);
        let stop = Arc::new(AtomicBool::new(false));
        let (changes, asked) = (Arc::clone(&work.changes), Arc::clone(&stop));
        let run = move || {
            // Whoever waited for it may be gone.
            let _gone = tell.send(work.run(|| !asked.load(Ordering::Relaxed)));
        };
        let thread = thread::Builder::new().name("checkpoint".to_owned()).spawn(run);
        let thread = Some(thread.map_err(|e| StoreError::failed("start a checkpoint of the store", e))?);
        Ok(Self { changes, done, stop, thread })
    }

    /// The engine's rows as it leaves them, if it has ended.
    ///
    /// # Errors
    /// It failed.
    pub fn ended(&self) -> Result<Option<Batch>, StoreError> {
        match self.done.try_recv() {
            Ok(ended) => ended,
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(panicked()),
        }
    }

    /// Waits until it has ended: the engine's rows as it leaves them.
    ///
    /// # Errors
    /// It failed.
    pub fn wait(&self) -> Result<Option<Batch>, StoreError> {
        self.done.recv().unwrap_or_else(|_| Err(panicked()))
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

impl Work {
    /// Nothing if it was stopped before its end.
    fn run(self, go_on: impl Fn() -> bool) -> Result<Option<Batch>, StoreError> {
        let failed = |e| StoreError::failed("write a checkpoint of the store", e);
        let mut kept = Batch::clone(&self.carried);
        for (key, value) in self.changes.range(..vec![DOMAIN_TAG_FIRST]) {
            match value {
                Some(_) => drop(kept.insert(key.clone(), value.clone())),
                None => drop(kept.remove(key)),
            }
        }
        carried::write(&self.dir, self.through, &kept).map_err(failed)?;
        if !self.base.feed(self.changes.range(vec![DOMAIN_TAG_FIRST]..), go_on)? {
            return Ok(None);
        }
        self.base.conclude(self.through)?;
        carried::remove_others(&self.dir, self.through).map_err(failed)?;
        commit_log::remove(&self.dir, &self.segments).map_err(failed)?;
        Ok(Some(kept))
    }
}

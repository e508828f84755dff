//! The syncs of an open log: one after the other, each for all who wait.
//!
//! Whoever runs [`Syncs`] does them, on a thread of its own where a sync holds a thread up. Handing one over and being told
//! of its end wakes two threads, which costs as much as half of the sync. So who has nobody to hold up does
//! it itself ([`SagaLog::durable_here`]).

use std::io;
use std::sync::Arc;

use super::super::disk::LogFile;
use super::open::Waiting;
use super::{LogEnded, Open, Position, SagaLog, Shared};

/// The syncs of a log: one for all who wait, then the next. However whoever runs them ends, the log ends with it:
/// otherwise nobody who waits would ever be answered.
#[derive(Debug)]
pub struct Syncs(pub(super) Arc<Shared>);

impl Drop for Syncs {
    fn drop(&mut self) {
        self.0.let_go();
    }
}

/// A sync that is under way.
#[derive(Debug)]
pub struct Syncing {
    file: Arc<dyn LogFile>,
    to: Position,
    bytes: u64,
}

impl Syncing {
    /// What is to be synced.
    pub fn file(&self) -> &Arc<dyn LogFile> {
        &self.file
    }
}

/// How many of those who wait for a sync get their turn before others are told: what they do next is on its way sooner,
/// and what they work with still in the processor's cache.
const BURST_WAITING_MAX: usize = 64;

/// Those who wait for what is durable now, to be told. What they do next is written, and says in front what is durable; if nothing
/// is, that is written behind them.
#[derive(Debug)]
pub struct Released {
    waiting: Vec<Waiting>,
    /// The log, and what is durable of it, unless it says so already.
    unstated: Option<(Arc<Shared>, Position)>,
}

impl Released {
    pub(super) fn of(waiting: Vec<Waiting>) -> Self {
        Self { waiting, unstated: None }
    }

    /// Tells them.
    pub fn tell(self) {
        self.waiting.into_iter().for_each(tell);
        if let Some((log, synced)) = self.unstated {
            log.state_if_idle(synced);
        }
    }

    /// Tells them in bursts. To be run on the thread that they run on: each that is woken from another one is a system
    /// call.
    pub async fn tell_in_bursts(self) {
        for (told, waiting) in self.waiting.into_iter().enumerate() {
            if told > 0 && told.is_multiple_of(BURST_WAITING_MAX) {
                tokio::task::yield_now().await;
            }
            tell(waiting);
        }
        if let Some((log, synced)) = self.unstated {
            tokio::task::yield_now().await;
            log.state_if_idle(synced);
        }
    }
}

fn tell((_, waiter): Waiting) {
    // Its future may have been dropped meanwhile.
    let _ = waiter.send(());
}

impl Syncs {
    /// Does them until the log has ended, on a thread that each holds up.
    pub async fn run(self, tell: impl Fn(Released)) {
        while self.wanted().await {
            if let Some(sync) = self.begin() {
                let synced = sync.file().sync_data();
                self.finish(sync, synced, &tell);
            }
        }
    }

    /// Waits until somebody waits for a sync; false once the log has ended.
    pub async fn wanted(&self) -> bool {
        loop {
            {
                let open = self.0.lock();
                if open.lock.is_none() {
                    return false;
                }
                if open.wanted > open.durable && !open.syncing {
                    return true;
                }
            }
            self.0.sync_wanted.notified().await;
        }
    }

    /// Begins a sync of everything that is written; `None` if one is under way, or the log has ended.
    pub fn begin(&self) -> Option<Syncing> {
        self.0.begin_sync(&mut self.0.lock())
    }

    /// Has those told who waited for a sync that is done, and goes on in a new segment if this one has grown large. A sync
    /// that failed ends the log.
    pub fn finish(&self, sync: Syncing, synced: io::Result<()>, tell: impl Fn(Released)) {
        self.0.finish_sync(sync, synced, tell);
    }
}

impl SagaLog {
    /// Waits until everything up to `position` is durable, as [`SagaLog::durable`] does, for who holds up nobody but itself: if
    /// nobody else wants a sync, it is done on this thread, which can do nothing else meanwhile.
    ///
    /// # Errors
    /// The log has ended.
    pub async fn durable_here(&self, position: Position) -> Result<(), LogEnded> {
        if let Some(sync) = self.shared.begin_alone(position)? {
            let synced = sync.file().sync_data();
            self.shared.0.finish_sync(sync, synced, Released::tell);
        }
        // It is, unless somebody else wants a sync; and it says why if the log has ended.
        self.durable(position).await
    }
}

impl Shared {
    /// Writes what is appended and begins a sync of it, unless that is durable or somebody else wants a sync.
    fn begin_alone(&self, position: Position) -> Result<Option<Syncing>, LogEnded> {
        let mut open = self.lock();
        if open.durable >= position || open.asking || open.wanted > open.durable {
            return Ok(None);
        }
        self.want(&mut open)?;
        Ok(self.begin_sync(&mut open))
    }

    fn begin_sync(&self, open: &mut Open) -> Option<Syncing> {
        if open.lock.is_none() || open.syncing {
            return None;
        }
        open.syncing = true;
        let bytes = open.segment.bytes - open.unwritten.len() as u64;
        Some(Syncing { file: Arc::clone(&open.segment.file), to: open.written, bytes })
    }

    fn finish_sync(self: &Arc<Self>, sync: Syncing, synced: io::Result<()>, tell: impl Fn(Released)) {
        self.conclude(sync, synced, tell);
        // Not before: a sync of this segment must not end in the next one.
        let mut open = self.lock();
        open.syncing = false;
        if open.wanted > open.durable {
            self.sync_wanted.notify_one();
        }
    }

    fn conclude(self: &Arc<Self>, sync: Syncing, synced: io::Result<()>, tell: impl Fn(Released)) {
        let mut open = self.lock();
        if open.lock.is_none() {
            return;
        }
        if let Err(e) = synced {
            self.fail(&mut open, &format!("sync failed: {e}"));
            return;
        }
        open.durable_bytes = sync.bytes;
        let mut released = open.durable_to(sync.to);
        let is_large = sync.bytes > open.segment_bytes_max;
        drop(open);
        if is_large {
            tell(released);
            self.rotate(&mut self.lock(), tell);
        } else {
            released.unstated = Some((Arc::clone(self), sync.to));
            tell(released);
        }
    }
}

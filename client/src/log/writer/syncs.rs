//! The syncs of an open log: one for all who wait, then the next.

use std::io;
use std::sync::Arc;

use super::super::disk::LogFile;
use super::{Position, Shared, Waiting};

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

/// Those who wait for what is durable now.
#[derive(Debug)]
pub struct Released(pub(super) Vec<Waiting>);

impl Released {
    /// Tells them.
    pub fn tell(self) {
        self.0.into_iter().for_each(tell);
    }

    /// Tells them in bursts. To be run on the thread that they run on: each that is woken from another one is a system
    /// call.
    pub async fn tell_in_bursts(self) {
        for (told, waiting) in self.0.into_iter().enumerate() {
            if told > 0 && told.is_multiple_of(BURST_WAITING_MAX) {
                tokio::task::yield_now().await;
            }
            tell(waiting);
        }
    }
}

fn tell((_, waiter): Waiting) {
    // Its future may have been dropped meanwhile.
    let _ = waiter.send(());
}

impl Syncs {
    /// Waits until somebody waits for a sync; false once the log has ended.
    pub async fn wanted(&self) -> bool {
        loop {
            {
                let open = self.0.lock();
                if open.lock.is_none() {
                    return false;
                }
                if open.wanted > open.durable {
                    return true;
                }
            }
            self.0.sync_wanted.notified().await;
        }
    }

    /// Begins a sync of everything that is written; `None` if the log has ended.
    pub fn begin(&self) -> Option<Syncing> {
        let open = self.0.lock();
        open.lock.as_ref()?;
        let bytes = open.segment.bytes - open.unwritten.len() as u64;
        Some(Syncing { file: Arc::clone(&open.segment.file), to: open.written, bytes })
    }

    /// Has those told who waited for a sync that is done, and goes on in a new segment if this one has grown large. A sync
    /// that failed ends the log.
    pub fn finish(&self, sync: Syncing, synced: io::Result<()>, tell: impl Fn(Released)) {
        let mut open = self.0.lock();
        if open.lock.is_none() {
            return;
        }
        if let Err(e) = synced {
            self.0.end(&mut open, &format!("sync failed: {e}"));
            return;
        }
        open.durable_bytes = sync.bytes;
        let synced = sync.to;
        let released = open.durable_to(synced);
        let is_large = sync.bytes > open.segment_bytes_max;
        drop(open);
        tell(released);
        if is_large {
            self.0.rotate(&mut self.0.lock(), tell);
        } else {
            self.0.state_if_idle(synced);
        }
    }
}

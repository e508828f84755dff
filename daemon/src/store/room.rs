//! How much of its disk a store may take, and what merges may take of that.
//!
//! A merge writes as much as it reads before anything of that goes, and nobody has to have it now. So it takes nothing of the
//! reserve, which is there for what can't be refused: it is begun only where all that it will write fits beside the reserve, and is
//! given up when what is left of it does so no longer. Without merges there are more runs to look through, and nothing else is lost.

use std::io;
use std::sync::{Arc, OnceLock, PoisonError};

use tracing::{info, warn};

use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard};

/// What must be free beside the reserve and all that a merge has still to write, for it to go on: eight segments of sled's log.
/// Half of them checkpoints may begin meanwhile; the others are for removing what was merged, or what was merged in vain.
pub const MARGIN_BYTES: u64 = 4 * 1024 * 1024;

/// One look at the disk that a store is on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    /// What this process may still write, in bytes.
    pub free_bytes: u64,
    /// How much of it is kept back, in bytes, for what can't be refused.
    pub reserve_bytes: u64,
}

impl Room {
    /// Whether less than the reserve is free.
    pub fn is_low(&self) -> bool {
        self.free_bytes < self.reserve_bytes
    }

    /// What is free beside the reserve, in bytes.
    pub fn spare_bytes(&self) -> u64 {
        self.free_bytes.saturating_sub(self.reserve_bytes)
    }
}

/// Looks at the disk. It fails if that can't be seen.
pub type Look = Arc<dyn Fn() -> io::Result<Room> + Send + Sync>;

/// How much disk so many values of runs take, in bytes, if each is so long. sled writes segments anew of which more than half is out
/// of date: its file was measured to be 2.4 times as long as what is in it, and to grow by 1.1 to 2.4 times what a merge writes.
pub fn taken_by(values: u64, block_bytes: usize) -> u64 {
    values.saturating_mul(block_bytes as u64).saturating_mul(5) / 2
}

/// Says what is kept back, and what merges may write.
#[derive(Default)]
pub struct Allowance {
    /// Where nobody looks there is always room.
    look: OnceLock<Look>,
    /// How long the file is of what the last checkpoint carried over.
    carried_bytes: AtomicU64,
    stop: Mutex<Option<Stop>>,
    /// Whether it was last said that there is too little.
    is_short: AtomicBool,
}

/// Merges have ended for want of room, and begin no sooner than another checkpoint has ended: so none is begun and given up over
/// and over, and somebody had time to make room.
#[derive(Clone, Copy)]
struct Stop {
    /// Up to which record everything was in the runs when they ended.
    through: u64,
    /// Whether nothing may be removed either.
    is_full: bool,
}

impl Allowance {
    /// Looks at the disk in this way from now on. Who says so first is heard.
    pub fn watch(&self, look: Look) {
        let _heard = self.look.set(look);
    }

    /// A checkpoint has carried over so much, and the next one will write it anew beside that.
    pub fn carries(&self, bytes: u64) {
        self.carried_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Looks at the disk. What the next checkpoint carries over is kept back as well.
    ///
    /// # Errors
    /// The disk can't be seen.
    pub fn look(&self) -> io::Result<Room> {
        let Some(look) = self.look.get() else { return Ok(Room { free_bytes: u64::MAX, reserve_bytes: 0 }) };
        let (room, carried) = (look()?, self.carried_bytes.load(Ordering::Relaxed));
        Ok(Room { reserve_bytes: room.reserve_bytes.saturating_add(carried), ..room })
    }

    /// How many bytes a merge may take that is begun while everything up to record `through` is in the runs. It can then go
    /// on even if somebody takes another margin of the disk.
    pub fn bytes_to_begin(&self, through: u64) -> Option<u64> {
        if self.is_stopped(through, |_| true) {
            None
        } else {
            self.bytes_to_go_on()?.checked_sub(MARGIN_BYTES)
        }
    }

    /// How many bytes more one may take that goes on: none if it must not.
    pub fn bytes_to_go_on(&self) -> Option<u64> {
        self.room().spare_bytes().checked_sub(MARGIN_BYTES)
    }

    /// Whether blocks that are in no run any more may be removed. That gives room to whatever is written next, but must be
    /// written down itself: it may take of the reserve, and not the last of it.
    pub fn may_remove(&self, through: u64) -> bool {
        !self.is_stopped(through, |stop| stop.is_full) && self.room().free_bytes >= MARGIN_BYTES
    }

    /// A merge was given up for want of room, while everything up to record `through` was in the runs.
    pub fn given_up(&self, through: u64) {
        *self.stop() = Some(Stop { through, is_full: false });
        self.note(true);
    }

    /// There was no space left to write or remove anything.
    pub fn full(&self, through: u64) {
        *self.stop() = Some(Stop { through, is_full: true });
        self.is_short.store(true, Ordering::Relaxed);
    }

    /// Notes whether there are runs to be merged that do not fit, and tells people when that changes.
    pub fn note(&self, is_short: bool) {
        match (self.is_short.swap(is_short, Ordering::Relaxed), is_short) {
            (false, true) => {
                warn!(
                    "too little disk space to merge runs of rows: they wait, and reads look through more of them"
                );
            }
            (true, false) => info!("there is enough disk space to merge runs of rows again"),
            _ => {}
        }
    }

    /// Whether runs wait for room.
    pub fn is_short(&self) -> bool {
        self.is_short.load(Ordering::Relaxed)
    }

    /// What is free. A disk that can't be looked at is taken for full.
    fn room(&self) -> Room {
        self.look().unwrap_or(Room { free_bytes: 0, reserve_bytes: 0 })
    }

    fn is_stopped(&self, through: u64, which: impl FnOnce(&Stop) -> bool) -> bool {
        self.stop().as_ref().is_some_and(|stop| stop.through == through && which(stop))
    }

    fn stop(&self) -> MutexGuard<'_, Option<Stop>> {
        self.stop.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! Whether anything was written in slots since somebody looked, as far as their files' lengths and times tell.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::log::{Slot, wall_ms};

/// How much later a file may be written once more without its time telling: the kernel takes times from its clock's ticks,
/// which are 10 ms apart at most.
const SAME_TIME_MS: u64 = 100;

/// How slots' files were when somebody looked: as long as they stay so, nothing in them needs to be read again. A length
/// alone says little, since files have their space before they have anything in it.
#[derive(Default, Debug)]
pub struct FileStates {
    /// Lengths, and the seconds and nanoseconds of the last write.
    files: HashMap<PathBuf, (u64, i64, i64)>,
    /// Whether one had been written just then.
    just_written: bool,
}

impl FileStates {
    /// How a slot's files are. Of what can't be seen nothing is noted; why it can't is said when the log is read.
    pub fn of(slot: &Slot) -> Self {
        let mut states = Self::default();
        states.add(slot);
        states
    }

    /// Looks at one more slot.
    pub fn add(&mut self, slot: &Slot) {
        for file in std::fs::read_dir(slot.path()).into_iter().flatten().flatten() {
            let Ok(state) = file.metadata() else { continue };
            let written_ms =
                (state.mtime() as u64).saturating_mul(1000) + state.mtime_nsec() as u64 / 1_000_000;
            // A time of the future, from before a clock was set back, says nothing.
            self.just_written |= wall_ms().saturating_sub(written_ms) < SAME_TIME_MS;
            self.files.insert(file.path(), (state.len(), state.mtime(), state.mtime_nsec()));
        }
    }

    /// Whether nothing has been written since, as somebody sees it who looks `now`.
    pub fn are_still(&self, now: &Self) -> bool {
        !self.just_written && self.files == now.files
    }
}

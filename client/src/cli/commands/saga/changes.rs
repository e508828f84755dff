//! Follows slots of the journal: a slot is read again only if something was written in it, as far as its files' lengths and
//! times tell, and then no more of it than its newest segments.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::log::history::{self, Newest};
use crate::log::{JournalError, Slot, wall_ms};

/// How much later a file may be written once more without its time telling: the kernel takes times from its clock's ticks,
/// which are 10 ms apart at most.
const SAME_TIME_MS: u64 = 100;

/// A slot that is followed, as it was when it was read last.
#[derive(Debug)]
pub struct Followed {
    files: Option<FileStates>,
    /// What is older has been read.
    from: u64,
}

impl Followed {
    /// A slot of which nothing has been read. Segments before the head are read from this number on.
    pub fn from(segment: u64) -> Self {
        Self { files: None, from: segment }
    }

    /// What the newest segments tell: the head that was read last, and those after it. Nothing if they are as they were.
    ///
    /// # Errors
    /// The slot can't be read. It will be tried again.
    pub fn read(&mut self, slot: &Slot) -> Result<Option<Newest>, JournalError> {
        // Taken first: what is written while the slot is read makes it be read again.
        let files = FileStates::of(slot);
        if self.files.as_ref().is_some_and(|before| before.are_still(&files)) {
            return Ok(None);
        }
        let newest = history::newest_in(slot, self.from)?;
        (self.files, self.from) = (Some(files), newest.head);
        Ok(Some(newest))
    }
}

/// How a slot's files were when somebody looked: as long as they stay so, nothing in them needs to be read again. A length
/// alone says little, since files have their space before they have anything in it.
#[derive(Default, Debug)]
struct FileStates {
    /// Lengths, and the seconds and nanoseconds of the last write.
    files: HashMap<PathBuf, (u64, i64, i64)>,
    /// Whether one had been written just then.
    just_written: bool,
}

impl FileStates {
    /// How a slot's files are. Of what can't be seen nothing is noted; why it can't is said when the log is read.
    fn of(slot: &Slot) -> Self {
        let mut states = Self::default();
        for file in std::fs::read_dir(slot.path()).into_iter().flatten().flatten() {
            let Ok(state) = file.metadata() else { continue };
            let written_ms =
                (state.mtime() as u64).saturating_mul(1000) + state.mtime_nsec() as u64 / 1_000_000;
            // A time of the future, from before a clock was set back, says nothing.
            states.just_written |= wall_ms().saturating_sub(written_ms) < SAME_TIME_MS;
            states.files.insert(file.path(), (state.len(), state.mtime(), state.mtime_nsec()));
        }
        states
    }

    /// Whether nothing has been written since, as somebody sees it who looks `now`.
    fn are_still(&self, now: &Self) -> bool {
        !self.just_written && self.files == now.files
    }
}

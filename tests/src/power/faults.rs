//! What may go wrong with the disk of one process: faults that the program `like-recorded` meets, and the environment in
//! which it is started.
//!
//! Only that program listens to this: it holds all programs, as `like-multicall` does, and stands between them and
//! the C library's calls that change files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// The directory whose files are meant; nothing else is recorded or disturbed.
pub const UNDER: &str = "LIKE_DISK";
/// The file to whose end everything is recorded.
pub const RECORD: &str = "LIKE_DISK_RECORD";
/// Who the process is, in the record; what it writes to standard output and error is then recorded as told.
pub const WHO: &str = "LIKE_DISK_WHO";
/// The fault, as [`DiskFault`] is spelled.
pub const FAULT: &str = "LIKE_DISK_FAULT";
/// The file to whose end a fault that fires adds a byte.
pub const MARK: &str = "LIKE_DISK_MARK";
/// A file that is read instead of the kernel's boot id.
pub const BOOT_ID: &str = "LIKE_BOOT_ID";

/// What goes wrong with the files of one process below one directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskFault {
    /// The n-th sync, counted from 1, fails with EIO. Later ones succeed, as the kernel's do, and prove nothing.
    SyncFails(u64),
    /// So many bytes can be written; every write that would go beyond them fails with ENOSPC as a whole.
    Full(u64),
    /// So many bytes can be written; the write that goes beyond them is cut short there, later ones fail with ENOSPC.
    Short(u64),
    /// The process dies by SIGKILL instead of changing or syncing something for the n-th time, counted from 1.
    Dies(u64),
    /// The process stops by SIGSTOP before it changes or syncs something for the n-th time.
    Stops(u64),
}

impl DiskFault {
    /// As it is told to the process.
    pub fn spelled(self) -> String {
        match self {
            Self::SyncFails(nth) => format!("sync-fails {nth}"),
            Self::Full(bytes) => format!("full {bytes}"),
            Self::Short(bytes) => format!("short {bytes}"),
            Self::Dies(nth) => format!("dies {nth}"),
            Self::Stops(nth) => format!("stops {nth}"),
        }
    }

    /// The fault that is spelled so.
    pub fn of(spelled: &str) -> Option<Self> {
        let (kind, number) = spelled.split_once(' ')?;
        let number = number.parse().ok()?;
        Some(match kind {
            "sync-fails" => Self::SyncFails(number),
            "full" => Self::Full(number),
            "short" => Self::Short(number),
            "dies" => Self::Dies(number),
            "stops" => Self::Stops(number),
            _ => return None,
        })
    }
}

/// A fault armed in one process.
#[derive(Debug)]
pub struct ArmedDisk {
    mark: PathBuf,
}

impl ArmedDisk {
    /// Arms a fault in the environment of a command of `like-recorded` that is about to be started: it will happen to
    /// files below `under`. Its mark is left in `marks`, which must lie elsewhere.
    pub fn arm(command: &mut Command, under: &Path, marks: &Path, fault: DiskFault) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mark = marks.join(format!("disk-mark-{}-{number}", std::process::id()));
        command.env(UNDER, under).env(FAULT, fault.spelled()).env(MARK, &mark);
        Self { mark }
    }

    /// How often the fault has happened.
    pub fn fired(&self) -> u64 {
        fs::metadata(&self.mark).map_or(0, |mark| mark.len())
    }
}

/// Has everything recorded that a command of `like-recorded`, about to be started, does to files below `under`.
pub fn record(command: &mut Command, under: &Path, record: &Path, who: &str) {
    command.env(UNDER, under).env(RECORD, record).env(WHO, who);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_understood_as_they_are_spelled() {
        use DiskFault as F;
        for fault in [F::SyncFails(1), F::Full(2), F::Short(3), F::Dies(4), F::Stops(5)] {
            assert_eq!(DiskFault::of(&fault.spelled()), Some(fault));
        }
        assert_eq!(DiskFault::of("explodes 7"), None);
    }
}

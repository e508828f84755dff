//! How much disk is left for a store, and how little is too little.
//!
//! A write that fails for want of space ends the daemon, and then nothing can be undone either. So a part of the disk
//! is kept back: below it nothing new is begun and nothing merged, while compensations and settlements go on. They go into the
//! commit log, which is allotted ahead and must be put into a checkpoint now and then; and a daemon that ends must be able to
//! start. The reserve is for all of these.

use std::fs::File;
use std::sync::Arc;

pub use crate::store::room::{Look as Space, Room};

/// What is kept back for undoing and settling what has begun: room for some ten thousand compensations, a row or two of the
/// domain's each, in checkpoints and out of them.
const SAGAS_BYTES: u64 = 64 * 1024 * 1024;

/// No more than this part of the disk is kept back for them.
const SAGAS_PART: u64 = 8;

/// So many times the bytes that make a checkpoint are kept back for it: the log that it is made of and the one that goes on
/// meanwhile; and what it writes, which takes up to two and a half times as much in sled, or once in a file. (What it carries over from
/// the checkpoint before, the store adds: [`crate::store::room`].)
const CHECKPOINT_LOGS: u64 = 5;

/// What a start writes before there is a checkpoint: a copy of the end of sled's log and of its snapshot, another snapshot, a
/// segment of the commit log. Less than two MiB were measured for a store of 600 MB; most of it are a few of sled's segments.
const START_BYTES: u64 = 8 * 1024 * 1024;

/// No more than this part of the disk is kept back for a checkpoint and a start.
const CHECKPOINT_PART: u64 = 4;

/// So many files more must have their place where a file system has only so many (inodes): a segment of the log, a checkpoint and
/// sled's snapshots are new files, and the old ones go when those are there.
const FILES: u64 = 64;

/// No more than this part of all files is kept back.
const FILES_PART: u64 = 8;

/// How much is kept back on a disk of that size for a store that makes a checkpoint whenever its log has so many bytes.
pub fn reserve_bytes(total_bytes: u64, log_bytes_max: u64) -> u64 {
    let checkpoint = log_bytes_max.saturating_mul(CHECKPOINT_LOGS).saturating_add(START_BYTES);
    SAGAS_BYTES.min(total_bytes / SAGAS_PART) + checkpoint.min(total_bytes / CHECKPOINT_PART)
}

/// Looks at the file system that a directory is on, for a store there that makes a checkpoint whenever its log has so many bytes.
pub fn of(directory: File, log_bytes_max: u64) -> Space {
    Arc::new(move || {
        let stat = rustix::fs::fstatvfs(&directory)?;
        let total_bytes = stat.f_blocks.saturating_mul(stat.f_frsize);
        let has_files = has_files(stat.f_favail, stat.f_files);
        Ok(Room {
            free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
            // No space is of use for what needs a file.
            reserve_bytes: if has_files { reserve_bytes(total_bytes, log_bytes_max) } else { u64::MAX },
        })
    })
}

/// Whether more files have their place than are kept back. Where there are none in all, they are a matter of space alone.
fn has_files(free: u64, all: u64) -> bool {
    free >= FILES.min(all / FILES_PART)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::logged_store::LOG_BYTES_MAX;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn the_reserve_is_fixed_on_a_large_disk_and_a_part_of_a_small_one() {
        assert_eq!(reserve_bytes(1 << 40, LOG_BYTES_MAX), (64 + 5 * 32 + 8) * MIB);
        assert_eq!(reserve_bytes(80 * MIB, MIB), (10 + 5 + 8) * MIB);
        assert_eq!(reserve_bytes(16 * MIB, LOG_BYTES_MAX), (2 + 4) * MIB);
    }

    #[test]
    fn the_reserve_has_room_for_two_logs_and_a_checkpoint_and_a_start_however_large_the_log_grows() {
        for log_bytes_max in [1024, MIB, LOG_BYTES_MAX, 1024 * MIB] {
            let beside_sagas = reserve_bytes(1 << 40, log_bytes_max) - SAGAS_BYTES;
            assert!(beside_sagas >= 2 * log_bytes_max + 5 * log_bytes_max / 2 + START_BYTES);
        }
    }

    #[test]
    fn a_disk_without_files_is_as_good_as_full() {
        assert!(has_files(64, 1 << 20) && !has_files(63, 1 << 20));
        assert!(has_files(100, 800) && has_files(12, 100) && !has_files(11, 100), "of a small one, a part");
        assert!(has_files(0, 0), "files are not counted there");
    }

    #[test]
    fn a_real_file_system_shows_its_size_whatever_the_directory_is_called() {
        let temp = tempfile::tempdir().unwrap();
        let [path, moved] = ["data", "moved"].map(|name| temp.path().join(name));
        std::fs::create_dir(&path).unwrap();
        let look = of(File::open(&path).unwrap(), MIB);
        std::fs::rename(path, moved).unwrap();
        let room = look().unwrap();
        assert!(room.reserve_bytes > 0 && room.free_bytes > 0);
    }

    #[test]
    fn space_is_low_below_the_reserve_and_what_is_above_it_can_be_spared() {
        let room = |free_bytes| Room { free_bytes, reserve_bytes: 10 };
        assert!(room(9).is_low() && !room(10).is_low());
        assert_eq!([9, 10, 12].map(|free| room(free).spare_bytes()), [0, 0, 2]);
    }
}

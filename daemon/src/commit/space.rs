//! How much disk is left for a store, and how little is too little.
//!
//! A write that fails for want of space ends the daemon, and then nothing can be undone either. So a part of the disk
//! is kept back: below it nothing new is begun, while compensations and settlements go on, which is what frees space.

use std::io;
use std::path::PathBuf;

/// The reserve on a file system of ordinary size: some ten thousand compensations, as sled writes them.
pub const RESERVE_BYTES: u64 = 64 * 1024 * 1024;

/// The reserve on a small file system is this part of it.
pub const RESERVE_PART: u64 = 8;

/// One look at a file system.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    /// What this process may still write, in bytes.
    pub free_bytes: u64,
    /// The size of the whole.
    pub total_bytes: u64,
}

impl Room {
    /// Whether less than the reserve is free.
    pub fn is_low(&self) -> bool {
        self.free_bytes < RESERVE_BYTES.min(self.total_bytes / RESERVE_PART)
    }
}

/// Where to look. Tests look at something else.
pub type Space = Box<dyn Fn() -> io::Result<Room> + Send>;

/// Looks at the file system that `path` is on.
pub fn of(path: PathBuf) -> Space {
    Box::new(move || {
        let stat = rustix::fs::statvfs(&path)?;
        Ok(Room {
            free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
            total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_fixed_on_a_large_disk_and_a_part_of_a_small_one() {
        let room = |free_bytes, total_bytes| Room { free_bytes, total_bytes };
        assert!(room(RESERVE_BYTES - 1, 1 << 40).is_low());
        assert!(!room(RESERVE_BYTES, 1 << 40).is_low());
        assert!(room((1 << 21) - 1, 1 << 24).is_low());
        assert!(!room(1 << 21, 1 << 24).is_low());
    }

    #[test]
    fn a_real_file_system_shows_its_size() {
        let room = of(std::env::temp_dir())().unwrap();
        assert!(room.total_bytes > 0 && room.free_bytes <= room.total_bytes);
    }
}

//! A place for files that need not outlive the machine.

use std::path::Path;

use tempfile::TempDir;

/// What must be free there: daemons refuse work on a disk that is nearly full.
const ROOM_BYTES: u64 = 2 << 30;

/// A directory that costs nothing to sync, if the machine has one with room: for whoever kills processes, or plays a
/// power loss from a record. A process that is killed leaves there just what it would leave on a disk.
///
/// # Panics
/// No directory can be made.
pub fn quick_directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    let has_room = rustix::fs::statvfs(memory)
        .is_ok_and(|room| room.f_bavail.saturating_mul(room.f_frsize) >= ROOM_BYTES);
    let quick = if has_room { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    quick.or_else(|_| tempfile::tempdir()).expect("a directory")
}

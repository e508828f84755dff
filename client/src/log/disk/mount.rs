//! The mount that a path is in: what the kernel calls its file system elsewhere, and whether that can be written.

use std::fs;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

/// The number of a file system's device: major, minor.
pub(in crate::log) type Device = (u32, u32);

/// What says, among the options of a file system itself, that nobody may write to it: that it was mounted so, that it has met
/// an error, or that it was shut down.
const READ_ONLY: [&str; 3] = ["ro", "emergency_ro", "shutdown"];

/// A mount that this process sees, as proc_pid_mountinfo(5) shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::log) struct Mount {
    /// The device by which the kernel's tables name the file system. What stat(2) says of a file may be another one: each
    /// subvolume of btrfs has its own.
    pub device: Device,
    /// Whether the file system may not be written by anybody. A mount alone that is read-only says nothing of what others may
    /// do: who only reads may have been given such a view.
    pub is_read_only: bool,
}

/// The mount that a path is in; nothing if that is none of this process, or the kernel (before 5.8) doesn't tell.
pub(in crate::log) fn of(path: &Path) -> Option<Mount> {
    let stat = statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID).ok()?;
    if stat.stx_mask & StatxFlags::MNT_ID.bits() == 0 {
        return None;
    }
    mount(&fs::read_to_string("/proc/self/mountinfo").ok()?, stat.stx_mnt_id)
}

/// The mount with this id, among the mounts of a process.
fn mount(mounts: &str, id: u64) -> Option<Mount> {
    let id = id.to_string();
    let line = mounts.lines().find(|line| line.split(' ').next() == Some(&id))?;
    let (major, minor) = line.split(' ').nth(2)?.split_once(':')?;
    let of_the_file_system = line.rsplit(' ').next()?;
    Some(Mount {
        device: (major.parse().ok()?, minor.parse().ok()?),
        is_read_only: of_the_file_system.split(',').any(|option| READ_ONLY.contains(&option)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_is_read_only_if_it_is_so_for_everybody() {
        let mounts = "36 35 254:0 / / ro,relatime shared:1 - ext4 /dev/vda rw,errors=remount-ro\n\
                      37 36 0:20 /sub /mnt rw,nosuid - tmpfs tmpfs ro,size=4k\n\
                      38 36 7:0 / /srv rw,relatime - ext4 /dev/loop0 rw,errors=remount-ro,emergency_ro\n\
                      39 36 7:1 / /opt rw,relatime - ext4 /dev/loop1 rw,shutdown\n";
        let of = |id| mount(mounts, id).map(|mount| (mount.device, mount.is_read_only));
        assert_eq!(of(36), Some(((254, 0), false)), "only seen so");
        assert_eq!(of(37), Some(((0, 20), true)));
        assert_eq!(of(38), Some(((7, 0), true)), "it has met an error");
        assert_eq!(of(39), Some(((7, 1), true)), "it was shut down");
        assert_eq!((of(3), of(40)), (None, None), "not known");
    }

    #[test]
    fn a_file_system_that_can_be_written_is_not_read_only() {
        let directory = tempfile::tempdir().unwrap();
        assert!(of(directory.path()).is_none_or(|mount| !mount.is_read_only));
    }
}

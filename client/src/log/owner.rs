//! Who owns a slot right now: for people who want to know what they are waiting for.

use std::fmt;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{major, minor};

use super::disk::mount::{self, Device};
use super::slot::Slot;

/// How often the lock table is looked through. The kernel hands it out a page at a time, so a line may be missed while
/// others lock and unlock.
const LOOKS_MAX: u32 = 10;

/// How much of a command line is of use to people.
const COMMAND_CHARS_MAX: usize = 200;

/// The process that holds a slot's lock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Owner {
    /// Its process id, as this process sees it.
    pub pid: u32,
    /// How its command line begins; empty if that can't be seen.
    pub command: String,
    /// Whether it is stopped (SIGSTOP, a debugger): it keeps its slot and does nothing.
    pub stopped: bool,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let command = if self.command.is_empty() { "command unknown" } else { &self.command };
        let stopped = if self.stopped { ", which is stopped" } else { "" };
        write!(f, "pid {} ({command}){stopped}", self.pid)
    }
}

/// The owner of a slot as the kernel's lock table shows it; `None` if nobody is shown to hold it.
///
/// It may have changed by the time the caller looks at it, and a sandbox may hide it: nothing is decided by it.
pub fn owner_of(slot: &Slot) -> Option<Owner> {
    slot.disk().owner(slot.path())
}

/// As [`owner_of`], for a directory of this host.
pub(super) fn holder_of(directory: &Path) -> Option<Owner> {
    let seen = fs::metadata(directory).ok()?;
    let seen_device = (major(seen.dev()), minor(seen.dev()));
    let device = mount::of(directory).map_or(seen_device, |mount| mount.device);
    let look = |_| {
        let locks = fs::read_to_string("/proc/locks").ok()?;
        holders(&locks, device, seen.ino()).find(|pid| device == seen_device || may_have_open(*pid, &seen))
    };
    let pid = (0..LOOKS_MAX).find_map(look)?;
    Some(Owner { pid, command: command_of(pid), stopped: is_stopped(pid) })
}

/// The pids that hold a `flock` on an inode of a device, from the text of `/proc/locks`. Waiters' lines have an arrow.
fn holders(locks: &str, (major, minor): Device, inode: u64) -> impl Iterator<Item = u32> {
    let place = format!("{major:02x}:{minor:02x}:{inode}");
    locks.lines().filter_map(move |line| {
        let mut words = line.split_whitespace().skip(1);
        let is_flock = words.next() == Some("FLOCK");
        let pid = words.nth(2)?.parse().ok()?;
        (is_flock && words.next()? == place).then_some(pid)
    })
}

/// Whether a process has a file open, or doesn't let us see that. The subvolumes of a btrfs have one device in the table of locks,
/// and the same numbers for their inodes.
fn may_have_open(pid: u32, file: &Metadata) -> bool {
    let Ok(open) = fs::read_dir(format!("/proc/{pid}/fd")) else { return true };
    let is_it = |open: Metadata| (open.dev(), open.ino()) == (file.dev(), file.ino());
    open.flatten().any(|entry| fs::metadata(entry.path()).is_ok_and(is_it))
}

fn command_of(pid: u32) -> String {
    command_line(&fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default())
}

/// The words as one line. A process calls itself what it likes: control characters of that are not passed on.
fn command_line(raw: &[u8]) -> String {
    let words: Vec<_> = raw.split(|byte| *byte == 0).filter(|word| !word.is_empty()).collect();
    let command = words.iter().map(|word| String::from_utf8_lossy(word)).collect::<Vec<_>>().join(" ");
    let shown = command.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c });
    shown.take(COMMAND_CHARS_MAX).collect()
}

fn is_stopped(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next());
    matches!(state, Some("T" | "t"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_one_line_whatever_its_process_calls_itself() {
        assert_eq!(command_line(b"likectl\0recover\0--watch\0"), "likectl recover --watch");
        assert_eq!(command_line(b"sh\0-c\0true\n\x1b[2Jfalse\0\0"), "sh -c true\u{fffd}\u{fffd}[2Jfalse");
    }

    #[test]
    fn the_holder_is_told_from_waiters_and_other_locks() {
        let locks = "1: POSIX  ADVISORY  WRITE 11 fe:00:700 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 12 fe:00:701 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 13 fe:00:700 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 15 00:2f:700 0 EOF\n\
                     4: FLOCK  ADVISORY  WRITE 14 fe:00:700 0 EOF\n";
        let first = |device, inode| holders(locks, device, inode).next();
        assert_eq!(first((254, 0), 700), Some(14));
        assert_eq!(first((254, 0), 701), Some(12));
        assert_eq!(first((254, 0), 702), None);
        assert_eq!(first((0, 47), 700), Some(15), "numbers of inodes are those of one file system");
    }

    #[test]
    fn who_does_not_have_it_open_does_not_hold_it() {
        let [ours, anothers] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let _open = fs::File::open(ours.path()).unwrap();
        let may_have =
            |directory: &Path| may_have_open(std::process::id(), &fs::metadata(directory).unwrap());
        assert!(may_have(ours.path()) && !may_have(anothers.path()));
        assert!(may_have_open(u32::MAX, &fs::metadata(ours.path()).unwrap()), "that can't be seen");
    }
}

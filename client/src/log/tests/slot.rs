//! Whose a slot is: in this process, between processes, and when one is killed.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::{Arc, Barrier, Mutex};

use rustix::process::{Pid, Signal, kill_process};

use super::cut_disk::CutDisk;
use super::*;
use crate::log::disk::{Disk, RealDisk};
use crate::log::owner::owner_of;
use crate::log::record::{FORMAT_VERSION, HEADER_BYTES};
use crate::log::slot::sync_names_above;
use crate::log::{JournalError, Slot};

/// Tells a child process what it is to do.
const CHILD_DOES: &str = "SLOT_TEST_CHILD_DOES";

/// What children do. As a test of its own it does nothing.
#[test]
fn child() {
    let Ok(what) = std::env::var(CHILD_DOES) else { return };
    let path = std::env::var(CHILD_JOURNAL).unwrap();
    let path = Path::new(&path);
    match what.as_str() {
        "hold" => {
            let lock = Journal::open(path).unwrap().claim_free().unwrap();
            println!("\nheld {}", lock.slot().number());
            loop {
                std::thread::park();
            }
        }
        "take under a strict umask" => {
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
            take(path);
        }
        "claim without permission" => {
            let journal = Journal::open(path).unwrap();
            let slots = journal.slots().unwrap();
            let denied = journal.claim(&slots[0]).unwrap_err();
            assert!(denied.is_permission() && denied.to_string().contains("/0:"), "{denied}");
            assert_eq!(journal.claim_free().unwrap().slot().number(), 1);
        }
        other => panic!("{other}?"),
    }
}

fn child_that(does: &str, journal: &Path) -> Command {
    let mut command = super::child("log::tests::slot::child", journal);
    command.env(CHILD_DOES, does);
    command
}

/// A child that holds the first free slot; killed when dropped.
struct Holder(Child);

impl Holder {
    fn of(journal: &Path) -> Self {
        let mut child = spawn(&mut child_that("hold", journal)).unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let held = out.lines().map(Result::unwrap).any(|line| line.starts_with("held"));
        assert!(held, "the child has not taken a slot");
        Self(child)
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn journal() -> (tempfile::TempDir, Journal) {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(&dir.path().join("journal")).unwrap();
    (dir, journal)
}

#[test]
fn the_first_free_slot_is_taken_and_a_held_one_skipped() {
    let _undisturbed = undisturbed();
    let (_dir, journal) = journal();
    let first = journal.claim_free().unwrap();
    let second = journal.claim_free().unwrap();
    let third = journal.claim_free().unwrap();
    assert_eq!([&first, &second, &third].map(|lock| lock.slot().number()), [0, 1, 2]);
    assert!(journal.claim(second.slot()).unwrap().is_none());
    let slot = second.slot().clone();
    drop(second);
    assert_eq!(journal.claim_free().unwrap().slot(), &slot);
    assert_eq!(journal.slots().unwrap().len(), 3);
}

#[test]
fn only_what_is_named_as_slots_are_is_a_slot() {
    let (_dir, journal) = journal();
    for name in ["+1", "01", "x", "-1", "1.old", "10", "4294967295", "4294967296"] {
        fs::create_dir(journal.path().join(name)).unwrap();
    }
    let numbers: Vec<_> = journal.slots().unwrap().iter().map(Slot::number).collect();
    assert_eq!(numbers, [10]);
}

#[test]
fn who_can_make_no_slot_or_not_use_the_one_he_made_says_so_and_tries_no_further() {
    let disk = CutDisk::default();
    let journal = disk.journal();
    disk.lives_for(0);
    let error = journal.claim_free().unwrap_err().to_string();
    assert!(error.contains("create the slot"), "{error}");

    let disk = CutDisk::default();
    disk.denies(1);
    assert!(disk.journal().claim_free().unwrap_err().is_permission());
}

#[test]
fn a_slot_never_has_two_owners() {
    const THREADS: usize = 12;
    let (_dir, journal) = journal();
    let start = Barrier::new(THREADS);
    let held = Mutex::new(std::collections::HashSet::new());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                start.wait();
                for _ in 0..50 {
                    let lock = journal.claim_free().unwrap();
                    assert!(held.lock().unwrap().insert(lock.slot().number()), "slot taken twice");
                    std::thread::yield_now();
                    held.lock().unwrap().remove(&lock.slot().number());
                }
            });
        }
    });
}

#[test]
fn the_lock_of_a_killed_owner_goes_to_who_waits_for_it() {
    let (_dir, journal) = journal();
    let holder = Holder::of(journal.path());
    let slot = journal.slots().unwrap().remove(0);
    assert!(journal.claim(&slot).unwrap().is_none());
    let waiting = {
        let (journal, slot) = (journal.clone(), slot.clone());
        std::thread::spawn(move || journal.claim_when_free(&slot).unwrap().is_some())
    };
    until("somebody waits for the lock", || is_waited_for(&slot));
    assert!(!waiting.is_finished());
    holder.signal(Signal::KILL);
    assert!(waiting.join().unwrap());
}

#[test]
fn an_owner_is_named_and_a_stopped_one_is_said_to_be_stopped() {
    let (_dir, journal) = journal();
    let holder = Holder::of(journal.path());
    let slot = journal.slots().unwrap().remove(0);
    let owner = owner_of(&slot).unwrap();
    assert_eq!((owner.pid, owner.stopped), (holder.0.id(), false));
    assert!(owner.to_string().contains("log::tests::slot::child"), "{owner}");
    holder.signal(Signal::STOP);
    until("the owner is seen to be stopped", || owner_of(&slot).is_some_and(|owner| owner.stopped));
    assert!(journal.claim(&slot).unwrap().is_none(), "a stopped owner keeps its slot");
    assert!(owner_of(&slot).unwrap().to_string().contains("stopped"));
    drop(holder);
    assert_eq!(owner_of(&slot), None);
}

/// Whether the kernel shows somebody who waits for the slot's lock.
fn is_waited_for(slot: &Slot) -> bool {
    let inode = format!(":{} ", fs::metadata(slot.path()).unwrap().ino());
    let locks = fs::read_to_string("/proc/locks").unwrap();
    locks.lines().any(|line| line.contains("->") && line.contains(&inode))
}

#[test]
fn a_lock_on_a_directory_that_was_exchanged_or_moved_away_meanwhile_is_none() {
    for exchanged in [true, false] {
        let (dir, journal) = journal();
        let lock = journal.claim_free().unwrap();
        let slot = lock.slot().clone();
        let waiting = {
            let (journal, slot) = (journal.clone(), slot.clone());
            std::thread::spawn(move || journal.claim_when_free(&slot).unwrap().is_none())
        };
        until("somebody waits for the lock", || is_waited_for(&slot));
        fs::rename(slot.path(), dir.path().join("elsewhere")).unwrap();
        if exchanged {
            fs::create_dir(slot.path()).unwrap();
        }
        drop(lock);
        assert!(waiting.join().unwrap());
    }
}

#[test]
fn everything_is_for_the_group_whatever_the_umask_is() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o2770)).unwrap();
    let journal = dir.path().join("journal");
    let child = spawn(&mut child_that("take under a strict umask", &journal)).unwrap();
    let child = child.wait_with_output().unwrap();
    assert!(child.status.success(), "{child:?}");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&journal), 0o2770);
    assert_eq!(mode(&journal.join("0")), 0o2770);
    assert_eq!(mode(&journal.join("0/00000001.log")), 0o660);
}

#[test]
fn a_slot_whose_maker_was_killed_before_it_was_open_to_its_group_is_opened_by_who_takes_it_next() {
    let (_dir, journal) = journal();
    let slot = journal.claim_free().unwrap().slot().clone();
    fs::set_permissions(slot.path(), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(*journal.claim_free().unwrap().slot(), slot);
    assert_eq!(fs::metadata(slot.path()).unwrap().permissions().mode() & 0o777, 0o770);
}

#[test]
fn a_slot_without_permission_is_skipped() {
    let (dir, journal) = journal();
    drop(journal.claim_free().unwrap());
    fs::set_permissions(journal.path().join("0"), fs::Permissions::from_mode(0o500)).unwrap();
    // Whoever made what the journal is in answers for its name: it is not ours to open.
    for (path, mode) in [(dir.path(), 0o711), (journal.path(), 0o777)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let mut child = child_that("claim without permission", journal.path());
    if rustix::process::getuid().is_root() {
        fs::set_permissions(journal.path().join("0"), fs::Permissions::from_mode(0o755)).unwrap();
        child.uid(65534).gid(65534);
    }
    match spawn(&mut child).and_then(Child::wait_with_output) {
        Ok(output) => assert!(output.status.success(), "{output:?}"),
        Err(e) => eprintln!("SKIPPED: this test's binary can't be run as another user: {e}"),
    }
}

#[test]
fn a_slot_of_a_newer_format_is_skipped_aloud_and_left_as_it_is() {
    let _undisturbed = undisturbed();
    let (_dir, journal) = journal();
    let slot = journal.claim_free().unwrap().slot().clone();
    let path = slot.path().join("00000004.log");
    let mut newer = Header { place: Place { slot: 0, segment: 4 }, lowest_live: 1, boot: None }.encode();
    newer[8..10].copy_from_slice(&(FORMAT_VERSION + 1).to_le_bytes());
    let crc = crc32c::crc32c(&newer[..HEADER_BYTES - 4]);
    newer[HEADER_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
    fs::write(&path, newer).unwrap();

    assert!(matches!(journal.claim(&slot), Err(JournalError::NewerFormat { format: 2, .. })));
    let (taken, said) = listening(|| journal.claim_free().unwrap());
    assert_eq!(taken.slot().number(), 1);
    assert!(said.contains("slot skipped") && said.contains("log format 2"), "{said}");
    assert_eq!(fs::read(&path).unwrap(), newer);
    assert_eq!(fs::read_dir(slot.path()).unwrap().count(), 1);
    // Nobody was left holding it.
    assert_eq!(owner_of(&slot), None);
}

/// What `act` gives, and what was said aloud meanwhile.
pub(super) fn listening<T>(act: impl FnOnce() -> T) -> (T, String) {
    let (ear, _listens) = Ear::listen();
    (act(), ear.heard())
}

#[test]
fn a_journal_on_a_network_file_system_is_refused() {
    let disk = CutDisk::default();
    disk.lock().is_remote = true;
    let opened = Journal::open_on(Arc::new(disk), Path::new("/journal"));
    assert!(matches!(opened, Err(JournalError::NetworkFileSystem { .. })), "{opened:?}");
}

#[test]
fn a_journal_for_reading_must_exist_and_one_for_writing_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b/journal");
    let error = Journal::open_existing(&path).unwrap_err();
    assert!(error.to_string().starts_with("can't open the journal /"), "{error}");
    assert!(!path.exists());
    Journal::open(&path).unwrap();
    Journal::open_existing(&path).unwrap();
}

#[test]
fn of_a_journal_that_can_not_be_looked_at_the_reason_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    std::os::unix::fs::symlink(&path, &path).unwrap();
    let refused = Journal::open(&path).unwrap_err();
    assert!(refused.to_string().contains("symbolic links"), "{refused}");
    fs::remove_file(&path).unwrap();
    fs::write(&path, "").unwrap();
    let refused = Journal::open(&path).unwrap_err();
    assert!(refused.to_string().contains("File exists"), "{refused}");
}

#[test]
fn a_journal_may_lie_below_a_file_system_that_can_not_sync_directories() {
    let disk = RealDisk::default();
    let refused = disk.sync_directory(Path::new("/proc")).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput);
    sync_names_above(&disk, Path::new("/proc/self/journal")).unwrap();
}

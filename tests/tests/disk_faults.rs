//! The recorder's faults happen to real processes, and what it records is what they did.

// A test that can't go on panics and says why.
#![allow(clippy::expect_used)]

use like_tests::house::{House, Service};
use like_tests::power::faults::{self, ArmedDisk, DiskFault};
use like_tests::power::record::{self, Entry};
use like_tests::process::{Ended, eventually};
use like_tests::promises;

const PROGRAM: &str = env!("CARGO_BIN_EXE_like-recorded");

/// A house with an article; the user daemon meets a fault of its disk.
fn faulty_house(fault: DiskFault) -> (House, ArmedDisk) {
    let mut house = House::closed(PROGRAM);
    house.start(Service::Article);
    house.start(Service::User);
    house.article(1);
    house.stop(Service::User).expect_code(0);
    let (data, marks) = (house.data(Service::User), house.path().to_owned());
    let armed = house.start_prepared(Service::User, |command| ArmedDisk::arm(command, &data, &marks, fault));
    (house, armed)
}

/// Likes until the user daemon has died of its fault, starts it anew, and insists on every promise.
fn a_daemon_that_fails_ends_and_keeps_its_promises(fault: DiskFault) {
    let (mut house, armed) = faulty_house(fault);
    let mut liked = Vec::new();
    for user in 1.. {
        let told = house.likectl(&["--json", "--timeout", "300ms", "like", "1", "--user", &user.to_string()]);
        if told.code() == Some(0) {
            liked.push(user);
        }
        if armed.fired() > 0 {
            break;
        }
    }
    let ended = house.await_death(Service::User);
    assert_eq!(ended.code(), Some(1), "{ended:?}");
    house.start(Service::User);
    promises::kept(&house);
    assert!(liked.iter().all(|user| promises::likes_at_most_once(&house, *user, 1)), "{liked:?}");
}

#[test]
fn a_daemon_whose_sync_fails_once_ends_and_nothing_acknowledged_is_lost() {
    a_daemon_that_fails_ends_and_keeps_its_promises(DiskFault::SyncFails(12));
}

#[test]
fn a_daemon_whose_disk_is_full_ends_and_nothing_acknowledged_is_lost() {
    a_daemon_that_fails_ends_and_keeps_its_promises(DiskFault::Full(792_000));
}

#[test]
fn a_daemon_whose_write_is_cut_short_ends_and_nothing_acknowledged_is_lost() {
    a_daemon_that_fails_ends_and_keeps_its_promises(DiskFault::Short(792_000));
}

#[test]
fn a_runner_dies_before_the_change_of_files_that_was_chosen() {
    let house = House::with_article(PROGRAM);
    let mut command = house.command(&["--json", "like", "1", "--user", "7"]);
    let armed = ArmedDisk::arm(&mut command, &house.journal(), house.path(), DiskFault::Dies(8));
    assert!(Ended::of(&mut command).was_killed());
    assert_eq!(armed.fired(), 1);
    promises::kept(&house);
}

#[test]
fn every_write_sync_and_name_of_a_like_is_recorded_in_order() {
    let house = House::with_article(PROGRAM);
    house.likectl(&["like", "1", "--user", "6"]).expect_code(0);
    let kept = house.path().join("record");
    let mut command = house.command(&["--json", "like", "1", "--user", "7"]);
    faults::record(&mut command, &house.journal(), &kept, "like");
    let ended = Ended::of(&mut command).expect_code(0);
    let entries = eventually("a record", || record::read(&kept).ok());
    let place = |what: &str, is: &dyn Fn(&Entry) -> bool| {
        entries.iter().position(is).unwrap_or_else(|| panic!("{what} is not recorded: {entries:?}"))
    };
    let told = place(
        "the answer",
        &|entry| matches!(entry, Entry::Told { bytes, .. } if ended.stdout.as_bytes().starts_with(bytes)),
    );
    let made = place(
        "the segment",
        &|entry| matches!(entry, Entry::Opened { path, .. } if path.ends_with("0/00000002.log")),
    );
    let Entry::Opened { file, .. } = &entries[made] else { unreachable!("just found") };
    let syncs = |entry: &&Entry| matches!(entry, Entry::SyncEnded { of, synced: true, .. } if of == file);
    assert!(entries[made..told].iter().filter(syncs).count() >= 2, "{entries:?}");
    let on_disk = std::fs::read(house.journal().join("0/00000002.log")).expect("the segment");
    let mut replayed = vec![0; on_disk.len()];
    for entry in &entries {
        if let Entry::Wrote { file: into, at, bytes } = entry
            && into == file
        {
            replayed[*at as usize..][..bytes.len()].copy_from_slice(bytes);
        }
    }
    assert_eq!(replayed, on_disk);
    let removed = place(
        "the old segment's end",
        &|entry| matches!(entry, Entry::Removed { path } if path.ends_with("0/00000001.log")),
    );
    assert!(removed > made);
}

//! How old the picture may be that `/overview`, `/events`, `/readyz` and `/metrics` tell: seconds, whatever else goes on.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;

use like_tests::gateway::{Gateway, Plan};
use like_tests::house::{House, Service};
use like_tests::http::Request;
use like_tests::process::eventually;
use rustix::fs::{CWD, FileType, FlockOperation, Mode, OFlags, flock, mknodat};

use crate::PROGRAM;

/// A slot in the journal whose only segment is opened and never comes: a disk that hangs.
pub struct HangingSegment {
    segment: PathBuf,
    /// Its lock: nobody takes it over.
    slot: File,
}

impl HangingSegment {
    /// In a slot of its own.
    pub fn in_journal_of(house: &House) -> Self {
        let slot = house.journal().join("77");
        std::fs::create_dir(&slot).expect("a slot");
        let segment = slot.join("00000001.log");
        let slot = File::open(slot).expect("a slot");
        flock(&slot, FlockOperation::LockExclusive).expect("a lock");
        mknodat(CWD, &segment, FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("a pipe");
        Self { segment, slot }
    }

    /// Waits until somebody reads it, and removes it, so that nobody else does. The reader waits until what is returned is
    /// dropped.
    fn caught(self) -> (File, File) {
        let nonblock = OFlags::NONBLOCK.bits() as i32;
        let open = || File::options().write(true).custom_flags(nonblock).open(&self.segment).ok();
        let held = eventually("a reader", open);
        std::fs::remove_file(&self.segment).expect("removed");
        (held, self.slot)
    }
}

/// When an overview was seen, in milliseconds.
fn seen_at(gateway: &Gateway) -> u64 {
    let overview = gateway.get("/overview").expect(200).json();
    let at = overview["at"].as_str().expect("a time");
    let (_, clock) = at.trim_end_matches('Z').split_once('T').expect("a time of day");
    let parts: Vec<f64> = clock.split(':').map(|part| part.parse().expect("a number")).collect();
    ((parts[0] * 3600.0 + parts[1] * 60.0 + parts[2]) * 1000.0) as u64
}

/// How long after one picture the next one was made.
fn until_the_next(gateway: &Gateway, seen: u64) -> Duration {
    let next = eventually("another look", || Some(seen_at(gateway)).filter(|next| *next != seen));
    Duration::from_millis((next + 86_400_000 - seen) % 86_400_000)
}

#[test]
fn a_look_that_took_long_does_not_make_an_old_picture_last() {
    let house = House::open(PROGRAM);
    let gateway = Gateway::open(&house);
    let hanging = HangingSegment::in_journal_of(&house);
    let seen = std::thread::scope(|scope| {
        let looking = scope.spawn(|| seen_at(&gateway));
        let held = hanging.caught();
        std::thread::sleep(Duration::from_secs(4));
        drop(held);
        looking.join().expect("a look")
    });
    // In proportion it would be nine times as long as that took.
    let lasted = until_the_next(&gateway, seen);
    assert!(lasted < Duration::from_secs(20), "the same picture was told for {lasted:?}");
}

#[test]
fn a_look_waits_for_nobody_who_reads_the_whole_log() {
    let house = House::open(PROGRAM);
    let (gateway, _) = Gateway::start(&house, &Plan::with(&["--timeout", "500ms"]));
    let hanging = HangingSegment::in_journal_of(&house);
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| gateway.get("/sagas?user_id=7").expect(200));
        let held = hanging.caught();
        for path in ["/overview", "/readyz", "/metrics"] {
            gateway.get(path).expect(200);
        }
        assert!(!reading.is_finished(), "nobody hung");
        drop(held);
    });
}

/// The names of the events of a stream as they come.
fn events(gateway: &Gateway) -> impl FnMut() -> String {
    let mut stream = gateway.place.connect().expect("a connection");
    stream.write_all(&Request::new("GET", "/events").bytes()).expect("sent");
    let mut lines = BufReader::new(stream).lines();
    move || {
        let named = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| Some(line.strip_prefix("event: ")?.to_owned()));
        named.expect("one more event")
    }
}

#[test]
fn a_stream_says_that_nothing_can_be_seen_any_more() {
    let house = House::open(PROGRAM);
    let gateway = Gateway::open(&house);
    let mut next = events(&gateway);
    assert_eq!(next(), "overview");
    let away = house.path().join("away");
    std::fs::rename(house.journal(), &away).expect("a journal that is gone");
    assert_eq!(next(), "unseen");
    std::fs::rename(&away, house.journal()).expect("a journal that is back");
    assert_eq!(next(), "overview");

    // A disk that hangs.
    let held = HangingSegment::in_journal_of(&house).caught();
    assert_eq!(next(), "unseen");
    drop(held);
    assert_eq!(next(), "overview");
}

#[test]
fn a_service_that_hangs_does_not_make_pictures_rarer() {
    let house = House::open(PROGRAM);
    let gateway = Gateway::open(&house);
    house.freeze(Service::User);
    let seen = eventually("a look at a service that hangs", || {
        let overview = gateway.get("/overview").expect(200).json();
        (overview["services"][1]["reachable"] == false).then(|| seen_at(&gateway))
    });
    // Each takes 700 ms, most of which is waiting. A busy machine makes some of them last longer, and not all.
    let mut seen = seen;
    eventually("pictures that follow each other", || {
        let lasted = until_the_next(&gateway, seen);
        seen = seen_at(&gateway);
        (lasted < Duration::from_secs(5)).then_some(())
    });
    house.thaw(Service::User);
}

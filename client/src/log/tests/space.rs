//! Space that is allotted ahead: it is neither a torn tail nor damage, and hides neither.

use std::fs;

use super::cut_disk::CutDisk;
use super::*;
use crate::log::history;
use crate::log::record::KeptSegment;
use crate::log::scan::Scan;
use crate::log::writer::Released;
use crate::saga::tests::failed;

const PAGE_BYTES: u64 = 4096;

/// A segment whose runner goes on: a carry-over, a group that is called durable, and one that is not.
fn two_groups() -> Written {
    let mut segment = Written::new();
    segment.put_all(records(saga(1), open_events())).put(Entry::CarriedOver);
    segment.put_all(records(saga(2), settled_events())).put_durable();
    segment.put_all(records(saga(3), settled_events()));
    segment
}

fn with_space(bytes: &[u8], space: usize) -> Vec<u8> {
    [bytes, &vec![0; space]].concat()
}

fn told(scan: &Scan) -> String {
    format!("{scan:?}")
}

fn kept(segment: &Written, durable: usize) -> Certain {
    let (end, tag) = (segment.bytes.len() as u64, segment.tag);
    Certain::End(KeptSegment { segment: PLACE.segment, end, durable: durable as u64, tag })
}

#[test]
fn zeros_behind_the_last_record_change_nothing_whatever_is_certain() {
    let segment = two_groups();
    let end = segment.bytes.len();
    let all = [
        Certain::Stated,
        Certain::CarryOver { proven: true },
        Certain::Written { carry_over: true },
        kept(&segment, 0),
        kept(&segment, end),
    ];
    for certain in all {
        let bare = scan(PLACE, &segment.bytes, certain);
        assert_eq!((bare.end, bare.written, bare.torn), (end as u64, end as u64, false), "{certain:?}");
        assert!(bare.damage.is_empty() && bare.cut.is_empty() && bare.complete);
        for space in [1, 12, 1023, 1025, 4096, 300_000] {
            let scanned = scan(PLACE, &with_space(&segment.bytes, space), certain);
            assert_eq!(told(&scanned), told(&bare), "{certain:?}, {space} zeros");
        }
    }
}

#[test]
fn a_last_record_that_ends_in_zeros_is_read_as_a_whole() {
    let mut segment = two_groups();
    let reply = Payload::from(vec![0; 40]);
    segment.put_all(records(saga(4), [Event::Begun(begun().into()), Event::ActionDone { step: 0, reply }]));
    assert!(segment.bytes.ends_with(&[0; 40]));
    for space in [0, 100, 5000] {
        let scanned = scan(PLACE, &with_space(&segment.bytes, space), Certain::Stated);
        let end = segment.bytes.len() as u64;
        assert_eq!((scanned.end, scanned.written, scanned.torn), (end, end, false));
        assert_eq!(scanned.records.last().map(|(_, record)| record.saga), Some(saga(4)));
    }
}

#[test]
fn what_is_no_zero_behind_the_last_record_is_a_torn_tail_as_far_as_it_reaches() {
    let segment = two_groups();
    for at in [0, 1, 700, 3999] {
        let mut bytes = with_space(&segment.bytes, 4000);
        let end = segment.bytes.len();
        bytes[end + at] = 1;
        let scanned = scan(PLACE, &bytes, Certain::Stated);
        assert_eq!((scanned.end, scanned.written, scanned.torn), (end as u64, (end + at + 1) as u64, true));
        assert!(scanned.damage.is_empty());
    }
}

#[test]
fn records_that_turned_into_zeros_are_damage_below_what_was_durable_and_a_torn_tail_above() {
    let segment = two_groups();
    let durable = segment.starts.iter().find(|(_, entry)| matches!(entry, Entry::DurableTo(_))).unwrap().0;
    for (number, (start, _)) in segment.starts.iter().enumerate() {
        let Some((next, _)) = segment.starts.get(number + 1) else { break };
        let mut bytes = with_space(&segment.bytes, 4000);
        bytes[*start..*next].fill(0);
        let scanned = scan(PLACE, &bytes, Certain::Stated);
        let damage: Vec<_> = scanned.damage.iter().map(|stretch| (stretch.from, stretch.to)).collect();
        assert_eq!(scanned.written, segment.bytes.len() as u64);
        if *start < durable {
            assert_eq!((damage, scanned.torn), (vec![(*start as u64, *next as u64)], false));
        } else if *start > durable {
            assert_eq!((damage, scanned.end, scanned.torn), (vec![], *start as u64, true));
            assert!(scanned.cut.iter().all(|cut| *cut == saga(3)) && !scanned.cut.is_empty());
        }
    }
}

#[test]
fn zeros_up_to_where_a_segment_is_known_to_be_durable_are_damage() {
    let segment = two_groups();
    let (end, from) = (segment.bytes.len(), segment.starts[8].0);
    let mut bytes = with_space(&segment.bytes, 4000);
    bytes[from..].fill(0);
    for (durable, lost) in [(end, true), (from + 1, true), (from, false), (0, false)] {
        let scanned = scan(PLACE, &bytes, kept(&segment, durable));
        let damage: Vec<_> = scanned.damage.iter().map(|stretch| (stretch.from, stretch.to)).collect();
        assert_eq!(
            damage,
            if lost { vec![(from as u64, end as u64)] } else { vec![] },
            "durable to {durable}"
        );
        let valid = if lost { end } else { from };
        assert_eq!((scanned.end, scanned.torn), (valid as u64, false), "durable to {durable}");
    }
}

#[test]
fn what_stands_behind_the_end_of_a_segment_of_history_counts_for_nothing() {
    let mut segment = two_groups();
    let certain = kept(&segment, segment.bytes.len());
    let whole = told(&scan(PLACE, &segment.bytes, certain));
    // A torn tail, of which the hole in front of it is gone.
    segment.put_all(records(saga(4), open_events())).put_durable();
    assert_eq!(told(&scan(PLACE, &segment.bytes, certain)), whole);
}

#[test]
fn zeros_in_the_place_of_the_mark_are_no_space() {
    let mut segment = Written::new();
    segment.put_all(records(saga(1), open_events()));
    let bytes = with_space(&segment.bytes, 4000);
    for certain in
        [Certain::Stated, Certain::CarryOver { proven: true }, Certain::Written { carry_over: false }]
    {
        let scanned = scan(PLACE, &bytes, certain);
        assert!(!scanned.complete && scanned.torn, "{certain:?}");
        assert_eq!((scanned.end, scanned.written), (segment.bytes.len() as u64, bytes.len() as u64));
    }
}

fn length(path: &Path) -> u64 {
    fs::metadata(segment::path(&path.join("0"), 1)).unwrap().len()
}

#[test]
fn who_drives_one_saga_writes_one_page() {
    let dir = tempfile::tempdir().unwrap();
    let log = take(dir.path()).log;
    assert_eq!(length(dir.path()), PAGE_BYTES, "the first sync already finds its space");
    wait_for(log.durable(tell(&log, saga(1), settled_events()))).unwrap();
    log.let_go();
    assert_eq!(length(dir.path()), PAGE_BYTES);
}

#[test]
fn most_writes_lengthen_no_file_and_none_by_much() {
    let dir = tempfile::tempdir().unwrap();
    let log = take(dir.path()).log;
    let (mut lengths, mut writes) = (vec![length(dir.path())], 0);
    for attempt in 1..3000 {
        let events = if attempt == 1 { open_events() } else { vec![sent(1, attempt), failed(1)] };
        write(&log, saga(1), events).unwrap();
        writes += 1;
        let now = length(dir.path());
        if lengths.last() != Some(&now) {
            lengths.push(now);
            let unused = now - written(dir.path(), 1).len() as u64;
            assert!(unused < 256 * 1024 && unused < PAGE_BYTES.max(now / 2), "{unused} of {now}");
        }
    }
    let doubled = [4, 8, 16, 32, 64, 128, 256, 512].map(|kib| kib * 1024);
    assert!(lengths.len() > 5 && doubled.starts_with(&lengths), "{lengths:?} after {writes} writes");
}

#[test]
fn a_runner_that_was_killed_leaves_space_that_nobody_calls_torn_or_damaged() {
    let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = take(dir.path()).log;
    wait_for(log.durable(tell(&log, saga(1), open_events()))).unwrap();
    // More than the space that was there from the beginning.
    tell(&log, saga(2), std::iter::once(large(5000)).chain(open_events().into_iter().skip(1)));
    let left = copy.path().join("journal");
    copy_journal(dir.path(), &left);
    let end = written(&left, 1).len() as u64;
    assert!(end < length(&left));
    let read = history::read(&Journal::open(&left).unwrap()).unwrap();
    assert!(read.gaps.damage.is_empty() && read.sagas.len() == 2, "{read:?}");
    let taken = take(&left);
    assert!(taken.damage.is_empty() && taken.cut.is_empty(), "{:?} {:?}", taken.damage, taken.cut);
    assert_eq!(taken.unclosed, Some((Place { slot: 0, segment: 1 }, end)));
    assert_eq!(
        segment::list(&RealDisk::default(), &left.join("0")).unwrap(),
        [2],
        "it is small, so it was told again"
    );
}

#[test]
fn a_segment_without_space_is_taken_over_as_one_with_space() {
    let dir = tempfile::tempdir().unwrap();
    let log = take(dir.path()).log;
    tell(&log, saga(1), settled_events());
    tell(&log, saga(2), open_events());
    log.let_go();
    let bare = dir.path().join("bare");
    copy_journal(&dir.path().join("0"), &bare.join("0"));
    fs::write(segment::path(&bare.join("0"), 1), written(dir.path(), 1)).unwrap();
    let taken = |path: &Path| {
        let TakenOver { open, damage, cut, unclosed, .. } = take(path);
        assert!(damage.is_empty() && cut.is_empty() && unclosed.is_none());
        assert_eq!(history::read(&Journal::open(path).unwrap()).unwrap().sagas.len(), 2);
        open_sagas(open)
    };
    assert_eq!(taken(&bare), taken(dir.path()));
}

/// A runner on a disk in memory, with one saga that the segment calls durable; and the segment, with that one's second
/// record gone as if it had been written while the rest was read.
fn half_read() -> (CutDisk, SagaLog, Vec<u8>) {
    let disk = CutDisk::default();
    let journal = disk.journal();
    let log = take_over(journal.claim_free().unwrap(), Keeping::default()).unwrap().log;
    tell(&log, saga(1), open_events());
    let syncs = disk.lock().syncs.take().unwrap();
    let sync = syncs.begin().unwrap();
    let synced = sync.file().sync_data();
    syncs.finish(sync, synced, Released::tell);
    disk.lock().syncs = Some(syncs);
    tell(&log, saga(2), open_events());
    let file = segment::path(log.slot().path(), 1);
    let mut bytes = log.slot().disk().read(&file, None).unwrap();
    let scanned = scan(Place { slot: 0, segment: 1 }, &bytes, Certain::Stated);
    let [_, (from, _), (to, _), ..] = scanned.records[..] else { panic!("{scanned:?}") };
    bytes[from as usize..to as usize].fill(0);
    (disk, log, bytes)
}

#[test]
fn what_was_written_while_it_was_read_is_not_damaged_and_what_is_missing_twice_is() {
    let (disk, log, half) = half_read();
    let read = |misread: &[&Vec<u8>]| {
        disk.lock().misread.extend(misread.iter().map(|bytes| (*bytes).clone()));
        let history::Newest { stories, damage, .. } = history::newest_in(log.slot(), 0).unwrap();
        assert!(disk.lock().misread.is_empty(), "it was looked at as often as that");
        (stories[&saga(1)].is_quarantined(), damage.len())
    };
    assert_eq!(read(&[]), (false, 0));
    assert_eq!(read(&[&half]), (false, 0));
    assert_eq!(read(&[&half, &half]), (true, 1));
}

#[test]
fn no_saga_begins_where_little_is_left_unless_the_space_for_it_is_allotted() {
    let disk = CutDisk::default();
    let short = |is_short| disk.lock().is_short = is_short;
    let log = take_over(disk.journal().claim_free().unwrap(), Keeping::default()).unwrap().log;
    short(true);
    assert_eq!(log.room_to_begin().unwrap_err().why, "little is left", "a new log looks");
    write(&log, saga(1), settled_events()).expect("what has begun goes on");
    short(false);
    assert_eq!(log.room_to_begin(), Ok(()));
    short(true);
    assert_eq!(log.room_to_begin(), Ok(()), "the space that it has is its own");
    write(&log, saga(2), [large(5000)]).unwrap();
    assert!(log.room_to_begin().is_err(), "that took more");
    short(false);
    assert_eq!(log.room_to_begin(), Ok(()), "it is looked at again while too little was left");
}

#[test]
fn who_only_reads_a_journal_is_told_that_nobody_can_write_it() {
    let disk = CutDisk::default();
    let journal = disk.journal();
    assert_eq!(journal.lacks_room(), None);
    disk.lock().is_short = true;
    assert_eq!(journal.lacks_room().as_deref(), Some("little is left"));
    disk.lock().is_read_only = true;
    assert!(journal.lacks_room().is_some_and(|why| why.contains("is read-only: no saga can begin")));
}

#[test]
fn a_segment_that_stands_there_already_is_none_to_remove() {
    let journal = CutDisk::default().journal();
    let lock = journal.claim_free().unwrap();
    let create = || segment::create(&lock, 1, 1, Vec::new(), std::iter::empty());
    create().unwrap();
    assert!(create().is_err());
    assert_eq!(lock.slot().newest_segment().unwrap(), 1);
}

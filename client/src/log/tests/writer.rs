//! Appending, group commit, rotation, and the end of a log.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::*;
use crate::log::history;
use crate::log::record::{HEADER_BYTES, RECORD_HEAD_BYTES, decode};
use crate::saga::tests::{failed, forced};

/// Some three hundred of these fill a segment.
const LARGE: usize = 60_000;

/// A saga of its own for each number.
fn numbered(number: u32) -> SagaId {
    let mut bytes = [0xee; 16];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    SagaId::from_bytes(bytes)
}

fn segments(path: &Path) -> Vec<u64> {
    segment::list(&RealDisk::default(), &path.join("0")).unwrap()
}

fn all_sagas(path: &Path) -> BTreeMap<SagaId, Story> {
    let read = history::read(&Journal::open(path).unwrap()).unwrap();
    assert!(read.gaps.are_none(), "{:?}", read.gaps);
    read.sagas.into_iter().map(|(_, story)| (story.saga, story)).collect()
}

#[test]
fn what_was_appended_is_there_for_every_reader_at_once_and_after_a_takeover() {
    let dir = tempfile::tempdir().unwrap();
    let log = take(dir.path()).log;
    let first = write(&log, saga(1), open_events()).unwrap();
    let second = write(&log, saga(2), settled_events()).unwrap();
    assert!(first < second);
    let told: Vec<_> = all_sagas(dir.path()).into_values().map(|story| story.records).collect();
    let events =
        |records: &Vec<SagaRecord>| records.iter().map(|record| record.event.clone()).collect::<Vec<_>>();
    assert_eq!(told.iter().map(events).collect::<Vec<_>>(), [open_events(), settled_events()]);
    log.let_go();
    let open = take(dir.path()).open;
    assert_eq!(open.len(), 1);
    assert_eq!(open[0].records.len(), open_events().len() + 1);
}

#[test]
fn what_is_appended_is_written_when_somebody_wants_it_and_all_of_it_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let log = take(dir.path()).log;
    let first = log.append(saga(1), open_events()).unwrap();
    let second = log.append(saga(2), settled_events()).unwrap();
    assert!(all_sagas(dir.path()).is_empty());
    block_on(log.written(first)).unwrap();
    assert_eq!(all_sagas(dir.path()).len(), 2);
    let third = log.append(saga(3), open_events()).unwrap();
    block_on(log.written(second)).unwrap();
    assert_eq!(all_sagas(dir.path()).len(), 2, "what was wanted had been written");
    wait_for(log.durable(third)).unwrap();
    assert_eq!(all_sagas(dir.path()).len(), 3, "a sync writes first");
    log.append(saga(4), open_events()).unwrap();
    log.let_go();
    assert_eq!(all_sagas(dir.path()).len(), 4, "who lets go leaves nothing unwritten");
}

#[test]
fn a_write_that_is_put_off_writes_for_all_who_appended_and_keeps_no_slot() {
    let dir = tempfile::tempdir().unwrap();
    let log = take(dir.path()).log;
    let put_off = |number| log.to_write(log.append(saga(number), open_events()).unwrap());
    let (first, second) = (put_off(1), put_off(2));
    assert!(all_sagas(dir.path()).is_empty());
    first.write().unwrap();
    assert_eq!(all_sagas(dir.path()).len(), 2);
    let size = || written(dir.path(), 1).len();
    let before = size();
    second.write().unwrap();
    assert_eq!(size(), before, "it has been done");
    let third = put_off(3);
    drop(log);
    assert_eq!(all_sagas(dir.path()).len(), 3, "who lets go leaves nothing unwritten");
    third.write().unwrap();
}

#[test]
fn those_who_want_a_sync_in_the_same_moment_ask_for_it_together_even_if_the_first_gives_up() {
    let dir = tempfile::tempdir().unwrap();
    let _undisturbed = undisturbed();
    let log = take(dir.path()).log;
    let append = |number| log.append(saga(number), open_events()).unwrap();
    let (first, second) = (append(1), append(2));
    let context = &mut std::task::Context::from_waker(std::task::Waker::noop());
    let mut asks = Box::pin(log.durable(first));
    let mut waits = Box::pin(log.durable(second));
    assert!(asks.as_mut().poll(context).is_pending() && waits.as_mut().poll(context).is_pending());
    assert!(all_sagas(dir.path()).is_empty(), "nothing is asked for before all have had their turn");
    drop(asks);
    assert_eq!(all_sagas(dir.path()).len(), 2, "what is to be synced is written by who asks");
    wait_for(waits).unwrap();
}

#[test]
fn a_log_that_was_let_go_takes_nothing_more_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let log = take(dir.path()).log;
    let durable = tell(&log, saga(1), open_events());
    wait_for(log.durable(durable)).unwrap();
    let last = tell(&log, saga(1), [sent(1, 2)]);
    assert_eq!(log.ended(), None);
    log.let_go();
    assert!(log.ended().unwrap().to_string().contains("let go"));
    let size = || written(dir.path(), 1).len();
    let before = size();
    assert!(write(&log, saga(1), [sent(1, 3)]).is_err());
    assert_eq!(size(), before);
    assert!(wait_for(log.durable(last)).is_err());
    // What had become durable stays so.
    assert!(wait_for(log.durable(durable)).is_ok());
    log.let_go();
}

#[test]
fn the_slot_is_free_when_the_last_clone_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let _undisturbed = undisturbed();
    let journal = Journal::open(dir.path()).unwrap();
    let log = take(dir.path()).log;
    let slot = log.slot().clone();
    let clone = log.clone();
    drop(log);
    assert!(journal.claim(&slot).unwrap().is_none());
    drop(clone);
    assert!(journal.claim(&slot).unwrap().is_some());
}

/// The highest offset that an intact segment states to be durable.
fn stated(bytes: &[u8]) -> u64 {
    let (mut at, mut stated) = (HEADER_BYTES, 0);
    while let Some(read) = decode(Place { slot: 0, segment: 1 }, bytes, at) {
        if let Entry::DurableTo(to) = read.entry {
            stated = stated.max(to);
        }
        at += read.bytes;
    }
    assert_eq!(at, bytes.len());
    stated
}

#[test]
fn an_offset_is_called_durable_only_once_it_has_been_synced() {
    let dir = tempfile::tempdir().unwrap();
    let log = take(dir.path()).log;
    let bytes = || written(dir.path(), 1);
    // A flip below what the segment states to be durable is damage, one above it a torn tail.
    let is_damage = |at: usize| {
        let mut bytes = bytes();
        bytes[at + RECORD_HEAD_BYTES + 2] ^= 1;
        !scan(Place { slot: 0, segment: 1 }, &bytes, Certain::Stated).damage.is_empty()
    };
    let carried = bytes().len() as u64;
    tell(&log, saga(1), [Event::Begun(begun().into())]);
    let first = bytes().len();
    let position = tell(&log, saga(1), [sent(0, 1)]);
    let second = bytes().len();
    tell(&log, saga(1), [sent(0, 2)]);
    assert!(!is_damage(first) && !is_damage(second), "nothing was synced, nothing is called durable");
    assert_eq!(stated(&bytes()), carried);
    let synced = bytes().len();
    wait_for(log.durable(position)).unwrap();
    tell(&log, saga(1), [sent(0, 3)]);
    assert_eq!(stated(&bytes()), synced as u64);
    assert!(is_damage(first) && is_damage(HEADER_BYTES));
    let third = bytes().len();
    tell(&log, saga(1), [sent(0, 4)]);
    assert!(!is_damage(third));
}

#[test]
fn a_sync_covers_whatever_was_written_before_it_began() {
    let dir = tempfile::tempdir().unwrap();
    let log = take(dir.path()).log;
    let sagas = 24;
    std::thread::scope(|scope| {
        for number in 0..sagas {
            let log = &log;
            scope.spawn(move || {
                let mut last = None;
                for event in settled_events() {
                    let position = tell(log, numbered(number), [event]);
                    assert!(last < Some(position), "positions increase");
                    last = Some(position);
                    wait_for(log.durable(position)).unwrap();
                }
            });
        }
    });
    let told = all_sagas(dir.path());
    assert_eq!(told.len(), sagas as usize);
    assert!(told.values().all(|story| !story.is_open() && story.records.len() == 7));
}

#[test]
fn letting_go_in_the_middle_of_a_sync_answers_everybody_who_waits() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..60 {
        let log = take(dir.path()).log;
        std::thread::scope(|scope| {
            for number in 0..6 {
                let log = log.clone();
                scope.spawn(move || {
                    wait_for(async {
                        while let Ok(position) = log.append(numbered(number), [Event::Begun(begun().into())])
                        {
                            // Answered, one way or the other.
                            let _ = tokio::time::timeout(WEEK, log.durable(position)).await.unwrap();
                        }
                    });
                });
            }
            until("something is durable", || all_sagas(dir.path()).len() > 3);
            log.let_go();
        });
        drop(log);
        let journal = Journal::open(dir.path()).unwrap();
        let lock = journal.claim_when_free(&journal.slots().unwrap()[0]).unwrap().unwrap();
        fs::remove_dir_all(lock.slot().path()).unwrap();
    }
}

#[test]
fn rotation_keeps_everything_and_readers_never_see_damage_nor_miss_a_saga() {
    let dir = tempfile::tempdir().unwrap();
    let log = take(dir.path()).log;
    let stuck = saga(1);
    tell(&log, stuck, open_events());
    let (settled, done_writing) = (AtomicU32::new(0), AtomicBool::new(false));
    let mut attempt = 1;
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen_with_history = 0;
            let slot = Journal::open(dir.path()).unwrap().slots().unwrap().remove(0);
            while !done_writing.load(Ordering::Acquire) {
                let before = settled.load(Ordering::Acquire);
                let told = all_sagas(dir.path());
                assert!(told[&stuck].is_open() && !told[&stuck].is_quarantined());
                for number in 0..before {
                    assert!(!told[&numbered(number)].is_open(), "saga {number} of {before}");
                }
                let open = history::open_in(&slot).unwrap();
                assert!(open.iter().any(|story| story.saga == stuck));
                assert!(open.iter().all(|story| !story.is_quarantined()));
                seen_with_history += u32::from(segments(dir.path()).len() > 1);
            }
            seen_with_history
        });
        let mut number = 0;
        while segments(dir.path()).len() < 4 {
            let events = std::iter::once(large(LARGE)).chain(settled_events().into_iter().skip(1));
            let position = tell(&log, numbered(number), events);
            if number % 7 == 0 {
                attempt += 1;
                tell(&log, stuck, [sent(1, attempt), failed(1)]);
                wait_for(log.durable(position)).unwrap();
            }
            number += 1;
            settled.store(number, Ordering::Release);
        }
        done_writing.store(true, Ordering::Release);
        assert!(reader.join().unwrap() > 0);
    });
    log.let_go();
    let told = all_sagas(dir.path());
    assert_eq!(told.len(), 1 + settled.load(Ordering::Acquire) as usize);
    let open = take(dir.path()).open;
    assert_eq!(open.iter().map(|story| story.saga).collect::<Vec<_>>(), [stuck]);
    assert_eq!(open[0].state.as_ref().unwrap().steps[1].action_attempts, attempt);
}

#[test]
fn what_is_durable_in_one_segment_stays_durable_in_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let log = take(dir.path()).log;
    let mut positions = Vec::new();
    for number in 0.. {
        positions.push(tell(&log, numbered(number), [large(LARGE), forced(End::Completed), Event::Settled]));
        if segments(dir.path()).len() > 1 {
            break;
        }
        wait_for(log.durable(positions[positions.len() - 1])).unwrap();
    }
    assert!(positions.is_sorted());
    for position in positions {
        wait_for(log.durable(position)).unwrap();
    }
}

#[test]
fn who_owns_a_slot_that_was_moved_away_writes_nothing_into_the_next_one_of_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path()).unwrap();
    let keeping = Keeping { segment_bytes_max: 0, ..Keeping::default() };
    let log = take_over(journal.claim_free().unwrap(), keeping).unwrap().log;
    fs::rename(log.slot().path(), dir.path().join("moved")).unwrap();
    let next = take(dir.path()).log;
    assert_eq!(next.slot(), log.slot());
    tell(&next, saga(1), open_events());
    let begun = tell(&log, saga(2), open_events());
    wait_for(log.durable(begun)).unwrap();
    until("it can't go on in a new segment", || log.ended().is_some());
    let ended = log.ended().unwrap().to_string();
    assert!(ended.contains("moved away"), "{ended}");
    assert_eq!(segments(dir.path()), [1]);
    next.let_go();
    assert_eq!(take(dir.path()).open[0].saga, saga(1));
}

#[test]
fn a_log_with_more_open_than_a_segment_holds_does_not_rotate_at_every_sync() {
    let dir = tempfile::tempdir().unwrap();
    let log = take(dir.path()).log;
    // History, for which the first segment stays.
    tell(&log, saga(1), settled_events());
    let mut number = 0;
    let mut begin = || {
        number += 1;
        wait_for(log.durable(tell(&log, numbered(number), [large(LARGE)]))).unwrap();
    };
    while segments(dir.path()).len() < 2 {
        begin();
    }
    (0..40).for_each(|_| begin());
    assert_eq!(segments(dir.path()), [1, 2]);
    log.let_go();
    assert_eq!(take(dir.path()).open.len(), number as usize);
}

/// As a child: appends until a write fails, and shows what is true from then on.
#[test]
fn child_whose_files_may_not_grow() {
    let Ok(path) = std::env::var(CHILD_JOURNAL) else { return };
    let path = Path::new(&path);
    let log = take(path).log;
    let size = || fs::metadata(segment::path(&path.join("0"), 1)).unwrap().len();
    let mut appended = 0;
    let failed = loop {
        match write(&log, numbered(appended), [large(100)]) {
            Ok(_) => appended += 1,
            Err(e) => break e,
        }
        assert!(appended < 1000, "no write has failed");
    };
    assert!(failed.to_string().starts_with("the saga log has ended: write failed: "), "{failed}");
    let after = size();
    assert_eq!(write(&log, numbered(0), [sent(0, 1)]), Err(failed.clone()));
    assert_eq!(wait_for(log.durable(log.appended())).map(|()| "durable"), Err(failed.clone()));
    assert_eq!(log.ended(), Some(failed));
    assert_eq!(size(), after);
    // The slot is free for the next runner, who finds every saga but the one whose write was short.
    let journal = Journal::open(path).unwrap();
    let slot = journal.slots().unwrap().remove(0);
    assert_eq!(history::open_in(&slot).unwrap().len(), appended as usize);
    let lock = journal.claim_when_free(&slot).unwrap().unwrap();
    // And if what is open can't be written anew, nothing is left of the attempt, and nothing is lost.
    fs::write(segment::path(slot.path(), 2), b"unfinished").unwrap();
    let full = vec![0; after as usize];
    assert!(fs::write(path.join("full"), [full.clone(), full].concat()).is_err(), "files may grow");
    let refused = take_over(lock, Keeping::default()).map(|_| "taken over").unwrap_err();
    assert!(refused.to_string().starts_with("can't write "), "{refused}");
    assert_eq!(segments(path), [1, 2]);
    assert_eq!(history::open_in(&slot).unwrap().len(), appended as usize);
    println!("\nall of it seen");
}

#[test]
fn a_write_that_fails_ends_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut sh = Command::new("sh");
    // A file size limit is the one way to make writes fail without root; its signal must be ignored.
    sh.args(["-c", "trap '' XFSZ; ulimit -f 128; exec \"$0\" \"$@\""]);
    let child = child("log::tests::writer::child_whose_files_may_not_grow", dir.path());
    sh.arg(child.get_program()).args(child.get_args()).env(CHILD_JOURNAL, dir.path());
    let output = spawn(sh.stdout(Stdio::piped()).stderr(Stdio::piped())).unwrap().wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("all of it seen"), "{said}");
}

#[test]
fn an_entry_that_is_too_large_ends_the_log_before_anything_of_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let log = take(dir.path()).log;
    tell(&log, saga(1), open_events());
    let ended = write(&log, saga(2), [large(70_000)]).unwrap_err();
    assert!(ended.to_string().contains("over the limit"), "{ended}");
    assert_eq!(all_sagas(dir.path()).len(), 1);
}

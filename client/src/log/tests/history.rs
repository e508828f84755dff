//! What readers without a lock see.

use std::fs;
use std::ops::ControlFlow;

use super::cut_disk::CutDisk;
use super::slot::listening;
use super::*;
use crate::log::record::HEADER_BYTES;
use crate::log::{JournalError, Slot, history};
use crate::saga::tests::failed;

/// A slot with one segment of history and a head: `settled` settled in the history, `late` open there and settled in
/// the head, `open` open in both.
struct Slots {
    dir: tempfile::TempDir,
    settled: SagaId,
    late: SagaId,
    open: SagaId,
}

fn two_segments() -> Slots {
    let dir = tempfile::tempdir().unwrap();
    let slots = Slots { dir, settled: saga(1), late: saga(2), open: saga(3) };
    let path = slots.dir.path();
    let log = take(path).log;
    tell(&log, slots.settled, std::iter::once(large(60_000)).chain(settled_events().into_iter().skip(1)));
    tell(&log, slots.late, open_events());
    let position =
        tell(&log, slots.open, std::iter::once(large(10_000)).chain(open_events().into_iter().skip(1)));
    wait_for(log.durable(position)).unwrap();
    tell(&log, slots.open, [failed(1)]);
    log.let_go();
    let log = take(path).log;
    tell(&log, slots.late, settled_events().into_iter().skip(4));
    log.let_go();
    slots
}

fn read(path: &Path) -> history::History {
    history::read(&Journal::open_existing(path).unwrap()).unwrap()
}

#[test]
fn a_damaged_header_is_told_and_costs_no_saga() {
    let slots = two_segments();
    let head = segment::path(&slots.dir.path().join("0"), 2);
    let mut bytes = fs::read(&head).unwrap();
    bytes[HEADER_BYTES - 1] ^= 1;
    fs::write(&head, bytes).unwrap();
    let read = read(slots.dir.path());
    assert_eq!(
        read.gaps.damage.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["slot 0 segment 2: bytes 0 to 52 are damaged (the header)"]
    );
    assert!(!read.gaps.are_none());
    assert_eq!(read.sagas.len(), 3);
    assert!(read.sagas.iter().all(|(_, story)| !story.is_quarantined()));
}

/// The sagas of a history and whether they are open.
fn open_by_saga(history: &history::History) -> Vec<(SagaId, bool)> {
    history.sagas.iter().map(|(_, story)| (story.saga, story.is_open())).collect()
}

#[test]
fn every_saga_is_told_once_and_as_it_stands() {
    let slots = two_segments();
    let told = read(slots.dir.path());
    assert_eq!(open_by_saga(&told), [(slots.settled, false), (slots.late, false), (slots.open, true)]);
    assert!(told.gaps.are_none());
    let open = history::open_in(&told.sagas[0].0).unwrap();
    assert_eq!(open.iter().map(|story| story.saga).collect::<Vec<_>>(), [slots.open]);
}

#[test]
fn a_segment_that_is_missing_is_looked_for_again_before_that_is_damage() {
    let slots = two_segments();
    let slot = &Journal::open_existing(slots.dir.path()).unwrap().slots().unwrap()[0];
    let path = segment::path(slot.path(), 1);
    let moved = path.with_extension("moved");
    fs::rename(&path, &moved).unwrap();
    let mut looks = 0;
    let told = history::newest_first(slot, |_, is_head, read| {
        looks += u32::from(is_head);
        if looks == 2 && is_head {
            fs::rename(&moved, &path).unwrap();
        }
        assert_eq!(read(&mut |_| {})?, []);
        Ok(ControlFlow::Continue(()))
    });
    assert!(told.is_ok() && looks == 2, "{told:?} after {looks} looks");
}

#[test]
fn a_segment_that_stays_missing_is_damage_and_costs_nothing_else() {
    let slots = two_segments();
    fs::remove_file(segment::path(&slots.dir.path().join("0"), 1)).unwrap();
    let read = read(slots.dir.path());
    let missing: Vec<_> = read.gaps.damage.iter().map(|damage| damage.place.segment).collect();
    assert!(read.gaps.skipped.is_empty() && missing == [1], "{:?}", read.gaps);
    assert_eq!(open_by_saga(&read), [(slots.late, false), (slots.open, true)]);
}

#[test]
fn who_follows_a_log_reads_its_newest_segments_alone() {
    let slots = two_segments();
    let slot = &Journal::open_existing(slots.dir.path()).unwrap().slots().unwrap()[0];
    let told = |from| {
        let newest = history::newest_in(slot, from).unwrap();
        assert_eq!(newest.head, 2);
        newest.stories.into_keys().collect::<Vec<_>>()
    };
    assert_eq!(told(u64::MAX), [slots.late, slots.open]);
    assert_eq!(told(2), [slots.late, slots.open]);
    assert_eq!(told(1), [slots.settled, slots.late, slots.open]);
}

#[test]
fn the_newest_segment_is_told_first_and_no_more_is_read_than_is_wanted() {
    let slots = two_segments();
    let journal = Journal::open_existing(slots.dir.path()).unwrap();
    let slot = &journal.slots().unwrap()[0];
    let mut told = Vec::new();
    history::newest_first(slot, |segment, is_head, read| {
        let mut sagas = Vec::new();
        read(&mut |story| sagas.push(story.saga))?;
        told.push((segment, is_head, sagas));
        Ok(ControlFlow::Continue(()))
    })
    .unwrap();
    assert_eq!(told, [(2, true, vec![slots.late, slots.open]), (1, false, vec![slots.settled])]);

    let mut shown = Vec::new();
    history::survey(&journal, |_, story| shown.push(story)).unwrap();
    shown.sort_by_key(|story| story.saga);
    let all: Vec<_> = read(slots.dir.path()).sagas.into_iter().map(|(_, story)| story).collect();
    assert_eq!(shown, all, "each once");

    for (_, story) in read(slots.dir.path()).sagas {
        let (_, found) = history::find(&journal, story.saga).unwrap().expect("it is there");
        assert_eq!(found, story);
    }
    assert!(history::find(&journal, saga(9)).unwrap().is_none());
    // What stands in the head is found though nothing older can be read.
    fs::remove_file(segment::path(slot.path(), 1)).unwrap();
    fs::create_dir(segment::path(slot.path(), 1)).unwrap();
    assert!(history::find(&journal, slots.open).unwrap().is_some());
}

/// What a person moves away, ends by force and moves back.
#[test]
fn of_a_saga_in_several_slots_that_is_found_of_which_most_is_left_to_be_done() {
    let stages = [settled_events(), settled_events().into_iter().take(6).collect(), open_events()];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path()).unwrap();
        let logs = order.map(|stage: usize| {
            let log = take_over(journal.claim_free().unwrap(), Keeping::default()).unwrap().log;
            tell(&log, saga(1), stages[stage].clone());
            log
        });
        logs.iter().for_each(SagaLog::let_go);
        for stage in [2, 1] {
            let (found, said) = listening(|| history::find(&journal, saga(1)).unwrap().unwrap());
            let place = order.iter().position(|there| *there == stage).unwrap();
            assert_eq!((found.0.number() as usize, found.1.records.len()), (place, stages[stage].len()));
            assert_eq!(said.contains("open in two slots"), stage == 2, "{order:?} {stage}: {said}");
            // It gets its end there.
            let lock = journal.claim_when_free(&found.0).unwrap().unwrap();
            let log = take_over(lock, Keeping::default()).unwrap().log;
            tell(&log, saga(1), settled_events().into_iter().skip(stages[stage].len()));
            log.let_go();
        }
    }
}

#[test]
fn damage_in_a_segment_of_history_makes_no_settled_saga_look_unfinished() {
    let slots = two_segments();
    let path = slots.dir.path();
    let whole = read(path);
    let file = segment::path(&path.join("0"), 1);
    let bytes = written(path, 1);
    let mut reported = 0;
    for at in (0..bytes.len()).step_by(bytes.len() / 500) {
        let mut changed = bytes.clone();
        changed[at] ^= 0x20;
        fs::write(&file, &changed).unwrap();
        let told = read(path);
        reported += usize::from(told.gaps.damage.len() == 1);
        let open: Vec<_> =
            told.sagas.iter().filter(|(_, story)| story.is_open()).map(|(_, s)| s.clone()).collect();
        let before: Vec<_> =
            whole.sagas.iter().filter(|(_, story)| story.is_open()).map(|(_, s)| s.clone()).collect();
        assert_eq!(open, before, "byte {at}");
    }
    assert!(reported > 400, "{reported} of some 500 reported");
}

#[test]
fn a_slot_that_cannot_be_read_is_said_to_be_skipped_and_holds_up_no_other() {
    let slots = two_segments();
    let path = slots.dir.path();
    fs::write(path.join("1"), b"a file, not a slot").unwrap();
    let newer = path.join("2");
    fs::create_dir(&newer).unwrap();
    let mut header = Header { place: Place { slot: 2, segment: 1 }, lowest_live: 1, boot: None }.encode();
    header[8] = 2;
    let crc = crc32c::crc32c(&header[..48]);
    header[48..].copy_from_slice(&crc.to_le_bytes());
    fs::write(segment::path(&newer, 1), header).unwrap();
    fs::create_dir(path.join("7")).unwrap();

    let told = read(path);
    assert_eq!(told.sagas.len(), 3);
    assert_eq!(told.gaps.skipped.len(), 2);
    assert!(matches!(told.gaps.skipped[1].1, JournalError::NewerFormat { format: 2, .. }));
    let error = told.gaps.skipped[1].1.to_string();
    assert!(
        error.contains("00000001.log has log format 2") && error.contains("use the newer program"),
        "{error}"
    );
}

#[test]
fn a_segment_of_history_is_missed_whatever_is_left_of_it() {
    for left in [0, HEADER_BYTES, HEADER_BYTES + 500] {
        let slots = two_segments();
        let path = slots.dir.path();
        let whole = written(path, 1);
        let cut = &whole[..left];
        fs::write(segment::path(&path.join("0"), 1), cut).unwrap();
        let missed = || {
            let damage = read(path).gaps.damage;
            damage.iter().map(|damage| (damage.place.segment, damage.to)).collect::<Vec<_>>()
        };
        assert_eq!(missed(), [(1, whole.len() as u64)]);
        take(path).log.let_go();
        assert_eq!(
            (missed(), written(path, 1).len()),
            (vec![(1, whole.len() as u64)], left),
            "it is left alone"
        );
    }
}

/// A slot of killed runners: the first has told of one saga, and the second, if there is one, of another. The segment of
/// the first is history then, since each has told of one that has ended, besides.
fn killed(runners: u8, has_no_boot_id: bool) -> (CutDisk, Slot) {
    let disk = CutDisk::default();
    disk.lock().has_no_boot_id = has_no_boot_id;
    let history_stays = Keeping { merge_bytes_max: 0, ..Keeping::default() };
    for number in 1..=runners {
        let log = take_over(disk.journal().claim_free().unwrap(), history_stays).unwrap().log;
        tell(&log, saga(100 + number), settled_events());
        tell(&log, saga(number), open_events());
        disk.kill(log);
    }
    let slot = disk.journal().slots().unwrap().remove(0);
    (disk, slot)
}

#[test]
fn a_bad_record_that_nothing_calls_durable_is_damage_until_the_power_may_have_gone() {
    // The only segment, one behind history, and history.
    for (runners, segment) in [(1, 1), (2, 2), (2, 1)] {
        for (has_no_boot_id, power_goes, damaged) in [(false, false, 1), (false, true, 0), (true, false, 0)] {
            let (disk, slot) = killed(runners, has_no_boot_id);
            let records = segment::read(&slot, segment, Certain::Stated).unwrap().scan.records;
            let at = records.iter().rfind(|(_, record)| record.saga == saga(segment as u8)).unwrap().0;
            let before = records.iter().rfind(|(offset, _)| *offset < at).unwrap().0;
            if power_goes {
                disk.lose_power(|| 0);
            }
            disk.damage(segment, before as usize + 20);
            let damage = history::newest_in(&slot, 0).unwrap().damage;
            assert_eq!(
                damage.len(),
                damaged,
                "{runners} {segment} {has_no_boot_id} {power_goes}: {damage:?}"
            );
        }
    }
}

#[test]
fn a_live_end_is_not_damage() {
    let slots = two_segments();
    let path = slots.dir.path();
    let log = take(path).log;
    tell(&log, saga(9), open_events());
    let head = *segment::list(&RealDisk::default(), &path.join("0")).unwrap().last().unwrap();
    let file = segment::path(&path.join("0"), head);
    let bytes = written(path, head);
    for cut in 1..200 {
        fs::write(&file, &bytes[..bytes.len() - cut]).unwrap();
        let told = read(path);
        assert!(told.gaps.damage.is_empty());
        let growing = told.sagas.iter().filter(|(_, story)| story.saga == saga(9)).map(|(_, story)| story);
        assert_eq!(told.sagas.len(), 3 + growing.clone().count());
        assert!(growing.into_iter().all(|story| story.is_open() && !story.is_quarantined()), "cut by {cut}");
    }
}

#[test]
fn sagas_of_all_slots_come_in_the_order_in_which_they_began() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path()).unwrap();
    let logs: Vec<_> =
        (0..3).map(|_| take_over(journal.claim_free().unwrap(), Keeping::default()).unwrap().log).collect();
    for number in 0..9 {
        tell(&logs[number % 3], saga(9 - number as u8), open_events());
    }
    let told = read(dir.path());
    assert!(told.sagas.is_sorted_by_key(|(_, story)| story.saga));
    assert_eq!(
        told.sagas.iter().map(|(slot, _)| slot.number()).collect::<Vec<_>>(),
        [2, 1, 0, 2, 1, 0, 2, 1, 0]
    );
}

#[test]
fn readers_see_every_saga_while_runners_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    tell(&take(path).log, saga(1), open_events());
    let slot = Journal::open(path).unwrap().slots().unwrap().remove(0);
    std::thread::scope(|scope| {
        // Every takeover merges the head into a new one and deletes it.
        let runners = scope.spawn(|| (0..300).for_each(|_| take(path).log.let_go()));
        while !runners.is_finished() {
            let told = read(path);
            assert!(told.gaps.are_none(), "{:?}", told.gaps);
            assert_eq!(open_by_saga(&told), [(saga(1), true)]);
            assert_eq!(history::open_in(&slot).unwrap().len(), 1);
        }
    });
}

#[test]
fn a_saga_of_which_a_power_loss_took_only_the_word_that_it_was_settled_is_still_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    let log = take(path).log;
    let mut events = settled_events();
    let settled = events.pop().unwrap();
    wait_for(log.durable(tell(&log, saga(1), events))).unwrap();
    let older = segment::path(&path.join("0"), 1);
    let synced = written(path, 1).len() as u64;
    tell(&log, saga(1), [settled]);
    log.let_go();
    let lock = Journal::open(path).unwrap().claim_free().unwrap();
    // The next owner leaves the segment to history, since it is large or damaged: the saga is not told again.
    let history_stays = Keeping { merge_bytes_max: 0, ..Keeping::default() };
    assert!(take_over(lock, history_stays).unwrap().open.is_empty());
    fs::OpenOptions::new().write(true).open(&older).unwrap().set_len(synced).unwrap();
    assert_eq!(open_by_saga(&read(path)), [(saga(1), false)]);
}

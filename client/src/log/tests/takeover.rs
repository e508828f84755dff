//! The one procedure, and a crash at every point of it.

use std::fs::{self, File};
use std::time::SystemTime;

use super::*;
use crate::log::{Cut, JournalError, history, record};
use crate::saga::tests::{back, failed, forced, undo_sent};
use crate::saga::{SagaState, TurnBack};

/// More than is merged into a new head.
const TOO_LARGE_TO_MERGE: usize = 60_000;

pub(super) type Open = BTreeMap<SagaId, Option<SagaState>>;

/// A journal whose first slot holds sagas in every phase, left behind by a dead runner; and what is open in it.
fn left_behind(path: &Path, large_head: bool) -> Open {
    let TakenOver { log, .. } = take(path);
    tell(&log, saga(1), [Event::Begun(begun().into())]);
    tell(&log, saga(2), open_events());
    tell(&log, saga(3), settled_events());
    tell(&log, saga(4), settled_events().into_iter().take(6));
    let turned = [back(TurnBack::Operator { by_uid: 0 }), undo_sent(1, 1)];
    tell(&log, saga(5), open_events().into_iter().chain(turned));
    tell(&log, saga(6), [Event::Begun(begun().into()), forced(End::Compensated)]);
    if large_head {
        tell(
            &log,
            saga(7),
            std::iter::once(large(TOO_LARGE_TO_MERGE)).chain(settled_events().into_iter().skip(1)),
        );
        tell(&log, saga(8), [large(TOO_LARGE_TO_MERGE)]);
    }
    log.let_go();
    open_at(path)
}

/// What is open in the first slot, read without a lock.
pub(super) fn open_at(path: &Path) -> Open {
    let journal = Journal::open(path).unwrap();
    open_sagas(history::open_in(&journal.slots().unwrap()[0]).unwrap())
}

pub(super) fn numbers(path: &Path) -> Vec<u64> {
    segment::list(&RealDisk::default(), &path.join("0")).unwrap()
}

pub(super) fn segment_path(path: &Path, number: u64) -> std::path::PathBuf {
    segment::path(&path.join("0"), number)
}

#[test]
fn a_new_slot_has_one_segment_and_nothing_open() {
    let dir = tempfile::tempdir().unwrap();
    let taken = take(dir.path());
    assert_eq!((taken.open.len(), taken.damage.len(), numbers(dir.path())), (0, 0, vec![1]));
}

#[test]
fn whatever_is_open_is_carried_over_and_what_was_driven_is_marked_as_taken_over() {
    for large_head in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let before = left_behind(dir.path(), large_head);
        assert_eq!(before.len(), if large_head { 6 } else { 5 });
        let taken = take(dir.path());
        assert_eq!(taken.damage, []);
        let marked = |story: &Story| matches!(story.records.last().unwrap().event, Event::TakenOver { .. });
        for story in &taken.open {
            let ended = story.state.as_ref().unwrap().ended().is_some();
            assert_eq!(marked(story), !ended, "{story:?}");
        }
        assert!(taken.open[0].state.as_ref().unwrap().taken_over_forward);
        assert_eq!(open_sagas(taken.open), before);
        // What was told and what stands on disk are the same.
        assert_eq!(open_at(dir.path()), before);
    }
}

#[test]
fn a_small_head_is_merged_and_a_large_one_is_kept_as_history() {
    for (large_head, segments) in [(false, vec![2]), (true, vec![1, 2])] {
        let dir = tempfile::tempdir().unwrap();
        left_behind(dir.path(), large_head);
        take(dir.path()).log.let_go();
        assert_eq!(numbers(dir.path()), segments);
        let read = history::read(&Journal::open(dir.path()).unwrap()).unwrap();
        assert_eq!(read.sagas.len(), if large_head { 8 } else { 6 });
    }
}

#[test]
fn a_slot_of_many_short_lived_runners_does_not_fill_up_and_forgets_nothing() {
    let dir = tempfile::tempdir().unwrap();
    for number in 0..100 {
        let TakenOver { log, open, .. } = take(dir.path());
        assert_eq!(open.len(), 0);
        tell(&log, saga(number), settled_events());
    }
    let read = history::read(&Journal::open(dir.path()).unwrap()).unwrap();
    assert_eq!(read.sagas.len(), 100);
    assert!(read.sagas.iter().all(|(_, story)| !story.is_open()));
    assert!(numbers(dir.path()).len() <= 2, "{:?}", numbers(dir.path()));
}

/// The same sagas are open after a takeover of `state`, a journal as a crash left it.
fn assert_same_open(state: &Path, before: &Open, crash: &str) {
    assert_eq!(&open_at(state), before, "read after: {crash}");
    let taken = take(state);
    assert_eq!(taken.damage, [], "{crash}");
    assert_eq!(&open_sagas(taken.open), before, "{crash}");
    taken.log.let_go();
    assert_eq!(&open_at(state), before, "{crash}, taken over once more");
}

#[test]
fn a_crash_anywhere_in_a_takeover_leaves_the_same_sagas_open() {
    for large_head in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (dir.path().join("old"), dir.path().join("new"));
        let before = left_behind(&old, large_head);
        copy_journal(&old, &new);
        let taken = take(&new);
        let (fresh, space) = (written(&new, 2), fs::read(segment_path(&new, 2)).unwrap().len());
        taken.log.let_go();

        let mut cuts: Vec<_> = (0..fresh.len()).step_by(fresh.len() / 40).chain(34..38).collect();
        cuts.extend(fresh.len() - 16..=fresh.len());
        for cut in cuts {
            let state = dir.path().join(format!("cut-{cut}"));
            copy_journal(&old, &state);
            fs::write(segment_path(&state, 2), &fresh[..cut]).unwrap();
            let crash = format!("{cut} of {} bytes written", fresh.len());
            assert_same_open(&state, &before, &crash);
            let state = dir.path().join(format!("zeros-{cut}"));
            copy_journal(&old, &state);
            let zeros = vec![0; space - cut];
            fs::write(segment_path(&state, 2), [&fresh[..cut], &zeros].concat()).unwrap();
            assert_same_open(&state, &before, &format!("{crash}, and zeros"));
        }
        for hole in (0..fresh.len()).step_by(fresh.len() / 40) {
            let state = dir.path().join(format!("hole-{hole}"));
            copy_journal(&old, &state);
            let mut holed = fresh.clone();
            let end = (hole + 64).min(holed.len());
            holed[hole..end].fill(0);
            fs::write(segment_path(&state, 2), holed).unwrap();
            assert_same_open(&state, &before, &format!("a hole at {hole} of {}", fresh.len()));
        }
        assert_same_open(&new, &before, "all of it done");
    }
}

#[test]
fn an_old_segment_that_reappears_counts_for_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    left_behind(path, false);
    let old = fs::read(segment_path(path, 1)).unwrap();
    let log = take(path).log;
    for number in [1, 2] {
        tell(&log, saga(number), [forced(End::Completed), Event::Settled]);
    }
    log.let_go();
    let before = open_at(path);
    assert_eq!(before.len(), 3);
    fs::write(segment_path(path, 1), &old).unwrap();

    assert_eq!(open_at(path), before);
    let read = history::read(&Journal::open(path).unwrap()).unwrap();
    assert_eq!(open_sagas(read.sagas.into_iter().map(|(_, story)| story)), before);
    let taken = take(path);
    assert_eq!(open_sagas(taken.open), before);
    assert_eq!(numbers(path), [3], "what reappeared is deleted again");
}

#[test]
fn unfinished_segments_of_crashed_takeovers_are_cleared_away() {
    let dir = tempfile::tempdir().unwrap();
    let before = left_behind(dir.path(), true);
    for number in 2..6 {
        fs::write(segment_path(dir.path(), number), b"unfinished").unwrap();
    }
    assert_same_open(dir.path(), &before, "four takeovers crashed");
    assert_eq!(numbers(dir.path()), [1, 6]);
}

#[test]
fn what_a_takeover_that_was_cut_short_has_written_is_named_and_is_no_history_though_it_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let (path, whole) = (&dir.path().join("cut"), &dir.path().join("whole"));
    let before = left_behind(path, true);
    copy_journal(path, whole);
    take(whole).log.let_go();
    // All but the mark.
    let unfinished = &written(whole, 2)[..record::HEADER_BYTES + 300];
    fs::write(segment_path(path, 2), unfinished).unwrap();
    let taken = take(path);
    let (place, to) = (Place { slot: 0, segment: 2 }, unfinished.len() as u64);
    assert_eq!(taken.cut, [Cut { place, from: 0, to, sagas: vec![saga(1)] }]);
    taken.log.let_go();
    let told = || {
        let read = history::read(&Journal::open(path).unwrap()).unwrap();
        assert!(read.gaps.are_none(), "{:?}", read.gaps);
        read.sagas.into_iter().map(|(_, story)| story).collect::<Vec<_>>()
    };
    let whole = told();
    // Its removal was lost with the power.
    fs::write(segment_path(path, 2), unfinished).unwrap();
    assert_eq!((told(), open_at(path)), (whole, before));
    take(path).log.let_go();
    assert_eq!(numbers(path), [1, 4]);
}

#[test]
fn a_carry_over_that_was_damaged_before_anything_followed_is_not_mistaken_for_an_unfinished_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    // History that is older than the head and tells of sagas that were open then.
    left_behind(path, true);
    take(path).log.let_go();
    let log = take(path).log;
    tell(&log, saga(2), [sent(1, 7), done(1), Event::Ended(End::Completed), Event::Settled]);
    log.let_go();
    take(path).log.let_go();
    let before = open_at(path);
    assert!(!before.contains_key(&saga(2)));
    let head = *numbers(path).last().unwrap();
    assert!(!numbers(path).contains(&(head - 1)), "the one before the head was merged and deleted");
    let whole = written(path, head);

    let everywhere = (0..whole.len()).step_by(whole.len() / 61);
    // The mark stands last.
    for at in everywhere.chain(whole.len() - 13..whole.len()) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fs::write(segment_path(path, head), &bytes).unwrap();
        let now = open_at(path);
        assert!(!now.contains_key(&saga(2)), "byte {at}: what has long been settled is open again");
        let lost = before.keys().filter(|saga| !now.contains_key(saga)).count();
        let changed = before.iter().filter(|(saga, state)| now.get(saga) != Some(state)).count();
        assert!(lost == 0 && changed <= 1, "byte {at}: {lost} sagas are lost, {changed} changed");
    }
}

/// A slot whose runner was killed right after it took over: nothing stands behind the carry-over, and the segment before
/// was merged into it.
fn killed_at_once(path: &Path) -> Open {
    let elsewhere = tempfile::tempdir().unwrap();
    left_behind(elsewhere.path(), false);
    let _running = take(elsewhere.path());
    copy_journal(elsewhere.path(), path);
    assert_eq!(numbers(path), [2]);
    open_at(path)
}

#[test]
fn a_carry_over_without_anything_behind_it_that_is_damaged_is_not_mistaken_for_a_torn_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    let before = killed_at_once(path);
    let whole = written(path, 2);
    let mark = whole.len() - 13;
    for at in (record::HEADER_BYTES..mark).step_by(7) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fs::write(segment_path(path, 2), &bytes).unwrap();
        let now = open_at(path);
        assert!(before.keys().all(|saga| now.contains_key(saga)), "byte {at}: {now:?}");
        assert!(!history::read(&Journal::open(path).unwrap()).unwrap().gaps.damage.is_empty(), "byte {at}");
    }
}

#[test]
fn a_head_that_has_lost_its_mark_is_no_empty_slot() {
    let stray: fn(&Path) = |path| fs::write(segment_path(path, 99), "").unwrap();
    let emptied: fn(&Path) = |path| fs::write(segment_path(path, 2), "").unwrap();
    let zeroed: fn(&Path) = |path| fs::write(segment_path(path, 2), [0; 4096]).unwrap();
    for harm in [stray, emptied, zeroed] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        killed_at_once(path);
        harm(path);
        let journal = Journal::open(path).unwrap();
        let before = numbers(path);
        let history = history::read(&journal).unwrap();
        assert!(matches!(history.gaps.skipped[..], [(_, JournalError::HeadLost { .. })]), "{history:?}");
        assert!(history::find(&journal, saga(9)).is_err(), "it may stand there");
        let taken = take_over(journal.claim_free().unwrap(), Keeping::default());
        assert!(matches!(taken, Err(JournalError::HeadLost { .. })), "{taken:?}");
        assert_eq!(numbers(path), before, "nothing was touched");
    }
}

#[test]
fn retention_drops_what_is_settled_and_never_what_is_not() {
    for large_head in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        let before = left_behind(path, large_head);
        let long_ago = SystemTime::now() - 2 * WEEK;
        File::options().append(true).open(segment_path(path, 1)).unwrap().set_modified(long_ago).unwrap();
        // Nothing written within no time is recent.
        until("a millisecond has passed", {
            let began = crate::log::wall_ms();
            move || crate::log::wall_ms() > began
        });
        take_keeping(path, if large_head { WEEK } else { Duration::ZERO }).log.let_go();
        assert_eq!(numbers(path), [2]);
        assert_eq!(open_at(path), before);
        let read = history::read(&Journal::open(path).unwrap()).unwrap();
        assert_eq!(read.sagas.len(), before.len());
    }
}

#[test]
fn a_runner_that_keeps_few_segments_removes_its_own_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    let few = Keeping { segment_bytes_max: 2000, merge_bytes_max: 0, ..Keeping::default() };
    let fill = |own_segments_max: usize, from: u8| {
        let journal = Journal::open(path).unwrap();
        let lock = journal.claim_free().unwrap();
        let log = take_over(lock, Keeping { own_segments_max, ..few }).unwrap().log;
        for number in from..from + 8 {
            let before = numbers(path).last().copied();
            let events = std::iter::once(large(2000)).chain(settled_events().into_iter().skip(1));
            let ended = tell(&log, saga(number), events);
            wait_for(log.durable(ended)).unwrap();
            until("a new segment", || numbers(path).last().copied() > before);
        }
        log.let_go();
    };
    fill(usize::MAX, 1);
    assert_eq!(numbers(path), (1..=9).collect::<Vec<_>>());
    fill(2, 11);
    // The ninth told of nothing.
    let (others, began_with, head) = (1..=8, 10, 18);
    assert_eq!(numbers(path), others.chain([began_with, 16, 17, head]).collect::<Vec<_>>());
    let read = history::read(&Journal::open(path).unwrap()).unwrap();
    let told: Vec<_> = read.sagas.iter().map(|(_, story)| story.saga).collect();
    assert_eq!(
        told,
        [(1..=8).collect(), vec![11, 17, 18]].concat().into_iter().map(saga).collect::<Vec<_>>()
    );
    assert!(read.gaps.damage.is_empty() && read.sagas.iter().all(|(_, story)| !story.is_open()));
}

#[test]
fn what_is_not_a_segment_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let before = left_behind(dir.path(), false);
    let strays = ["+00000009.log", "9.log", "00000009.log.old", "notes", "18446744073709551615.log"]
        .map(|name| dir.path().join("0").join(name));
    strays.iter().for_each(|stray| fs::write(stray, b"mine").unwrap());
    assert_same_open(dir.path(), &before, "with strays");
    assert!(strays.iter().all(|stray| stray.exists()));
}

#[test]
fn a_stuck_saga_does_not_grow_with_every_takeover() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    tell(&take(path).log, saga(1), open_events());
    for attempt in 2..40 {
        let log = take(path).log;
        tell(&log, saga(1), [sent(1, attempt), failed(1)]);
    }
    assert!(written(path, 39).len() < 2000);
    let open = open_at(path);
    assert_eq!(open[&saga(1)].as_ref().unwrap().steps[1].action_attempts, 39);
}

#[test]
fn sagas_that_are_stuck_together_do_not_fill_the_slot_with_every_takeover() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    let log = take(path).log;
    for number in [1, 2] {
        let begun = std::iter::once(large(TOO_LARGE_TO_MERGE));
        tell(&log, saga(number), begun.chain(open_events().into_iter().skip(1)));
    }
    // History, for which its segment stays.
    tell(&log, saga(3), settled_events());
    log.let_go();
    for attempt in 2..10 {
        let log = take(path).log;
        for number in [1, 2] {
            tell(&log, saga(number), [sent(1, attempt), failed(1)]);
        }
    }
    assert_eq!(numbers(path), [1, 9]);
    let read = history::read(&Journal::open(path).unwrap()).unwrap();
    assert_eq!((read.sagas.len(), read.gaps.are_none()), (3, true));
    assert_eq!(open_at(path)[&saga(2)].as_ref().unwrap().steps[1].action_attempts, 9);
}

#[test]
fn a_full_segment_that_tells_of_nothing_but_open_sagas_is_no_history() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    let journal = Journal::open(path).unwrap();
    let small = Keeping { segment_bytes_max: 2000, ..Keeping::default() };
    // What has ended is told again in the segment that the next runner begins with.
    tell(&take(path).log, saga(3), settled_events());
    let log = take_over(journal.claim_free().unwrap(), small).unwrap().log;
    tell(&log, saga(1), open_events());
    let mut attempts = 2..;
    let mut fill = || {
        let full = numbers(path).last().copied();
        while numbers(path).last().copied() == full {
            let attempt = attempts.next().unwrap();
            wait_for(log.durable(tell(&log, saga(1), [sent(1, attempt), failed(1)]))).unwrap();
        }
    };
    (0..3).for_each(|_| fill());
    until("three are full, and the first stays", || numbers(path) == [2, 5]);
    tell(&log, saga(2), settled_events());
    (0..3).for_each(|_| fill());
    until("three more, and what has ended stays", || numbers(path) == [2, 5, 8]);
    log.let_go();
    let read = history::read(&journal).unwrap();
    assert_eq!((read.sagas.len(), read.gaps.are_none()), (3, true));
}

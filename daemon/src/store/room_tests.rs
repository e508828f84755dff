//! Merges on a disk that is short of space.

use std::sync::atomic::{AtomicU64, Ordering};

use super::super::super::room::{MARGIN_BYTES, Room, taken_by};
use super::*;

/// Runs on a disk of which a tenth of `MARGIN_BYTES` is kept back, and of which so much is free.
fn on_a_disk(base: &Arc<MemoryBase>, shape: Shape) -> (Arc<Runs>, Arc<AtomicU64>) {
    let (runs, free) = (open(base, shape), Arc::new(AtomicU64::new(u64::MAX)));
    let seen = Arc::clone(&free);
    let look = move || Ok(Room { free_bytes: seen.load(Ordering::Relaxed), reserve_bytes: RESERVE_BYTES });
    runs.within(Arc::new(look));
    (runs, free)
}

const RESERVE_BYTES: u64 = MARGIN_BYTES / 10;

/// In how many values all these runs are.
fn values(runs: &Runs) -> u64 {
    runs.listed().runs.iter().map(|run| u64::from(run.entry.values())).sum()
}

/// What must be free for a merge of them to be begun.
fn wanted(runs: &Runs) -> u64 {
    RESERVE_BYTES + runs.bytes_of(values(runs)) + 2 * MARGIN_BYTES
}

#[test]
fn values_take_two_and_a_half_times_their_length() {
    assert_eq!(taken_by(4, 1000), 10_000);
    assert_eq!(taken_by(u64::MAX, 1000), u64::MAX / 2, "as good as everything");
}

#[test]
fn what_does_not_fit_beside_the_reserve_is_not_merged_until_there_is_room() {
    let base = MemoryBase::empty();
    let (runs, free) = on_a_disk(&base, SMALL);
    (0..2).for_each(|run| write(&runs, &rows((0..40).map(|at| at * 2 + run), 1)));
    let before = base.values().clone();
    for too_little in [0, RESERVE_BYTES, wanted(&runs) - 1] {
        free.store(too_little, Ordering::Relaxed);
        assert!(!merge::is_due(&runs) && runs.allowance().is_short());
        merge_all(&runs);
        assert_eq!(*base.values(), before, "with {too_little}");
        assert_eq!(runs.listed().runs.len(), 2);
        assert_eq!(read(&runs, &KeyRange::prefix(&[0x10])).unwrap().len(), 80);
    }
    free.store(wanted(&runs), Ordering::Relaxed);
    assert!(merge::is_due(&runs) && !runs.allowance().is_short());
    merge_all(&runs);
    assert_eq!((runs.listed().runs.len(), base.runs().len()), (1, 1));
    assert_eq!(read(&runs, &KeyRange::prefix(&[0x10])).unwrap().len(), 80);
}

#[test]
fn a_disk_that_can_not_be_seen_is_taken_for_full() {
    let runs = open(&MemoryBase::empty(), SMALL);
    (0..2).for_each(|run| write(&runs, &rows(run..run + 1, 1)));
    assert!(merge::is_due(&runs));
    runs.within(Arc::new(|| Err(std::io::Error::other("unseen"))));
    assert!(!merge::is_due(&runs) && runs.allowance().is_short());
}

#[test]
fn a_merge_under_way_is_given_up_when_what_is_left_of_it_does_not_fit_and_tried_again_after_the_next_checkpoint()
 {
    let base = MemoryBase::empty();
    let (runs, free) = on_a_disk(&base, SMALL);
    (0..2).for_each(|run| write(&runs, &rows((0..400).map(|at| at * 2 + run), 1)));
    let mut merges = Merges::of(Arc::clone(&runs));
    (0..5).for_each(|_| assert!(merges.step().unwrap().is_none()));
    assert_eq!(base.runs().len(), 3, "a merge is under way");
    free.store(wanted(&runs) - MARGIN_BYTES, Ordering::Relaxed);
    assert!(merges.step().unwrap().is_none());
    assert!(!runs.has_gone(), "it goes on while it fits");
    free.store(RESERVE_BYTES + MARGIN_BYTES + 1, Ordering::Relaxed);
    assert!(merges.step().unwrap().is_none());
    assert!(runs.has_gone(), "what is left of it does not fit");
    free.store(MARGIN_BYTES - 1, Ordering::Relaxed);
    while merges.step().unwrap().is_none() {}
    assert_eq!(
        (runs.listed().runs.len(), base.runs().len()),
        (2, 3),
        "to remove what it has written takes room too"
    );
    free.store(MARGIN_BYTES, Ordering::Relaxed);
    assert!(merge::is_due(&runs));
    merge_all(&runs);
    assert_eq!((runs.listed().runs.len(), base.runs().len()), (2, 2), "what it had written is removed");
    free.store(u64::MAX, Ordering::Relaxed);
    assert!(!merge::is_due(&runs), "not at once");
    write(&runs, &rows(800..820, 1));
    merge_all(&runs);
    assert_eq!(runs.listed().runs.len(), 1);
    assert_eq!(read(&runs, &KeyRange::prefix(&[0x10])).unwrap().len(), 820);
}

#[test]
fn a_large_merge_that_does_not_fit_holds_up_no_small_one_and_parts_of_it_are_merged_that_do() {
    let base = MemoryBase::empty();
    let (runs, free) = on_a_disk(&base, Shape { fan_in: 2, block_bytes: 60, runs_max: 99 });
    free.store(0, Ordering::Relaxed);
    (0..3).for_each(|run| write(&runs, &rows((0..200).map(|at| at * 3 + run), 1)));
    let large = values(&runs);
    free.store(wanted(&runs) - 1, Ordering::Relaxed);
    merge_all(&runs);
    let levels = || runs.listed().runs.iter().map(|run| run.entry.level).collect::<Vec<_>>();
    assert_eq!(levels(), [1, 0]);
    write(&runs, &rows(700..710, 1));
    free.store(RESERVE_BYTES + runs.bytes_of(large / 2) + 2 * MARGIN_BYTES, Ordering::Relaxed);
    merge_all(&runs);
    assert_eq!(levels(), [1, 1]);
    (0..2).for_each(|run| write(&runs, &rows(720 + run * 10..730 + run * 10, 1)));
    free.store(RESERVE_BYTES + runs.bytes_of(20) + 2 * MARGIN_BYTES, Ordering::Relaxed);
    merge_all(&runs);
    assert_eq!(levels(), [1, 1, 1], "the large ones wait");
    assert_eq!(read(&runs, &KeyRange::prefix(&[0x10])).unwrap().len(), 630);
}

#[test]
fn what_fits_is_merged_though_runs_that_were_merged_less_often_do_not_fit() {
    let base = MemoryBase::empty();
    let (runs, free) = on_a_disk(&base, Shape { fan_in: 2, block_bytes: 60, runs_max: 99 });
    let levels = || runs.listed().runs.iter().map(|run| run.entry.level).collect::<Vec<_>>();
    let mut merges = Merges::of(Arc::clone(&runs));
    for pair in 0..2 {
        (0..2).for_each(|run| write(&runs, &rows((0..9).map(|at| at * 4 + pair * 2 + run), 1)));
        while levels().contains(&0) {
            merges.step().unwrap();
        }
    }
    free.store(RESERVE_BYTES + runs.bytes_of(values(&runs)) + 2 * MARGIN_BYTES, Ordering::Relaxed);
    (0..2).for_each(|run| write(&runs, &rows((0..200).map(|at| 100 + at * 2 + run), 1)));
    assert_eq!(levels(), [1, 1, 0, 0]);
    merge_all(&runs);
    assert_eq!(levels(), [2, 0, 0]);
    assert_eq!(read(&runs, &KeyRange::prefix(&[0x10])).unwrap().len(), 436);
}

#[test]
fn a_merge_that_fails_for_want_of_space_is_given_up_and_nothing_else_fails() {
    let base = MemoryBase::empty();
    let runs = open(&base, SMALL);
    (0..2).for_each(|run| write(&runs, &rows((0..400).map(|at| at * 2 + run), 1)));
    let mut merges = Merges::of(Arc::clone(&runs));
    (0..5).for_each(|_| assert!(merges.step().unwrap().is_none()));
    base.is_full.store(true, Ordering::Relaxed);
    assert_eq!(merges.step().unwrap(), Some(()), "it has ended, and not failed");
    assert!(!merge::is_due(&runs) && runs.allowance().is_short(), "nothing is written or removed");
    assert_eq!(runs.listed().runs.len(), 2);
    assert_eq!(read(&runs, &KeyRange::prefix(&[0x10])).unwrap().len(), 800);
    base.is_full.store(false, Ordering::Relaxed);
    write(&runs, &rows(800..820, 1));
    assert!(merge::is_due(&runs));
    base.is_full.store(true, Ordering::Relaxed);
    merge_all(&runs);
    assert!(base.runs().len() > 3, "it could not be removed");
    base.is_full.store(false, Ordering::Relaxed);
    write(&runs, &rows(820..840, 1));
    merge_all(&runs);
    assert_eq!((runs.listed().runs.len(), base.runs().len()), (1, 1));
    assert_eq!(read(&runs, &KeyRange::prefix(&[0x10])).unwrap().len(), 840);
}

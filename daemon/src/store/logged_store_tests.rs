use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::super::MemoryStore;
use super::super::filter::Filter;
use super::super::room::Room;
use super::super::run::{FirstKeys, Run};
use super::super::run_list::Entry;
use super::super::tests;
use super::*;

#[path = "damage_tests.rs"]
mod damage;
#[path = "start_tests.rs"]
mod starts;

/// A log that makes a checkpoint at every sync, each waiting for the one before.
const TINY: u64 = 1;

/// Runs of many blocks that are merged all the time.
const SMALL: Shape = Shape { block_bytes: 40, fan_in: 2, runs_max: 5 };

fn open(path: &Path) -> LoggedStore {
    again(path, LOG_BYTES_MAX, false).unwrap()
}

fn again(path: &Path, log_bytes_max: u64, restored: bool) -> Result<LoggedStore, OpenError> {
    let shape = if log_bytes_max == LOG_BYTES_MAX { Shape::USUAL } else { SMALL };
    again_with(path, log_bytes_max, shape, restored)
}

fn again_with(
    path: &Path,
    log_bytes_max: u64,
    shape: Shape,
    restored: bool,
) -> Result<LoggedStore, OpenError> {
    tests::again(|| {
        let data = DataDir::open(path, "article", restored).unwrap();
        LoggedStore::open_with(data, log_bytes_max, shape)
    })
}

fn batch(changes: &[(&[u8], Option<&[u8]>)]) -> Batch {
    changes.iter().map(|(key, value)| ((*key).into(), value.map(<[u8]>::to_vec))).collect()
}

#[test]
fn what_was_synced_is_found_by_the_next_opening() {
    let temp = tempfile::tempdir().unwrap();
    let mut store = open(temp.path());
    let id = store.id();
    store.apply(batch(&[(b"a", Some(b"1")), (b"b", Some(b"2"))])).unwrap();
    store.apply(batch(&[(b"a", None)])).unwrap();
    store.sync().unwrap();
    drop(store);
    let store = open(temp.path());
    assert_eq!(store.id(), id);
    assert_eq!(store.get(b"a").unwrap(), None);
    assert_eq!(store.get(b"b").unwrap(), Some(b"2".to_vec()));
    let segments = named(temp.path(), "log.").iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    assert!(store.bytes() > segments, "{} bytes", store.bytes());
}

#[test]
fn the_longest_of_keys_is_found_again_in_the_log_and_in_a_run() {
    let temp = tempfile::tempdir().unwrap();
    let longest = [0x10; KEY_BYTES_MAX];
    for log_bytes_max in [LOG_BYTES_MAX, TINY, LOG_BYTES_MAX] {
        let mut store = again(temp.path(), log_bytes_max, false).unwrap();
        for last in [1, 2] {
            let key = [&longest[1..], &[last]].concat();
            store.apply(batch(&[(&longest, Some(b"a")), (&key, Some(&[last]))])).unwrap();
            store.sync().unwrap();
        }
    }
    let store = open(temp.path());
    assert!(store.runs().through > 0, "a checkpoint was made");
    assert_eq!(store.scan(&KeyRange::prefix(&[0x10]), 9).unwrap().len(), 3);
    assert_eq!(store.get(&longest).unwrap(), Some(b"a".to_vec()));
}

#[test]
#[should_panic(expected = "a key of 256 bytes")]
fn a_key_that_no_start_could_read_is_not_written() {
    let temp = tempfile::tempdir().unwrap();
    let mut store = open(temp.path());
    let _written = store.apply(batch(&[(&[0x10; KEY_BYTES_MAX + 1], Some(b"a"))]));
}

#[test]
fn it_reads_as_the_store_in_memory_does() {
    let temp = tempfile::tempdir().unwrap();
    let (mut on_disk, mut in_memory) = (open(temp.path()), MemoryStore::default());
    let rows: Vec<[u8; 2]> = (0..40u8).map(|n| [n % 4, n.wrapping_mul(37)]).collect();
    let rows: Vec<_> = rows.iter().map(|key| (&key[..], Some(&key[1..]))).collect();
    on_disk.apply(batch(&rows)).unwrap();
    in_memory.apply(batch(&rows)).unwrap();
    let turned_round = KeyRange { from: vec![2], to: vec![1] };
    let ranges = [KeyRange::prefix(&[1]), KeyRange::prefix(&[2]).after(&[2, 100]), KeyRange::prefix(&[9])];
    for range in ranges.into_iter().chain([turned_round]) {
        for limit in [0, 1, 5, 100] {
            assert_eq!(on_disk.scan(&range, limit).unwrap(), in_memory.scan(&range, limit).unwrap());
            let firsts = |store: &dyn Store| store.firsts(&range, 1, limit).unwrap();
            assert_eq!(firsts(&on_disk), firsts(&in_memory));
        }
        assert_eq!(on_disk.last(&range).unwrap(), in_memory.last(&range).unwrap());
    }
}

/// A store that holds 1 to `last` under one key, one synced batch after the other.
fn written(path: &Path, log_bytes_max: u64, first: u8, last: u8) {
    let mut store = again(path, log_bytes_max, false).unwrap();
    for value in first..=last {
        store.apply(batch(&[(&[0x10], Some(&[value])), (&[0x01, value], Some(&[value]))])).unwrap();
        store.sync().unwrap();
    }
    if let Some(checkpoint) = &store.checkpoint {
        checkpoint.finish().unwrap();
    }
}

fn named(path: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap());
    let mut named: Vec<_> = entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
        .collect();
    named.sort();
    named
}

#[test]
fn deleted_rows_in_front_of_the_first_one_are_remembered_when_there_are_many() {
    let key = |number: usize| [0x10, number as u8];
    let range = KeyRange::prefix(&[0x10]);
    for looks_for_groups in [false, true] {
        let temp = tempfile::tempdir().unwrap();
        let mut store = open(temp.path());
        store.apply((0..20).map(|number| (key(number).as_slice().into(), Some(vec![1]))).collect()).unwrap();
        for (deleted, is_remembered) in [(PASSED_MAX - 1, false), (PASSED_MAX, true)] {
            store.apply((0..deleted).map(|number| (key(number).as_slice().into(), None)).collect()).unwrap();
            let found = if looks_for_groups { store.firsts(&range, 2, 1) } else { store.scan(&range, 1) };
            assert_eq!(found.unwrap()[0].0[..], key(deleted));
            let remembered = store.gaps.end_of(&range.from);
            assert_eq!(remembered, is_remembered.then(|| key(deleted).to_vec()), "{looks_for_groups}");
        }
    }
}

#[test]
fn a_checkpoint_leaves_the_engines_rows_to_a_file_of_their_own_and_the_log_empty() {
    let temp = tempfile::tempdir().unwrap();
    written(temp.path(), TINY, 1, 9);
    let (segments, carried) = (named(temp.path(), "log."), named(temp.path(), "carried."));
    assert_eq!((segments.len(), carried.len()), (1, 1), "{segments:?} {carried:?}");
    let store = open(temp.path());
    assert!(store.active.is_empty());
    assert_eq!(store.get(&[0x10]).unwrap(), Some(vec![9]));
    assert_eq!(store.scan(&KeyRange::prefix(&[0x01]), 99).unwrap().len(), 9);
    let listed = store.runs.listed();
    assert!(listed.runs.iter().all(|run| run.entry.rows == 1), "{listed:?}");
}

#[test]
fn as_much_is_kept_back_as_the_next_checkpoint_carries_over_beside_what_the_last_one_did() {
    let temp = tempfile::tempdir().unwrap();
    let opened = || {
        let look = || Ok(Room { free_bytes: 1 << 40, reserve_bytes: 1000 });
        again(temp.path(), TINY, false).unwrap().within(Arc::new(look))
    };
    let kept_back = |store: &LoggedStore| store.space()().unwrap().reserve_bytes;
    let mut store = opened();
    assert_eq!(kept_back(&store), 1000);
    for value in [vec![1; 500], vec![1; 50]] {
        store.apply(batch(&[(&[0x01], Some(&value))])).unwrap();
        store.sync().unwrap();
        store.checkpoint.as_ref().unwrap().finish().unwrap();
        let [carried] = &named(temp.path(), "carried.")[..] else { panic!("one file") };
        let bytes = fs::metadata(carried).unwrap().len();
        assert!(bytes > value.len() as u64);
        assert_eq!(kept_back(&store), 1000 + bytes);
        drop(store);
        store = opened();
        assert_eq!(kept_back(&store), 1000 + bytes);
    }
}

#[test]
fn a_checkpoint_of_more_blocks_than_are_fed_at_once_loses_none() {
    let temp = tempfile::tempdir().unwrap();
    let mut store = again(temp.path(), TINY, false).unwrap();
    let rows: Batch = (0..500_u16)
        .map(|number| ([&[0x10][..], &number.to_be_bytes()].concat().into(), Some(vec![1])))
        .collect();
    store.apply(rows.clone()).unwrap();
    store.sync().unwrap();
    store.checkpoint.as_ref().unwrap().finish().unwrap();
    drop(store);
    let store = open(temp.path());
    assert!(store.active.is_empty(), "all of it is in the runs");
    assert_eq!(store.scan(&KeyRange::prefix(&[0x10]), 999).unwrap().len(), rows.len());
    assert_eq!(store.get(&[0x10, 1, 0xf3]).unwrap(), Some(vec![1]));
}

#[test]
fn what_was_applied_just_now_is_there_before_the_store_is_tidied_and_in_a_checkpoint_that_is_begun_then() {
    let temp = tempfile::tempdir().unwrap();
    let mut store = again(temp.path(), TINY, false).unwrap();
    store.apply(batch(&[(&[0x10, 1], Some(&[1])), (&[0x10, 2], Some(&[2]))])).unwrap();
    store.tidy();
    store.apply(batch(&[(&[0x10, 1], None), (&[0x10, 3], Some(&[3]))])).unwrap();
    let expected: [Row; 2] = [2, 3].map(|number| (vec![0x10, number].into(), vec![number]));
    let all = KeyRange::prefix(&[0x10]);
    assert_eq!((store.fresh.len(), store.active.len()), (2, 2));
    assert_eq!(store.scan(&all, 9).unwrap(), expected);
    assert_eq!(
        (store.get(&[0x10, 1]).unwrap(), store.last(&all).unwrap()),
        (None, Some(expected[1].clone()))
    );
    store.sync().unwrap();
    store.checkpoint.as_ref().unwrap().finish().unwrap();
    drop(store);
    let store = open(temp.path());
    assert_eq!(store.scan(&all, 9).unwrap(), expected);
}

#[test]
fn merges_are_begun_whenever_there_is_something_to_merge() {
    let temp = tempfile::tempdir().unwrap();
    let mut store = again(temp.path(), TINY, false).unwrap();
    for number in 1..=4_u8 {
        store.apply(batch(&[(&[0x10, number], Some(&[1]))])).unwrap();
        store.sync().unwrap();
        let began = Instant::now();
        while store.checkpoint.is_some() || store.merges.is_some() {
            assert!(began.elapsed() < Duration::from_secs(20), "in vain");
            store.sync().unwrap();
        }
        // Two of a level become one of the next.
        assert_eq!(store.runs().runs.len(), number.count_ones() as usize, "{:?}", store.runs());
    }
}

#[test]
fn rows_that_a_checkpoint_made_superfluous_are_freed_little_by_little_while_others_are_written() {
    let temp = tempfile::tempdir().unwrap();
    let mut store = again(temp.path(), TINY, false).unwrap();
    store.apply((0..20).map(|number| (vec![0x10, number].into(), Some(vec![1]))).collect()).unwrap();
    store.sync().unwrap();
    while store.checkpoint.is_some() {
        store.sync().unwrap();
    }
    let mut left_behind = |written: u8| {
        store.apply((0..written).map(|number| (vec![0x11, number].into(), None)).collect()).unwrap();
        store.tidy();
        store.unneeded.iter().map(Batch::len).collect::<Vec<_>>()
    };
    assert_eq!(left_behind(1), [20 - FREED_PER_WRITE]);
    assert_eq!(left_behind(3), [20 - 4 * FREED_PER_WRITE]);
    assert_eq!(left_behind(9), [0; 0]);
}

#[test]
fn rows_that_checkpoints_made_superfluous_do_not_pile_up_however_little_is_written() {
    let temp = tempfile::tempdir().unwrap();
    let mut store = again(temp.path(), TINY, false).unwrap();
    store.apply((0..100).map(|number| (vec![0x01, number].into(), Some(vec![1]))).collect()).unwrap();
    for value in 0..9 {
        store.apply(batch(&[(&[0x10], Some(&[value]))])).unwrap();
        store.sync().unwrap();
        let left_behind: usize = store.unneeded.iter().map(Batch::len).sum();
        assert!(left_behind <= 2 * 100, "{left_behind} rows after {value}");
    }
}

#[test]
fn many_starts_without_much_work_make_a_checkpoint() {
    let temp = tempfile::tempdir().unwrap();
    for value in 0..=2 * SEGMENTS_MAX as u8 {
        written(temp.path(), LOG_BYTES_MAX, value, value);
    }
    assert!(named(temp.path(), "log.").len() <= SEGMENTS_MAX);
    assert_eq!(open(temp.path()).scan(&KeyRange::prefix(&[0x01]), 99).unwrap().len(), 2 * SEGMENTS_MAX + 1);
}

#[test]
fn a_store_that_has_no_room_to_merge_waits_for_nobody_and_breaks_nothing_even_with_a_full_list_of_runs() {
    let temp = tempfile::tempdir().unwrap();
    let free_bytes = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&free_bytes);
    let look = move || Ok(Room { free_bytes: seen.load(Ordering::Relaxed), reserve_bytes: 0 });
    let mut store = again(temp.path(), TINY, false).unwrap().within(Arc::new(look));
    let write = |store: &mut LoggedStore, number: u16| {
        let key = [&[0x10][..], &number.to_be_bytes()].concat();
        store.apply(batch(&[(&key, Some(&[1]))])).unwrap();
        store.sync().unwrap();
    };
    (0..40).for_each(|number| write(&mut store, number));
    assert!(store.runs().runs.len() > 30, "{:?}", store.runs());
    // Hundreds more, each of which takes much of the list and nothing else.
    for number in (0..u64::MAX - 1).rev() {
        let entry = Entry { run: number, level: 1 << 62, rows: 0, blocks: 0, pieces: 0 };
        let empty = Run::new(entry, FirstKeys::default(), Filter::for_keys(0));
        if !store.runs.have_place() {
            break;
        }
        store.runs.add(Some(empty), store.runs().through).unwrap();
    }
    (40..60).for_each(|number| write(&mut store, number));
    assert!(store.active.len() >= 18, "the log goes on without a checkpoint: {}", store.active.len());
    let all = KeyRange::prefix(&[0x10]);
    assert_eq!(store.scan(&all, usize::MAX).unwrap().len(), 60);
    free_bytes.store(u64::MAX, Ordering::Relaxed);
    write(&mut store, 60);
    assert!(store.runs().runs.len() < SMALL.runs_max && store.active.is_empty(), "all that waited is done");
    assert_eq!(store.scan(&all, usize::MAX).unwrap().len(), 61);
}

#[test]
fn a_writer_does_not_try_for_ever_to_merge_what_fits_only_when_he_asks_and_never_when_he_begins() {
    let temp = tempfile::tempdir().unwrap();
    let looks = AtomicU64::new(0);
    let look = move || {
        let look = looks.fetch_add(1, Ordering::Relaxed);
        assert!(look < 10_000, "it looks for ever");
        Ok(Room { free_bytes: if look.is_multiple_of(2) { u64::MAX } else { 0 }, reserve_bytes: 0 })
    };
    let mut store = again(temp.path(), TINY, false).unwrap().within(Arc::new(look));
    for number in 0..4 * SMALL.runs_max as u8 {
        store.apply(batch(&[(&[0x10, number], Some(&[1]))])).unwrap();
        store.sync().unwrap();
    }
    assert_eq!(store.scan(&KeyRange::prefix(&[0x10]), 99).unwrap().len(), 4 * SMALL.runs_max);
}

/// A step: rows to write, whether to tidy up after them, and whether to start anew after that.
type Step = (Vec<(u8, u8, Option<u8>)>, bool, bool);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn it_is_the_store_in_memory_whatever_is_checkpointed_and_restarted_when(
        steps in proptest::collection::vec(
            (proptest::collection::vec((0..3_u8, 0..6_u8, any::<Option<u8>>()), 1..8), any::<bool>(), any::<bool>()),
            1..14,
        ),
        log_bytes_max in prop_oneof![Just(TINY), Just(200), Just(LOG_BYTES_MAX)],
    ) {
        let steps: Vec<Step> = steps;
        let temp = tempfile::tempdir().unwrap();
        let (mut on_disk, mut in_memory) = (again(temp.path(), log_bytes_max, false).unwrap(), MemoryStore::default());
        for (rows, tidy, restart) in steps {
            let rows: Batch = rows
                .into_iter()
                .map(|(tag, key, value)| (vec![[0x01, 0x10, 0x11][usize::from(tag)], key].into(), value.map(|v| vec![v])))
                .collect();
            on_disk.apply(rows.clone()).unwrap();
            in_memory.apply(rows).unwrap();
            on_disk.sync().unwrap();
            if tidy {
                on_disk.tidy();
            }
            if restart {
                drop(on_disk);
                on_disk = again(temp.path(), log_bytes_max, false).unwrap();
            }
            for range in [KeyRange::prefix(&[0x01]), KeyRange::prefix(&[0x10]), KeyRange { from: vec![0x10, 2], to: vec![0x11, 4] }] {
                for limit in [1, 3, 99] {
                    prop_assert_eq!(on_disk.scan(&range, limit).unwrap(), in_memory.scan(&range, limit).unwrap());
                    for shared in [1, 2] {
                        let firsts = |store: &dyn Store| store.firsts(&range, shared, limit).unwrap();
                        prop_assert_eq!(firsts(&on_disk), firsts(&in_memory));
                    }
                }
                prop_assert_eq!(on_disk.last(&range).unwrap(), in_memory.last(&range).unwrap());
            }
            for key in [[0x01, 0], [0x10, 1], [0x11, 5]] {
                prop_assert_eq!(on_disk.get(&key).unwrap(), in_memory.get(&key).unwrap());
            }
        }
    }
}

#[test]
fn no_page_is_written_into_a_file_of_its_own_however_long_its_values_are() {
    let temp = tempfile::tempdir().unwrap();
    let mut store = again(temp.path(), TINY, false).unwrap();
    for round in 0..40_u16 {
        let rows: Vec<_> = (0..30_u16)
            .map(|row| {
                (
                    (0x1000 | row.wrapping_mul(7919).wrapping_add(round * 31) & 0xfff).to_be_bytes(),
                    vec![round as u8; VALUE_BYTES_MAX],
                )
            })
            .collect();
        let rows: Vec<_> = rows.iter().map(|(key, value)| (&key[..], Some(&value[..]))).collect();
        store.apply(batch(&rows)).unwrap();
        store.sync().unwrap();
    }
    assert_eq!(fs::read_dir(temp.path().join("blobs")).unwrap().count(), 0);
}

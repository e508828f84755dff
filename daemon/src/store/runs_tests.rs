use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::aside::Steps;
use super::super::filter::Filter;
use super::super::memory::MemoryBase;
use super::super::merge::{self, Merges};
use super::super::merged::Merged;
use super::super::run::{FirstKeys, place};
use super::super::{Batch, Row};
use super::*;

#[path = "room_tests.rs"]
mod room;
#[path = "run_tests.rs"]
mod run;

impl MemoryBase {
    fn empty() -> Arc<Self> {
        Arc::default()
    }

    fn damage(&self, place: &[u8]) {
        self.values().get_mut(place).unwrap()[5] ^= 1;
    }

    fn runs(&self) -> Vec<u64> {
        let mut runs: Vec<_> = self.values().keys().filter_map(|key| run_of(key)).collect();
        runs.dedup();
        runs
    }
}

const SMALL: Shape = Shape { block_bytes: 60, fan_in: 2, runs_max: 5 };

fn open(base: &Arc<MemoryBase>, shape: Shape) -> Arc<Runs> {
    Arc::new(Runs::open(Path::new("/data"), Arc::clone(base) as _, shape).unwrap().0)
}

fn key(number: u16) -> Key {
    [&[0x10][..], &number.to_be_bytes()].concat().into()
}

/// Writes a run of some rows, some of them deleted, as a checkpoint does.
fn write(runs: &Runs, rows: &Batch) {
    let mut writer = runs.begin(0, rows.len() as u64);
    rows.iter().for_each(|(key, value)| writer.push(key, value.as_deref()));
    writer.end();
    while !writer.feed(&**runs.base()).unwrap() {}
    runs.add(writer.written(), runs.listed().through + 1).unwrap();
}

fn rows(numbers: impl IntoIterator<Item = u16>, value: u8) -> Batch {
    numbers.into_iter().map(|number| (key(number), Some(vec![value]))).collect()
}

fn deleted(numbers: impl IntoIterator<Item = u16>) -> Batch {
    numbers.into_iter().map(|number| (key(number), None)).collect()
}

fn merge_all(runs: &Arc<Runs>) {
    let mut merges = Merges::of(Arc::clone(runs));
    while merges.step().unwrap().is_none() {}
}

fn read(runs: &Runs, range: &KeyRange) -> Result<Vec<Row>, StoreError> {
    Merged::of(runs.rows(range)).collect()
}

#[test]
fn a_key_that_is_not_there_costs_no_look_at_a_block_nearly_always_and_one_that_is_costs_one() {
    let base = MemoryBase::empty();
    let runs = open(&base, Shape { fan_in: 99, ..SMALL });
    (0..10).for_each(|run| write(&runs, &rows((0..100).map(|at| at * 20 + run), 1)));
    base.reads.store(0, Ordering::Relaxed);
    for number in 0..2000 {
        assert_eq!(runs.get(&key(number)).unwrap().is_some(), number % 20 < 10);
    }
    let in_vain = base.reads.load(Ordering::Relaxed) - 1000;
    assert!(in_vain < 1000, "{in_vain} looks in vain in 10 runs for 2000 keys");
}

#[test]
fn what_is_deleted_is_remembered_as_long_as_something_older_may_have_it() {
    let base = MemoryBase::empty();
    let runs = open(&base, Shape { fan_in: 3, ..SMALL });
    (0..3).for_each(|run| write(&runs, &rows(run * 10..run * 10 + 10, 1)));
    merge_all(&runs);
    write(&runs, &deleted(0..5));
    write(&runs, &rows(40..45, 1));
    write(&runs, &deleted(40..45));
    merge_all(&runs);
    let listed = runs.listed();
    let [oldest, newest] = &listed.runs[..] else { panic!("{listed:?}") };
    assert_eq!(
        (oldest.entry.rows, newest.entry.rows),
        (30, 5),
        "what was deleted where it was written is gone"
    );
    assert_eq!(runs.get(&key(3)).unwrap(), None);
    write(&runs, &rows(3..4, 2));
    assert_eq!(runs.get(&key(3)).unwrap(), Some(vec![2]));
    assert_eq!(read(&runs, &KeyRange::prefix(&[0x10])).unwrap().len(), 26);
}

#[test]
fn a_reader_keeps_what_it_reads_until_it_has_done_and_then_it_is_removed() {
    let base = MemoryBase::empty();
    let runs = open(&base, SMALL);
    (0..4).for_each(|run| write(&runs, &rows((0..40).map(|at| at * 4 + run), 1)));
    let mut reader = Merged::of(runs.rows(&KeyRange::prefix(&[0x10])));
    assert!(reader.next().is_some());
    merge_all(&runs);
    assert_eq!(runs.listed().runs.len(), 1);
    assert!(base.runs().len() >= 5 && !runs.has_gone(), "{:?}", base.runs());
    assert_eq!(reader.map(Result::unwrap).count(), 159);
    assert!(runs.has_gone() && merge::is_due(&runs));
    merge_all(&runs);
    assert_eq!(base.runs().len(), 1);
}

#[test]
fn a_list_of_runs_that_would_be_too_long_for_a_value_is_refused_and_the_one_before_stays() {
    let base = MemoryBase::empty();
    let runs = open(&base, SMALL);
    let refused = (0..VALUE_BYTES_MAX as u64).find_map(|number| {
        let entry = Entry { run: u64::MAX - 1 - number, level: 1, rows: 0, blocks: 0, pieces: 0 };
        let empty = Run::new(entry, FirstKeys::default(), Filter::for_keys(0));
        runs.add(Some(empty), number).err()
    });
    assert!(matches!(refused, Some(StoreError::Failed { .. })), "{refused:?}");
    assert!(!runs.have_place() && base.row().len() <= VALUE_BYTES_MAX);
    assert_eq!(*base.row(), runs.listed().row());
}

#[test]
fn what_a_crash_left_is_removed_and_its_number_is_not_used_before() {
    let base = MemoryBase::empty();
    let runs = open(&base, SMALL);
    write(&runs, &rows(0..9, 1));
    let mut cut_short = [runs.begin(0, 9), runs.begin(0, 9)];
    write(&runs, &rows(10..19, 1));
    for writer in &mut cut_short {
        (0..9).for_each(|number| writer.push(&key(number), Some(&[2])));
        writer.end();
        writer.feed(&**runs.base()).unwrap();
    }
    let left = cut_short.map(|writer| writer.entry().run);
    let runs = open(&base, SMALL);
    assert!(runs.begin(0, 1).entry().run > 3, "{left:?}");
    merge_all(&runs);
    assert_eq!(base.runs().len(), 1);
    assert_eq!(read(&runs, &KeyRange::prefix(&[0x10])).unwrap().len(), 18);
}

#[test]
fn a_damaged_block_costs_its_rows_and_no_merge_passes_it_on() {
    let base = MemoryBase::empty();
    let runs = open(&base, SMALL);
    write(&runs, &rows(0..100, 1));
    let damaged = runs.listed().runs[0].entry;
    base.damage(&place(damaged.run, 1));
    let (good, bad) = ((0..100).map(|number| runs.get(&key(number))))
        .partition::<Vec<_>, _>(|read| matches!(read, Ok(Some(_))));
    assert!(bad.iter().all(|read| matches!(read, Err(StoreError::Damaged(_)))) && !bad.is_empty());
    assert!(good.len() > 80, "{}", good.len());
    assert!(matches!(read(&runs, &KeyRange::prefix(&[0x10])), Err(StoreError::Damaged(_))));
    let behind = KeyRange::prefix(&[0x10]).after(&key(50));
    assert_eq!(read(&runs, &behind).unwrap().len(), 49);

    // Opened anew, it is not known yet: a merge finds it, and the others go on.
    let runs = open(&base, SMALL);
    (0..7).for_each(|run| write(&runs, &rows((0..10).map(|at| at * 10 + run), 3)));
    merge_all(&runs);
    let listed = runs.listed();
    assert_eq!(listed.runs[0].entry, damaged);
    assert!(listed.runs.len() < 6, "{listed:?}");
    assert_eq!(base.runs().len(), listed.runs.len(), "what was merged in vain is removed");
    assert_eq!(runs.get(&key(3)).unwrap(), Some(vec![3]));
}

#[test]
fn a_damaged_index_and_a_damaged_list_are_refused() {
    let base = MemoryBase::empty();
    let runs = open(&base, SMALL);
    write(&runs, &rows(0..100, 1));
    let entry = runs.listed().runs[0].entry;
    base.damage(&place(entry.run, entry.blocks));
    let opened = Runs::open(Path::new("/data"), Arc::clone(&base) as _, SMALL);
    assert!(matches!(opened, Err(OpenError::Damaged { .. })));
    base.damage(&place(entry.run, entry.blocks));
    base.row()[4] ^= 1;
    let opened = Runs::open(Path::new("/data"), Arc::clone(&base) as _, SMALL);
    assert!(matches!(opened, Err(OpenError::Damaged { .. })));
}

#[test]
fn too_many_runs_are_merged_though_there_are_not_enough_of_a_level_and_damaged_ones_stay_aside() {
    let shape = Shape { fan_in: 5, block_bytes: 60, runs_max: 4 };
    let merged = |runs: &Arc<Runs>| {
        merge_all(runs);
        runs.listed().runs.iter().map(|run| (run.entry.level, run.entry.rows)).collect::<Vec<_>>()
    };
    let runs = open(&MemoryBase::empty(), shape);
    (0..3).for_each(|run| write(&runs, &rows([run], 1)));
    assert_eq!(merged(&runs), [(0, 1); 3], "they are not too many");
    write(&runs, &rows([3], 1));
    assert_eq!(merged(&runs), [(1, 4)]);

    let base = MemoryBase::empty();
    let runs = open(&base, shape);
    (0..3).for_each(|run| write(&runs, &rows([run], 1)));
    base.damage(&place(runs.listed().runs[2].entry.run, 0));
    assert!(runs.get(&key(2)).is_err());
    write(&runs, &rows([3], 1));
    assert_eq!(merged(&runs), [(1, 2), (0, 1), (0, 1)]);
}

#[test]
fn a_merge_of_small_runs_does_not_wait_for_one_of_large_ones() {
    let runs = open(&MemoryBase::empty(), Shape { fan_in: 2, block_bytes: 60, runs_max: 99 });
    let mut merges = Merges::of(Arc::clone(&runs));
    for run in 0..2 {
        (0..2).for_each(|_| write(&runs, &rows((0..2000).map(|at| at * 2 + run), 1)));
        while runs.listed().runs.iter().any(|run| run.entry.level == 0) {
            merges.step().unwrap();
        }
    }
    let large = |listed: &Listed| listed.runs.iter().filter(|run| run.entry.level == 1).count();
    while runs.has_gone() {
        merges.step().unwrap();
    }
    merges.step().unwrap();
    (0..2).for_each(|_| write(&runs, &rows(0..10, 1)));
    let mut steps = 0;
    while large(&runs.listed()) == 2 {
        merges.step().unwrap();
        steps += 1;
    }
    assert_eq!((runs.listed().runs.len(), large(&runs.listed())), (3, 3), "the large ones wait");
    assert!(steps < 10, "{steps}");
}

proptest! {
    #[test]
    fn runs_read_like_rows_that_were_written_in_turn(
        steps in proptest::collection::vec(
            (proptest::collection::btree_map(0..30_u16, any::<Option<u8>>(), 0..20), 0..20_u8, any::<bool>()), 1..20,
        ),
        fan_in in 2..5_usize, block_bytes in 20..200_usize, runs_max in 2..9_usize,
    ) {
        let (base, mut expected) = (MemoryBase::empty(), BTreeMap::new());
        let shape = Shape { fan_in, block_bytes, runs_max };
        let mut runs = open(&base, shape);
        let mut merges = Merges::of(Arc::clone(&runs));
        for (changes, merged, restart) in steps {
            let changes: Batch = changes.into_iter().map(|(at, value)| (key(at), value.map(|v| vec![v]))).collect();
            write(&runs, &changes);
            for (key, value) in changes {
                match value {
                    Some(value) => expected.insert(key, value),
                    None => expected.remove(&key),
                };
            }
            for _ in 0..merged {
                merges.step().unwrap();
            }
            if restart {
                runs = open(&base, shape);
                merges = Merges::of(Arc::clone(&runs));
            }
            let all = KeyRange::prefix(&[0x10]);
            let found: BTreeMap<_, _> = read(&runs, &all).unwrap().into_iter().collect();
            prop_assert_eq!(&found, &expected);
            for at in 0..31 {
                prop_assert_eq!(runs.get(&key(at)).unwrap(), expected.get(&key(at)).cloned());
                let below = all.clone().before(&key(at));
                let last = runs.last_key(&below).unwrap();
                prop_assert!(expected.range(..key(at)).next_back().is_none_or(|(key, _)| last.as_ref() >= Some(key)));
                prop_assert!(last.is_none_or(|last| last < key(at)));
            }
        }
        while merges.step().unwrap().is_none() {}
        prop_assert!(runs.listed().runs.len() < runs_max.max(4 * fan_in));
        prop_assert_eq!(base.runs().len(), runs.listed().runs.len());
    }
}

//! What damage in sled's file costs.

use super::super::super::tests::{copied, damage};
use super::*;

/// Each row is a block, and some ten blocks are a page of sled's.
const ROWS: u8 = 20;

/// So many runs fill more than a segment of sled's log, the last of which it does not open if it is damaged.
const FAN_IN: u8 = 12;

fn value(run: u8, row: u8) -> Vec<u8> {
    [0xa5, run, row, 0x5a].repeat(750)
}

fn opened(path: &Path) -> Result<LoggedStore, OpenError> {
    again_with(path, TINY, Shape { fan_in: usize::from(FAN_IN), ..Shape::USUAL }, false)
}

/// Writes rows that a checkpoint makes a run of, and waits until all that can be merged is.
fn write_run(store: &mut LoggedStore, run: u8) {
    let rows = (0..ROWS).map(|row| (vec![0x10, run, row].into(), Some(value(run, row)))).collect();
    store.apply(rows).unwrap();
    store.sync().unwrap();
    let began = Instant::now();
    while store.checkpoint.is_some() || store.merges.is_some() {
        assert!(began.elapsed() < Duration::from_secs(60), "in vain");
        store.sync().unwrap();
        std::thread::yield_now();
    }
}

/// Which of the rows of so many runs are damaged. All others are what was written.
fn damaged_rows(store: &LoggedStore, runs: u8) -> Vec<(u8, u8)> {
    let all = (0..runs).flat_map(|run| (0..ROWS).map(move |row| (run, row)));
    let is_damaged = |(run, row): &(u8, u8)| match store.get(&[0x10, *run, *row]) {
        Err(StoreError::Damaged(_)) => true,
        read => {
            assert_eq!(read.unwrap(), Some(value(*run, *row)), "row {row} of run {run}");
            false
        }
    };
    all.filter(is_damaged).collect()
}

#[test]
fn a_damaged_page_of_sled_s_costs_the_rows_in_it_and_nothing_else_whatever_is_merged_beside_it() {
    let temp = tempfile::tempdir().unwrap();
    let whole = temp.path().join("whole");
    let (before, after) = (FAN_IN - 1, 2 * FAN_IN);
    let mut store = opened(&whole).unwrap();
    (0..before).for_each(|run| write_run(&mut store, run));
    drop(store);
    drop(opened(&whole).unwrap());
    let mut served = 0;
    for run in 0..8 {
        let row = (10 + run * 7) % ROWS;
        let copy = temp.path().join(format!("damaged-{run}"));
        copied(&whole, &copy);
        damage(&copy, &value(run, row));
        let mut store = match opened(&copy) {
            Ok(store) => store,
            // The index of a run stands in the same page, or it is one of the last that were written.
            Err(_) => continue,
        };
        let damaged = damaged_rows(&store, before);
        assert!(damaged.contains(&(run, row)) && damaged.len() < usize::from(ROWS), "{damaged:?}");
        (before..after).for_each(|run| write_run(&mut store, run));
        assert_eq!(damaged_rows(&store, after), damaged);
        assert!(store.runs().runs.len() < usize::from(after), "the others are merged: {:?}", store.runs());
        drop(store);
        let store = opened(&copy).unwrap();
        assert_eq!(damaged_rows(&store, after), damaged);
        served += 1;
    }
    assert!(served > 0, "all were refused: this test shows nothing any more");
}

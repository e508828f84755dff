//! Sorted runs in a store's base: their list, blocks and indexes, of any bytes with checksums that match or don't.

use std::path::Path;
use std::sync::Arc;

use like_daemon::store::aside::Steps;
use like_daemon::store::base::Base;
use like_daemon::store::block::{BlockRows, put_key, seal, unsealed};
use like_daemon::store::memory::MemoryBase;
use like_daemon::store::merge::Merges;
use like_daemon::store::merged::Merged;
use like_daemon::store::run::place;
use like_daemon::store::run_list::{Entry, RunList};
use like_daemon::store::runs::{Runs, Shape};
use like_daemon::store::{KeyRange, Row, StoreError};

/// Runs of few blocks that are merged at once.
const SHAPE: Shape = Shape { block_bytes: 64, fan_in: 2, runs_max: 8 };

/// How long the index of a hostile run's filter is, if it has a sound one: it says of every key that it may be there.
const FILTER_BYTES: usize = 64;

/// The first byte says what the rest is: a list; or runs, as pieces, each of which is blocks as pieces in turn. Whatever it is, it
/// is refused with a reason, or read, and then reads the same when it has been merged.
pub fn runs(data: &[u8]) {
    let Some((how, data)) = data.split_first() else { return };
    if how & 1 == 0 { list(data, how & 2 == 0) } else { blocks(data, how & 2 != 0) }
}

fn list(data: &[u8], is_raw: bool) {
    let checksum = if is_raw { Vec::new() } else { crc32c::crc32c(data).to_be_bytes().to_vec() };
    let row = [&checksum, data].concat();
    if let Ok(list) = RunList::decode(&row) {
        assert_eq!(list.encode(), row, "there is one way to write a list");
    }
}

fn blocks(data: &[u8], has_raw_index: bool) {
    let (base, mut list) = (MemoryBase::default(), RunList::default());
    for (run, piece) in (0..).zip(super::pieces(data).into_iter().take(8)) {
        let mut values: Vec<Vec<u8>> =
            super::pieces(piece).into_iter().map(|bytes| [&unsealed(), bytes].concat()).collect();
        if !has_raw_index {
            values.push([unsealed(), index(run, &values)].concat());
        }
        for (number, value) in (0..).zip(&mut values) {
            seal(run, number, value);
            base.values().insert(place(run, number), value.clone());
        }
        let blocks = u32::try_from(values.len()).expect("no input is that long").saturating_sub(1);
        list.runs.push(Entry { run, level: 0, rows: 1, blocks, pieces: 1 });
    }
    base.conclude(&list.encode()).expect("a base in memory does not fail");
    let Ok((runs, _)) = Runs::open(Path::new("/data"), Arc::new(base), SHAPE) else { return };
    let (runs, all) = (Arc::new(runs), KeyRange { from: vec![0], to: vec![u8::MAX] });
    let read = || Merged::of(runs.rows(&all)).collect::<Result<Vec<Row>, StoreError>>();
    let before = read();
    for key in [vec![], vec![0x10], vec![0x10, 1], vec![u8::MAX]] {
        let _any = (runs.get(&key), runs.last_key(&KeyRange { from: vec![0], to: key }));
    }
    let mut merges = Merges::of(Arc::clone(&runs));
    while merges.step().expect("a base in memory does not fail").is_none() {}
    if let (Ok(before), false) = (before, has_raw_index) {
        assert_eq!(read().expect("whole runs are merged into whole ones"), before);
    }
}

/// An index that suits the blocks, as far as they can be read.
fn index(run: u64, blocks: &[Vec<u8>]) -> Vec<u8> {
    let (mut index, mut before) = (Vec::new(), Vec::new());
    for (number, block) in (0..).zip(blocks) {
        let mut block = block.clone();
        seal(run, number, &mut block);
        let first = BlockRows::of(run, number, block).ok().and_then(|mut rows| {
            let is_one = rows.advance().is_ok_and(|is_one| is_one);
            is_one.then(|| rows.key().to_vec())
        });
        let first = first.unwrap_or_else(|| [&before[..], &[0]].concat());
        put_key(&mut index, &before, &first, |_| {});
        before = first;
    }
    index.extend([u8::MAX; FILTER_BYTES]);
    index
}

//! A run by itself: how it stands in the base, and how it is read.

use super::super::super::block::{self, BlockWriter};
use super::super::super::filter::{Filter, Hashed};
use super::super::super::merged::Layered;
use super::super::super::run::FirstKeys;
use super::*;

#[test]
fn a_run_is_pinned() {
    let base = MemoryBase::empty();
    let runs = open(&base, SMALL);
    runs.begin(0, 0);
    let (mut first, mut second, mut filter) =
        (BlockWriter::default(), BlockWriter::default(), Filter::for_keys(10));
    let all = rows(0..10, 7);
    write(&runs, &all);
    for (at, (key, value)) in all.iter().enumerate() {
        let block = if at < 9 { &mut first } else { &mut second };
        block.push(key, value.as_deref());
        filter.put_all([Hashed::of(key)]);
    }
    let mut index = vec![0, 3, 0x10, 0, 0, 2, 1, 9];
    filter.store(&mut index);
    let pieces = index.chunks(SMALL.block_bytes).zip(2..).map(|(bytes, number)| {
        let mut piece = [&[0; 4], bytes].concat();
        block::seal(1, number, &mut piece);
        piece
    });
    let values: Vec<_> = [first.take(1, 0), second.take(1, 1)].into_iter().chain(pieces).collect();
    let golden = values.into_iter().zip(0..).map(|(value, number)| {
        let place = [1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, number];
        (Key::from_slice(&place), value)
    });
    assert_eq!(*base.values(), golden.collect());
    let entry = Entry { run: 1, level: 0, rows: 10, blocks: 2, pieces: 2 };
    assert_eq!(runs.listed().runs[0].entry, entry);
}

#[test]
fn an_index_whose_keys_are_in_disorder_is_refused() {
    for (second, is_refused) in [(4, true), (5, true), (6, false)] {
        let base = MemoryBase::empty();
        let mut piece = [&[0; 4][..], &[0, 1, 5], &[0, 1, second], &[0; 64]].concat();
        block::seal(7, 2, &mut piece);
        base.values().insert(place(7, 2), piece);
        let entry = Entry { run: 7, level: 0, rows: 2, blocks: 2, pieces: 1 };
        let loaded = Run::load(&*base, entry);
        assert_eq!(matches!(loaded, Err(StoreError::Damaged(_))), is_refused, "{second}");
    }
}

/// A run of these blocks, whatever is in them.
fn run_of_blocks(blocks: &[&[u16]]) -> (Arc<MemoryBase>, Arc<Run>) {
    let (base, mut keys, filter) = (MemoryBase::empty(), FirstKeys::default(), Filter::for_keys(0));
    for (number, rows) in (0..).zip(blocks) {
        let mut block = BlockWriter::default();
        rows.iter().for_each(|at| block.push(&key(*at), None));
        keys.push(&key(rows[0]));
        base.values().insert(place(7, number), block.take(7, number));
    }
    let entry = Entry { run: 7, level: 0, rows: 0, blocks: blocks.len() as u32, pieces: 0 };
    (base, Arc::new(Run::new(entry, keys, filter)))
}

/// What is read of it.
fn read_blocks(blocks: &[&[u16]]) -> Vec<Layered> {
    let (base, run) = run_of_blocks(blocks);
    let rows = RunRows::of(base, Arc::clone(&run), &[]).within(&KeyRange::prefix(&[0x10]));
    let read: Vec<_> = rows.collect();
    assert_eq!(run.is_damaged(), read.iter().any(Result::is_err));
    read
}

#[test]
fn a_block_that_reaches_into_the_next_one_is_damaged_and_nothing_behind_it_is_read() {
    let whole = read_blocks(&[&[1, 3], &[4, 5], &[6, 7]]);
    let keys: Vec<_> = whole.into_iter().map(|read| read.unwrap().0).collect();
    assert_eq!(keys, [1, 3, 4, 5, 6, 7].map(key));
    let read = read_blocks(&[&[1, 3], &[4, 6], &[6, 7]]);
    let [Ok(_), Ok(_), Ok((before, None)), Err(StoreError::Damaged(damage))] = &read[..] else {
        panic!("{read:?}")
    };
    assert_eq!((before, &damage.key), (&key(4), &key(4)), "a block is named by its first key");
}

#[test]
fn no_block_is_read_that_begins_behind_a_range() {
    let (base, run) = run_of_blocks(&[&[1, 3], &[5, 7], &[9, 11]]);
    for (from, to, keys, reads) in [
        (0, 1, &[][..], 0),
        (0, 5, &[1, 3], 1),
        (2, 5, &[3], 1),
        (2, 6, &[3, 5], 2),
        (8, 9, &[], 1),
        (5, 12, &[5, 7, 9, 11], 2),
        (20, 30, &[], 1),
    ] {
        for skips in [false, true] {
            base.reads.store(0, Ordering::Relaxed);
            let range = KeyRange { from: key(from).to_vec(), to: key(to).to_vec() };
            let mut rows = RunRows::of(Arc::clone(&base) as _, Arc::clone(&run), &range.from).within(&range);
            let read: Vec<_> = rows.by_ref().map(|row| row.unwrap().0).collect();
            if skips {
                rows.skip_to(&range.to);
                assert!(rows.next().is_none());
            }
            assert_eq!(read, keys.iter().map(|at| key(*at)).collect::<Vec<_>>());
            assert_eq!(base.reads.load(Ordering::Relaxed), reads, "from {from} to {to}");
        }
    }
}

#[test]
fn the_last_key_of_a_range_lies_in_it() {
    let runs = open(&MemoryBase::empty(), SMALL);
    write(&runs, &rows(0..40, 1));
    for (from, to, last) in
        [(0, 99, Some(39)), (0, 40, Some(39)), (20, 30, Some(29)), (40, 99, None), (7, 7, None)]
    {
        let range = KeyRange { from: key(from).to_vec(), to: key(to).to_vec() };
        assert_eq!(runs.last_key(&range).unwrap(), last.map(key), "{from} to {to}");
    }
}

#[test]
fn who_skips_reads_no_more_than_two_blocks_for_each_row() {
    let base = MemoryBase::empty();
    let runs = open(&base, SMALL);
    write(&runs, &rows((0..40).flat_map(|group| (0..50).map(move |at| group * 256 + at)), 1));
    assert!(runs.listed().runs[0].entry.blocks > 200);
    base.reads.store(0, Ordering::Relaxed);
    let mut all = Merged::of(runs.rows(&KeyRange::prefix(&[0x10])));
    for group in 0..40 {
        assert_eq!(all.next().unwrap().unwrap().0, key(group * 256));
        all.skip_to(&key((group + 1) * 256));
    }
    let reads = base.reads.load(Ordering::Relaxed);
    assert!(all.next().is_none() && reads <= 80, "{reads} reads");
}

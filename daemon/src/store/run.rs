//! A run: rows in the order of their keys, written once, in blocks that are values of the base.
//!
//! ```text
//! <base>   01 run(8) number(4), highest bytes first
//!          -> the blocks, counted from 0; then the pieces of the index: CRC32C(4) as a block has it, bytes
//! index    for each block its first key, as [`super::block`] has keys; then the bytes of the [`super::filter`]
//! ```
//!
//! The index is held in memory: for each block some twenty bytes, for each row ten bits. So a key that is not there costs
//! no look at a block, and one that is there costs one.

use std::ops::Range;
use std::sync::Arc;

use super::base::Base;
use super::block::{self, BlockRows, follow_key, put_key};
use super::fields::{Fields, Malformed};
use super::filter::{Filter, Hashed};
use super::merged::{LayerRows, Layered, Rows};
use super::run_list::Entry;
use super::{Key, KeyRange, StoreError};
use crate::sync::atomic::{AtomicBool, Ordering};

/// What all keys of blocks begin with.
const TAG: u8 = 0x01;

/// Where a value of a run stands in the base.
pub fn place(run: u64, number: u32) -> Key {
    let mut place = Key::from_slice(&[TAG]);
    place.extend_from_slice(&run.to_be_bytes());
    place.extend_from_slice(&number.to_be_bytes());
    place
}

/// Where the values of these runs stand.
pub fn places(runs: Range<u64>) -> KeyRange {
    KeyRange { from: place(runs.start, 0).to_vec(), to: place(runs.end, 0).to_vec() }
}

/// The run whose value stands there.
pub fn run_of(place: &[u8]) -> Option<u64> {
    place.strip_prefix(&[TAG])?.first_chunk().map(|run| u64::from_be_bytes(*run))
}

/// The first keys of a run's blocks, one behind the other.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct FirstKeys {
    bytes: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<u32>,
}

impl FirstKeys {
    /// One more.
    pub fn push(&mut self, key: &[u8]) {
        self.bytes.extend(key);
        self.ends.push(self.bytes.len() as u32);
    }

    fn get(&self, number: usize) -> &[u8] {
        let begin = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[begin as usize..self.ends[number] as usize]
    }

    /// How many of them satisfy `is_before`, which the first ones do and the others do not.
    fn count(&self, is_before: impl Fn(&[u8]) -> bool) -> u32 {
        let (mut from, mut to) = (0, self.ends.len());
        while from < to {
            let middle = usize::midpoint(from, to);
            if is_before(self.get(middle)) { from = middle + 1 } else { to = middle }
        }
        from as u32
    }

    /// The index of a run with these and a filter.
    pub fn store(&self, filter: &Filter) -> Vec<u8> {
        let (mut out, mut before) = (Vec::new(), &[][..]);
        for number in 0..self.ends.len() {
            let key = self.get(number);
            put_key(&mut out, before, key, |_| {});
            before = key;
        }
        filter.store(&mut out);
        out
    }

    fn load(index: &[u8], blocks: u32) -> Result<(Self, Filter), Malformed> {
        let (mut keys, mut key, mut fields) = (Self::default(), Vec::new(), Fields::of(index));
        for number in 0..blocks {
            let (shared, rest_bytes) = (usize::from(fields.byte()?), usize::from(fields.byte()?));
            let behind = fields.rest();
            let (rest, behind) =
                behind.split_at_checked(rest_bytes).ok_or(Malformed("the index of a run is cut short"))?;
            follow_key(&mut key, shared, rest, number == 0)?;
            keys.push(&key);
            fields = Fields::of(behind);
        }
        let filter =
            Filter::load(fields.rest()).ok_or(Malformed("the filter of a run is not what it must be"))?;
        Ok((keys, filter))
    }
}

/// A run that is complete. Whoever holds it may read it: its blocks stay where they are as long.
#[derive(Debug)]
pub struct Run {
    /// As the list has it.
    pub entry: Entry,
    keys: FirstKeys,
    filter: Filter,
    /// Whether a block was found that is not what was written.
    is_damaged: AtomicBool,
}

impl Run {
    /// A run that was just written.
    pub fn new(entry: Entry, keys: FirstKeys, filter: Filter) -> Self {
        Self { entry, keys, filter, is_damaged: AtomicBool::new(false) }
    }

    /// Reads the index of a run in the list.
    ///
    /// # Errors
    /// The base can't be read, or the index is not what was written.
    pub fn load(base: &dyn Base, entry: Entry) -> Result<Self, StoreError> {
        let mut index = Vec::new();
        for number in entry.blocks..entry.values() {
            let place = place(entry.run, number);
            let piece = base.get(&place)?.ok_or(Malformed("a piece of the index of a run is missing"));
            let piece = piece.map_err(|why| StoreError::damaged(&place, why))?;
            let bytes = block::unseal(entry.run, number, &piece);
            index.extend(bytes.map_err(|why| StoreError::damaged(&place, why))?);
        }
        let loaded = FirstKeys::load(&index, entry.blocks);
        let (keys, filter) =
            loaded.map_err(|why| StoreError::damaged(&place(entry.run, entry.blocks), why))?;
        Ok(Self::new(entry, keys, filter))
    }

    /// Whether a block was found that is not what was written: then it can't be merged with others.
    pub fn is_damaged(&self) -> bool {
        self.is_damaged.load(Ordering::Relaxed)
    }

    /// Whether it may say anything of a key.
    pub fn may_have(&self, key: Hashed) -> bool {
        self.filter.may_have(key)
    }

    /// What it says of a key that it may have: a value, that the key is deleted, or nothing.
    ///
    /// # Errors
    /// The base can't be read, or the block in which the key would be is damaged.
    pub fn get(&self, base: &dyn Base, key: &[u8]) -> Result<Option<Option<Vec<u8>>>, StoreError> {
        let Some(number) = self.keys.count(|first| first <= key).checked_sub(1) else { return Ok(None) };
        let damaged = |why| self.damaged(key, why);
        let mut rows = self.block(base, number)?.map_err(damaged)?;
        while rows.advance().map_err(damaged)? {
            if rows.key() >= key {
                return Ok((rows.key() == key).then(|| rows.value().map(<[u8]>::to_vec)));
            }
        }
        Ok(None)
    }

    /// The last key of a range of which it says anything.
    ///
    /// # Errors
    /// The base can't be read, or the block in which the key would be is damaged.
    pub fn last_key(&self, base: &dyn Base, range: &KeyRange) -> Result<Option<Key>, StoreError> {
        let below = |key: &[u8]| key < range.to.as_slice();
        let Some(number) = self.keys.count(below).checked_sub(1) else { return Ok(None) };
        let damaged = |why| self.damaged(self.keys.get(number as usize), why);
        let (mut rows, mut last) = (self.block(base, number)?.map_err(damaged)?, None);
        while rows.advance().map_err(damaged)? && below(rows.key()) {
            last = Some(Key::from_slice(rows.key()));
        }
        Ok(last.filter(|last: &Key| last[..] >= range.from[..]))
    }

    /// A block that stands before its first row, which is known to have the key that it must.
    fn block(&self, base: &dyn Base, number: u32) -> Result<Result<BlockRows, Malformed>, StoreError> {
        let bytes = match base.get(&place(self.entry.run, number)) {
            Err(StoreError::Damaged(damage)) => Err(damage.why),
            read => read?.ok_or(Malformed("a block of rows is missing")),
        };
        let block = bytes.and_then(|bytes| BlockRows::of(self.entry.run, number, bytes));
        Ok(block.and_then(|block| block.beginning_with(self.keys.get(number as usize))))
    }

    fn damaged(&self, key: &[u8], why: Malformed) -> StoreError {
        self.is_damaged.store(true, Ordering::Relaxed);
        StoreError::damaged(key, why)
    }
}

/// The rows of a run, read block by block.
pub struct RunRows {
    base: Arc<dyn Base>,
    run: Arc<Run>,
    next: u32,
    /// The first block that is not read any more.
    end: u32,
    rows: BlockRows,
}

impl RunRows {
    /// Stands somewhere before the first row whose key is not below `from`, and at most a block before it.
    pub fn of(base: Arc<dyn Base>, run: Arc<Run>, from: &[u8]) -> Self {
        let next = run.keys.count(|first| first <= from).saturating_sub(1);
        Self { base, next, end: run.entry.blocks, run, rows: BlockRows::default() }
    }

    /// Goes to the next row. Whether there is one.
    ///
    /// # Errors
    /// The base can't be read, or a block is damaged: the error names its first key.
    pub fn advance(&mut self) -> Result<bool, StoreError> {
        let first = |at: u32| self.run.keys.get(at as usize);
        loop {
            let damaged = |why| self.run.damaged(first(self.next.saturating_sub(1)), why);
            if self.rows.advance().map_err(damaged)? {
                if self.next < self.run.entry.blocks && self.rows.key() >= first(self.next) {
                    return Err(damaged(Malformed("a block of rows reaches into the next one")));
                }
                return Ok(true);
            }
            if self.next >= self.end {
                return Ok(false);
            }
            let block = self.run.block(&*self.base, self.next)?;
            self.rows = block.map_err(|why| self.run.damaged(first(self.next), why))?;
            self.next += 1;
        }
    }

    /// Goes on somewhere before the first row that is left whose key is not below `key`, and at most a block before it.
    pub fn skip_to(&mut self, key: &[u8]) {
        let keys = &self.run.keys;
        if self.next < self.end && keys.get(self.next as usize) <= key {
            self.next = keys.count(|first| first <= key).saturating_sub(1);
            self.rows = BlockRows::default();
        }
    }

    /// The key of the row at which it stands.
    pub fn key(&self) -> &[u8] {
        self.rows.key()
    }

    /// The value of that row, unless it is deleted.
    pub fn value(&self) -> Option<&[u8]> {
        self.rows.value()
    }

    /// Its rows of a range, as a layer. No block is read for them that begins behind the range.
    pub fn within(mut self, range: &KeyRange) -> LayerRows<'static> {
        self.end = self.run.keys.count(|first| first < range.to.as_slice());
        Box::new(Within { rows: self, range: range.clone(), has_ended: false })
    }
}

struct Within {
    rows: RunRows,
    range: KeyRange,
    has_ended: bool,
}

impl Iterator for Within {
    type Item = Layered;

    fn next(&mut self) -> Option<Layered> {
        while !self.has_ended {
            match self.rows.advance() {
                Ok(true) if self.rows.key() < self.range.from.as_slice() => {}
                Ok(true) if self.rows.key() < self.range.to.as_slice() => {
                    return Some(Ok((
                        Key::from_slice(self.rows.key()),
                        self.rows.value().map(<[u8]>::to_vec),
                    )));
                }
                Ok(_) => self.has_ended = true,
                Err(failed) => {
                    self.has_ended = true;
                    return Some(Err(failed));
                }
            }
        }
        None
    }
}

impl Rows for Within {
    fn skip_to(&mut self, key: &[u8]) {
        self.rows.skip_to(key);
        self.range.from = key.to_vec();
    }
}

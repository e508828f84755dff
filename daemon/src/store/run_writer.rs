//! Writing a run: rows go in one after the other, blocks come out, and what a base takes at once goes into it, durably.

use super::base::Base;
use super::block::{self, BlockWriter};
use super::filter::{Filter, Hashed};
use super::run::{FirstKeys, Run, place};
use super::run_list::Entry;
use super::{Batch, StoreError};

/// So many blocks are put together before they are fed: about as many as a base takes at once.
const READY_MAX: usize = 16;

/// A run that is being written.
#[derive(Debug)]
pub struct RunWriter {
    entry: Entry,
    block_bytes: usize,
    block: BlockWriter,
    keys: FirstKeys,
    filter: Filter,
    /// The rows of the block that are not in the filter yet.
    unfiltered: Vec<Hashed>,
    /// What goes into the base next.
    ready: Batch,
    has_ended: bool,
}

impl RunWriter {
    /// Begins a run of at most so many rows, with this number, which stands for no other run, under which there is nothing in the
    /// base.
    pub fn begin(run: u64, level: u64, rows_max: u64, block_bytes: usize) -> Self {
        let entry = Entry { run, level, rows: 0, blocks: 0, pieces: 0 };
        let (block, keys, filter) =
            (BlockWriter::default(), FirstKeys::default(), Filter::for_keys(rows_max));
        let (unfiltered, ready) = (Vec::new(), Batch::new());
        Self { entry, block_bytes, block, keys, filter, unfiltered, ready, has_ended: false }
    }

    /// The run, as far as it is written: all that it has in the base is under its number, and below how many values it has.
    pub fn entry(&self) -> Entry {
        self.entry
    }

    /// Whether so much is ready that it should be fed before there is more.
    pub fn is_full(&self) -> bool {
        self.ready.len() >= READY_MAX
    }

    /// Appends a row, whose key is above all before it.
    pub fn push(&mut self, key: &[u8], value: Option<&[u8]>) {
        if self.block.is_full_for(key, value, self.block_bytes) {
            self.end_block();
        }
        if self.block.is_empty() {
            self.keys.push(key);
        }
        self.block.push(key, value);
        self.unfiltered.push(Hashed::of(key));
        self.entry.rows += 1;
    }

    /// There are no more rows: what is left of them, and the index, is ready to be fed.
    pub fn end(&mut self) {
        if self.has_ended {
            return;
        }
        self.has_ended = true;
        if self.entry.rows == 0 {
            return;
        }
        self.end_block();
        for bytes in self.keys.store(&self.filter).chunks(self.block_bytes) {
            let mut piece = [&block::unsealed(), bytes].concat();
            let number = self.entry.values();
            block::seal(self.entry.run, number, &mut piece);
            self.ready.insert(place(self.entry.run, number), Some(piece));
            self.entry.pieces += 1;
        }
    }

    /// Feeds some of what is ready; it is durable on return. Whether the run is ended and all of it is in the base.
    ///
    /// # Errors
    /// The base can't be written.
    pub fn feed(&mut self, base: &dyn Base) -> Result<bool, StoreError> {
        self.ready = match base.feed(&mut self.ready.iter())? {
            Some(left) => self.ready.split_off(&left),
            None => Batch::new(),
        };
        Ok(self.has_ended && self.ready.is_empty())
    }

    /// The run, when all of it is in the base; nothing if it has no rows.
    pub fn written(self) -> Option<Run> {
        (self.entry.rows > 0).then(|| Run::new(self.entry, self.keys, self.filter))
    }

    fn end_block(&mut self) {
        let bytes = self.block.take(self.entry.run, self.entry.blocks);
        self.ready.insert(place(self.entry.run, self.entry.blocks), Some(bytes));
        self.entry.blocks += 1;
        self.filter.put_all(self.unfiltered.drain(..));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_is_full_when_as_much_is_ready_as_a_base_takes_at_once() {
        let mut writer = RunWriter::begin(1, 0, 999, 20);
        for number in 0..999_u16 {
            if writer.is_full() {
                break;
            }
            writer.push(&number.to_be_bytes(), None);
        }
        assert_eq!(writer.entry().blocks, READY_MAX as u32);
    }
}

//! The base of the store: what checkpoints have put into a sled database.
//!
//! This is the one file that names sled. Two things about it decide how it is used here. Its `flush` asks the kernel to
//! write but does not sync, so everything it calls flushed can still be lost when the power fails; and it overwrites and
//! removes files by that measure. Therefore these are synced here:
//!
//! * all files and names once, when a store is made;
//! * `db` before sled opens it, so that no snapshot that sled makes then stands for more than is on disk, and what sled
//!   destroys while it opens a store is kept until what replaces it is durable ([`Opening`]);
//! * `db` after every flush, and before sled has written half a segment of its log: sled takes for durable what it has
//!   flushed, and writes over segments that it needs no longer by that measure.
//!
//! Values stay far below the size at which sled would put a page into a file of its own, which nobody would sync.
//!
//! Reads may go on in one thread while another feeds it.

use std::error::Error;
use std::fs::File;

use super::checkpoint::{Base, Change};
use super::data_dir::DataDir;
use super::logged_store::OpenError;
use super::merged::LayerRows;
use super::opening::{LOG, Opening};
use super::{KeyRange, StoreError};

/// How much sled may keep of the store in memory.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;

/// The longest value. A page of sled's holds up to some 28 rows before it is split, and beyond 128 KiB it would be
/// written into a file of its own, which nobody would sync.
pub const VALUE_BYTES_MAX: usize = 4 * 1024;

/// A row of every base, written when it was made and by every checkpoint: the number of the last record that the
/// checkpoint stands for. sled opens a log that it can't read from its beginning as an empty store; one without this row
/// is such a ruin, and must not be served as if nothing had ever been in it.
const CORNERSTONE: &[u8] = &[0];

/// How many writes go to sled at once. Far larger batches make its memory grow tenfold.
const BATCH_WRITES_MAX: usize = 128;

/// How much of its own log sled may write between two syncs: half a segment.
const UNSYNCED_BYTES_MAX: usize = 256 * 1024;

/// About what a write makes sled write: a part of a page for each row, and now and then the page.
const fn sled_bytes_of(value_bytes: usize) -> usize {
    640 + 4 * value_bytes
}

/// A sled database and its log.
pub struct SledBase {
    db: sled::Db,
    log: File,
}

impl SledBase {
    /// Opens the base in `data`, and makes it, durably, if the directory is new. Also tells the number of the record that
    /// its checkpoint stands for.
    ///
    /// sled can hang on a store that a power loss damaged. Who must not wait for ever opens it in a thread of its own.
    ///
    /// # Errors
    /// sled or the file system refused, or there is nothing in it.
    pub fn open(data: &mut DataDir) -> Result<(Self, u64), OpenError> {
        let path = data.path().to_owned();
        let refused = |source: Box<dyn Error + Send + Sync>| OpenError::refused(&path, source);
        let opening = Opening::begin(&path).map_err(|e| refused(e.into()))?;
        let config = sled::Config::new().path(&path).cache_capacity(CACHE_BYTES).flush_every_ms(None);
        let db = config.open().map_err(|e| refused(e.into()))?;
        opening.done().map_err(|e| refused(e.into()))?;
        let log = File::open(path.join(LOG)).map_err(|e| refused(e.into()))?;
        let base = Self { db, log };
        if data.is_new() {
            base.conclude(0).map_err(|e| refused(e.into()))?;
            data.complete()?;
        }
        let cornerstone = base.db.get(CORNERSTONE).map_err(|e| refused(e.into()))?;
        let checkpoint =
            cornerstone.and_then(|number| Some(u64::from_be_bytes(number.as_ref().try_into().ok()?)));
        checkpoint.map(|checkpoint| (base, checkpoint)).ok_or(OpenError::Lost { path })
    }

    fn apply(&self, batch: sled::Batch) -> Result<(), StoreError> {
        self.db.apply_batch(batch).map_err(|e| StoreError::failed("write to the store", e))
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.db.flush().map_err(|e| StoreError::failed("flush the store", e))?;
        self.log.sync_data().map_err(|e| StoreError::failed("sync the store", e))
    }
}

impl Base for SledBase {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let value = self.db.get(key).map_err(|e| StoreError::failed("read the store", e))?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn rows(&self, range: &KeyRange) -> LayerRows<'_> {
        let rows = self.db.range::<&[u8], _>(range.from.as_slice()..range.to.as_slice());
        Box::new(rows.map(|row| match row {
            Ok((key, value)) => Ok((key.to_vec(), Some(value.to_vec()))),
            Err(e) => Err(StoreError::failed("read the store", e)),
        }))
    }

    fn last_key(&self, range: &KeyRange) -> Result<Option<Vec<u8>>, StoreError> {
        let last = self.db.range::<&[u8], _>(range.from.as_slice()..range.to.as_slice()).next_back();
        let last = last.transpose().map_err(|e| StoreError::failed("read the store", e))?;
        Ok(last.map(|(key, _)| key.to_vec()))
    }

    fn feed(&self, rows: &mut dyn Iterator<Item = Change<'_>>) -> Result<Option<Vec<u8>>, StoreError> {
        let (mut batch, mut writes, mut unsynced, mut left) = (sled::Batch::default(), 0, 0, None);
        for (key, value) in rows {
            unsynced += sled_bytes_of(value.as_ref().map_or(0, Vec::len));
            if unsynced > UNSYNCED_BYTES_MAX {
                left = Some(key.clone());
                break;
            }
            if writes == BATCH_WRITES_MAX {
                self.apply(std::mem::take(&mut batch))?;
                writes = 0;
            }
            match value {
                Some(value) => batch.insert(key.as_slice(), value.as_slice()),
                None => batch.remove(key.as_slice()),
            }
            writes += 1;
        }
        self.apply(batch)?;
        self.sync()?;
        Ok(left)
    }

    fn conclude(&self, number: u64) -> Result<(), StoreError> {
        let written = self.db.insert(CORNERSTONE, &number.to_be_bytes());
        written.map_err(|e| StoreError::failed("write to the store", e))?;
        self.sync()
    }
}

//! The store on disk: one sled tree, and the syncs that sled leaves out.
//!
//! sled 0.34's `flush` hands its log to the kernel (`sync_file_range`) but does not wait for the disk, and nothing of a
//! new store is ever synced. So this file syncs `db`, which holds the log:
//!
//! * everything once after the store is made;
//! * `db` before sled opens it, so that no snapshot that sled makes then stands for more than is on disk, and what sled
//!   destroys while it opens a store is kept until what replaces it is durable ([`Opening`]);
//! * `db` after every flush, and between any two batches: sled takes for durable what it has flushed, and writes over
//!   segments that it needs no longer by that measure.
//!
//! Values stay far below the size at which sled would put a page into a file of its own, which nobody would sync.
//!
//! Every batch writes its number into the first row of the store, and behind every sync that number is noted in a file
//! beside the log ([`Mark`]). A store that has a lower number than that has lost what was durable, and is refused.

use std::error::Error;
use std::fs::{self, File};
use std::path::Path;

use like_protocol::ids::StoreId;

use super::data_dir::{DataDir, DataDirError};
use super::mark::Mark;
use super::opening::Opening;
use super::{Batch, KeyRange, Row, Store, StoreError};

/// sled's log.
const LOG: &str = "db";

/// How much sled may keep of the store in memory.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;

/// The longest value. A page of sled's holds up to some 28 rows before it is split, and beyond 128 KiB it would be
/// written into a file of its own, which nobody would sync.
const VALUE_BYTES_MAX: usize = 4 * 1024;

/// A row of every store, written when it was made and by every batch, whose number it holds. sled opens a log that it
/// can't read from its beginning as an empty store; one without this row is such a ruin, and must not be served as if
/// nothing had ever been in it.
const CORNERSTONE: &[u8] = &[0];

/// Why a store can't be opened. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its directory can't be used.
    #[error(transparent)]
    Directory(#[from] DataDirError),
    /// sled found nothing in a store that has been served before.
    #[error(
        "the store in {path} has lost what was in it; restore it from a backup, then start once with --restored"
    )]
    Lost {
        /// The directory.
        path: std::path::PathBuf,
    },
    /// sled found less than was durable once: it takes damage for a torn end, and drops what stands behind it.
    #[error(
        "the store in {path} has lost changes that were durable: it ends with number {found}, and number {durable} was synced; make sure that its disk works, restore the store from a backup, then start once with --restored"
    )]
    Short {
        /// The directory.
        path: std::path::PathBuf,
        /// The number of the last batch in it.
        found: u64,
        /// The number of a later batch that was durable.
        durable: u64,
    },
    /// sled refused.
    #[error(
        "the store in {path} does not open: {source}; restore it from a backup, then start once with --restored"
    )]
    Sled {
        /// The directory.
        path: std::path::PathBuf,
        /// What sled says.
        source: Box<dyn Error + Send + Sync>,
    },
}

/// A store in a directory of its own, which it holds locked.
pub struct SledStore {
    // Declared before the directory, so that sled is closed while the lock is still held.
    db: sled::Db,
    log: File,
    mark: Mark,
    /// The number of the last batch, and whether it has been synced.
    last: u64,
    is_synced: bool,
    data: DataDir,
}

impl SledStore {
    /// Opens the store in `data`; makes it if the directory is new, and then returns only when it is durable.
    ///
    /// sled can hang on a store that a power loss damaged. Who must not wait for ever opens it in a thread of its own.
    ///
    /// # Errors
    /// sled or the file system refused, or something durable is missing.
    pub fn open(mut data: DataDir) -> Result<Self, OpenError> {
        let path = data.path().to_owned();
        let refused = |source: Box<dyn Error + Send + Sync>| OpenError::Sled { path: path.clone(), source };
        let opening = Opening::begin(&path).map_err(|e| refused(e.into()))?;
        let config = sled::Config::new().path(&path).cache_capacity(CACHE_BYTES).flush_every_ms(None);
        let db = config.open().map_err(|e| refused(e.into()))?;
        opening.done().map_err(|e| refused(e.into()))?;
        let log = File::open(path.join(LOG)).map_err(|e| refused(e.into()))?;
        let mark = Mark::open(&path).map_err(|e| refused(e.into()))?;
        if data.is_new() {
            db.insert(CORNERSTONE, &number_bytes(0)).map_err(|e| refused(e.into()))?;
            db.flush().map_err(|e| refused(e.into()))?;
            data.complete()?;
        }
        let cornerstone = db.get(CORNERSTONE).map_err(|e| refused(e.into()))?;
        let last = cornerstone.as_deref().and_then(number_of);
        let Some(last) = last else { return Err(OpenError::Lost { path }) };
        match mark.durable().map_err(|e| refused(e.into()))? {
            Some(durable) if durable > last => Err(OpenError::Short { path, found: last, durable }),
            _ => Ok(Self { db, log, mark, last, is_synced: true, data }),
        }
    }

    /// The store's id.
    pub fn id(&self) -> StoreId {
        self.data.store_id()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.data.path()
    }
}

impl Store for SledStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let value = self.db.get(key).map_err(|e| StoreError::failed("read the store", e))?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn scan(&self, range: &KeyRange, limit: usize) -> Result<Vec<Row>, StoreError> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let rows = self.db.range::<&[u8], _>(range.from.as_slice()..range.to.as_slice()).take(limit);
        rows.map(|row| row.map(|(key, value)| (key.to_vec(), value.to_vec())))
            .collect::<Result<_, _>>()
            .map_err(|e| StoreError::failed("read the store", e))
    }

    fn last(&self, range: &KeyRange) -> Result<Option<Row>, StoreError> {
        if range.is_empty() {
            return Ok(None);
        }
        let last = self.db.range::<&[u8], _>(range.from.as_slice()..range.to.as_slice()).next_back();
        let last = last.transpose().map_err(|e| StoreError::failed("read the store", e))?;
        Ok(last.map(|(key, value)| (key.to_vec(), value.to_vec())))
    }

    fn apply(&mut self, batch: Batch) -> Result<(), StoreError> {
        if !self.is_synced {
            self.sync()?;
        }
        self.is_synced = false;
        self.last += 1;
        let mut changes = sled::Batch::default();
        changes.insert(CORNERSTONE, &number_bytes(self.last));
        for (key, value) in batch {
            match value {
                Some(value) => {
                    assert!(value.len() <= VALUE_BYTES_MAX, "a value of {} bytes", value.len());
                    changes.insert(key, value);
                }
                None => changes.remove(key),
            }
        }
        self.db.apply_batch(changes).map_err(|e| StoreError::failed("write to the store", e))
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.db.flush().map_err(|e| StoreError::failed("flush the store", e))?;
        self.log.sync_data().map_err(|e| StoreError::failed("sync the store", e))?;
        self.is_synced = true;
        self.mark.note(self.last);
        Ok(())
    }

    fn bytes(&self) -> u64 {
        let Ok(entries) = fs::read_dir(self.data.path()) else { return 0 };
        entries
            .filter_map(|entry| entry.ok()?.metadata().ok())
            .filter(|meta| meta.is_file())
            .map(|meta| meta.len())
            .sum()
    }
}

fn number_bytes(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

fn number_of(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_be_bytes)
}

#[cfg(test)]
#[path = "sled_store_tests.rs"]
mod tests;

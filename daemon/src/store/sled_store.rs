//! The store on disk: one sled tree, and the syncs that sled leaves out.
//!
//! sled 0.34's `flush` hands its log to the kernel (`sync_file_range`) but does not wait for the disk, and nothing of a
//! new store is ever synced. So this file syncs: everything once after the store is made, and `db`, which holds the
//! log, after every flush. Values stay far below the size at which sled would put one into a file of its own.

use std::fs::{self, File};
use std::path::Path;

use like_protocol::ids::StoreId;

use super::data_dir::{DataDir, DataDirError};
use super::{Batch, KeyRange, Row, Store, StoreError};

/// How much sled may keep of the store in memory.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;

/// The longest value: beyond about 128 KiB sled would write a file per value, and nobody would sync it.
const VALUE_BYTES_MAX: usize = 64 * 1024;

/// A row of every store, written when it was made. sled opens a log that it can't read from its beginning as an empty
/// store; one without this row is such a ruin, and must not be served as if nothing had ever been in it.
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
    /// sled refused.
    #[error(
        "the store in {path} does not open: {source}; restore it from a backup, then start once with --restored"
    )]
    Sled {
        /// The directory.
        path: std::path::PathBuf,
        /// What sled says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A store in a directory of its own, which it holds locked.
pub struct SledStore {
    // Declared before the directory, so that sled is closed while the lock is still held.
    db: sled::Db,
    log: File,
    data: DataDir,
}

impl SledStore {
    /// Opens the store in `data`; makes it if the directory is new, and then returns only when it is durable.
    ///
    /// sled can hang on a store that a power loss damaged. Who must not wait for ever opens it in a thread of its own.
    ///
    /// # Errors
    /// sled or the file system refused.
    pub fn open(mut data: DataDir) -> Result<Self, OpenError> {
        let path = data.path().to_owned();
        let refused =
            |source: Box<dyn std::error::Error + Send + Sync>| OpenError::Sled { path: path.clone(), source };
        let config = sled::Config::new().path(data.path()).cache_capacity(CACHE_BYTES).flush_every_ms(None);
        let db = config.open().map_err(|e| refused(e.into()))?;
        let log = File::open(data.path().join("db")).map_err(|e| refused(e.into()))?;
        if data.is_new() {
            db.insert(CORNERSTONE, &[]).map_err(|e| refused(e.into()))?;
            db.flush().map_err(|e| refused(e.into()))?;
            data.complete()?;
        } else if !db.contains_key(CORNERSTONE).map_err(|e| refused(e.into()))? {
            return Err(OpenError::Lost { path });
        }
        Ok(Self { db, log, data })
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
        let mut changes = sled::Batch::default();
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
        self.log.sync_data().map_err(|e| StoreError::failed("sync the store", e))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path) -> SledStore {
        SledStore::open(DataDir::open(path, "article", false).unwrap()).unwrap()
    }

    fn batch(changes: &[(&[u8], Option<&[u8]>)]) -> Batch {
        changes.iter().map(|(key, value)| (key.to_vec(), value.map(<[u8]>::to_vec))).collect()
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
        assert!(store.bytes() > 0);
    }

    #[test]
    fn a_store_whose_log_is_gone_is_refused_however_often_it_is_opened() {
        for ruin in [&b""[..], &[7; 10_000]] {
            let temp = tempfile::tempdir().unwrap();
            let mut store = open(temp.path());
            store.apply(batch(&[(b"a", Some(b"1"))])).unwrap();
            store.sync().unwrap();
            drop(store);
            fs::write(temp.path().join("db"), ruin).unwrap();
            for _ in 0..3 {
                let refused = SledStore::open(DataDir::open(temp.path(), "article", false).unwrap());
                assert!(matches!(refused, Err(OpenError::Lost { .. } | OpenError::Sled { .. })));
            }
        }
    }

    #[test]
    fn it_reads_as_the_store_in_memory_does() {
        let temp = tempfile::tempdir().unwrap();
        let (mut on_disk, mut in_memory) = (open(temp.path()), super::super::MemoryStore::default());
        let rows: Vec<[u8; 2]> = (0..40u8).map(|n| [n % 4, n.wrapping_mul(37)]).collect();
        let rows: Vec<_> = rows.iter().map(|key| (&key[..], Some(&key[1..]))).collect();
        on_disk.apply(batch(&rows)).unwrap();
        in_memory.apply(batch(&rows)).unwrap();
        for range in [KeyRange::prefix(&[1]), KeyRange::prefix(&[2]).after(&[2, 100]), KeyRange::prefix(&[9])]
        {
            for limit in [0, 1, 5, 100] {
                assert_eq!(on_disk.scan(&range, limit).unwrap(), in_memory.scan(&range, limit).unwrap());
            }
            assert_eq!(on_disk.last(&range).unwrap(), in_memory.last(&range).unwrap());
        }
    }
}

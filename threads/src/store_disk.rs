//! A sync covers what was written before it, nothing else. Whoever crashes takes files and base at the same moment.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError};

use crate::store::base::{Base, Change};
use crate::store::disk::{Disk, DiskFile};
use crate::store::memory::put;
use crate::store::run_list::RunList;
use crate::store::{Batch, Key, KeyRange, StoreError};
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Mutex, MutexGuard};

/// How many changes are made between two moments at which others may see them, and how many are made at once: so few that checkpoints
/// and merges have many steps.
const SEEN_AT_ONCE: usize = 2;
const FED_AT_ONCE: usize = 4;

/// A directory and a base. Clones are the same.
#[derive(Clone, Debug)]
pub struct StoreDisk {
    kept: Arc<Mutex<Kept>>,
    /// Held by whoever feeds the base.
    feeding: Arc<Mutex<()>>,
    /// How many threads do something beside the store.
    beside: Arc<Mutex<usize>>,
}

#[derive(Clone, Default, Debug)]
struct Kept {
    files: Vec<File>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    base: Content,
    durable_base: Content,
    /// How often more the base can be fed.
    feeds_left: Option<u32>,
}

#[derive(Clone, Default, Debug)]
struct File {
    bytes: Vec<u8>,
    durable: Vec<u8>,
}

#[derive(Clone, Debug)]
struct Content {
    rows: BTreeMap<Key, Vec<u8>>,
    concluded: Vec<u8>,
}

impl Default for Content {
    fn default() -> Self {
        Self { rows: BTreeMap::new(), concluded: RunList::default().encode() }
    }
}

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl StoreDisk {
    /// An empty one.
    pub fn empty() -> Self {
        Self::of(Kept::default())
    }

    /// From now on the base can be fed so often, and then written no more.
    pub fn fail_after(&self, feeds: u32) {
        self.kept().feeds_left = Some(feeds);
    }

    /// What stands there now.
    pub fn copy(&self) -> Self {
        Self::of(self.kept().clone())
    }

    /// What a power loss would leave now.
    pub fn after_power_loss(&self) -> Self {
        let mut kept = self.kept().clone();
        kept.names.clone_from(&kept.durable_names);
        kept.base = kept.durable_base.clone();
        kept.files.iter_mut().for_each(|file| file.bytes.clone_from(&file.durable));
        Self::of(kept)
    }

    /// How many threads do something beside the store.
    pub fn beside(&self) -> usize {
        *self.beside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(kept: Kept) -> Self {
        let kept = Kept { feeds_left: None, ..kept };
        Self { kept: Arc::new(Mutex::new(kept)), feeding: Arc::default(), beside: Arc::default() }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn file(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(missing)
    }

    fn write_base(&self) -> Result<(), StoreError> {
        if self.feeds_left == Some(0) {
            return Err(StoreError::failed("write to the base", io::Error::other("input/output error")));
        }
        Ok(())
    }
}

impl Disk for StoreDisk {
    fn path(&self) -> &Path {
        Path::new("/store")
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.kept().names.keys().cloned().collect())
    }

    fn read(&self, name: &str, most: Option<usize>) -> io::Result<Vec<u8>> {
        let kept = self.kept();
        let bytes = &kept.files[kept.file(name)?].bytes;
        Ok(bytes[..most.unwrap_or(usize::MAX).min(bytes.len())].to_vec())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let number = self.kept().file(name)?;
        Ok(Arc::new(Opened { disk: self.clone(), number }))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut kept = self.kept();
        let number = kept.files.len();
        kept.files.push(File::default());
        kept.names.insert(name.to_owned(), number);
        Ok(Arc::new(Opened { disk: self.clone(), number }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut kept = self.kept();
        let number = kept.names.remove(from).ok_or_else(missing)?;
        kept.names.insert(to.to_owned(), number);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.kept().names.remove(name).map(drop).ok_or_else(missing)
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut kept = self.kept();
        kept.durable_names = kept.names.clone();
        Ok(())
    }

    fn bytes(&self) -> u64 {
        0
    }

    fn in_background(
        &self,
        _what: &'static str,
        mut work: Box<dyn FnMut() -> bool + Send>,
    ) -> io::Result<Option<JoinHandle<()>>> {
        let beside = Arc::clone(&self.beside);
        let count = move |change: isize| {
            let mut beside = beside.lock().unwrap_or_else(PoisonError::into_inner);
            *beside = beside.saturating_add_signed(change);
        };
        count(1);
        Ok(Some(thread::spawn(move || {
            while work() {}
            drop(work);
            count(-1);
        })))
    }
}

#[derive(Debug)]
struct Opened {
    disk: StoreDisk,
    number: usize,
}

impl DiskFile for Opened {
    fn write_at(&self, bytes: &[u8], place: u64) -> io::Result<()> {
        let (at, end) = (place as usize, place as usize + bytes.len());
        let written = &mut self.disk.kept().files[self.number].bytes;
        written.resize(written.len().max(end), 0);
        written[at..end].copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let covered = self.disk.kept().files[self.number].bytes.clone();
        self.disk.kept().files[self.number].durable = covered;
        Ok(())
    }
}

impl Base for StoreDisk {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.kept().base.rows.get(key).cloned())
    }

    fn keys(&self, range: &KeyRange, limit: usize) -> Result<Vec<Key>, StoreError> {
        let kept = self.kept();
        let rows = kept.base.rows.range::<[u8], _>(range.bounds());
        Ok(rows.take(limit).map(|(key, _)| key.clone()).collect())
    }

    fn feed(&self, changes: &mut dyn Iterator<Item = Change<'_>>) -> Result<Option<Key>, StoreError> {
        let _alone = self.feeding.lock();
        let mut changes = changes.peekable();
        self.kept().write_base()?;
        for _ in 0..FED_AT_ONCE / SEEN_AT_ONCE {
            let seen = changes.by_ref().take(SEEN_AT_ONCE);
            let batch: Batch = seen.map(|(key, value)| (key.clone(), value.clone())).collect();
            put(&mut self.kept().base.rows, batch);
        }
        let mut kept = self.kept();
        kept.feeds_left = kept.feeds_left.map(|left| left.saturating_sub(1));
        kept.durable_base = kept.base.clone();
        Ok(changes.peek().map(|(key, _)| (*key).clone()))
    }

    fn concluded(&self) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(Some(self.kept().base.concluded.clone()))
    }

    fn conclude(&self, row: &[u8]) -> Result<(), StoreError> {
        let _alone = self.feeding.lock();
        self.kept().write_base()?;
        self.kept().base.concluded = row.to_vec();
        let mut kept = self.kept();
        kept.durable_base = kept.base.clone();
        Ok(())
    }
}

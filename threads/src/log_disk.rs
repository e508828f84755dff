//! Each operation is a moment at which another thread may go on; a sync is two, and covers nothing that is written in
//! between. What a failed sync was for no later one makes durable.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use like_protocol::ids::{BootId, SagaId};

use crate::log::disk::{Directory, Disk, LogFile};
use crate::log::record::Place;
use crate::log::scan::{Certain, scan};
use crate::log::writer::{Released, Syncs};
use crate::log::{Journal, JournalError};
use crate::sync::{Mutex, MutexGuard, thread};

const JOURNAL: &str = "/journal";
const SLOT: &str = "/journal/0";

/// What comes to an end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Crash {
    /// The process: what it has written stays.
    Process,
    /// The host: what it has synced stays.
    Host,
}

/// A disk with a journal of one slot. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct LogDisk(Arc<Mutex<State>>);

#[derive(Default, Debug)]
struct State {
    files: Vec<File>,
    names: BTreeMap<PathBuf, usize>,
    has_slot: bool,
    is_locked: bool,
    is_syncing: bool,
    /// How many more writes and syncs of segments succeed.
    writes_left: Option<u32>,
    syncs_left: Option<u32>,
    /// Those who do the syncs of logs.
    syncs: Vec<thread::JoinHandle<()>>,
}

#[derive(Clone, Default, Debug)]
struct File {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    /// Whether a sync of it has failed.
    is_lost: bool,
}

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

/// Whether the next one fails.
fn is_last(left: &mut Option<u32>) -> bool {
    let Some(left) = left else { return false };
    left.checked_sub(1).is_none_or(|less| {
        *left = less;
        false
    })
}

impl LogDisk {
    /// An empty one.
    pub fn empty() -> Self {
        Self(Arc::new(Mutex::new(State::default())))
    }

    /// What a power loss would leave of it now.
    pub fn after_power_loss(&self) -> Self {
        let state = self.lock();
        let durable = |file: &File| File { bytes: file.durable.clone(), ..file.clone() };
        let (files, names) = (state.files.iter().map(durable).collect(), state.names.clone());
        Self(Arc::new(Mutex::new(State { files, names, has_slot: state.has_slot, ..State::default() })))
    }

    /// From now on so many writes and so many syncs succeed.
    pub fn fail_after(&self, writes: Option<u32>, syncs: Option<u32>) {
        let mut state = self.lock();
        (state.writes_left, state.syncs_left) = (writes, syncs);
    }

    /// The journal on it.
    ///
    /// # Panics
    /// It can't be opened.
    pub fn journal(&self) -> Journal {
        Journal::open_on(Arc::new(self.clone()), Path::new(JOURNAL)).expect("a journal")
    }

    /// Whether somebody owns the slot.
    pub fn is_locked(&self) -> bool {
        self.lock().is_locked
    }

    /// Waits until nobody does any syncs any more.
    ///
    /// # Panics
    /// One who did has panicked.
    pub fn syncs_end(&self) {
        loop {
            let Some(syncs) = self.lock().syncs.pop() else { return };
            syncs.join().expect("syncs end");
        }
    }

    /// Whether the first `events` events of a saga are found after a crash.
    pub fn has(&self, saga: SagaId, events: u32, after: Crash) -> bool {
        let state = self.lock();
        let mut found = BTreeSet::new();
        for (path, file) in &state.names {
            let Some(segment) = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok()) else {
                continue;
            };
            let file = &state.files[*file];
            let bytes = if after == Crash::Host { &file.durable } else { &file.bytes };
            let told = scan(Place { slot: 0, segment }, bytes, Certain::Stated).records;
            found.extend(told.iter().filter(|(_, record)| record.saga == saga).map(|(_, record)| record.seq));
        }
        (0..events).all(|seq| found.contains(&seq))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl State {
    /// Whoever writes in a slot owns it.
    fn owned(&mut self) -> &mut Self {
        assert!(self.is_locked, "somebody writes in a slot that he has let go of");
        self
    }

    fn file(&self, path: &Path) -> io::Result<usize> {
        self.names.get(path).copied().ok_or_else(missing)
    }
}

impl Disk for LogDisk {
    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let state = self.lock();
        if directory == Path::new(JOURNAL) {
            return Ok(state.has_slot.then(|| "0".to_owned()).into_iter().collect());
        }
        let names = state.names.keys().filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()));
        Ok(names.collect())
    }

    fn is_directory(&self, path: &Path) -> bool {
        path == Path::new(JOURNAL) || (path == Path::new(SLOT) && self.lock().has_slot)
    }

    fn make_directory(&self, _path: &Path, _with_parents: bool) -> io::Result<()> {
        self.lock().has_slot = true;
        Ok(())
    }

    fn sync_directory(&self, _directory: &Path) -> io::Result<()> {
        Ok(())
    }

    fn open_directory(&self, _directory: &Path) -> Result<Box<dyn Directory>, JournalError> {
        Ok(Box::new(SlotDirectory { disk: self.clone(), has_lock: false.into() }))
    }

    fn read(&self, file: &Path, most: Option<usize>) -> io::Result<Vec<u8>> {
        let state = self.lock();
        let bytes = &state.files[state.file(file)?].bytes;
        Ok(bytes[..most.unwrap_or(usize::MAX).min(bytes.len())].to_vec())
    }

    fn create(&self, file: &Path) -> io::Result<Arc<dyn LogFile>> {
        let mut state = self.lock();
        let number = state.owned().files.len();
        state.files.push(File::default());
        state.names.insert(file.to_owned(), number);
        Ok(Arc::new(Segment { disk: self.clone(), number }))
    }

    fn sync_file(&self, file: &Path) -> io::Result<()> {
        let number = self.lock().file(file)?;
        Segment { disk: self.clone(), number }.sync_all()
    }

    fn remove(&self, file: &Path) -> io::Result<()> {
        self.lock().owned().names.remove(file).map(drop).ok_or_else(missing)
    }

    fn age(&self, _file: &Path) -> io::Result<Duration> {
        Ok(Duration::ZERO)
    }

    fn wall_ms(&self) -> u64 {
        0
    }

    fn boot(&self) -> Option<BootId> {
        Some(BootId::from_bytes([1; 16]))
    }

    fn pid(&self) -> u32 {
        1
    }

    fn run_syncs(&self, syncs: Syncs) -> io::Result<()> {
        let syncing = thread::spawn(move || shuttle::future::block_on(syncs.run(Released::tell)));
        self.lock().syncs.push(syncing);
        Ok(())
    }
}

#[derive(Debug)]
struct SlotDirectory {
    disk: LogDisk,
    has_lock: std::sync::atomic::AtomicBool,
}

impl Directory for SlotDirectory {
    fn try_lock(&self) -> io::Result<bool> {
        let is_free = !std::mem::replace(&mut self.disk.lock().is_locked, true);
        self.has_lock.fetch_or(is_free, std::sync::atomic::Ordering::Relaxed);
        Ok(is_free)
    }

    fn lock(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn is_at(&self, _path: &Path) -> io::Result<bool> {
        Ok(true)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for SlotDirectory {
    fn drop(&mut self) {
        if *self.has_lock.get_mut() {
            self.disk.lock().is_locked = false;
        }
    }
}

#[derive(Debug)]
struct Segment {
    disk: LogDisk,
    number: usize,
}

impl LogFile for Segment {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        let (at, end) = (at as usize, at as usize + bytes.len());
        let mut state = self.disk.lock();
        if is_last(&mut state.owned().writes_left) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let written = &mut state.files[self.number].bytes;
        written.resize(written.len().max(end), 0);
        written[at..end].copy_from_slice(bytes);
        Ok(bytes.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        let (covered, fails) = {
            let mut state = self.disk.lock();
            assert!(!std::mem::replace(&mut state.is_syncing, true), "there are two syncs at a time");
            (state.files[self.number].bytes.clone(), is_last(&mut state.syncs_left))
        };
        let mut state = self.disk.lock();
        state.is_syncing = false;
        let file = &mut state.files[self.number];
        file.is_lost |= fails;
        if fails {
            return Err(io::Error::other("input/output error"));
        }
        if !file.is_lost {
            file.durable = covered;
        }
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }
}

//! The disk of the saga log, with a watch on its syncs: how long each took, and how many writes it made durable.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use like_client::log::disk::{Directory, LogFile, RealDisk};
use like_client::log::writer::Syncs;
use like_client::log::{Disk, JournalError, Owner};
use like_protocol::ids::BootId;

use crate::metrics::Histogram;

/// Upper bounds of the buckets of writes per sync.
const WRITES: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// The syncs of this process's log since it started.
#[derive(Clone, Debug)]
pub struct SyncTimes {
    /// How long they took, in seconds.
    pub seconds: Histogram,
    /// How many writes each made durable.
    pub writes: Histogram,
}

impl Default for SyncTimes {
    fn default() -> Self {
        Self { seconds: Histogram::of_seconds(), writes: Histogram::new(&WRITES) }
    }
}

/// This host's disk, watched.
#[derive(Clone, Default, Debug)]
pub struct TimedDisk {
    disk: RealDisk,
    times: Arc<Mutex<SyncTimes>>,
}

impl TimedDisk {
    /// The syncs so far.
    pub fn times(&self) -> SyncTimes {
        self.times.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A file of a log, watched.
#[derive(Debug)]
struct TimedFile {
    file: Arc<dyn LogFile>,
    /// Writes since the last sync began.
    written: AtomicU64,
    times: Arc<Mutex<SyncTimes>>,
}

impl LogFile for TimedFile {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        self.written.fetch_add(1, Ordering::Relaxed);
        self.file.write_at(bytes, at)
    }

    fn sync_data(&self) -> io::Result<()> {
        let (began, written) = (Instant::now(), self.written.swap(0, Ordering::Relaxed));
        let synced = self.file.sync_data();
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        times.seconds.count(began.elapsed().as_secs_f64());
        times.writes.count(written as f64);
        synced
    }

    fn sync_all(&self) -> io::Result<()> {
        // The beginning of a segment: no caller waits for it, and what was written is no group.
        self.written.store(0, Ordering::Relaxed);
        self.file.sync_all()
    }
}

impl Disk for TimedDisk {
    fn create(&self, file: &Path) -> io::Result<Arc<dyn LogFile>> {
        let (file, times) = (self.disk.create(file)?, Arc::clone(&self.times));
        Ok(Arc::new(TimedFile { file, written: AtomicU64::new(0), times }))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.disk.list(directory)
    }

    fn is_directory(&self, path: &Path) -> bool {
        self.disk.is_directory(path)
    }

    fn make_directory(&self, path: &Path, with_parents: bool) -> io::Result<()> {
        self.disk.make_directory(path, with_parents)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        self.disk.sync_directory(directory)
    }

    fn open_directory(&self, directory: &Path) -> Result<Box<dyn Directory>, JournalError> {
        self.disk.open_directory(directory)
    }

    fn open_to_group(&self, directory: &Path) {
        self.disk.open_to_group(directory);
    }

    fn admit(&self, journal: &Path) -> Result<(), JournalError> {
        self.disk.admit(journal)
    }

    fn read(&self, file: &Path, most: Option<usize>) -> io::Result<Vec<u8>> {
        self.disk.read(file, most)
    }

    fn sync_file(&self, file: &Path) -> io::Result<()> {
        self.disk.sync_file(file)
    }

    fn remove(&self, file: &Path) -> io::Result<()> {
        self.disk.remove(file)
    }

    fn age(&self, file: &Path) -> io::Result<Duration> {
        self.disk.age(file)
    }

    fn wall_ms(&self) -> u64 {
        self.disk.wall_ms()
    }

    fn boot(&self) -> Option<BootId> {
        self.disk.boot()
    }

    fn pid(&self) -> u32 {
        self.disk.pid()
    }

    fn lacks_room(&self, journal: &Path) -> Option<String> {
        self.disk.lacks_room(journal)
    }

    fn owner(&self, directory: &Path) -> Option<Owner> {
        self.disk.owner(directory)
    }

    fn in_background(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, Result<(), String>> {
        self.disk.in_background(work)
    }

    fn run_syncs(&self, syncs: Syncs) -> io::Result<()> {
        self.disk.run_syncs(syncs)
    }
}

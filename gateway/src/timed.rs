//! The disk of the saga log, with a watch on its syncs: how long each took, and how many writes it made durable.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use like_client::log::disk::{Around, LogFile, RealDisk};

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

/// The syncs so far. Clones are the same.
#[derive(Clone, Default, Debug)]
pub struct Timed(Arc<Mutex<SyncTimes>>);

impl Timed {
    /// This host's disk, watched.
    pub fn disk(&self) -> RealDisk {
        let times = Arc::clone(&self.0);
        let around: Around = Arc::new(move |file| {
            Arc::new(TimedFile { file, written: AtomicU64::new(0), times: Arc::clone(&times) })
        });
        RealDisk { around: Some(around) }
    }

    /// What they took.
    pub fn times(&self) -> SyncTimes {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
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

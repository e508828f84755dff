//! A disk in memory for saga logs: its files can be changed, cut, and made unreadable.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use like_client::log::disk::{Directory, LogFile};
use like_client::log::writer::{Released, Syncs};
use like_client::log::{Disk, JournalError};
use like_protocol::ids::BootId;

/// Files by their paths.
pub type Files = BTreeMap<PathBuf, Vec<u8>>;

/// A disk in memory. Clones are the same disk. Nothing is ever lost of it, and nobody else holds a lock.
#[derive(Clone, Debug)]
pub struct RamDisk {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default, Debug)]
struct Inner {
    files: Files,
    directories: BTreeSet<PathBuf>,
    unreadable: BTreeSet<PathBuf>,
    boot: Option<BootId>,
    wall_ms: u64,
    /// The syncs of the logs that were started and have not ended.
    syncs: Vec<Syncs>,
    refused: u64,
}

impl RamDisk {
    /// A disk with these files, in a host that is in this boot.
    pub fn of(files: Files, boot: Option<BootId>, wall_ms: u64) -> Self {
        let above = |path: &PathBuf| path.ancestors().skip(1).map(Path::to_owned).collect::<Vec<_>>();
        let directories = files.keys().flat_map(above).collect();
        let inner = Inner { files, directories, boot, wall_ms, ..Inner::default() };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    /// A disk with the files of a directory of this host.
    ///
    /// # Panics
    /// They can't be read.
    pub fn copy_of(directory: &Path, boot: Option<BootId>, wall_ms: u64) -> Self {
        fn files(directory: &Path, found: &mut Files) {
            for entry in std::fs::read_dir(directory).expect("a directory") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    files(&path, found);
                } else {
                    found.insert(path.clone(), std::fs::read(&path).expect("a file"));
                }
            }
        }
        let mut found = Files::new();
        files(directory, &mut found);
        Self::of(found, boot, wall_ms)
    }

    /// All its files.
    pub fn files(&self) -> Files {
        self.lock().files.clone()
    }

    /// Puts a file in the place of another one.
    pub fn put(&self, path: &Path, bytes: Vec<u8>) {
        self.lock().files.insert(path.to_owned(), bytes);
    }

    /// Makes reading a file fail from now on.
    pub fn make_unreadable(&self, path: &Path) {
        self.lock().unreadable.insert(path.to_owned());
    }

    /// How often reading was refused for it.
    pub fn refused(&self) -> u64 {
        self.lock().refused
    }

    /// Does the syncs that somebody waits for.
    pub fn sync(&self) {
        let syncs = std::mem::take(&mut self.lock().syncs);
        let mut going_on = Vec::new();
        for sync in syncs {
            match sync.wanted().now_or_never() {
                Some(false) => continue,
                Some(true) => {
                    if let Some(syncing) = sync.begin() {
                        sync.finish(syncing, Ok(()), Released::tell);
                    }
                }
                None => {}
            }
            going_on.push(sync);
        }
        self.lock().syncs.extend(going_on);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Disk for RamDisk {
    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let inner = self.lock();
        if !inner.directories.contains(directory) {
            return Err(missing());
        }
        let paths = inner.files.keys().chain(&inner.directories);
        let inside = paths.filter(|path| path.parent() == Some(directory));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn is_directory(&self, path: &Path) -> bool {
        self.lock().directories.contains(path)
    }

    fn make_directory(&self, path: &Path, _with_parents: bool) -> io::Result<()> {
        let made = self.lock().directories.insert(path.to_owned());
        if made { Ok(()) } else { Err(io::ErrorKind::AlreadyExists.into()) }
    }

    fn sync_directory(&self, _directory: &Path) -> io::Result<()> {
        Ok(())
    }

    fn open_directory(&self, _directory: &Path) -> Result<Box<dyn Directory>, JournalError> {
        Ok(Box::new(RamDirectory))
    }

    fn read(&self, file: &Path, most: Option<usize>) -> io::Result<Vec<u8>> {
        let mut inner = self.lock();
        if inner.unreadable.contains(file) {
            inner.refused += 1;
            return Err(io::Error::other("the disk can't read it"));
        }
        let bytes = inner.files.get(file).ok_or_else(missing)?;
        Ok(bytes[..most.unwrap_or(usize::MAX).min(bytes.len())].to_vec())
    }

    fn create(&self, file: &Path) -> io::Result<Arc<dyn LogFile>> {
        self.lock().files.insert(file.to_owned(), Vec::new());
        Ok(Arc::new(RamFile { disk: self.clone(), path: file.to_owned() }))
    }

    fn sync_file(&self, file: &Path) -> io::Result<()> {
        self.lock().files.get(file).map(drop).ok_or_else(missing)
    }

    fn remove(&self, file: &Path) -> io::Result<()> {
        self.lock().files.remove(file).map(drop).ok_or_else(missing)
    }

    fn age(&self, _file: &Path) -> io::Result<Duration> {
        Ok(Duration::ZERO)
    }

    fn wall_ms(&self) -> u64 {
        self.lock().wall_ms
    }

    fn boot(&self) -> Option<BootId> {
        self.lock().boot
    }

    fn pid(&self) -> u32 {
        1
    }

    fn run_syncs(&self, syncs: Syncs) -> io::Result<()> {
        self.lock().syncs.push(syncs);
        Ok(())
    }
}

#[derive(Debug)]
struct RamDirectory;

impl Directory for RamDirectory {
    fn try_lock(&self) -> io::Result<bool> {
        Ok(true)
    }

    fn lock(&self) -> io::Result<()> {
        Ok(())
    }

    fn is_at(&self, _path: &Path) -> io::Result<bool> {
        Ok(true)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

struct RamFile {
    disk: RamDisk,
    path: PathBuf,
}

impl std::fmt::Debug for RamFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RamFile({})", self.path.display())
    }
}

impl LogFile for RamFile {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        let mut disk = self.disk.lock();
        let file = disk.files.entry(self.path.clone()).or_default();
        let (at, end) = (at as usize, at as usize + bytes.len());
        file.resize(file.len().max(end), 0);
        file[at..end].copy_from_slice(bytes);
        Ok(bytes.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }
}

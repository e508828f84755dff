//! The disk as somebody would find it after a crash in this very instant: to be read only, and by nobody in the world.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use like_client::log::JournalError;
use like_client::log::disk::{Directory, Disk, LogFile};
use like_client::log::writer::Syncs;
use like_protocol::ids::BootId;

use super::world::{Host, lock};

/// What crashes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Crash {
    /// A process: what was written is there.
    OfTheProcess,
    /// The host, and all that was not synced is lost.
    OfTheHost,
}

/// The disk after such a crash.
#[derive(Clone, Debug)]
pub struct Found(pub Host, pub Crash);

fn refused<T>() -> io::Result<T> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

impl Disk for Found {
    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        lock(&self.0.world.disk).names_after(directory, self.1)
    }

    fn is_directory(&self, path: &Path) -> bool {
        self.list(path).is_ok()
    }

    fn make_directory(&self, _: &Path, _: bool) -> io::Result<()> {
        refused()
    }

    fn sync_directory(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn open_directory(&self, directory: &Path) -> Result<Box<dyn Directory>, JournalError> {
        let source = io::ErrorKind::ReadOnlyFilesystem.into();
        Err(JournalError::Io { what: "open", path: directory.to_owned(), source })
    }

    fn read(&self, file: &Path, most: Option<usize>) -> io::Result<Vec<u8>> {
        lock(&self.0.world.disk).bytes_after(file, most, self.1)
    }

    fn create(&self, _: &Path) -> io::Result<Arc<dyn LogFile>> {
        refused()
    }

    fn sync_file(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn age(&self, _: &Path) -> io::Result<Duration> {
        refused()
    }

    fn wall_ms(&self) -> u64 {
        self.0.world.wall_ms()
    }

    fn boot(&self) -> Option<BootId> {
        (self.1 == Crash::OfTheProcess).then(|| self.0.world.now().boot)
    }

    fn pid(&self) -> u32 {
        0
    }

    fn run_syncs(&self, _: Syncs) -> io::Result<()> {
        refused()
    }
}

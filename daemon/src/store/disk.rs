//! What the store takes from its host: the files of its directory, and threads for its checkpoints and merges.
//!
//! Everything that is done to files of our own goes through [`Disk`], so that they can be kept on another one: on one that
//! loses power. sled and what is kept for its sake have real files.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::sync::thread::{self, JoinHandle};

const MODE: u32 = 0o600;

/// The files of one directory.
pub trait Disk: Debug + Send + Sync {
    /// Where the directory is, for people.
    fn path(&self) -> &Path;

    /// The names in it, in any order. Names that are no text are left out.
    ///
    /// # Errors
    /// It can't be read.
    fn list(&self) -> io::Result<Vec<String>>;

    /// A file's bytes, the first `most` of them if there are more.
    ///
    /// # Errors
    /// The file can't be read.
    fn read(&self, name: &str, most: Option<usize>) -> io::Result<Vec<u8>>;

    /// Opens a file that is there.
    ///
    /// # Errors
    /// It is not there, or can't be opened.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Makes a file that isn't there yet. Its name is not durable yet.
    ///
    /// # Errors
    /// It can't be made.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Gives a file another name, whose file is gone if there was one. That is not durable yet; whenever the power fails,
    /// the other name stands for one of the two files as a whole.
    ///
    /// # Errors
    /// The file system refused.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file. That is not durable yet.
    ///
    /// # Errors
    /// It can't be removed.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes durable which names stand in the directory.
    ///
    /// # Errors
    /// The sync failed.
    fn sync_names(&self) -> io::Result<()>;

    /// How many bytes all its files take. 0 if that can't be told.
    fn bytes(&self) -> u64;

    /// Does work that is called `what` beside whatever the store does: calls it over and over until it says that there is no
    /// more. The thread that does it, if it has one of its own, so that its end can be waited for.
    ///
    /// # Errors
    /// There can be no thread for it.
    fn in_background(
        &self,
        what: &'static str,
        work: Box<dyn FnMut() -> bool + Send>,
    ) -> io::Result<Option<JoinHandle<()>>>;
}

/// An open file.
pub trait DiskFile: Debug + Send + Sync {
    /// Writes all the bytes, from this place on. They are not durable yet.
    ///
    /// # Errors
    /// The file system refused. How much of them is written is unknown.
    fn write_at(&self, bytes: &[u8], place: u64) -> io::Result<()>;

    /// Makes durable what was written, whoever wrote it.
    ///
    /// # Errors
    /// The sync failed. What of it is on disk can't be found out any more, by another sync neither.
    fn sync(&self) -> io::Result<()>;
}

/// A directory of this host.
#[derive(Clone, Debug)]
pub struct RealDisk(pub PathBuf);

impl Disk for RealDisk {
    fn path(&self) -> &Path {
        &self.0
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn read(&self, name: &str, most: Option<usize>) -> io::Result<Vec<u8>> {
        let path = self.0.join(name);
        let Some(most) = most else { return fs::read(path) };
        let mut bytes = Vec::with_capacity(most);
        File::open(path)?.take(most as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(OpenOptions::new().write(true).open(self.0.join(name))?))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(MODE);
        Ok(Arc::new(options.open(self.0.join(name))?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }

    fn bytes(&self) -> u64 {
        let Ok(entries) = fs::read_dir(&self.0) else { return 0 };
        let files = entries.filter_map(|entry| entry.ok()?.metadata().ok()).filter(fs::Metadata::is_file);
        files.map(|file| file.len()).sum()
    }

    fn in_background(
        &self,
        what: &'static str,
        mut work: Box<dyn FnMut() -> bool + Send>,
    ) -> io::Result<Option<JoinHandle<()>>> {
        let thread = thread::Builder::new().name(what.to_owned());
        thread.spawn(move || while work() {}).map(Some)
    }
}

impl DiskFile for File {
    fn write_at(&self, bytes: &[u8], place: u64) -> io::Result<()> {
        self.write_all_at(bytes, place)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// Puts a file in place under `name`, by way of one called `new`: whatever happens, it is there as a whole or not at all.
/// Durable on return.
///
/// # Errors
/// The file system refused.
pub fn replace(disk: &dyn Disk, new: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
    match disk.remove(new) {
        // Nobody was cut short while he did this.
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        removed => removed?,
    }
    let file = disk.create(new)?;
    file.write_at(bytes, 0)?;
    file.sync()?;
    disk.rename(new, name)?;
    disk.sync_names()
}

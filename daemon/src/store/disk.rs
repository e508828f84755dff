//! What the store takes from its host: the files of its directory, and threads for its checkpoints and merges.
//!
//! Everything that is done to files of our own goes through [`Disk`], so that they can be kept on another one: on one that
//! loses power. sled and what is kept for its sake have real files.

use std::fmt::Debug;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::sync::thread::{self, JoinHandle};

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

/// A directory of this host: the same one, whatever it is called by now. Who went by its name could be led to another one that
/// somebody has put in its place, and write and remove there. Its files are reached by calls of the C library, as those of std
/// are: that is where tests record what is written, to cut the power at any point of it. rustix passes it by.
#[derive(Clone, Debug)]
pub struct RealDisk {
    path: PathBuf,
    directory: Arc<File>,
}

impl RealDisk {
    /// The directory that is at `path` now.
    ///
    /// # Errors
    /// It can't be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self::of(path, File::open(path)?))
    }

    /// This directory, which people know by `path`.
    pub fn of(path: &Path, directory: File) -> Self {
        Self { path: path.to_owned(), directory: Arc::new(directory) }
    }

    fn file(&self, name: &str, how: OFlag) -> io::Result<File> {
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        Ok(openat(&self.directory, name, how | OFlag::O_CLOEXEC, mode)?.into())
    }
}

impl Disk for RealDisk {
    fn path(&self) -> &Path {
        &self.path
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::from_fd(self.file(".", OFlag::O_DIRECTORY)?.into())? {
            names.extend(entry?.file_name().to_str().map(str::to_owned));
        }
        Ok(names)
    }

    fn read(&self, name: &str, most: Option<usize>) -> io::Result<Vec<u8>> {
        let (mut file, mut bytes) = (self.file(name, OFlag::O_RDONLY)?, Vec::new());
        match most {
            Some(most) => file.take(most as u64).read_to_end(&mut bytes)?,
            None => file.read_to_end(&mut bytes)?,
        };
        Ok(bytes)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(self.file(name, OFlag::O_WRONLY)?))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(self.file(name, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(renameat(&self.directory, from, &self.directory, to)?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        Ok(unlinkat(&self.directory, name, UnlinkatFlags::NoRemoveDir)?)
    }

    fn sync_names(&self) -> io::Result<()> {
        self.directory.sync_all()
    }

    fn bytes(&self) -> u64 {
        let names = self.list().unwrap_or_default();
        let stat = |name: &String| fstatat(&self.directory, name.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW).ok();
        let is_file = |found: &FileStat| found.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFREG.bits();
        let files = names.iter().filter_map(stat).filter(is_file);
        files.map(|file| u64::try_from(file.st_size).unwrap_or(0)).sum()
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

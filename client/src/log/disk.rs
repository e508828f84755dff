//! What a saga log takes from its host: files and directories, locks that go with their process, wall time, and threads.
//!
//! Everything the log does to a disk goes through [`Disk`], so that it can be kept on another one: on one that records
//! what it is told, or on one that loses power.

mod listing;
pub(super) mod mount;

use std::fmt::{self, Debug};
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::FutureExt;
use futures::future::BoxFuture;
use like_protocol::file_system;
use like_protocol::ids::BootId;
use like_protocol::time::{BootClock, Clock};
use rustix::fs::Access;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::owner::{self, Owner};
use super::room::Left;
use super::slot::JournalError;
use super::writer::{Released, Syncs};

/// A host's disk, as a saga log uses it. What one doesn't say for itself is as in memory: every journal is admitted, nobody's
/// lock is seen, and no work waits for anything.
pub trait Disk: Debug + Send + Sync {
    /// The names in a directory as they stood together at one moment, in any order. Names that are no text are left out.
    ///
    /// # Errors
    /// The directory can't be read.
    fn list(&self, directory: &Path) -> io::Result<Vec<String>>;

    /// Whether there is a directory at this path.
    fn is_directory(&self, path: &Path) -> bool;

    /// Makes a directory for its group, and, if wanted, those above it. Its name is not durable yet.
    ///
    /// # Errors
    /// It can't be made, or is there already and those above it were not wanted.
    fn make_directory(&self, path: &Path, with_parents: bool) -> io::Result<()>;

    /// Makes durable which names stand in a directory.
    ///
    /// # Errors
    /// The sync failed.
    fn sync_directory(&self, directory: &Path) -> io::Result<()>;

    /// Opens a directory, so that it can be locked. One that could be locked but not written is refused.
    ///
    /// # Errors
    /// It can't be opened or written.
    fn open_directory(&self, directory: &Path) -> Result<Box<dyn Directory>, JournalError>;

    /// Opens a directory to its group if whoever made it was killed before that, and it is ours to do.
    fn open_to_group(&self, _directory: &Path) {}

    /// Refuses a journal where locks don't go with their owner.
    ///
    /// # Errors
    /// They don't, or that can't be found out.
    fn admit(&self, _journal: &Path) -> Result<(), JournalError> {
        Ok(())
    }

    /// A file's bytes, the first `most` of them if there are more.
    ///
    /// # Errors
    /// The file can't be read.
    fn read(&self, file: &Path, most: Option<usize>) -> io::Result<Vec<u8>>;

    /// Makes a file that isn't there yet, for writing, and for its directory's group. Its name is not durable yet.
    ///
    /// # Errors
    /// It can't be made.
    fn create(&self, file: &Path) -> io::Result<Arc<dyn LogFile>>;

    /// Makes durable what was written to a file, by whomever.
    ///
    /// # Errors
    /// The sync failed, or there is no such file.
    fn sync_file(&self, file: &Path) -> io::Result<()>;

    /// Removes a file. That is not durable yet.
    ///
    /// # Errors
    /// It can't be removed.
    fn remove(&self, file: &Path) -> io::Result<()>;

    /// How long ago a file was written last, by wall time.
    ///
    /// # Errors
    /// That can't be told.
    fn age(&self, file: &Path) -> io::Result<Duration>;

    /// Wall time in milliseconds since the Unix epoch: what records carry for people, and retention goes by.
    fn wall_ms(&self) -> u64;

    /// The boot that the host is in, if it has one: what was written in it, no power cut has touched.
    fn boot(&self) -> Option<BootId> {
        None
    }

    /// This process, as [`Disk::owner`] names it to others.
    fn pid(&self) -> u32;

    /// Why no saga may begin in a journal, in words: little is left where it is. Nothing if one may, or if that can't be told.
    fn lacks_room(&self, _journal: &Path) -> Option<String> {
        None
    }

    /// Whether nobody can write where a journal is, as far as that can be told. It costs more than a write that is refused.
    fn is_read_only(&self, _journal: &Path) -> bool {
        false
    }

    /// Who holds the lock of a slot's directory, as far as that can be seen.
    fn owner(&self, _directory: &Path) -> Option<Owner> {
        None
    }

    /// Does work that waits for the disk where it holds up nobody else; the future ends with it, or with an error if it
    /// panicked. Must be called within a tokio runtime.
    fn in_background(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, Result<(), String>> {
        work();
        std::future::ready(Ok(())).boxed()
    }

    /// Runs the syncs of a log until it has ended, beside whatever its runner does.
    ///
    /// # Errors
    /// They can't be run.
    fn run_syncs(&self, syncs: Syncs) -> io::Result<()>;
}

/// A slot's directory that was opened. Dropping it, or the end of its process, gives its lock back.
pub trait Directory: Debug + Send + Sync {
    /// Takes its lock if that is free.
    ///
    /// # Errors
    /// Locking failed.
    fn try_lock(&self) -> io::Result<bool>;

    /// Waits until its lock is free, and takes it.
    ///
    /// # Errors
    /// Locking failed.
    fn lock(&self) -> io::Result<()>;

    /// Whether it is still what stands at this path.
    ///
    /// # Errors
    /// The directory itself can't be looked at.
    fn is_at(&self, path: &Path) -> io::Result<bool>;

    /// Makes durable which names stand in it.
    ///
    /// # Errors
    /// The sync failed.
    fn sync(&self) -> io::Result<()>;
}

/// A segment's file, open for writing.
pub trait LogFile: Debug + Send + Sync {
    /// Writes at an offset, by one write, and says how many of the bytes were written. The bytes of one write appear in
    /// their order: who sees one of them finds those before it.
    ///
    /// # Errors
    /// Nothing was written.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize>;

    /// Makes everything durable that was written before.
    ///
    /// # Errors
    /// The sync failed. What of it is on disk can't be found out any more, by another sync neither.
    fn sync_data(&self) -> io::Result<()>;

    /// Makes everything durable, the file's mode included.
    ///
    /// # Errors
    /// As for [`LogFile::sync_data`].
    fn sync_all(&self) -> io::Result<()>;
}

/// The journal and its slots are for their group, whatever the umask is. The set-group-id bit, which makes what is made
/// in them the group's too, is inherited from the directory above (a sandbox may forbid to set it).
const DIRECTORY_MODE: u32 = 0o770;

/// Segments are group-writable whatever the umask is: whoever may use the journal may finish what stands in it.
const SEGMENT_MODE: u32 = 0o660;

/// Puts something around a file that was made, to watch what is done to it.
pub type Around = Arc<dyn Fn(Arc<dyn LogFile>) -> Arc<dyn LogFile> + Send + Sync>;

/// This host's disk.
#[derive(Clone, Default)]
pub struct RealDisk {
    /// What to put around each file, if anything.
    pub around: Option<Around>,
}

impl Debug for RealDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RealDisk")
    }
}

impl Disk for RealDisk {
    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        listing::names_in(directory)
    }

    fn is_directory(&self, path: &Path) -> bool {
        path.is_dir()
    }

    fn make_directory(&self, path: &Path, with_parents: bool) -> io::Result<()> {
        let made = DirBuilder::new().recursive(with_parents).mode(DIRECTORY_MODE).create(path);
        if matches!(&made, Err(e) if e.kind() == io::ErrorKind::AlreadyExists) {
            // What is there may be one that can't be looked at: then that is the matter.
            path.try_exists()?;
        }
        made?;
        open_to_group(path)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        File::open(directory)?.sync_all()
    }

    fn open_directory(&self, directory: &Path) -> Result<Box<dyn Directory>, JournalError> {
        rustix::fs::access(directory, Access::WRITE_OK | Access::EXEC_OK)
            .map_err(|e| JournalError::io("write in", directory, e.into()))?;
        let opened = File::open(directory).map_err(|e| JournalError::io("open", directory, e))?;
        Ok(Box::new(opened))
    }

    fn open_to_group(&self, directory: &Path) {
        // It can be done by nobody else but root.
        let _unless_it_is_anothers = open_to_group(directory);
    }

    fn admit(&self, journal: &Path) -> Result<(), JournalError> {
        let stat = rustix::fs::statfs(journal).map_err(|e| JournalError::io("look at", journal, e.into()))?;
        match file_system::network(stat.f_type as u64) {
            Some(name) => Err(JournalError::NetworkFileSystem { path: journal.to_owned(), name }),
            None => Ok(()),
        }
    }

    fn read(&self, file: &Path, most: Option<usize>) -> io::Result<Vec<u8>> {
        let Some(most) = most else { return fs::read(file) };
        let mut bytes = Vec::with_capacity(most);
        File::open(file)?.take(most as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn create(&self, file: &Path) -> io::Result<Arc<dyn LogFile>> {
        let created = OpenOptions::new().write(true).create_new(true).mode(SEGMENT_MODE).open(file)?;
        created.set_permissions(fs::Permissions::from_mode(SEGMENT_MODE))?;
        let created = Arc::new(created);
        Ok(match &self.around {
            Some(around) => around(created),
            None => created,
        })
    }

    fn sync_file(&self, file: &Path) -> io::Result<()> {
        File::open(file)?.sync_all()
    }

    fn remove(&self, file: &Path) -> io::Result<()> {
        fs::remove_file(file)
    }

    fn age(&self, file: &Path) -> io::Result<Duration> {
        let written = fs::metadata(file)?.modified()?;
        SystemTime::now().duration_since(written).map_err(io::Error::other)
    }

    fn wall_ms(&self) -> u64 {
        wall_ms()
    }

    fn boot(&self) -> Option<BootId> {
        static BOOT: OnceLock<Option<BootId>> = OnceLock::new();
        *BOOT.get_or_init(|| BootClock::open().ok().map(|clock| clock.now().boot))
    }

    fn pid(&self) -> u32 {
        std::process::id()
    }

    fn lacks_room(&self, journal: &Path) -> Option<String> {
        let stat = rustix::fs::statvfs(journal).ok()?;
        let left = Left {
            free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
            all_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
            free_files: stat.f_favail,
            all_files: stat.f_files,
        };
        left.lacking()
    }

    fn is_read_only(&self, journal: &Path) -> bool {
        mount::of(journal).is_some_and(|mount| mount.is_read_only)
    }

    fn owner(&self, directory: &Path) -> Option<Owner> {
        owner::holder_of(directory)
    }

    fn in_background(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, Result<(), String>> {
        tokio::task::spawn_blocking(work).map(|done| done.map_err(|panicked| panicked.to_string())).boxed()
    }

    /// A sync holds its thread up, so it has one of its own.
    fn run_syncs(&self, syncs: Syncs) -> io::Result<()> {
        let tell = tells_waiting();
        let thread = std::thread::Builder::new().name("saga-log-sync".to_owned());
        thread.spawn(move || futures::executor::block_on(syncs.run(tell))).map(drop)
    }
}

/// Opens a directory to its group, if it isn't yet.
fn open_to_group(directory: &Path) -> io::Result<()> {
    let mode = fs::metadata(directory)?.mode();
    if mode & DIRECTORY_MODE == DIRECTORY_MODE {
        return Ok(());
    }
    fs::set_permissions(directory, fs::Permissions::from_mode(mode | DIRECTORY_MODE))
}

/// Tells those who waited for a sync: on the thread of the runtime they run on, if this is called within one.
fn tells_waiting() -> Box<dyn Fn(Released) + Send> {
    let Ok(runtime) = Handle::try_current() else { return Box::new(Released::tell) };
    let (done, mut released) = mpsc::unbounded_channel::<Released>();
    runtime.spawn(async move {
        while let Some(released) = released.recv().await {
            released.tell_in_bursts().await;
        }
    });
    Box::new(move |released| drop(done.send(released)))
}

impl Directory for File {
    fn try_lock(&self) -> io::Result<bool> {
        match File::try_lock(self) {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(e)) => Err(e),
        }
    }

    fn lock(&self) -> io::Result<()> {
        loop {
            match File::lock(self) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                locked => return locked,
            }
        }
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        let held = self.metadata()?;
        Ok(fs::metadata(path).is_ok_and(|seen| (seen.dev(), seen.ino()) == (held.dev(), held.ino())))
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_all()
    }
}

impl LogFile for File {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        loop {
            match FileExt::write_at(self, bytes, at) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                written => return written,
            }
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        File::sync_data(self)
    }

    fn sync_all(&self) -> io::Result<()> {
        File::sync_all(self)
    }
}

/// This host's wall time in milliseconds since the Unix epoch.
pub fn wall_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

//! Slots of a journal, and the lock that says whose a slot is.
//!
//! The lock is the kernel's `flock` on the slot's directory. It goes the instant its owner dies, however it dies, so
//! whoever gets the lock of a slot with open sagas knows that their runner is gone: no lease, no heartbeat, no clock.
//! Slots are never removed, so a lock is never held on something that others no longer see; the inode is compared all
//! the same once the lock is held.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::Access;

/// The journal and its slots are for their group, whatever the umask is. The set-group-id bit, which makes what is made
/// in them the group's too, is inherited from the directory above (a sandbox may forbid to set it).
const DIRECTORY_MODE: u32 = 0o770;

/// Why a journal or a part of it can't be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The operating system refused something.
    #[error("can't {what} {path}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What came of it.
        source: io::Error,
    },
    /// A newer program wrote it. It is left untouched.
    #[error("{path} has log format {format}, newer than this program knows: use the newer program")]
    NewerFormat {
        /// The segment.
        path: PathBuf,
        /// Its format.
        format: u16,
    },
    /// `flock` can't be trusted there.
    #[error(
        "{path} is on a network file system ({name}), where locks don't go with their owner: use a local disk"
    )]
    NetworkFileSystem {
        /// The journal.
        path: PathBuf,
        /// What kind of file system.
        name: &'static str,
    },
}

impl JournalError {
    pub(crate) fn io(what: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { what, path: path.to_owned(), source }
    }

    /// Whether it is a matter of permission.
    pub fn is_permission(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
    }

    /// Whether something vanished that was there a moment ago: the owner of a slot rotated while it was read.
    pub(super) fn is_vanished(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// The directory in which all runners of a host keep their slots.
#[derive(Clone, Debug)]
pub struct Journal {
    path: PathBuf,
}

/// One slot of a journal.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Slot {
    number: u32,
    path: PathBuf,
}

impl Slot {
    /// Its number in the journal.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A slot that is ours until this is dropped or the process ends.
#[derive(Debug)]
pub struct SlotLock {
    slot: Slot,
    directory: File,
    journal: PathBuf,
}

impl SlotLock {
    /// The slot.
    pub fn slot(&self) -> &Slot {
        &self.slot
    }

    /// Makes durable which files are in the slot, and that the slot is in the journal.
    ///
    /// # Errors
    /// A sync failed.
    pub(super) fn sync_directories(&self) -> Result<(), JournalError> {
        self.directory.sync_all().map_err(|e| JournalError::io("sync", &self.slot.path, e))?;
        let journal = File::open(&self.journal).map_err(|e| JournalError::io("open", &self.journal, e))?;
        journal.sync_all().map_err(|e| JournalError::io("sync", &self.journal, e))
    }
}

impl Journal {
    /// Opens a journal, making its directory if there is none.
    ///
    /// # Errors
    /// The directory can't be made or read, or lies on a network file system.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        if !path.is_dir() {
            let stands = path.ancestors().skip(1).find(|above| above.is_dir()).map(Path::to_owned);
            make_directory(path, true).map_err(|e| JournalError::io("create the journal", path, e))?;
            sync_names(path, stands.as_deref()).map_err(|e| JournalError::io("sync the name of", path, e))?;
        }
        Self::open_existing(path)
    }

    /// Opens a journal for reading: it must exist.
    ///
    /// # Errors
    /// The directory can't be read, or lies on a network file system.
    pub fn open_existing(path: &Path) -> Result<Self, JournalError> {
        fs::read_dir(path).map_err(|e| JournalError::io("open the journal", path, e))?;
        refuse_network(path)?;
        Ok(Self { path: path.to_owned() })
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The slots that exist, in order.
    ///
    /// # Errors
    /// The directory can't be read.
    pub fn slots(&self) -> Result<Vec<Slot>, JournalError> {
        let unreadable = |e| JournalError::io("read", &self.path, e);
        let mut slots = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let number = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
            let number = number.filter(|number| *entry.file_name() == *number.to_string());
            slots.extend(number.map(|number| Slot { number, path: entry.path() }));
        }
        slots.sort_unstable_by_key(|slot| slot.number);
        Ok(slots)
    }

    /// Takes the first slot that is free and that this program can use, making a new one if there is none. A slot
    /// without permission is skipped aloud.
    ///
    /// # Errors
    /// No slot can be made or locked.
    pub fn claim_free(&self) -> Result<SlotLock, JournalError> {
        let mut next = 0;
        for slot in self.slots()? {
            next = next.max(slot.number.saturating_add(1));
            match self.claim(&slot) {
                Ok(Some(lock)) => return Ok(lock),
                Ok(None) => {}
                Err(e) => tracing::warn!(slot = slot.number, "slot skipped: {e}"),
            }
        }
        loop {
            let slot = Slot { number: next, path: self.path.join(next.to_string()) };
            let ours = match make_directory(&slot.path, false) {
                Ok(()) => true,
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => false,
                Err(e) => return Err(JournalError::io("create the slot", &slot.path, e)),
            };
            match self.claim(&slot) {
                Ok(Some(lock)) => return Ok(lock),
                Ok(None) => {}
                // Whoever made it just now may not have opened it to its group yet.
                Err(e) if !ours => tracing::warn!(slot = slot.number, "slot skipped: {e}"),
                Err(e) => return Err(e),
            }
            next += 1;
        }
    }

    /// Takes a slot if it is free.
    ///
    /// # Errors
    /// The slot can't be opened, written or locked, or was written by a newer program.
    pub fn claim(&self, slot: &Slot) -> Result<Option<SlotLock>, JournalError> {
        let directory = open_directory(slot)?;
        match directory.try_lock() {
            Ok(()) => self.locked(slot, directory),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(JournalError::io("lock", &slot.path, e)),
        }
    }

    /// Waits in the kernel until a slot is free, and takes it. `None` if the slot's directory was exchanged meanwhile.
    ///
    /// # Errors
    /// As for [`Journal::claim`].
    pub fn claim_when_free(&self, slot: &Slot) -> Result<Option<SlotLock>, JournalError> {
        let directory = open_directory(slot)?;
        loop {
            match directory.lock() {
                Ok(()) => return self.locked(slot, directory),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(JournalError::io("lock", &slot.path, e)),
            }
        }
    }

    /// What was locked may no longer be what stands under that name.
    fn locked(&self, slot: &Slot, directory: File) -> Result<Option<SlotLock>, JournalError> {
        let held = directory.metadata().map_err(|e| JournalError::io("look at", &slot.path, e))?;
        let same =
            fs::metadata(&slot.path).is_ok_and(|seen| (seen.dev(), seen.ino()) == (held.dev(), held.ino()));
        super::segment::refuse_newer(slot)?;
        Ok(same.then(|| SlotLock { slot: slot.clone(), directory, journal: self.path.clone() }))
    }
}

/// A slot that can be locked but not written would be taken in vain.
fn open_directory(slot: &Slot) -> Result<File, JournalError> {
    rustix::fs::access(&slot.path, Access::WRITE_OK | Access::EXEC_OK)
        .map_err(|e| JournalError::io("write in", &slot.path, e.into()))?;
    File::open(&slot.path).map_err(|e| JournalError::io("open", &slot.path, e))
}

/// Makes a directory with [`DIRECTORY_MODE`], whatever the umask is.
fn make_directory(path: &Path, with_parents: bool) -> io::Result<()> {
    DirBuilder::new().recursive(with_parents).mode(DIRECTORY_MODE).create(path)?;
    let mode = fs::metadata(path)?.mode();
    if mode & DIRECTORY_MODE == DIRECTORY_MODE {
        return Ok(());
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode | DIRECTORY_MODE))
}

/// Makes durable the names of a directory that was made just now and of those above it, up to the one that stood already.
/// Without one, the path is relative, and the working directory holds its first name.
fn sync_names(path: &Path, stands: Option<&Path>) -> io::Result<()> {
    let made = path.ancestors().skip(1).take_while(|above| Some(*above) != stands);
    for directory in made.chain(stands) {
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

/// Network file systems that Linux mounts, by their magic numbers: there `flock` may be local, emulated or leased.
const NETWORK_FILE_SYSTEMS: [(u64, &str); 10] = [
    (0x6969, "nfs"),
    (0x517b, "smb"),
    (0xff53_4d42, "cifs"),
    (0xfe53_4d42, "smb2"),
    (0x0102_1997, "9p"),
    (0x5346_414f, "afs"),
    (0x6b41_4653, "kafs"),
    (0x00c3_6400, "ceph"),
    (0x0116_1970, "gfs2"),
    (0x0bd0_0bd0, "lustre"),
];

fn refuse_network(path: &Path) -> Result<(), JournalError> {
    let stat = rustix::fs::statfs(path).map_err(|e| JournalError::io("look at", path, e.into()))?;
    let magic = stat.f_type as u64 & 0xffff_ffff;
    match network_file_system(magic) {
        Some(name) => Err(JournalError::NetworkFileSystem { path: path.to_owned(), name }),
        None => Ok(()),
    }
}

/// The name of the network file system with this magic number, if it is one.
pub(super) fn network_file_system(magic: u64) -> Option<&'static str> {
    NETWORK_FILE_SYSTEMS.iter().find(|(number, _)| *number == magic).map(|(_, name)| *name)
}

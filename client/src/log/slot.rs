//! Slots of a journal, and the lock that says whose a slot is.
//!
//! The lock is the kernel's `flock` on the slot's directory. It goes the instant its owner dies, however it dies, so
//! whoever gets the lock of a slot with open sagas knows that their runner is gone: no lease, no heartbeat, no clock.
//! Slots are never removed, so a lock is never held on something that others no longer see; the inode is compared all
//! the same once the lock is held, and again before an owner goes on in a new segment: a person may have moved the slot.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::{Directory, Disk, RealDisk};
use super::room;

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
    /// What was open in its slot stood there, and can't be told any more. It is left untouched.
    #[error(
        "{path} is damaged: what was open in its slot is not known. Move the slot's directory out of the journal, and end \
         its sagas by their ids (likectl saga force)"
    )]
    HeadLost {
        /// The segment.
        path: PathBuf,
    },
    /// It is no journal, but the store of a daemon.
    #[error("{0} is a daemon's data directory, not a journal")]
    DataDirectory(PathBuf),
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

    /// Whether there was no space left, or no more than others may use.
    pub fn is_full(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, Self::Io { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded))
    }

    /// Whether something vanished that was there a moment ago, or seems to be: the owner of a slot went on in a new segment
    /// while its directory was read.
    pub(super) fn is_vanished(&self) -> bool {
        match self {
            Self::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
            Self::HeadLost { .. } => true,
            Self::NewerFormat { .. } | Self::DataDirectory(_) | Self::NetworkFileSystem { .. } => false,
        }
    }

    /// Whether what stands there can't be read, which says nothing of others.
    pub fn is_unreadable(&self) -> bool {
        matches!(self, Self::NewerFormat { .. } | Self::HeadLost { .. } | Self::Io { what: "read", .. })
    }
}

/// What marks a daemon's data directory: slots that were made there would stand among the files of its store.
const DATA_DIRECTORY_MARKER: &str = "like-store";

/// The directory in which all runners of a host keep their slots.
#[derive(Clone, Debug)]
pub struct Journal {
    path: PathBuf,
    disk: Arc<dyn Disk>,
}

/// One slot of a journal.
#[derive(Clone)]
pub struct Slot {
    number: u32,
    path: PathBuf,
    disk: Arc<dyn Disk>,
}

impl PartialEq for Slot {
    fn eq(&self, other: &Self) -> bool {
        (self.number, &self.path) == (other.number, &other.path)
    }
}

impl Eq for Slot {}

impl Hash for Slot {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.number, &self.path).hash(state);
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slot({})", self.path.display())
    }
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

    /// The number of its newest segment; 0 if it has none.
    ///
    /// # Errors
    /// The directory can't be read.
    pub fn newest_segment(&self) -> Result<u64, JournalError> {
        Ok(super::segment::numbers(self)?.last().copied().unwrap_or(0))
    }

    /// Whether there is a directory of its name: a person may have moved it away.
    pub fn is_there(&self) -> bool {
        self.disk.is_directory(&self.path)
    }

    /// The disk it is on.
    pub(super) fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }
}

/// A slot that is ours until this is dropped or the process ends.
#[derive(Debug)]
pub struct SlotLock {
    slot: Slot,
    directory: Box<dyn Directory>,
    journal: PathBuf,
}

impl SlotLock {
    /// The slot.
    pub fn slot(&self) -> &Slot {
        &self.slot
    }

    /// Whether the directory that is locked is still what stands under the slot's name.
    pub(super) fn is_in_place(&self) -> Result<bool, JournalError> {
        self.directory.is_at(&self.slot.path).map_err(|e| JournalError::io("look at", &self.slot.path, e))
    }

    /// Makes durable which files are in the slot, and that the slot is in the journal.
    ///
    /// # Errors
    /// A sync failed.
    pub(super) fn sync_directories(&self) -> Result<(), JournalError> {
        self.directory.sync().map_err(|e| JournalError::io("sync", &self.slot.path, e))?;
        let synced = self.slot.disk.sync_directory(&self.journal);
        synced.map_err(|e| JournalError::io("sync", &self.journal, e))
    }
}

impl Journal {
    /// Opens a journal on this host's disk, making its directory if there is none.
    ///
    /// # Errors
    /// The directory can't be made or read, is a daemon's data directory, or lies on a network file system.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        Self::open_on(Arc::<RealDisk>::default(), path)
    }

    /// Opens a journal on any disk, making its directory if there is none.
    ///
    /// # Errors
    /// As for [`Journal::open`].
    pub fn open_on(disk: Arc<dyn Disk>, path: &Path) -> Result<Self, JournalError> {
        if !disk.is_directory(path) {
            let stands = path.ancestors().skip(1).find(|above| disk.is_directory(above)).map(Path::to_owned);
            disk.make_directory(path, true).map_err(|e| JournalError::io("create the journal", path, e))?;
            sync_names(&*disk, path, stands.as_deref())
                .map_err(|e| JournalError::io("sync the name of", path, e))?;
        }
        Self::open_existing_on(disk, path)
    }

    /// Opens a journal on this host's disk for reading: it must exist.
    ///
    /// # Errors
    /// The directory can't be read, is a daemon's data directory, or lies on a network file system.
    pub fn open_existing(path: &Path) -> Result<Self, JournalError> {
        Self::open_existing_on(Arc::<RealDisk>::default(), path)
    }

    fn open_existing_on(disk: Arc<dyn Disk>, path: &Path) -> Result<Self, JournalError> {
        let names = disk.list(path).map_err(|e| JournalError::io("open the journal", path, e))?;
        if names.iter().any(|name| name == DATA_DIRECTORY_MARKER) {
            return Err(JournalError::DataDirectory(path.to_owned()));
        }
        disk.admit(path)?;
        Ok(Self { path: path.to_owned(), disk })
    }

    /// The disk it is on.
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    fn slot(&self, number: u32) -> Slot {
        Slot { number, path: self.path.join(number.to_string()), disk: Arc::clone(&self.disk) }
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Why no saga may begin there, in words: little is left where it is, or it can't be written. Nothing if one may, or if that
    /// can't be told. A reader does not find out otherwise.
    pub fn lacks_room(&self) -> Option<String> {
        let is_read_only = self.disk.is_read_only(&self.path);
        if is_read_only { Some(room::read_only()) } else { self.disk.lacks_room(&self.path) }
    }

    /// The slots that exist, in order.
    ///
    /// # Errors
    /// The directory can't be read.
    pub fn slots(&self) -> Result<Vec<Slot>, JournalError> {
        let names = self.disk.list(&self.path).map_err(|e| JournalError::io("read", &self.path, e))?;
        // The last number of all is left out: there is always a next one.
        let number = |name: &String| {
            name.parse::<u32>().ok().filter(|number| *number < u32::MAX && *name == number.to_string())
        };
        let mut slots: Vec<_> = names.iter().filter_map(number).map(|number| self.slot(number)).collect();
        slots.sort_unstable_by_key(|slot| slot.number);
        Ok(slots)
    }

    /// Takes the first slot that is free and that this program can use, making a new one if there is none. A slot
    /// without permission is skipped aloud.
    ///
    /// # Errors
    /// No slot can be made or locked.
    pub fn claim_free(&self) -> Result<SlotLock, JournalError> {
        self.claim_free_from(0)
    }

    /// The same among the slots of this number and higher ones.
    ///
    /// # Errors
    /// As [`Journal::claim_free`].
    pub fn claim_free_from(&self, first: u32) -> Result<SlotLock, JournalError> {
        let mut next = first;
        for slot in self.slots()?.into_iter().filter(|slot| slot.number >= first) {
            next = next.max(slot.number.saturating_add(1));
            match self.claim(&slot) {
                Ok(Some(lock)) => return Ok(lock),
                Ok(None) => {}
                Err(e) => tracing::warn!(slot = slot.number, "slot skipped: {e}"),
            }
        }
        // Whoever made the journal may have died before its name was durable, or may be about to sync it.
        sync_names_above(&*self.disk, &self.path)
            .map_err(|e| JournalError::io("sync the name of", &self.path, e))?;
        loop {
            let slot = self.slot(next);
            let ours = match self.disk.make_directory(&slot.path, false) {
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
        let directory = self.open_slot(slot)?;
        match directory.try_lock() {
            Ok(true) => self.locked(slot, directory),
            Ok(false) => Ok(None),
            Err(e) => Err(JournalError::io("lock", &slot.path, e)),
        }
    }

    /// Waits in the kernel until a slot is free, and takes it. `None` if the slot's directory was exchanged or moved
    /// away meanwhile.
    ///
    /// # Errors
    /// As for [`Journal::claim`].
    pub fn claim_when_free(&self, slot: &Slot) -> Result<Option<SlotLock>, JournalError> {
        let directory = self.open_slot(slot)?;
        directory.lock().map_err(|e| JournalError::io("lock", &slot.path, e))?;
        self.locked(slot, directory)
    }

    /// Opens a slot; to its group too, if its maker did not come to that.
    fn open_slot(&self, slot: &Slot) -> Result<Box<dyn Directory>, JournalError> {
        let directory = self.disk.open_directory(&slot.path)?;
        self.disk.open_to_group(&slot.path);
        Ok(directory)
    }

    /// Locks the journal itself, unless somebody else has: for who writes a saga that stands in no slot, from its last look for
    /// that saga until it is written. It goes with what is returned, or its process.
    ///
    /// # Errors
    /// The journal can't be opened, written or locked.
    pub fn lock(&self) -> Result<Option<Box<dyn Directory>>, JournalError> {
        let directory = self.disk.open_directory(&self.path)?;
        let locked = directory.try_lock().map_err(|e| JournalError::io("lock", &self.path, e))?;
        Ok(locked.then_some(directory))
    }

    /// What was locked may no longer be what stands under that name.
    fn locked(&self, slot: &Slot, directory: Box<dyn Directory>) -> Result<Option<SlotLock>, JournalError> {
        let lock = SlotLock { slot: slot.clone(), directory, journal: self.path.clone() };
        if !lock.is_in_place()? {
            return Ok(None);
        }
        super::segment::refuse_newer(slot)?;
        Ok(Some(lock))
    }
}

/// Makes durable the names of a directory that was made just now and of those above it, up to the one that stood already.
/// Without one, the path is relative, and the working directory holds its first name.
fn sync_names(disk: &dyn Disk, path: &Path, stands: Option<&Path>) -> io::Result<()> {
    let made = path.ancestors().skip(1).take_while(|above| Some(*above) != stands);
    for directory in made.chain(stands) {
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        disk.sync_directory(directory)?;
    }
    Ok(())
}

/// Makes durable the names of a directory and of those above it, as far as they are ours to open: whoever made the
/// others answers for them. Where directories can't be synced (EINVAL), as on squashfs and erofs, nobody makes any.
pub(super) fn sync_names_above(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    use io::ErrorKind::{InvalidInput, PermissionDenied};
    for above in path.ancestors().skip(1).filter(|above| disk.is_directory(above)) {
        match disk.sync_directory(above) {
            Err(e) if !matches!(e.kind(), PermissionDenied | InvalidInput) => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

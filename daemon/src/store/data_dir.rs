//! The directory a store lives in: who may open it, and what says whose it is.
//!
//! ```text
//! <data>/             0700; flock(2) on the directory itself, held for the life of the daemon
//!   like-store        the marker: format, role, store id, whether the store is complete, and a checksum of all that;
//!                     replaced by rename only
//!   durable           how far the store is known to have been durable ([`super::mark`])
//!   opening           what sled may destroy while it opens the store ([`super::opening`])
//!   log.N             segments of the commit log ([`super::commit_log`])
//!   carried.N         what the last checkpoint carried over ([`super::carried`])
//!   conf db blobs/    sled's, the base ([`super::base`])
//!   snap.*            sled's; a snap.*.generating is one that a crash cut short
//! ```
//!
//! The marker is written before sled makes its first file, as `making`, and again when all of those are synced, as
//! `ready`. A store found `making` was never served, so it is made anew.

use std::fs::{self, DirBuilder, File, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use like_protocol::file_system;
use like_protocol::ids::StoreId;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use super::carried::CARRIED;
use super::commit_log::SEGMENT;
use super::mark::MARK;
use super::opening::OPENING;

/// The format in which this program writes: of the marker, of every row, of the commit log and of sled.
pub const FORMAT: u32 = 4;

const MARKER: &str = "like-store";
const MARKER_NEW: &str = "like-store.new";
const SNAPSHOT: &str = "snap.";

/// A directory of root's at the root of a file system.
const LOST_AND_FOUND: &str = "lost+found";

const MODE: u32 = 0o700;

/// Why a data directory can't be used. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process holds the lock.
    #[error(
        "{0} is in use by another daemon: stop that one, or give this one a data directory of its own (--data)"
    )]
    InUse(PathBuf),
    /// The store was made by the other service.
    #[error(
        "{path} is the store of the {found} service, not of the {wanted} service: give this daemon its own (--data)"
    )]
    OtherRole {
        /// The directory.
        path: PathBuf,
        /// What its marker says.
        found: String,
        /// What this program is.
        wanted: String,
    },
    /// The store was written by a newer version.
    #[error(
        "{path} has store format {found}, and this program knows formats up to {FORMAT}: run a newer version"
    )]
    NewerFormat {
        /// The directory.
        path: PathBuf,
        /// What its marker says.
        found: u32,
    },
    /// The store was written before the first release, in a format that nothing reads any more.
    #[error(
        "{path} has store format {found}, from before the first release, and this program reads {FORMAT}: finish its \
         sagas with the version that wrote it, then give a new directory (--data)"
    )]
    OlderFormat {
        /// The directory.
        path: PathBuf,
        /// What its marker says.
        found: u32,
    },
    /// There is something, but no store.
    #[error("{0} is not empty and holds no store: give an empty or a new directory (--data)")]
    Foreign(PathBuf),
    /// `flock` can't be trusted there.
    #[error(
        "{path} is on a network file system ({name}), where another host's daemon may use it: give a directory on a \
         local disk (--data)"
    )]
    NetworkFileSystem {
        /// The directory.
        path: PathBuf,
        /// What kind of file system.
        name: &'static str,
    },
    /// The marker is not what was written.
    #[error("{0} is damaged: restore the data directory from a backup, then start once with --restored")]
    BadMarker(PathBuf),
    /// There is no store that could have been restored.
    #[error("{0} holds no store to restore: put the backup there first, or start without --restored")]
    NothingRestored(PathBuf),
    /// The file system refused.
    #[error(
        "can't {what} {path}: {source}; this daemon must be able to make its directory and to write in it (--data)"
    )]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What came of it.
        source: io::Error,
    },
}

trait At<T> {
    fn at(self, what: &'static str, path: &Path) -> Result<T, DataDirError>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, what: &'static str, path: &Path) -> Result<T, DataDirError> {
        self.map_err(|source| DataDirError::Io { what, path: path.to_owned(), source })
    }
}

/// A locked data directory. The lock goes with this value, or with the process.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    marker: Marker,
    /// The directory itself, locked.
    lock: File,
}

/// What the marker file says.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Marker {
    role: String,
    store: StoreId,
    ready: bool,
}

impl DataDir {
    /// Locks the directory, making it if there is none, and makes sure that what it holds is a store of `role` in a
    /// format that this program knows, or nothing yet. Until that is sure nothing in it is touched.
    ///
    /// With `restored`, the store is a copy brought back from a backup: it gets a new id, durably, because sagas
    /// that began with the original must not go on with it.
    ///
    /// # Errors
    /// See [`DataDirError`].
    pub fn open(path: &Path, role: &str, restored: bool) -> Result<Self, DataDirError> {
        if !path.try_exists().at("look at", path)? {
            DirBuilder::new().mode(MODE).create(path).at("make", path)?;
        }
        let lock = File::open(path).at("open", path)?;
        let stat = rustix::fs::fstatfs(&lock).map_err(io::Error::from).at("look at", path)?;
        refuse_network(path, stat.f_type as u64)?;
        lock.try_lock().map_err(|refused| match refused {
            TryLockError::WouldBlock => DataDirError::InUse(path.to_owned()),
            TryLockError::Error(source) => DataDirError::Io { what: "lock", path: path.to_owned(), source },
        })?;

        let found = Marker::read(path)?;
        match &found {
            Some(marker) if marker.role != role => {
                return Err(DataDirError::OtherRole {
                    path: path.to_owned(),
                    found: marker.role.clone(),
                    wanted: role.to_owned(),
                });
            }
            None if !is_vacant(path)? => return Err(DataDirError::Foreign(path.to_owned())),
            Some(_) | None => {}
        }
        let complete = found.filter(|marker| marker.ready);
        if restored && complete.is_none() {
            return Err(DataDirError::NothingRestored(path.to_owned()));
        }

        fs::set_permissions(path, Permissions::from_mode(MODE)).at("restrict", path)?;
        let drawn = StoreId::generate();
        let marker = match complete {
            Some(marker) if restored => Marker { store: drawn, ..marker },
            Some(marker) => marker,
            None => Marker { role: role.to_owned(), store: drawn, ready: false },
        };
        if restored || !marker.ready {
            marker.write(path)?;
        }
        if restored {
            // A copy may have less than was durable once: that is forgotten only where nobody takes it for the original any
            // more. What an opening has kept is of the copy, and it may need that.
            remove_if_there(&path.join(MARK))?;
        }
        remove_leftovers(path, marker.ready)?;
        Ok(Self { path: path.to_owned(), marker, lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory itself, whatever its path leads to by now. Whoever has it open does not have it locked.
    ///
    /// # Errors
    /// The system refused.
    pub fn directory(&self) -> Result<File, DataDirError> {
        let opened = openat(&self.lock, ".", OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty());
        opened.map(File::from).map_err(io::Error::from).at("open", &self.path)
    }

    /// The id of the store in it.
    pub fn store_id(&self) -> StoreId {
        self.marker.store
    }

    /// Whether the store in it has yet to be made.
    pub fn is_new(&self) -> bool {
        !self.marker.ready
    }

    /// Syncs everything in the directory, and its name in the directory above, and then says, durably, that the store in
    /// it is complete.
    ///
    /// # Errors
    /// The file system refused.
    pub fn complete(&mut self) -> Result<(), DataDirError> {
        sync_tree(&self.path)?;
        sync_name(&self.path)?;
        self.marker.ready = true;
        self.marker.write(&self.path)
    }
}

impl Marker {
    fn read(dir: &Path) -> Result<Option<Self>, DataDirError> {
        let path = dir.join(MARKER);
        match fs::read(&path) {
            Ok(bytes) => Self::decode(dir, &bytes).map(Some),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).at("read", &path),
        }
    }

    fn decode(dir: &Path, bytes: &[u8]) -> Result<Self, DataDirError> {
        let damaged = || DataDirError::BadMarker(dir.join(MARKER));
        let text = str::from_utf8(bytes).map_err(|_| damaged())?;
        let (found, rest) = Self::format_of(text).ok_or_else(damaged)?;
        if found == FORMAT {
            return Self::parse(text).ok_or_else(damaged);
        }
        if Self::parse(&format!("{}{rest}", Self::first_line())).is_some() {
            // Nothing but the number was changed: the checksum, which covers it, is that of our own.
            return Err(damaged());
        }
        let path = dir.to_owned();
        Err(if found > FORMAT {
            DataDirError::NewerFormat { path, found }
        } else {
            DataDirError::OlderFormat { path, found }
        })
    }

    fn first_line() -> String {
        format!("like-store {FORMAT}\n")
    }

    /// The format, and what stands behind its line. It stands in the first line, in this and in every later format.
    fn format_of(text: &str) -> Option<(u32, &str)> {
        let (first, rest) = text.split_once('\n')?;
        let number = first.strip_prefix("like-store ")?;
        let found: u32 = number.parse().ok()?;
        (found.to_string() == number).then_some((found, rest))
    }

    /// What a marker of this format says. There is one way to write it, and nothing else is one.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines().skip(1);
        let role = lines.next()?.strip_prefix("role ")?.to_owned();
        let store = lines.next()?.strip_prefix("store ")?.parse().ok()?;
        let ready = lines.next()?.strip_prefix("state ")? == "ready";
        let marker = Self { role, store, ready };
        (marker.text() == text).then_some(marker)
    }

    /// The marker as it is written. Its last line is the CRC32C of the lines above.
    fn text(&self) -> String {
        let state = if self.ready { "ready" } else { "making" };
        let said = format!("{}role {}\nstore {}\nstate {state}\n", Self::first_line(), self.role, self.store);
        format!("{said}checksum {:08x}\n", crc32c::crc32c(said.as_bytes()))
    }

    /// Replaces the marker: whatever happens, the old one or the new one is found. Durable on return.
    fn write(&self, dir: &Path) -> Result<(), DataDirError> {
        let (new, path) = (dir.join(MARKER_NEW), dir.join(MARKER));
        let written = File::create(&new).and_then(|mut file| {
            file.write_all(self.text().as_bytes())?;
            file.sync_all()
        });
        written.at("write", &new)?;
        fs::rename(&new, &path).at("replace", &path)?;
        sync_directory(dir)
    }
}

/// Refuses a directory on a network file system, by its magic number.
fn refuse_network(path: &Path, magic: u64) -> Result<(), DataDirError> {
    match file_system::network(magic) {
        Some(name) => Err(DataDirError::NetworkFileSystem { path: path.to_owned(), name }),
        None => Ok(()),
    }
}

/// Whether there is nothing in a directory but what a file system or an attempt cut short leaves there.
fn is_vacant(dir: &Path) -> Result<bool, DataDirError> {
    for entry in fs::read_dir(dir).at("list", dir)? {
        let name = entry.at("list", dir)?.file_name();
        if name != LOST_AND_FOUND && name != MARKER_NEW {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Removes what a crash left: unfinished snapshots of sled, which would make it call the store corrupt; files of ours that were being
/// written, which may have filled the disk; and, if the store was never completed, every file of it.
fn remove_leftovers(dir: &Path, complete: bool) -> Result<(), DataDirError> {
    for entry in fs::read_dir(dir).at("list", dir)? {
        let entry = entry.at("list", dir)?;
        let (name, path) = (entry.file_name(), entry.path());
        let name = name.to_string_lossy();
        let of_sled = name == "conf" || name == "db" || name == "blobs" || name.starts_with(SNAPSHOT);
        let numbered = name.starts_with(SEGMENT) || name.starts_with(CARRIED);
        let of_us = name == MARK || name.strip_suffix(".new").unwrap_or(&name) == OPENING || numbered;
        let is_unfinished = name.ends_with(".generating") || (of_us && name.ends_with(".new"));
        if is_unfinished || ((of_sled || of_us) && !complete) {
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.at("remove", &path)?;
        }
    }
    Ok(())
}

fn sync_tree(dir: &Path) -> Result<(), DataDirError> {
    for entry in fs::read_dir(dir).at("list", dir)? {
        let entry = entry.at("list", dir)?;
        if entry.file_name() == LOST_AND_FOUND {
            // Nothing of it is ours, nor need it be ours to look into.
            continue;
        }
        let path = entry.path();
        if path.is_dir() {
            sync_tree(&path)?;
        } else {
            File::open(&path).and_then(|file| file.sync_all()).at("sync", &path)?;
        }
    }
    sync_directory(dir)
}

fn sync_directory(dir: &Path) -> Result<(), DataDirError> {
    File::open(dir).and_then(|dir| dir.sync_all()).at("sync", dir)
}

/// Makes a directory's name durable, whoever made it and whether or not they got as far as syncing it. Where the
/// directory above is not ours to open (it is systemd's), the whole file system is synced.
fn sync_name(dir: &Path) -> Result<(), DataDirError> {
    let real = fs::canonicalize(dir).at("find", dir)?;
    let Some(above) = real.parent() else { return Ok(()) };
    match File::open(above) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            let dir_ = File::open(dir).at("open", dir)?;
            rustix::fs::syncfs(dir_).map_err(io::Error::from).at("sync the file system of", dir)
        }
        opened => opened.and_then(|above| above.sync_all()).at("sync", above),
    }
}

fn remove_if_there(path: &Path) -> Result<(), DataDirError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e).at("remove", path),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "data_dir_tests.rs"]
mod tests;

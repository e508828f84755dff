//! A Unix socket of one's own: its file is made where nobody listens, and removed at the end.
//!
//! A socket file that a crash left behind is replaced; a live one is never stolen. Between looking at it and having
//! taken its place, its directory is locked with flock(2), so two programs that start at once can't both find it stale.
//! Anybody who may open that directory can hold such a lock: it is waited for only so long.

use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::socket_acceptconn;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

/// The mode of a socket: for its owner and group.
const MODE: u32 = 0o660;

/// How long the path of a socket may be, in bytes: what `sockaddr_un` has room for, and a zero byte.
const PATH_MAX: usize = 107;

/// How often the lock of a socket's directory is tried. Programs that start or stop hold it for a moment only.
const LOCK_TRIES_MAX: u32 = 20;

/// How long it is waited between two tries: a second in all.
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// Why there is no socket. Each message says what to do, but for the flag that gives another path.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Somebody listens there.
    #[error("another process listens on {0}: stop it, or give another path")]
    InUse(PathBuf),
    /// Somebody else has locked its directory.
    #[error(
        "another program holds a lock on {0}: stop that program (lslocks and fuser name it), or give a path in another \
         directory"
    )]
    Locked(PathBuf),
    /// Something else is there.
    #[error("{0} exists and is no socket: remove it, or give another path")]
    NoSocket(PathBuf),
    /// No socket's path is so long.
    #[error("{0} is too long: the path of a socket has at most {PATH_MAX} bytes; give a shorter one")]
    TooLong(PathBuf),
    /// The file system or the kernel refused.
    #[error(
        "can't {what} {path}: {source}; it must be a path in a directory that exists and may be written in"
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

/// Listens on a socket at `path`, which nobody else does. Connections wait from now on until they are accepted; accepting
/// does not block.
///
/// # Errors
/// The path is too long or taken, its directory stays locked for a second, or the system refused.
pub fn listen(path: &Path) -> Result<(UnixListener, SocketFile), SocketError> {
    if path.as_os_str().len() > PATH_MAX {
        return Err(SocketError::TooLong(path.to_owned()));
    }
    let at = |what| move |source| SocketError::Io { what, path: path.to_owned(), source };
    let _locked = lock_directory_of(path)?;
    remove_stale(path)?;
    let listener = UnixListener::bind(path).map_err(at("listen on"))?;
    fs::set_permissions(path, Permissions::from_mode(MODE)).map_err(at("set the mode of"))?;
    listener.set_nonblocking(true).map_err(at("listen on"))?;
    Ok((listener, SocketFile(path.to_owned())))
}

/// Makes sure that a socket which was passed to this process listens: one that somebody else has accepted
/// (`Accept=yes` in a socket unit) never would.
///
/// # Errors
/// It does not.
pub fn must_listen(passed: impl AsFd) -> io::Result<()> {
    match socket_acceptconn(passed)? {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it does not listen")),
    }
}

/// The file of a socket that this process made.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl SocketFile {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Removes the file of a socket that listens no more, unless somebody else has put their own there. What can't be
    /// removed, as while somebody else has its directory locked for a second, stays, and whoever comes next finds it stale.
    pub fn remove(&self) {
        let Ok(_locked) = lock_directory_of(&self.0) else { return };
        let _stays = remove_stale(&self.0);
    }
}

/// The directory that a file at `path` is in.
pub fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Removes the file of a socket that nobody listens on, if there is one, while its directory is locked.
fn remove_stale(path: &Path) -> Result<(), SocketError> {
    let at = |what| move |source| SocketError::Io { what, path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(at("look at")(e)),
        Ok(found) if !found.file_type().is_socket() => Err(SocketError::NoSocket(path.to_owned())),
        Ok(_) if is_live(path).map_err(at("connect to"))? => Err(SocketError::InUse(path.to_owned())),
        Ok(_) => fs::remove_file(path).map_err(at("remove the stale socket")),
    }
}

/// Whether anybody listens on a socket file. One whose queue is full is alive too, so the attempt must not block.
fn is_live(path: &Path) -> io::Result<bool> {
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match connect(&socket, &address) {
        Ok(()) | Err(Errno::AGAIN) => Ok(true),
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(false),
        // A socket of another type than ours: somebody's, alive or not.
        Err(Errno::PROTOTYPE) => Ok(true),
        Err(e) => Err(e.into()),
    }
}

/// Locks the directory that a socket file is in, for as long as the returned file is kept.
fn lock_directory_of(path: &Path) -> Result<File, SocketError> {
    let at = |what, source| SocketError::Io { what, path: path.to_owned(), source };
    let directory = File::open(directory_of(path)).map_err(|e| at("open the directory of", e))?;
    for _ in 0..LOCK_TRIES_MAX {
        match directory.try_lock() {
            Ok(()) => return Ok(directory),
            Err(TryLockError::WouldBlock) => thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(e)) => return Err(at("lock the directory of", e)),
        }
    }
    Err(SocketError::Locked(directory_of(path).to_owned()))
}

#[cfg(test)]
mod tests;

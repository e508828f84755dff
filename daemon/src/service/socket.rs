//! The listening socket: passed by a supervisor, or made here.
//!
//! A socket file that a crash left behind is replaced; a live one is never stolen. Between looking at it and having
//! taken its place, its directory is locked with flock(2), so two daemons that start at once can't both find it stale.
//! Anybody who may open that directory can hold such a lock: it is waited for only so long.

use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use listenfd::ListenFd;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

const MODE: u32 = 0o660;

/// How often the lock of a socket's directory is tried. Daemons that start or stop hold it for a moment only.
const LOCK_TRIES_MAX: u32 = 20;

/// How long it is waited between two tries: a second in all.
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// Where a daemon listens.
#[derive(Debug)]
pub enum Socket {
    /// On a socket that a supervisor made and keeps.
    Passed(UnixListener),
    /// On a socket of its own.
    Own(PathBuf),
}

/// Why there is nothing to listen on. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Nothing was passed, and no path was given.
    #[error("there is no socket to listen on: give a path (--socket), or start under socket activation")]
    None,
    /// More than one was passed.
    #[error("{0} sockets were passed, and one is needed: give each daemon a socket unit of its own")]
    TooMany(usize),
    /// What was passed is no listening Unix stream socket.
    #[error("the socket that was passed can't be used: {0}; it must be a Unix stream socket that listens")]
    Unfit(io::Error),
    /// Somebody listens there.
    #[error("another process listens on {0}: stop it, or give this daemon another path (--socket)")]
    InUse(PathBuf),
    /// Somebody else has locked its directory.
    #[error(
        "another program holds a lock on {0}: stop that program (lslocks and fuser name it), or give this daemon a path \
         in another directory (--socket)"
    )]
    Locked(PathBuf),
    /// Its directory is the one that the store lives in.
    #[error(
        "{0} is in the data directory, which is this daemon's alone: give a path in another directory (--socket)"
    )]
    WithinData(PathBuf),
    /// Something else is there.
    #[error("{0} exists and is no socket: remove it, or give another path (--socket)")]
    NoSocket(PathBuf),
    /// The file system or the kernel refused.
    #[error(
        "can't {what} {path}: {source}; it must be a short path in a directory that exists and that this daemon may write in \
         (--socket)"
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

/// Takes the socket that was passed (`LISTEN_FDS`), else one of its own at `path`.
///
/// # Errors
/// There is neither, or what was passed does not fit.
pub fn choose(path: Option<PathBuf>) -> Result<Socket, SocketError> {
    let mut passed = ListenFd::from_env();
    match (passed.len(), path) {
        (0, Some(path)) => Ok(Socket::Own(path)),
        (0, None) => Err(SocketError::None),
        (1, _) => match passed.take_unix_listener(0) {
            Ok(Some(listener)) => Ok(Socket::Passed(listener)),
            Ok(None) => Err(SocketError::None),
            Err(e) => Err(SocketError::Unfit(e)),
        },
        (more, _) => Err(SocketError::TooMany(more)),
    }
}

impl Socket {
    /// Makes sure that a socket of its own does not lie in the data directory: nobody else can open that, and its lock is
    /// another one.
    ///
    /// # Errors
    /// It does.
    pub fn apart_from(self, data: &Path) -> Result<Self, SocketError> {
        match self {
            // What can't be looked at can't be listened in either, and is told then.
            Self::Own(path) if is_same(directory_of(&path), data).unwrap_or(false) => {
                Err(SocketError::WithinData(path))
            }
            other => Ok(other),
        }
    }

    /// Starts to listen. Connections wait from now on until they are accepted.
    ///
    /// # Errors
    /// The path is taken, its directory stays locked for a second, or the system refused.
    pub fn listen(self) -> Result<Listening, SocketError> {
        let (listener, own) = match self {
            Self::Passed(listener) => (listener, None),
            Self::Own(path) => {
                let (listener, own) = bind(&path)?;
                (listener, Some(own))
            }
        };
        listener.set_nonblocking(true).map_err(SocketError::Unfit)?;
        Ok(Listening { listener, own })
    }
}

/// A socket that listens.
#[derive(Debug)]
pub struct Listening {
    /// The socket.
    pub listener: UnixListener,
    /// Its file, if it is the daemon's own.
    pub own: Option<SocketFile>,
}

/// The file of a socket that this process made.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl SocketFile {
    /// Removes the file of a socket that listens no more, unless another daemon has put its own there. What can't be
    /// removed, as while somebody else has its directory locked for a second, stays, and the next daemon finds it stale.
    pub fn remove(&self) {
        let Ok(_locked) = lock_directory_of(&self.0) else { return };
        if is_live(&self.0).is_ok_and(|live| !live) {
            let _stays = fs::remove_file(&self.0);
        }
    }
}

fn bind(path: &Path) -> Result<(UnixListener, SocketFile), SocketError> {
    let at = |what| move |source| SocketError::Io { what, path: path.to_owned(), source };
    let _locked = lock_directory_of(path)?;
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(at("look at")(e)),
        Ok(found) if !found.file_type().is_socket() => return Err(SocketError::NoSocket(path.to_owned())),
        Ok(_) if is_live(path).map_err(at("connect to"))? => return Err(SocketError::InUse(path.to_owned())),
        Ok(_) => fs::remove_file(path).map_err(at("remove the stale socket"))?,
    }
    let listener = UnixListener::bind(path).map_err(at("listen on"))?;
    fs::set_permissions(path, Permissions::from_mode(MODE)).map_err(at("set the mode of"))?;
    Ok((listener, SocketFile(path.to_owned())))
}

/// Whether anybody listens on a socket file. One whose queue is full is alive too, so the attempt must not block.
fn is_live(path: &Path) -> io::Result<bool> {
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match connect(&socket, &address) {
        Ok(()) | Err(rustix::io::Errno::AGAIN) => Ok(true),
        Err(rustix::io::Errno::CONNREFUSED | rustix::io::Errno::NOENT) => Ok(false),
        // A socket of another type than ours: somebody's, alive or not.
        Err(rustix::io::Errno::PROTOTYPE) => Ok(true),
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

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Whether both paths lead to the same file.
fn is_same(one: &Path, other: &Path) -> io::Result<bool> {
    let (one, other) = (fs::metadata(one)?, fs::metadata(other)?);
    Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn own(path: &Path) -> Result<Listening, SocketError> {
        Socket::Own(path.to_owned()).listen()
    }

    #[test]
    fn a_socket_of_its_own_has_mode_0660_and_is_removed_at_the_end() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("s");
        let listening = own(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, MODE);
        let Listening { listener, own } = listening;
        drop(listener);
        own.unwrap().remove();
        assert!(!path.exists());
    }

    #[test]
    fn a_live_socket_is_never_stolen() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("s");
        let _first = own(&path).unwrap();
        assert!(matches!(own(&path), Err(SocketError::InUse(_))));
        // Nor one whose queue of connections is full.
        let mut waiting = Vec::new();
        loop {
            let address = SocketAddrUnix::new(&path).unwrap();
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
            let full = connect(&socket, &address).is_err();
            waiting.push(socket);
            if full {
                break;
            }
        }
        assert!(matches!(own(&path), Err(SocketError::InUse(_))));
    }

    #[test]
    fn a_stale_socket_is_replaced() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("s");
        let first = own(&path).unwrap();
        drop(first.listener);
        let second = own(&path).unwrap();
        UnixStream::connect(&path).unwrap();
        first.own.unwrap().remove();
        assert!(path.exists(), "the file of another socket is left alone");
        drop(second);
    }

    #[test]
    fn of_many_that_start_at_once_where_a_socket_is_stale_one_listens() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("s");
        for _ in 0..20 {
            let at_once = std::sync::Barrier::new(4);
            let start = || {
                at_once.wait();
                own(&path)
            };
            let started: Vec<_> = thread::scope(|scope| {
                let threads: Vec<_> = (0..4).map(|_| scope.spawn(start)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            let (listening, refused): (Vec<_>, Vec<_>) = started.into_iter().partition(Result::is_ok);
            assert_eq!(listening.len(), 1);
            assert!(
                refused.iter().all(|refused| matches!(refused, Err(SocketError::InUse(_)))),
                "{refused:?}"
            );
            // Dropped, and its file left: stale for the next ones.
        }
    }

    #[test]
    fn a_directory_that_somebody_has_locked_is_not_waited_for_long() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("s");
        let listening = own(&path).unwrap();
        let theirs = File::open(temp.path()).unwrap();
        theirs.lock().unwrap();
        let refused = own(&temp.path().join("t")).unwrap_err();
        assert!(matches!(&refused, SocketError::Locked(directory) if directory == temp.path()), "{refused}");
        drop(listening.listener);
        let file = listening.own.unwrap();
        file.remove();
        assert!(path.exists(), "nothing is removed without the lock");
        // One that is held for a moment only is waited for.
        let until = thread::spawn(move || {
            thread::sleep(2 * LOCK_PAUSE);
            theirs.unlock().unwrap();
        });
        file.remove();
        assert!(!path.exists());
        until.join().unwrap();
    }

    #[test]
    fn a_socket_does_not_lie_in_the_data_directory() {
        let temp = tempfile::tempdir().unwrap();
        let data = temp.path().join("data");
        fs::create_dir(&data).unwrap();
        std::os::unix::fs::symlink(&data, temp.path().join("link")).unwrap();
        let within = |path: &str| Socket::Own(temp.path().join(path)).apart_from(&data);
        for path in ["data/s", "link/s", "data/../data/s"] {
            assert!(matches!(within(path), Err(SocketError::WithinData(_))), "{path}");
        }
        for path in ["s", "data", "nowhere/s"] {
            assert!(within(path).is_ok(), "{path}");
        }
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("s");
        fs::write(&path, "letters").unwrap();
        assert!(matches!(own(&path), Err(SocketError::NoSocket(_))));
        assert_eq!(fs::read(&path).unwrap(), b"letters");
    }

    #[test]
    fn a_missing_directory_is_named() {
        let refused = own(Path::new("/no/such/directory/s")).unwrap_err().to_string();
        assert!(refused.contains("/no/such/directory/s"), "{refused}");
    }
}

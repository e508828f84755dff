//! The listening socket: TCP or Unix, passed by a supervisor or made here.
//!
//! A Unix socket's file that a crash left behind is replaced; a live one is never stolen. Between looking at it and
//! having taken its place its directory is locked, so two gateways that start at once can't both find it stale. Anybody
//! who may open that directory can hold such a lock: it is waited for only so long.

use std::fmt;
use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::thread;
use std::time::Duration;

use listenfd::ListenFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// The mode of a Unix socket that is made here: for its owner and group.
const MODE: u32 = 0o660;
/// How often the lock of a socket's directory is tried. Gateways that start or stop hold it for a moment only.
const LOCK_TRIES_MAX: u32 = 20;
/// How long it is waited between two tries: a second in all.
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// Where to listen, as it is typed: `ADDRESS:PORT` or `unix:PATH`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Address {
    /// A TCP address and port.
    Tcp(SocketAddr),
    /// A path in the file system.
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some("") => Err("a path must follow `unix:`".to_owned()),
            Some(path) => Ok(Self::Unix(path.into())),
            None => text.parse().map(Self::Tcp).map_err(|_| {
                "write an address and a port, as in 127.0.0.1:8080 or [::1]:8080, or unix:PATH".to_owned()
            }),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "http://{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Where the gateway listens.
#[derive(Debug)]
pub enum Listen {
    /// On a TCP socket that a supervisor made and keeps.
    PassedTcp(std::net::TcpListener),
    /// On a Unix socket that a supervisor made and keeps.
    PassedUnix(std::os::unix::net::UnixListener),
    /// On a socket of its own.
    Own(Address),
}

/// Why there is nothing to listen on. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// More than one was passed.
    #[error("{0} sockets were passed, and one is needed: write one Listen...= into the socket unit")]
    TooMany(usize),
    /// What was passed can't be listened on.
    #[error(
        "the socket that was passed can't be used: {0}; it must be a stream socket that listens, TCP or Unix"
    )]
    Unfit(io::Error),
    /// Somebody listens there.
    #[error("another process listens on {0}: stop it, or give this gateway another place (--listen)")]
    InUse(Address),
    /// Somebody else has locked its directory.
    #[error(
        "another program holds a lock on {0}: stop that program (lslocks and fuser name it), or give this gateway a path \
         in another directory (--listen unix:PATH)"
    )]
    Locked(PathBuf),
    /// Something else is there.
    #[error("{0} exists and is no socket: remove it, or give another path (--listen unix:PATH)")]
    NoSocket(PathBuf),
    /// The file system or the kernel refused.
    #[error("can't {what} {address}: {source}; give this gateway another place (--listen)")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Where.
        address: Address,
        /// What came of it.
        source: io::Error,
    },
}

/// Takes the socket that was passed (`LISTEN_FDS`), else one of its own at `address`.
///
/// # Errors
/// What was passed does not fit.
pub fn choose(address: Address) -> Result<Listen, ListenError> {
    let mut passed = ListenFd::from_env();
    match passed.len() {
        0 => return Ok(Listen::Own(address)),
        1 => {}
        more => return Err(ListenError::TooMany(more)),
    }
    // A socket that doesn't fit is left where it is: the other kind may take it.
    if let Ok(Some(listener)) = passed.take_unix_listener(0) {
        return Ok(Listen::PassedUnix(listener));
    }
    match passed.take_tcp_listener(0) {
        Ok(Some(listener)) => Ok(Listen::PassedTcp(listener)),
        Ok(None) => Ok(Listen::Own(address)),
        Err(e) => Err(ListenError::Unfit(e)),
    }
}

impl Listen {
    /// Starts to listen. Connections wait from now on until they are accepted. To be called within a tokio runtime.
    ///
    /// # Errors
    /// The place is taken, its directory stays locked for a second, or the system refused.
    pub fn start(self) -> Result<Listener, ListenError> {
        match self {
            Self::PassedTcp(listener) => {
                listener.set_nonblocking(true).map_err(ListenError::Unfit)?;
                TcpListener::from_std(listener).map(Listener::Tcp).map_err(ListenError::Unfit)
            }
            Self::PassedUnix(listener) => {
                listener.set_nonblocking(true).map_err(ListenError::Unfit)?;
                let listener = UnixListener::from_std(listener).map_err(ListenError::Unfit)?;
                Ok(Listener::Unix(listener, None))
            }
            Self::Own(Address::Tcp(address)) => bind_tcp(address).map(Listener::Tcp),
            Self::Own(Address::Unix(path)) => bind_unix(&path).map(|l| Listener::Unix(l, Some(path))),
        }
    }
}

/// A socket that listens.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// Unix, and its file if it is the gateway's own.
    Unix(UnixListener, Option<PathBuf>),
}

/// A connection that was accepted.
#[derive(Debug)]
pub enum Accepted {
    /// By TCP.
    Tcp(TcpStream),
    /// By a Unix socket.
    Unix(UnixStream),
}

impl Listener {
    /// The next connection.
    ///
    /// # Errors
    /// The system has no room for one right now (descriptors, memory), or the peer is gone already.
    pub async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Accepted::Tcp(stream))
            }
            Self::Unix(listener, _) => Ok(Accepted::Unix(listener.accept().await?.0)),
        }
    }

    /// Where it listens, for people.
    pub fn place(&self) -> String {
        match self {
            Self::Tcp(listener) => match listener.local_addr() {
                Ok(address) => Address::Tcp(address).to_string(),
                Err(_) => "a TCP socket".to_owned(),
            },
            Self::Unix(_, Some(path)) => Address::Unix(path.clone()).to_string(),
            Self::Unix(_, None) => "a Unix socket that was passed".to_owned(),
        }
    }

    /// Listens no more: the socket's file, if it is the gateway's own.
    pub fn close(self) -> Option<SocketFile> {
        match self {
            Self::Unix(_, Some(path)) => Some(SocketFile(path)),
            Self::Unix(_, None) | Self::Tcp(_) => None,
        }
    }
}

/// The file of a Unix socket that this process made.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl SocketFile {
    /// Removes the file of a socket that listens no more, unless another gateway has put its own there. What can't be
    /// removed, as while somebody else has its directory locked for a second, stays, and the next gateway finds it stale.
    pub fn remove(&self) {
        let Ok(_locked) = lock_directory_of(&self.0) else { return };
        if is_live(&self.0).is_ok_and(|live| !live) {
            let _stays = fs::remove_file(&self.0);
        }
    }
}

fn bind_tcp(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let bound = std::net::TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    });
    bound.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::InUse(Address::Tcp(address)),
        _ => ListenError::Io { what: "listen on", address: Address::Tcp(address), source },
    })
}

fn bind_unix(path: &Path) -> Result<UnixListener, ListenError> {
    let address = || Address::Unix(path.to_owned());
    let at = |what| move |source| ListenError::Io { what, address: address(), source };
    let _locked = lock_directory_of(path)?;
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(at("look at")(e)),
        Ok(found) if !found.file_type().is_socket() => return Err(ListenError::NoSocket(path.to_owned())),
        Ok(_) if is_live(path).map_err(at("connect to"))? => return Err(ListenError::InUse(address())),
        Ok(_) => fs::remove_file(path).map_err(at("remove the stale socket"))?,
    }
    let listener = UnixListener::bind(path).map_err(at("listen on"))?;
    fs::set_permissions(path, Permissions::from_mode(MODE)).map_err(at("set the mode of"))?;
    Ok(listener)
}

/// Whether anybody listens on a socket file. One whose queue is full is alive too, so the attempt must not block.
fn is_live(path: &Path) -> io::Result<bool> {
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match connect(&socket, &address) {
        Ok(()) | Err(Errno::AGAIN | Errno::PROTOTYPE) => Ok(true),
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Locks the directory that a socket file is in, for as long as the returned file is kept.
fn lock_directory_of(path: &Path) -> Result<File, ListenError> {
    let at = |what, source| ListenError::Io { what, address: Address::Unix(path.to_owned()), source };
    let name = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let directory = File::open(name).map_err(|e| at("open the directory of", e))?;
    for _ in 0..LOCK_TRIES_MAX {
        match directory.try_lock() {
            Ok(()) => return Ok(directory),
            Err(TryLockError::WouldBlock) => thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(e)) => return Err(at("lock the directory of", e)),
        }
    }
    Err(ListenError::Locked(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unix(path: &Path) -> Result<Listener, ListenError> {
        Listen::Own(Address::Unix(path.to_owned())).start()
    }

    #[test]
    fn addresses_are_tcp_or_unix() {
        assert_eq!("[::1]:80".parse(), Ok(Address::Tcp("[::1]:80".parse().unwrap())));
        assert_eq!("unix:/run/x".parse(), Ok(Address::Unix("/run/x".into())));
        for nonsense in ["", "80", "localhost:80", "unix:", "/run/x"] {
            assert!(nonsense.parse::<Address>().is_err(), "{nonsense}");
        }
    }

    #[tokio::test]
    async fn a_unix_socket_has_mode_0660_and_is_removed_at_the_end() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("s");
        let listener = unix(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, MODE);
        listener.close().unwrap().remove();
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_directory_that_somebody_has_locked_is_not_waited_for_long() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("s");
        let listener = unix(&path).unwrap();
        let theirs = File::open(temp.path()).unwrap();
        theirs.lock().unwrap();
        let refused = unix(&temp.path().join("t")).unwrap_err();
        assert!(matches!(&refused, ListenError::Locked(directory) if directory == temp.path()), "{refused}");
        let file = listener.close().unwrap();
        file.remove();
        assert!(path.exists(), "nothing is removed without the lock");
        theirs.unlock().unwrap();
        file.remove();
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("s");
        drop(unix(&path).unwrap());
        assert!(path.exists(), "nobody has closed it in order");
        let _live = unix(&path).unwrap();
        assert!(matches!(unix(&path), Err(ListenError::InUse(_))));
    }

    #[tokio::test]
    async fn what_is_no_socket_is_left_alone() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("s");
        fs::write(&path, "letters").unwrap();
        assert!(matches!(unix(&path), Err(ListenError::NoSocket(_))));
        assert_eq!(fs::read(&path).unwrap(), b"letters");
    }

    #[tokio::test]
    async fn a_taken_port_is_named() {
        let Listener::Tcp(first) = bind_tcp("127.0.0.1:0".parse().unwrap()).map(Listener::Tcp).unwrap()
        else {
            unreachable!()
        };
        let refused = bind_tcp(first.local_addr().unwrap()).unwrap_err();
        assert!(matches!(refused, ListenError::InUse(_)), "{refused}");
    }
}

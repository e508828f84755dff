//! The listening socket: passed by a supervisor, or made here.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use like_process::socket::{SocketFile, must_listen};
use listenfd::ListenFd;

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
    /// Its directory is the one that the store lives in.
    #[error(
        "{0} is in the data directory, which is this daemon's alone: give a path in another directory (--socket)"
    )]
    WithinData(PathBuf),
    /// It can't have one of its own.
    #[error("{0} (--socket)")]
    Own(#[from] like_process::socket::SocketError),
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
        (1, _) => {
            let listener = passed.take_unix_listener(0).map_err(SocketError::Unfit)?;
            let listener = listener.ok_or(SocketError::None)?;
            must_listen(&listener).map_err(SocketError::Unfit)?;
            Ok(Socket::Passed(listener))
        }
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
            Self::Own(path) if is_same(like_process::socket::directory_of(&path), data).unwrap_or(false) => {
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
                let (listener, own) = like_process::socket::listen(&path)?;
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

/// Whether both paths lead to the same file.
fn is_same(one: &Path, other: &Path) -> io::Result<bool> {
    let (one, other) = (fs::metadata(one)?, fs::metadata(other)?);
    Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_socket_that_cannot_be_had_is_told_with_the_flag_that_gives_another() {
        let refused = Socket::Own(PathBuf::from("/no/such/directory/s")).listen().unwrap_err().to_string();
        assert!(refused.contains("/no/such/directory/s") && refused.ends_with("(--socket)"), "{refused}");
    }
}

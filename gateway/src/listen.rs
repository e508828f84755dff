//! The listening socket: TCP or Unix, passed by a supervisor or made here.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use like_process::socket::{SocketFile, must_listen};
use listenfd::ListenFd;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

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
    /// Somebody listens at that address and port.
    #[error("another process listens on {0}: stop it, or give this gateway another place (--listen)")]
    InUse(SocketAddr),
    /// The network or the kernel refused.
    #[error("can't listen on {address}: {source}; give this gateway another place (--listen)")]
    Tcp {
        /// Where.
        address: SocketAddr,
        /// What came of it.
        source: io::Error,
    },
    /// It can't have a Unix socket of its own.
    #[error("{0} (--listen unix:PATH)")]
    Unix(#[from] like_process::socket::SocketError),
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
        must_listen(&listener).map_err(ListenError::Unfit)?;
        return Ok(Listen::PassedUnix(listener));
    }
    match passed.take_tcp_listener(0) {
        Ok(Some(listener)) => {
            must_listen(&listener).map_err(ListenError::Unfit)?;
            Ok(Listen::PassedTcp(listener))
        }
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
            Self::PassedUnix(listener) => served(listener).map(|listener| Listener::Unix(listener, None)),
            Self::Own(Address::Tcp(address)) => bind_tcp(address).map(Listener::Tcp),
            Self::Own(Address::Unix(path)) => {
                let (listener, own) = like_process::socket::listen(&path)?;
                served(listener).map(|listener| Listener::Unix(listener, Some(own)))
            }
        }
    }
}

/// A socket that listens.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// Unix, and its file if it is the gateway's own.
    Unix(UnixListener, Option<SocketFile>),
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
            Self::Unix(_, Some(own)) => Address::Unix(own.path().to_owned()).to_string(),
            Self::Unix(_, None) => "a Unix socket that was passed".to_owned(),
        }
    }

    /// Listens no more: the socket's file, if it is the gateway's own.
    pub fn close(self) -> Option<SocketFile> {
        match self {
            Self::Unix(_, own) => own,
            Self::Tcp(_) => None,
        }
    }
}

fn served(listener: std::os::unix::net::UnixListener) -> Result<UnixListener, ListenError> {
    listener.set_nonblocking(true).map_err(ListenError::Unfit)?;
    UnixListener::from_std(listener).map_err(ListenError::Unfit)
}

fn bind_tcp(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let bound = std::net::TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    });
    bound.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::InUse(address),
        _ => ListenError::Tcp { address, source },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_tcp_or_unix() {
        assert_eq!("[::1]:80".parse(), Ok(Address::Tcp("[::1]:80".parse().unwrap())));
        assert_eq!("unix:/run/x".parse(), Ok(Address::Unix("/run/x".into())));
        for nonsense in ["", "80", "localhost:80", "unix:", "/run/x"] {
            assert!(nonsense.parse::<Address>().is_err(), "{nonsense}");
        }
    }

    #[tokio::test]
    async fn a_unix_socket_is_served_at_its_path_until_it_is_closed() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("s");
        let listener = Listen::Own(Address::Unix(path.clone())).start().unwrap();
        assert_eq!(listener.place(), format!("unix:{}", path.display()));
        let taken = Listen::Own(Address::Unix(path.clone())).start().unwrap_err().to_string();
        assert!(taken.ends_with("(--listen unix:PATH)"), "{taken}");
        let (served, client) = tokio::join!(listener.accept(), UnixStream::connect(&path));
        assert!(matches!(served, Ok(Accepted::Unix(_))) && client.is_ok());
        listener.close().unwrap().remove();
        assert!(!path.exists());
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

//! How a byte stream to a participant comes about.

use std::io;
use std::path::{Path, PathBuf};

use futures::FutureExt;
use futures::future::BoxFuture;
use like_protocol::socket::Socket;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;

use super::error::UnreachableKind;

/// A byte stream in both directions.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Makes byte streams to one participant.
pub trait Dial: Send + Sync {
    /// One attempt at a connection. It may wait for as long as it likes: callers bring their own limits.
    ///
    /// # Errors
    /// The connection did not come about, and nothing was sent.
    fn dial(&self) -> BoxFuture<'static, io::Result<Box<dyn Stream>>>;

    /// Where it dials to, for people.
    fn target(&self) -> String;
}

/// Dials a Unix stream socket.
#[derive(Clone, Debug)]
pub struct UnixDial {
    path: PathBuf,
}

impl UnixDial {
    /// Dials the socket at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where the socket is expected.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Dial for UnixDial {
    fn dial(&self) -> BoxFuture<'static, io::Result<Box<dyn Stream>>> {
        let path = self.path.clone();
        async move {
            let socket = Socket::new(UnixStream::connect(path).await?)?;
            Ok(Box::new(socket) as Box<dyn Stream>)
        }
        .boxed()
    }

    fn target(&self) -> String {
        self.path.display().to_string()
    }
}

/// What a failed dial means, and says to people.
pub(super) fn explain(error: &io::Error, role: &str, target: &str) -> (UnreachableKind, String) {
    let at = format!("the {role} service at {target}");
    match error.kind() {
        io::ErrorKind::NotFound => {
            (UnreachableKind::NoSocket, format!("{at} is not running: there is no such socket"))
        }
        io::ErrorKind::ConnectionRefused => {
            (UnreachableKind::Refused, format!("{at} is not running: nobody listens on its socket"))
        }
        io::ErrorKind::PermissionDenied => {
            (UnreachableKind::PermissionDenied, format!("no permission to use {at}"))
        }
        io::ErrorKind::WouldBlock => {
            (UnreachableKind::TooManyConnections, format!("too many connections wait for {at}"))
        }
        _ => (UnreachableKind::Other, format!("can't connect to {at}: {error}")),
    }
}

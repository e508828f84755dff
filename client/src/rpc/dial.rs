//! How a byte stream to a participant comes about.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{FutureExt, TryFutureExt};
use like_protocol::socket::Socket;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;

use super::error::UnreachableKind;

/// How long the path of a socket may be, in bytes: what `sockaddr_un` has room for, and a zero byte.
const SOCKET_PATH_MAX: usize = 107;

/// A byte stream in both directions.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

type Dialled = BoxFuture<'static, io::Result<Box<dyn Stream>>>;

/// Makes byte streams to one participant.
#[derive(Clone)]
pub struct Dial {
    target: String,
    dial: Arc<dyn Fn() -> Dialled + Send + Sync>,
}

impl Dial {
    /// Dials to `target`, as people call it. Each call of `dial` is one attempt at a connection, which may wait for as long as it
    /// likes: callers bring their own limits. Where it fails, nothing was sent.
    pub fn new<S, F>(target: impl Into<String>, dial: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        S: Stream + 'static,
        F: Future<Output = io::Result<S>> + Send + 'static,
    {
        let dial = move || dial().map_ok(|stream| Box::new(stream) as Box<dyn Stream>).boxed();
        Self { target: target.into(), dial: Arc::new(dial) }
    }

    /// Dials the Unix stream socket at `path`.
    pub fn unix(path: PathBuf) -> Self {
        Self::new(path.display().to_string(), move || {
            let path = path.clone();
            async move { Socket::new(UnixStream::connect(path).await?) }
        })
    }

    /// Where it dials to, for people.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// One attempt at a connection.
    pub(super) fn dial(&self) -> Dialled {
        (self.dial)()
    }
}

/// What a failed dial means, and says to people.
pub(super) fn explain(error: &io::Error, role: &str, target: &str) -> (UnreachableKind, String) {
    let at = format!("the {role} service at {target}");
    match error.kind() {
        io::ErrorKind::NotFound => {
            (UnreachableKind::NoSocket, format!("{at} is not running: there is no such socket"))
        }
        io::ErrorKind::InvalidInput if target.len() > SOCKET_PATH_MAX => {
            let why = format!("the path of a socket has at most {SOCKET_PATH_MAX} bytes");
            (UnreachableKind::NoSocket, format!("{at} can't be there: {why}"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_may_not_be_used_is_told_from_one_that_too_many_wait_for() {
        let kind = |error: io::ErrorKind| explain(&error.into(), "article", "s").0;
        assert_eq!(kind(io::ErrorKind::PermissionDenied), UnreachableKind::PermissionDenied);
        assert_eq!(kind(io::ErrorKind::WouldBlock), UnreachableKind::TooManyConnections);
        assert_eq!(kind(io::ErrorKind::OutOfMemory), UnreachableKind::Other);
    }
}

//! A Unix socket as both ends of a connection use it: its owner is woken for what comes, and for nothing else.
//!
//! A runtime's own sockets ask the kernel to tell of both directions. Then whoever has sent something is woken as soon as the
//! peer has read it, only to learn that there is room to write again, which it never lacked: for each request and each reply
//! a process gets up for nothing, on a core that its peer needs. Here the kernel is asked about room while a writer has none.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

/// A connected socket. Whoever drops it closes it.
#[derive(Debug)]
pub struct Socket {
    /// Gone only if the kernel would not watch it any more.
    watched: Option<AsyncFd<UnixStream>>,
    /// Whether it is watched for room too.
    for_room: bool,
    /// Whoever waits for what comes.
    reader: Option<Waker>,
}

impl Socket {
    /// Takes over a connected socket of the runtime's. Must be called within that runtime.
    ///
    /// # Errors
    /// The kernel can't watch it.
    pub fn new(socket: tokio::net::UnixStream) -> io::Result<Self> {
        // It stays as it was: non-blocking.
        let watched = Some(watch(socket.into_std()?, Interest::READABLE)?);
        Ok(Self { watched, for_room: false, reader: None })
    }

    fn watched(&self) -> io::Result<&AsyncFd<UnixStream>> {
        self.watched.as_ref().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Ready when it is worth another try to write.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.for_room {
            self.watch_anew(true)?;
        }
        // Before that try: room that comes after it is told anew.
        ready!(self.watched()?.poll_write_ready(cx))?.clear_ready();
        Poll::Ready(Ok(()))
    }

    /// Watches it for what comes, and for room too or no more. A runtime can't be told so of a socket that it watches: it is
    /// taken out and put in again, and whoever waits for what comes has to wait anew.
    fn watch_anew(&mut self, for_room: bool) -> io::Result<()> {
        if let Some(watched) = self.watched.take() {
            let directions =
                if for_room { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
            self.watched = Some(watch(watched.into_inner(), directions)?);
            self.for_room = for_room;
        }
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
        Ok(())
    }
}

/// Has the kernel tell the runtime of these directions.
fn watch(socket: UnixStream, directions: Interest) -> io::Result<AsyncFd<UnixStream>> {
    // SAFETY: a `UnixStream` owns its descriptor: the same one, open, until it is dropped.
    #[allow(unsafe_code)]
    let watched = unsafe { AsyncFd::register_with_interest(socket, directions) };
    Ok(watched?)
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let watched = self.watched()?;
            let Poll::Ready(readiness) = watched.poll_read_ready(cx) else {
                self.reader.get_or_insert_with(|| cx.waker().clone()).clone_from(cx.waker());
                return Poll::Pending;
            };
            let (mut readiness, free) = (readiness?, buffer.initialize_unfilled());
            match watched.get_ref().read(free) {
                Ok(count) => {
                    // Less than fits is all that had come, and what comes from now on is told anew. Nothing at all is the end,
                    // which is told once.
                    if 0 < count && count < free.len() {
                        readiness.clear_ready();
                    }
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => readiness.clear_ready(),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
    }
}

impl AsyncWrite for Socket {
    /// Writes at once if there is room. Else waits until there is some.
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            match self.watched()?.get_ref().write(bytes) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => ready!(self.poll_room(cx))?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                written => {
                    if self.for_room {
                        self.watch_anew(false)?;
                    }
                    return Poll::Ready(written);
                }
            }
        }
    }

    /// What was written is the kernel's: nothing is kept back here.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.watched()?.get_ref().shutdown(Shutdown::Write))
    }
}

#[cfg(test)]
#[path = "socket_tests.rs"]
mod tests;

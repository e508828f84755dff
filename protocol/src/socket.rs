//! A Unix socket as both ends of a connection use it: its owner is woken for what comes, and for nothing else.
//!
//! A runtime's own sockets ask the kernel to tell of both directions. Then whoever has sent something is woken as soon as the
//! peer has read it, only to learn that there is room to write again, which it never lacked: for each request and each reply
//! a process gets up for nothing, on a core that its peer needs. Here the kernel is asked about room by a writer that has none.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

/// A connected socket. Whoever drops it closes it.
#[derive(Debug)]
pub struct Socket {
    readable: AsyncFd<UnixStream>,
    /// The same socket under another descriptor, for as long as a writer waits for room.
    writable: Option<AsyncFd<UnixStream>>,
}

impl Socket {
    /// Takes over a connected socket of the runtime's. Must be called within that runtime.
    ///
    /// # Errors
    /// The kernel can't watch it.
    pub fn new(socket: tokio::net::UnixStream) -> io::Result<Self> {
        // It stays as it was: non-blocking.
        Ok(Self { readable: watch(socket.into_std()?, Interest::READABLE)?, writable: None })
    }

    /// Writes at once if there is room. Else waits for some, which takes a second descriptor for that long.
    fn poll_writing(
        &mut self,
        cx: &mut Context<'_>,
        write: impl Fn(&mut &UnixStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            match write(&mut self.readable.get_ref()) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => ready!(self.poll_room(cx))?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                written => {
                    self.writable = None;
                    return Poll::Ready(written);
                }
            }
        }
    }

    /// Ready when it is worth another try to write.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let writable = match &mut self.writable {
            Some(writable) => writable,
            none => none.insert(watch(self.readable.get_ref().try_clone()?, Interest::WRITABLE)?),
        };
        // Before that try: room that comes after it is told anew.
        ready!(writable.poll_write_ready(cx))?.clear_ready();
        Poll::Ready(Ok(()))
    }
}

/// Has the kernel tell the runtime of one direction.
fn watch(socket: UnixStream, direction: Interest) -> io::Result<AsyncFd<UnixStream>> {
    // SAFETY: a `UnixStream` owns its descriptor: the same one, open, until it is dropped.
    #[allow(unsafe_code)]
    let watched = unsafe { AsyncFd::register_with_interest(socket, direction) };
    Ok(watched?)
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut readiness = ready!(self.readable.poll_read_ready(cx))?;
            let free = buffer.initialize_unfilled();
            match self.readable.get_ref().read(free) {
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
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_writing(cx, |socket| socket.write(bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_writing(cx, |socket| socket.write_vectored(pieces))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// What was written is the kernel's: nothing is kept back here.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.readable.get_ref().shutdown(Shutdown::Write))
    }
}

#[cfg(test)]
#[path = "socket_tests.rs"]
mod tests;

//! A peer that speaks the protocol as well or as badly as it is told to.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use like_protocol::codec;
use like_protocol::message::{
    ClientHello, FromDaemon, MAGIC, PROTOCOL_VERSION, Reply, Request, RequestBody, ServerHello, ToDaemon,
    TurnedAway,
};

/// How long a peer waits for whatever it reads.
const PATIENCE: Duration = Duration::from_secs(30);

/// One connection to a daemon.
#[derive(Debug)]
pub struct Peer {
    stream: UnixStream,
}

impl Peer {
    /// Connects, and says nothing yet.
    ///
    /// # Panics
    /// Nobody listens.
    pub fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).expect("a daemon that listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Self { stream }
    }

    /// Connects, hears the daemon's hello and says its own.
    ///
    /// # Errors
    /// The daemon turns it away.
    ///
    /// # Panics
    /// The daemon says something else.
    pub fn greet(socket: &Path) -> Result<Self, TurnedAway> {
        let mut peer = Self::connect(socket);
        peer.welcomed()?;
        peer.send(&frame(&hello())).expect("a daemon that listens");
        Ok(peer)
    }

    /// Hears the daemon's hello.
    ///
    /// # Errors
    /// The daemon turns it away.
    ///
    /// # Panics
    /// The daemon says something else.
    pub fn welcomed(&mut self) -> Result<(), TurnedAway> {
        match self.read().expect("a hello") {
            FromDaemon::Hello(ServerHello::Welcome(_)) => Ok(()),
            FromDaemon::Hello(ServerHello::Turned { away, .. }) => Err(away),
            other => panic!("no hello: {other:?}"),
        }
    }

    /// Sends bytes, whatever they are.
    ///
    /// # Errors
    /// The daemon has closed the connection, or takes nothing for as long as this peer is willing to wait.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Waits no longer than this when it sends.
    ///
    /// # Panics
    /// The time is zero.
    pub fn impatient(self, wait: Duration) -> Self {
        self.stream.set_write_timeout(Some(wait)).expect("a timeout");
        self
    }

    /// Reads one message.
    ///
    /// # Errors
    /// The daemon has closed the connection, or nothing comes.
    pub fn read(&mut self) -> io::Result<FromDaemon> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut body = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut body)?;
        codec::decode(&body).map_err(io::Error::other)
    }

    /// Reads one reply.
    ///
    /// # Errors
    /// As for [`Peer::read`].
    pub fn reply(&mut self) -> io::Result<Reply> {
        match self.read()? {
            FromDaemon::Reply(reply) => Ok(reply),
            other => Err(io::Error::other(format!("no reply: {other:?}"))),
        }
    }

    /// Whether the daemon closes the connection, whatever it says before.
    pub fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => true,
            Err(e) => !matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
        }
    }
}

/// A client's hello.
pub fn hello() -> ToDaemon {
    ToDaemon::Hello(ClientHello { magic: MAGIC, protocol: PROTOCOL_VERSION, software: "a peer".to_owned() })
}

/// A request.
pub fn request(id: u64, body: RequestBody) -> ToDaemon {
    ToDaemon::Request(Request { id, body })
}

/// A message as a frame.
///
/// # Panics
/// It can't be encoded.
pub fn frame(message: &ToDaemon) -> Vec<u8> {
    let body = codec::encode(message).expect("a message").0;
    let length = u32::try_from(body.len()).expect("a short message");
    [&length.to_be_bytes()[..], &body].concat()
}

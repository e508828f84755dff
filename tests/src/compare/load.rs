//! Clients of a peer: each with a connection of its own and one request in flight, all in one thread.
//!
//! They do as little as clients can: a peer is not to be slow for its clients' sake.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use super::ready::Ready;
use super::turn::{Stopwatch, Turn};

/// How a peer is spoken to.
pub trait Wire {
    /// The request for like number `number`.
    fn request(&mut self, number: u64) -> Vec<u8>;

    /// Whether what was received is one whole reply.
    ///
    /// # Panics
    /// It refuses the like.
    fn is_reply(&self, received: &[u8]) -> bool;
}

/// A client that waits for its reply.
struct Client {
    stream: UnixStream,
    sent: Instant,
    received: Vec<u8>,
}

/// Likes by so many clients for as long as a turn lasts. `next` numbers them over all turns.
pub fn turn(
    socket: &Path,
    wire: &mut impl Wire,
    server: u32,
    clients: usize,
    length: Duration,
    next: &mut u64,
) -> Turn {
    let ready = Ready::new();
    let connect = |number| {
        let stream = UnixStream::connect(socket).expect("the peer listens");
        ready.watch(&stream, number as u64);
        Client { stream, sent: Instant::now(), received: Vec::new() }
    };
    let mut clients: Vec<_> = (0..clients).map(connect).collect();
    let mut watch = Stopwatch::start(&[server], length);
    for client in &mut clients {
        client.send(wire, next);
    }
    let mut waiting = clients.len();
    while waiting > 0 {
        for number in ready.wait() {
            let client = &mut clients[number as usize];
            if !client.has_its_reply(wire) {
                continue;
            }
            watch.note(client.sent.elapsed());
            if watch.is_over() {
                waiting -= 1;
            } else {
                client.send(wire, next);
            }
        }
    }
    watch.stop()
}

impl Client {
    fn send(&mut self, wire: &mut impl Wire, next: &mut u64) {
        self.sent = Instant::now();
        self.stream.write_all(&wire.request(*next)).expect("the peer reads");
        *next += 1;
    }

    fn has_its_reply(&mut self, wire: &impl Wire) -> bool {
        let mut chunk = [0; 256];
        let count = self.stream.read(&mut chunk).expect("the peer answers");
        assert!(count > 0, "the peer is gone");
        self.received.extend_from_slice(&chunk[..count]);
        let whole = wire.is_reply(&self.received);
        if whole {
            self.received.clear();
        }
        whole
    }
}

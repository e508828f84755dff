//! Which of many sockets have something to read: epoll, for the peers' clients and for SQLite's server.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;

/// How many are told at once.
const TOLD_MAX: usize = 1024;

/// The sockets that are watched.
#[derive(Debug)]
pub struct Ready(OwnedFd);

impl Ready {
    /// None yet.
    pub fn new() -> Self {
        Self(epoll::create(CreateFlags::CLOEXEC).expect("epoll"))
    }

    /// One more, under a name.
    pub fn watch(&self, socket: impl AsFd, name: u64) {
        epoll::add(&self.0, socket, EventData::new_u64(name), EventFlags::IN).expect("it can be watched");
    }

    /// Waits until some have something to read, and names them.
    pub fn wait(&self) -> Vec<u64> {
        let mut events = [MaybeUninit::uninit(); TOLD_MAX];
        loop {
            match epoll::wait(&self.0, &mut events, None) {
                Ok((told, _)) => return told.iter().map(|event| event.data.u64()).collect(),
                Err(Errno::INTR) => {}
                Err(e) => panic!("epoll: {e}"),
            }
        }
    }
}

//! What happened, as a number that two runs of one seed must agree on, and as text for whoever looks into a seed.

use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};

/// The trace of one simulation.
#[derive(Debug)]
pub struct Trace {
    hash: AtomicU64,
    events: AtomicU64,
    aloud: bool,
}

impl Trace {
    /// A trace that is printed or not.
    pub fn new(aloud: bool) -> Self {
        Self { hash: AtomicU64::new(0xcbf2_9ce4_8422_2325), events: AtomicU64::new(0), aloud }
    }

    /// Notes that something happened at a time to a process (0 is the host), with two numbers that belong to it.
    pub fn note(&self, at_ms: u64, pid: u32, what: &str, a: u64, b: u64) {
        let mut hash = self.hash.load(Ordering::Relaxed);
        for word in [at_ms, u64::from(pid), what.len() as u64 ^ u64::from(what.as_bytes()[0]), a, b] {
            hash = (hash ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
        }
        self.hash.store(hash, Ordering::Relaxed);
        self.events.fetch_add(1, Ordering::Relaxed);
        if self.aloud {
            println!("{at_ms:>8} ms  {pid:>4}  {what} {a} {b}");
        }
    }

    /// Says something that only a reader wants to know.
    pub fn say(&self, at_ms: u64, pid: u32, text: impl FnOnce() -> Box<dyn Display>) {
        if self.aloud {
            println!("{at_ms:>8} ms  {pid:>4}  {}", text());
        }
    }

    /// The number that stands for all events so far and their order.
    pub fn hash(&self) -> u64 {
        self.hash.load(Ordering::Relaxed)
    }

    /// How many there were.
    pub fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// Whether somebody reads.
    pub fn is_aloud(&self) -> bool {
        self.aloud
    }
}

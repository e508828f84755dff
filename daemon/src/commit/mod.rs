//! Group commit: one task owns the store, and nothing is told before it is durable.
//!
//! * [`queue`]: the bounded queue between sessions and that task.
//! * [`mailbox`]: where its answers go.
//! * [`writer`]: the task: drain, evaluate, commit, answer.
//! * [`space`]: how much disk is left, and how little is too little.
//! * [`unsent`]: a bound on answers that wait for slow readers.

pub mod mailbox;
pub mod queue;
pub mod space;
pub mod unsent;
pub mod writer;

use std::sync::atomic::AtomicU32;

pub use mailbox::{Answer, Mailbox};
pub use queue::{Job, Queue};
pub use writer::{Heartbeat, Writer};

/// Numbers that sessions and the writer tell each other, for the daemon's status.
#[derive(Default, Debug)]
pub struct Gauges {
    /// Open connections.
    pub connections: AtomicU32,
}

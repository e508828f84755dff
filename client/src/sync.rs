//! By what threads share the saga log. The search for their interleavings (`threads/`) builds the log with its own in the place
//! of these.

pub use std::sync::{Mutex, MutexGuard};

pub use tokio::sync::Notify;

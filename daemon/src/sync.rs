//! By what threads share the store. The search for their interleavings (`threads/`) builds the store with its own in the place
//! of these.

pub use std::sync::{Mutex, MutexGuard, RwLock, atomic};
pub use std::thread;

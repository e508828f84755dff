//! What the product has from the standard library and from tokio: here the scheduler may let another thread go on before any of it is
//! used.

use std::time::Duration;

pub use shuttle::sync::{Mutex, MutexGuard, RwLock, atomic};
pub use shuttle::thread;
use tokio::sync::futures::Notified;

/// [`tokio::sync::Notify`].
#[derive(Default, Debug)]
pub struct Notify(tokio::sync::Notify);

impl Notify {
    /// One that nobody has notified.
    pub fn new() -> Self {
        Self::default()
    }

    /// Wakes one who waits, or the next one who will.
    pub fn notify_one(&self) {
        others_first();
        self.0.notify_one();
    }

    /// Waits to be woken.
    pub fn notified(&self) -> Notified<'_> {
        others_first();
        self.0.notified()
    }
}

fn others_first() {
    thread::sleep(Duration::ZERO);
}

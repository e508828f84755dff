//! The signals by which a process is told to stop, until it can hear them.
//!
//! By itself the system ends a process that is told so before it has a handler, with no exit code. So they are held from the
//! first moment on, and come in once somebody listens. That also lets them in where the parent has blocked them.

use nix::sys::signal::{SigSet, Signal};

fn stops() -> SigSet {
    [Signal::SIGTERM, Signal::SIGINT].into_iter().collect()
}

/// Lets SIGTERM and SIGINT wait for [`let_in`]. To be called first thing in `main`: threads that there are already don't
/// hold them.
pub fn hold() {
    // All that the system could refuse is an unknown way to change the mask.
    let _ = stops().thread_block();
}

/// Lets those in that have waited, and all that come. To be called once there are handlers, before other threads are made.
pub fn let_in() {
    let _ = stops().thread_unblock();
}

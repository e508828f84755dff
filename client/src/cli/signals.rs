//! Ctrl-C and the polite signal.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Both signals, one after the other: none that comes between two looks is missed.
#[derive(Debug)]
pub struct StopSignals {
    interrupt: Option<Signal>,
    terminate: Option<Signal>,
}

impl StopSignals {
    /// From now on. A signal for which no handler can be installed ends the process by itself.
    pub fn new() -> Self {
        Self {
            interrupt: signal(SignalKind::interrupt()).ok(),
            terminate: signal(SignalKind::terminate()).ok(),
        }
    }

    /// Ends when the user presses Ctrl-C once more, or the process is asked to end.
    pub async fn next(&mut self) {
        tokio::select! {
            () = received(&mut self.interrupt) => {}
            () = received(&mut self.terminate) => {}
        }
    }
}

impl Default for StopSignals {
    fn default() -> Self {
        Self::new()
    }
}

/// From now on a file that may not grow any more (`RLIMIT_FSIZE`) is a write that fails, and not the end of the process without
/// a word. Where no handler can be installed it still is.
pub fn outlive_limits_of_files() {
    // Nobody listens: that it is handled is all that is wanted, and it stays so.
    let _ = signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()));
}

/// Ends when the user presses Ctrl-C.
pub async fn interrupted() {
    received(&mut signal(SignalKind::interrupt()).ok()).await;
}

/// Ends when the process is asked to end (SIGTERM), as a service manager does.
pub async fn asked_to_end() {
    received(&mut signal(SignalKind::terminate()).ok()).await;
}

/// Ends when the terminal is closed (SIGHUP).
pub async fn hung_up() {
    received(&mut signal(SignalKind::hangup()).ok()).await;
}

/// Never ends if no handler could be installed: then the signal ends the process by itself.
async fn received(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

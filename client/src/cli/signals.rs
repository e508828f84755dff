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
        let listen = |kind| signal(kind).ok();
        Self { interrupt: listen(SignalKind::interrupt()), terminate: listen(SignalKind::terminate()) }
    }

    /// Ends when the user presses Ctrl-C once more, or the process is asked to end.
    pub async fn next(&mut self) {
        async fn received(signal: &mut Option<Signal>) {
            match signal {
                Some(signal) => drop(signal.recv().await),
                None => std::future::pending().await,
            }
        }
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

/// Ends when the user presses Ctrl-C.
pub async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        // No handler could be installed: then the signal ends the process by itself.
        std::future::pending::<()>().await;
    }
}

/// Ends when the process is asked to end (SIGTERM), as a service manager does.
pub async fn asked_to_end() {
    match signal(SignalKind::terminate()) {
        Ok(mut asked) => {
            asked.recv().await;
        }
        Err(_) => std::future::pending::<()>().await,
    }
}

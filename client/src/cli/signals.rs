//! Ctrl-C and the polite signal.

use tokio::signal::unix::{SignalKind, signal};

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

//! All programs in one, as `like-multicall`, behind a recorder of everything they do to files; see
//! [`like_tests::power`]. Without its environment it is those programs and nothing else.

// A test that can't go on panics and says why.
#![allow(clippy::expect_used)]

mod desk;
mod interpose;

use std::process::ExitCode;

fn main() -> ExitCode {
    desk::Desk::open_from_environment();
    match std::env::args().nth(1).as_deref() {
        Some("likectl") => like_client::cli::main(),
        Some("like-articled") => like_daemon::cli::article_main(),
        Some("like-userd") => like_daemon::cli::user_main(),
        _ => {
            eprintln!("usage: like-recorded likectl|like-articled|like-userd ARGUMENT...");
            ExitCode::from(2)
        }
    }
}

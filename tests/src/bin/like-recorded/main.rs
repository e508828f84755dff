//! All programs in one, as `like-multicall`, behind a recorder of everything they do to files; see
//! [`like_tests::power`]. Without its environment it is those programs and nothing else.

// A test that can't go on panics and says why.
#![allow(clippy::expect_used)]

mod desk;
mod interpose;

use std::process::ExitCode;

use like_tests::power;

fn main() -> ExitCode {
    desk::Desk::open_from_environment();
    match std::env::args().nth(1).as_deref() {
        Some("likectl") => like_client::cli::main(),
        Some("like-articled") => like_daemon::cli::article_main(),
        Some("like-userd") => like_daemon::cli::user_main(),
        Some("crowd") => power::crowd::main(&arguments()).unwrap_or_else(usage),
        Some("bulk") => power::bulk::main(&arguments()).unwrap_or_else(usage),
        Some("power-loss") => power::command::main(&arguments()).unwrap_or_else(usage),
        _ => usage(),
    }
}

fn arguments() -> Vec<String> {
    std::env::args().skip(2).collect()
}

fn usage() -> ExitCode {
    eprintln!(
        "usage: like-recorded power-loss [--states N] [--seed S] [--workload NAME] | likectl|like-articled|like-userd|crowd|bulk ARGUMENT..."
    );
    ExitCode::from(2)
}

//! The user service: users' like records.

use std::process::ExitCode;

fn main() -> ExitCode {
    like_daemon::cli::user_main()
}

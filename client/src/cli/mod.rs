//! `likectl`: the only part that touches a terminal.

use std::process::ExitCode;

/// `likectl`'s main.
pub fn main() -> ExitCode {
    ExitCode::FAILURE
}

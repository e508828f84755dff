//! `likectl`: client, saga runner, operator's tool.

use std::process::ExitCode;

fn main() -> ExitCode {
    like_client::cli::main()
}

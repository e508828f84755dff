//! The HTTP front.

use std::process::ExitCode;

fn main() -> ExitCode {
    like_gateway::main()
}

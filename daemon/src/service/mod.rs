//! A daemon as a process: flags, store, sockets, systemd, start and stop.
//!
//! * [`flags`]: what was typed, and what was meant.
//! * [`socket`]: the listening socket, passed or made.
//! * [`start`]: opens and checks the store, within bounds.
//! * [`run`]: the daemon's life from its first line to its last.
//! * [`logging`]: where log lines go.

pub mod flags;
pub mod logging;
pub mod run;
pub mod socket;
pub mod start;

use std::ffi::OsString;
use std::process::ExitCode;

use like_process::end::{abort_on_panic, failed};
use like_process::stops;
use like_protocol::failpoint;

use self::flags::{Config, Flags};
use crate::participant::domain::Domain;

/// What a daemon is called.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// The name of its binary.
    pub name: &'static str,
    /// What it is, in one line.
    pub about: &'static str,
}

/// The version that daemons name.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The exit code of a command line that can't be followed.
const USAGE: u8 = 2;

/// A whole daemon that serves `domain`: reads `arguments` (the first is the program's own name) and the environment,
/// and returns when the daemon has ended. To be called once, first thing in `main`.
///
/// The exit code is 0 after an orderly stop, 1 after a failure that one line on standard error explains, and 2 if the
/// arguments, or the sockets that were passed, make no sense. A panic anywhere aborts the process: a daemon stops rather than limps.
pub fn main_for<D: Domain>(
    program: Program,
    domain: D,
    arguments: impl IntoIterator<Item = OsString>,
) -> ExitCode {
    stops::hold();
    abort_on_panic();
    failpoint::arm_from_environment();
    let flags = match Flags::parse(program, arguments) {
        Ok(flags) => flags,
        Err(usage) => {
            // Printing can only fail if nobody listens.
            let _nobody_listens = usage.print();
            return ExitCode::from(u8::try_from(usage.exit_code()).unwrap_or(USAGE));
        }
    };
    let config = match Config::from_flags(flags) {
        Ok(config) => config,
        Err(unusable) => return failed(program.name, unusable, ExitCode::from(USAGE)),
    };
    match run::run(domain, config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => failed(program.name, e, ExitCode::FAILURE),
    }
}

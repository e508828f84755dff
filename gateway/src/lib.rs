//! The HTTP front: likes and sagas over HTTP, with a saga runner of its own.
//!
//! * [`flags`]: what was typed, and what was meant.
//! * [`listen`]: the listening socket: TCP or Unix, passed or made.
//! * [`serve`]: connections and their limits. `stall`: a client that takes nothing any more.
//! * [`host`]: the runner that this process hosts, and recovery beside it. [`acts`]: what an administrator may do.
//! * [`admin`]: who is one. [`sagas`]: the saga log, read. [`overview`]: what is going on. [`metrics`]:
//!   what is counted.
//! * [`http`]: what can be asked, and what is answered.
//! * [`run`]: the gateway's life from its first line to its last.
//!
//! The gateway decides nothing about likes or sagas: it translates between HTTP and `like_client`. It keeps no state of
//! its own that a kill could lose: a like in flight stands in the saga log, and the first answer to an idempotency key
//! stands at the user service.

pub mod acts;
pub mod admin;
pub mod flags;
pub mod host;
pub mod http;
pub mod listen;
pub mod logging;
pub mod metrics;
pub mod overview;
pub mod run;
pub mod sagas;
pub mod serve;
mod stall;
mod timed;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use like_process::end::{abort_on_panic, failed};
use like_process::stops;
use like_protocol::failpoint;

use self::flags::{Config, Flags};

/// The program's name.
pub const NAME: &str = "like-gateway";

/// The version that the gateway names.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The exit code of a command line that can't be followed.
const USAGE: u8 = 2;

/// `like-gateway`'s main: returns when the gateway has ended. To be called once, first thing in `main`.
///
/// The exit code is 0 after an orderly stop, 1 after a failure that one line on standard error explains, and 2 if the
/// arguments, or the sockets that were passed, make no sense. A panic anywhere aborts the process: what was in flight
/// stands in the saga log.
pub fn main() -> ExitCode {
    stops::hold();
    abort_on_panic();
    failpoint::arm_from_environment();
    let flags = Flags::parse_from(own_arguments());
    let config = match Config::from_flags(flags) {
        Ok(config) => config,
        Err(unusable) => return failed(NAME, unusable, ExitCode::from(USAGE)),
    };
    match run::run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => failed(NAME, e, ExitCode::FAILURE),
    }
}

/// The command line of `like-gateway`. Its manual page is made from it, by a program that knows all programs: `likectl man`
/// writes only its own.
pub fn command() -> clap::Command {
    Flags::command()
}

/// The process's arguments. In a binary that is several programs the first one names this program; it is left out.
fn own_arguments() -> impl Iterator<Item = OsString> {
    let mut arguments = std::env::args_os().peekable();
    let own = arguments.next();
    arguments.next_if(|first| first == NAME);
    own.into_iter().chain(arguments)
}

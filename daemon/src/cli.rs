//! The mains of the two daemons.

use std::ffi::OsString;
use std::process::ExitCode;

use crate::likes::article::Articles;
use crate::likes::user::Users;
use crate::service::flags::Flags;
use crate::service::{Program, main_for};

/// The article service.
pub const ARTICLE: Program =
    Program { name: "like-articled", about: "Keeps articles and their number of likes, durably" };

/// The user service.
pub const USER: Program = Program { name: "like-userd", about: "Keeps users' like records, durably" };

/// `like-articled`.
pub fn article_main() -> ExitCode {
    main_for(ARTICLE, Articles, own_arguments(ARTICLE))
}

/// `like-userd`.
pub fn user_main() -> ExitCode {
    main_for(USER, Users, own_arguments(USER))
}

/// The process's arguments. In a binary that is several programs the first one names this program; it is left out.
fn own_arguments(program: Program) -> impl Iterator<Item = OsString> {
    let mut arguments = std::env::args_os().peekable();
    let own = arguments.next();
    arguments.next_if(|first| first == program.name);
    own.into_iter().chain(arguments)
}

/// The command line of a daemon. Its manual page is made from it, by a program that knows all programs: `likectl man` writes
/// only its own.
pub fn command(program: Program) -> clap::Command {
    Flags::command(program)
}

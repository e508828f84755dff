//! How errors about files are told, and what an import or a benchmark came to.

use std::io;

use super::CliError;
use super::told::{Exit, Told, told};
use crate::cli::output::count;
use crate::likes::ActError;

/// A file can't be read or written. One that is wrong in itself is refused; nothing has been done to it.
pub(super) fn told_file(what: &str, path: &str, error: &io::Error) -> Told {
    let message = format!("can't {what} {path}: {error}");
    match error.kind() {
        io::ErrorKind::NotFound => {
            let place = if what == "write" { "a path in a directory" } else { "the path of a file" };
            told(Exit::NotFound, "not_found", message).hint(format!("give {place} that is there"))
        }
        io::ErrorKind::PermissionDenied => told(Exit::PermissionDenied, "permission_denied", message),
        io::ErrorKind::IsADirectory | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidInput => {
            told(Exit::Refused, "invalid", message).hint("name another file")
        }
        _ => told(Exit::Internal, "internal", message),
    }
}

/// The hint of what stopped it comes first: it is to be seen to before. Whatever was counted before has been done, so
/// it is not true that nothing has changed.
pub(super) fn told_stopped(what: &str, how_to_go_on: &str, unfinished: usize, error: &CliError) -> Told {
    let why = match error {
        // Nobody is to repeat one of many by hand.
        CliError::Act(ActError::Unfinished { saga, .. }) => error.told().hint(format!(
            "`likectl status` shows whether both services answer, `likectl saga show {saga}` what it waits for"
        )),
        _ => error.told(),
    };
    let message = match error {
        CliError::Interrupted(_) => format!("{what} was interrupted"),
        CliError::Act(ActError::Compensated { detail, .. }) => format!("{what} stopped: {detail}"),
        CliError::Act(ActError::Unfinished { saga, .. }) => {
            format!("{what} stopped: saga {saga} has not ended in time")
        }
        _ => format!("{what} stopped: {}", why.message),
    };
    let message = match unfinished {
        0 => message,
        left => {
            let them = if left == 1 { "it" } else { "them" };
            let left = count(left as u64, "saga is", "sagas are");
            format!("{message}; {left} unfinished: `likectl recover` finishes {them}")
        }
    };
    let (exit, kind) = match (why.exit, unfinished) {
        (Exit::Interrupted, _) | (_, 0) => (why.exit, why.kind),
        _ => (Exit::Unfinished, "unfinished"),
    };
    let hint = match &why.hint {
        Some(first) => format!("{first}; then {how_to_go_on}"),
        None => how_to_go_on.to_owned(),
    };
    Told { exit, kind, message, hint: Some(hint), ..why }
}

/// Lines were left out.
pub(super) fn told_rejected(rejected: u64, lines: u64, rejects: Option<&str>) -> Told {
    let hint = match rejects {
        Some(path) => format!("{path} says which and why; mended, it can be imported itself"),
        None => {
            "`--rejects FILE` writes them all down; to import the whole file again does no harm".to_owned()
        }
    };
    let (of, was) = (count(lines, "line", "lines"), if rejected == 1 { "was" } else { "were" });
    told(Exit::Refused, "invalid", format!("{rejected} of {of} {was} not imported")).hint(hint)
}

//! How many files this process may have open.

use std::fs;

use rustix::process::{Resource, getrlimit, setrlimit};

use super::error::CliError;

/// Descriptors that a command opens at once: about twice as many as were ever seen.
const DESCRIPTORS: u64 = 32;

/// What a process has open from the start, where that can't be read.
const STANDARD_STREAMS: u64 = 3;

/// Makes sure that a command may open what it needs, after the limit of open files has been raised as far as it needs to be and
/// goes: one that has too few fails in the middle of what it does, and blames what it could not open. To be called before
/// anything is opened.
///
/// # Errors
/// They are too few.
pub fn enough() -> Result<(), CliError> {
    let open_now = fs::read_dir("/proc/self/fd").map_or(STANDARD_STREAMS, |open| open.count() as u64);
    let needed = open_now + DESCRIPTORS;
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    limit.current = Some(limit.maximum.map_or(needed, |maximum| maximum.min(needed)));
    let _stays_as_it_was = setrlimit(Resource::Nofile, limit);
    match getrlimit(Resource::Nofile).current {
        Some(limit) if limit < needed => Err(CliError::TooFewDescriptors { limit, needed }),
        _ => Ok(()),
    }
}

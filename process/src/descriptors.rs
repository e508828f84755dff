//! How many descriptors this process may have open, and how many of them its connections get.

use std::fs;
use std::io;

use rustix::process::{Resource, getrlimit, setrlimit};
use tracing::warn;

/// What a process has open from the start, where that can't be read.
const STANDARD_STREAMS: u64 = 3;

/// Fewer descriptors than a process can do with.
#[derive(Debug, thiserror::Error)]
#[error("only {limit} files may be open, and {needed} are needed: raise the limit (LimitNOFILE=, ulimit -n)")]
pub struct TooFewDescriptors {
    limit: u64,
    needed: u64,
}

/// How many of the connections that are wanted can have a descriptor each beside so many of the process's `own`, after the
/// limit has been raised as far as it needs to be and goes. Whoever comes then is turned away: an accept that fails for want
/// of a descriptor would tell nobody anything, and there would be none left for files either.
///
/// To be called before anything is opened: what is open now was handed to the process, and stays.
///
/// # Errors
/// Not one connection fits.
pub fn connections_that_fit(wanted: u32, own: u64) -> Result<u32, TooFewDescriptors> {
    let besides = own + open_now().unwrap_or(STANDARD_STREAMS);
    let Some(limit) = raised_to(u64::from(wanted) + besides) else { return Ok(wanted) };
    let fit = fit_into(limit, besides, wanted)?;
    if fit < wanted {
        warn!("only {limit} files may be open: {fit} connections fit instead of {wanted}");
    }
    Ok(fit)
}

/// The limit of open files, raised as far as it needs to be and goes. None if there is none.
fn raised_to(needed: u64) -> Option<u64> {
    let mut limit = getrlimit(Resource::Nofile);
    let before = limit.current?;
    if before >= needed {
        return Some(before);
    }
    limit.current = Some(limit.maximum.map_or(needed, |maximum| maximum.min(needed)));
    match setrlimit(Resource::Nofile, limit) {
        Ok(()) => limit.current,
        Err(e) => {
            warn!("can't raise the limit of open files: {e}");
            Some(before)
        }
    }
}

/// How many descriptors this process has open.
fn open_now() -> io::Result<u64> {
    let open = fs::read_dir("/proc/self/fd")?.count() as u64;
    // One of them was opened to look.
    Ok(open.saturating_sub(1))
}

/// How many connections fit where so many files may be open, so many of them besides connections.
fn fit_into(limit: u64, besides: u64, wanted: u32) -> Result<u32, TooFewDescriptors> {
    match limit.saturating_sub(besides) {
        0 => Err(TooFewDescriptors { limit, needed: besides + 1 }),
        fit => Ok(u32::try_from(fit).unwrap_or(u32::MAX).min(wanted)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::process::Command;

    use super::*;

    #[test]
    fn connections_leave_a_process_its_own_descriptors() {
        let fit = |limit, wanted| fit_into(limit, 35, wanted).ok();
        assert_eq!(fit(20_000, 1024), Some(1024));
        assert_eq!(fit(1059, 1024), Some(1024));
        assert_eq!(fit(1024, 1024), Some(989));
        assert_eq!(fit(60, 1024), Some(25));
        assert_eq!(fit(36, 1024), Some(1));
        assert_eq!(fit(35, 1024), None);
        assert_eq!(fit_into(35, 35, 1024).unwrap_err().needed, 36);
        assert_eq!(fit(1, 1024), None);
    }

    #[test]
    fn what_was_handed_to_a_process_counts() {
        let before = open_now().unwrap();
        let more: Vec<_> = (0..40).map(|_| File::open("/dev/null").unwrap()).collect();
        // Other tests of this process open and close files meanwhile.
        assert!(open_now().unwrap() >= before + 20);
        drop(more);
    }

    /// Whether a test that is run only so passes in a process of its own, with other limits of open files.
    #[test]
    fn a_limit_is_raised_as_far_as_it_needs_to_be_and_goes() {
        let itself = std::env::current_exe().unwrap();
        let mut limited = Command::new("prlimit");
        limited.arg("--nofile=40:60").arg("--").arg(itself);
        limited.args(["--ignored", "--exact", "descriptors::tests::between_40_and_60_files"]);
        let output = limited.output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && told.contains("1 passed"), "{told}");
    }

    #[test]
    #[ignore = "no test of its own: it needs limits of its own"]
    fn between_40_and_60_files() {
        let open = u32::try_from(open_now().unwrap()).unwrap();
        let fit = |wanted, own| (connections_that_fit(wanted, own).ok(), getrlimit(Resource::Nofile).current);
        assert_eq!(fit(30 - open, 10), (Some(30 - open), Some(40)), "as many as may be open");
        assert_eq!(fit(31 - open, 10), (Some(31 - open), Some(41)), "one more");
        assert_eq!(fit(1000, 10), (Some(50 - open), Some(60)), "more than can be");
        assert_eq!(fit(1, 60), (None, Some(60)));
    }
}

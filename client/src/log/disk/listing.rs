//! The names in a directory that changes while it is read.
//!
//! A runner goes on in a new segment and removes the one before. What a listing shows of that depends on the file system: btrfs
//! and tmpfs show what stood in a directory when it was opened, less what has gone by the time it is read. So one listing may
//! show neither segment, and a slot with open sagas would look empty.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// How often a directory that changes all the time is listed before what was seen last has to do.
const LOOKS_MAX: u32 = 100;

/// The names in a directory, as they stood together at one moment. Names that are no text are left out.
pub(super) fn names_in(directory: &Path) -> io::Result<Vec<String>> {
    at_rest(directory, || {
        let mut names = Vec::new();
        for entry in fs::read_dir(directory)? {
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    })
}

/// Lists a directory again as long as it has changed meanwhile.
fn at_rest<T>(directory: &Path, mut list: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let last_change = || fs::metadata(directory).map(|seen| (seen.mtime(), seen.mtime_nsec()));
    let mut before = last_change()?;
    let mut listed = list()?;
    for _ in 1..LOOKS_MAX {
        let after = last_change()?;
        if after == before {
            break;
        }
        before = after;
        listed = list()?;
    }
    Ok(listed)
}

#[cfg(test)]
mod tests {
    use std::fs::{File, FileTimes};
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn a_directory_is_listed_again_if_it_has_changed_meanwhile() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        File::create(path("1")).unwrap();
        // Not of this very tick of the kernel's clock.
        let long_ago = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH);
        File::open(directory.path()).unwrap().set_times(long_ago).unwrap();
        let mut looks = 0;
        let listed = at_rest(directory.path(), || {
            looks += 1;
            if looks == 1 {
                File::create(path("2")).unwrap();
                fs::remove_file(path("1")).unwrap();
                return Ok(Vec::new());
            }
            names_in(directory.path())
        });
        assert_eq!((listed.unwrap(), looks), (vec!["2".to_owned()], 2));
    }

    #[test]
    fn a_directory_that_never_rests_is_listed_all_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let mut looks = 0;
        let listed = at_rest(directory.path(), || {
            looks += 1;
            let then =
                FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(looks));
            File::open(directory.path())?.set_times(then).map(|()| looks)
        });
        assert_eq!(listed.unwrap(), u64::from(LOOKS_MAX));
    }
}

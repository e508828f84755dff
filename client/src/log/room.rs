//! Whether a journal's file system has room for what runners write, and lets them write it.
//!
//! A part of it is kept back: below it no saga begins, while what has begun is written on, taken over and settled. A
//! saga that its service refuses for want of space is written like any other, and on one file system with the stores it would
//! take from what they keep back for compensations.

/// What is kept back on a large file system: a little more than a service keeps back for its store if nobody sets it higher,
/// so that sagas are no longer begun where none can be done.
const RESERVE_BYTES: u64 = 240 * 1024 * 1024;

/// No more than this part of a small file system is kept back, as much as a store keeps back there: three eighths.
const PART: (u64, u64) = (3, 8);

/// So many files are kept back where a file system has only so many (inodes), a few more than for a store: each takeover makes one.
const FILES: u64 = 80;

/// No more than this part of all of them.
const FILES_PART: u64 = 6;

/// What a file system has left.
pub(super) struct Left {
    /// How much is free to everybody.
    pub free_bytes: u64,
    /// How large it is.
    pub all_bytes: u64,
    /// How many files more it has room for.
    pub free_files: u64,
    /// For how many it was made; 0 where that is a matter of space alone.
    pub all_files: u64,
}

impl Left {
    /// Why no saga may begin there, in words.
    pub fn lacking(&self) -> Option<String> {
        let reserve_bytes = RESERVE_BYTES.min(self.all_bytes / PART.1 * PART.0);
        let reserve_files = FILES.min(self.all_files / FILES_PART);
        let what = if self.free_bytes < reserve_bytes {
            let [free, reserve] = [self.free_bytes, reserve_bytes].map(|bytes| bytes / 1024);
            format!(
                "has only {free} KiB free: the last {reserve} KiB are kept for sagas that have begun, and no other begins"
            )
        } else if self.free_files < reserve_files {
            let free = self.free_files;
            format!(
                "has room for only {free} files more (df -i): the last {reserve_files} are kept for sagas that have begun, and no other \
                 begins"
            )
        } else {
            return None;
        };
        Some(told(&what))
    }
}

/// What is wrong where nothing may be written, in words.
pub(super) fn read_only() -> String {
    told("is read-only: no saga can begin or be recovered")
}

fn told(what: &str) -> String {
    format!("the file system of the journal {what}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: Left = Left { free_bytes: 1 << 30, all_bytes: 1 << 40, free_files: 900, all_files: 1000 };

    #[test]
    fn a_file_system_lacks_room_below_what_is_kept_back() {
        let lacks = |left: Left| left.lacking().is_some();
        let free = |free_bytes, all_bytes| Left { free_bytes, all_bytes, ..USUAL };
        assert!(!lacks(USUAL));
        assert!(lacks(free(RESERVE_BYTES - 1, 1 << 40)) && !lacks(free(RESERVE_BYTES, 1 << 40)));
        assert!(lacks(free(299, 800)) && !lacks(free(300, 800)), "of a small one, a part");
    }

    #[test]
    fn a_file_system_lacks_room_for_files_below_what_is_kept_back() {
        let lacks = |free_files, all_files| Left { free_files, all_files, ..USUAL }.lacking().is_some();
        assert!(lacks(79, 1000) && !lacks(80, 1000));
        assert!(lacks(9, 60) && !lacks(10, 60), "of a small one, a part");
        assert!(!lacks(0, 0), "files are not counted there");
    }
}

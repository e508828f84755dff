//! What is to be done about a change of files: recorded, disturbed, or nothing.

use std::ffi::{CStr, CString};
use std::fs::OpenOptions;
use std::os::fd::{IntoRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use like_tests::power::faults::{self, DiskFault};
use like_tests::power::record::{Entry, Inode};

use super::interpose;

/// Where the boot id stands.
const BOOT_ID_PATH: &str = "/proc/sys/kernel/random/boot_id";

/// An open file or directory.
pub struct Object {
    /// Which one.
    pub inode: Inode,
    /// What it is called.
    pub path: PathBuf,
    /// Whether it is a file.
    pub is_file: bool,
}

/// What comes of a write.
pub enum Verdict {
    /// At most so many bytes are written.
    Up(usize),
    /// It fails with this error.
    Fails(i32),
}

/// What this process was told to mind.
pub struct Desk {
    under: PathBuf,
    record: Option<RawFd>,
    who: String,
    fault: Option<DiskFault>,
    mark: Option<RawFd>,
    boot_id: Option<CString>,
    /// How many syncs, or changes and syncs, were made; or how many bytes were written.
    counted: AtomicU64,
}

static DESK: OnceLock<Desk> = OnceLock::new();

impl Desk {
    /// The desk, once it is open.
    pub fn get() -> Option<&'static Self> {
        DESK.get()
    }

    /// Opens the desk, if the environment says what to mind. Before that, everything passes.
    pub fn open_from_environment() {
        let variable = |name| std::env::var_os(name).map(PathBuf::from);
        let appended = |path: PathBuf| {
            let file = OpenOptions::new().append(true).create(true).open(&path);
            file.unwrap_or_else(|e| panic!("{}: {e}", path.display())).into_raw_fd()
        };
        let text = |name| std::env::var(name).ok();
        let desk = Self {
            under: variable(faults::UNDER).unwrap_or_else(|| PathBuf::from("/nowhere")),
            record: variable(faults::RECORD).map(appended),
            who: text(faults::WHO).unwrap_or_default(),
            fault: text(faults::FAULT).map(|spelled| DiskFault::of(&spelled).expect("a fault")),
            mark: variable(faults::MARK).map(appended),
            boot_id: text(faults::BOOT_ID).and_then(|path| CString::new(path).ok()),
            counted: AtomicU64::new(0),
        };
        if desk.record.is_some() || desk.fault.is_some() || desk.boot_id.is_some() {
            desk.enter(&Entry::Began { who: desk.who.clone() });
            assert!(DESK.set(desk).is_ok(), "the desk is opened once");
        }
    }

    /// Whether a path is one that this desk minds.
    pub fn minds(&self, path: &Path) -> bool {
        path.starts_with(&self.under)
    }

    /// Which file is read instead of this one.
    pub fn read_instead(&self, path: &Path) -> Option<&CStr> {
        self.boot_id.as_deref().filter(|_| path == Path::new(BOOT_ID_PATH))
    }

    /// To be called before anything is changed.
    pub fn before_change(&self, path: &Path) {
        let Some(fault @ (DiskFault::Dies(nth) | DiskFault::Stops(nth))) = self.fault else { return };
        if self.minds(path) && self.count(1) + 1 == nth {
            self.fire();
            if fault == DiskFault::Dies(nth) {
                interpose::die();
            }
            interpose::stop();
        }
    }

    /// To be called before a write.
    pub fn before_write(&self, path: &Path, count: usize) -> Verdict {
        self.before_change(path);
        let Some(DiskFault::Full(most) | DiskFault::Short(most)) = self.fault else {
            return Verdict::Up(count);
        };
        let written = self.count(count as u64);
        if written + count as u64 <= most {
            return Verdict::Up(count);
        }
        self.fire();
        match self.fault {
            Some(DiskFault::Short(_)) if written < most => Verdict::Up((most - written) as usize),
            _ => {
                if let Some(DiskFault::Full(_)) = self.fault {
                    // What failed took no space.
                    self.counted.fetch_sub(count as u64, Ordering::SeqCst);
                }
                Verdict::Fails(libc::ENOSPC)
            }
        }
    }

    /// To be called before a sync: the error with which it fails.
    pub fn before_sync(&self, path: &Path) -> Option<i32> {
        self.before_change(path);
        let Some(DiskFault::SyncFails(nth)) = self.fault else { return None };
        if self.count(1) + 1 != nth {
            return None;
        }
        self.fire();
        Some(libc::EIO)
    }

    fn count(&self, by: u64) -> u64 {
        self.counted.fetch_add(by, Ordering::SeqCst)
    }

    fn fire(&self) {
        if let Some(mark) = self.mark {
            interpose::append(mark, b"x");
        }
    }

    fn enter(&self, entry: &Entry) {
        if let Some(record) = self.record {
            interpose::append(record, &entry.encode());
        }
    }

    /// A file was opened to be made or emptied.
    pub fn opened(&self, object: &Object, emptied: bool) {
        if object.is_file && self.minds(&object.path) {
            self.enter(&Entry::Opened { path: object.path.clone(), file: object.inode, emptied });
        }
    }

    /// A directory was made.
    pub fn made_directory(&self, path: PathBuf) {
        if let (true, Ok(made)) = (self.minds(&path), std::fs::metadata(&path)) {
            self.enter(&Entry::MadeDirectory { path, directory: made.ino() });
        }
    }

    /// Bytes were written.
    pub fn wrote(&self, file: Inode, at: u64, bytes: &[u8]) {
        self.enter(&Entry::Wrote { file, at, bytes: bytes.to_vec() });
    }

    /// A file got another length.
    pub fn resized(&self, file: Inode, length: u64) {
        self.enter(&Entry::Resized { file, length });
    }

    /// A sync begins.
    pub fn sync_begins(&self, of: Inode) {
        self.enter(&Entry::SyncBegan { thread: interpose::thread_id(), of });
    }

    /// A sync has ended.
    pub fn sync_ended(&self, of: Inode, synced: bool) {
        self.enter(&Entry::SyncEnded { thread: interpose::thread_id(), of, synced });
    }

    /// A name was changed.
    pub fn renamed(&self, from: PathBuf, to: PathBuf) {
        if self.minds(&from) || self.minds(&to) {
            self.enter(&Entry::Renamed { from, to });
        }
    }

    /// A name was removed.
    pub fn removed(&self, path: PathBuf) {
        if self.minds(&path) {
            self.enter(&Entry::Removed { path });
        }
    }

    /// Something was written to standard output or standard error.
    pub fn told(&self, as_error: bool, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.enter(&Entry::Told { who: self.who.clone(), as_error, bytes: bytes.to_vec() });
        }
    }
}

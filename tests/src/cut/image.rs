//! A file system of its own in a file, and what is left of it when the power goes.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use clap::ValueEnum;

use crate::process::{Ended, eventually};

/// How large one is: more than the services and runners keep back. Only what is written takes space.
const IMAGE_BYTES: u64 = 1 << 30;

/// More than a tick of the clock by which the kernel notes a change.
const TICK: Duration = Duration::from_millis(20);

/// A kind of file system, each as its tools make it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum FileSystem {
    /// With a journal of its structure.
    Ext4,
    /// With a journal of all that is written.
    Ext4Data,
    /// With a journal of its structure.
    Xfs,
    /// Which writes nothing in place.
    Btrfs,
}

impl FileSystem {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ext4, Self::Ext4Data, Self::Xfs, Self::Btrfs];

    /// What makes one, and how it is mounted.
    fn tools(self) -> (&'static str, &'static str) {
        match self {
            Self::Ext4 => ("mkfs.ext4", "loop"),
            Self::Ext4Data => ("mkfs.ext4", "loop,data=journal"),
            Self::Xfs => ("mkfs.xfs", "loop"),
            Self::Btrfs => ("mkfs.btrfs", "loop"),
        }
    }

    /// Whether there is what makes one.
    pub fn can_be_made(self) -> bool {
        Command::new(self.tools().0).arg("-V").output().is_ok()
    }
}

/// A mounted file system in a file.
#[derive(Debug)]
pub struct Image {
    kind: FileSystem,
    file: PathBuf,
    at: PathBuf,
}

impl Image {
    /// Makes one in this directory, and mounts it there.
    ///
    /// # Panics
    /// It can't be made or mounted.
    pub fn make(kind: FileSystem, directory: &Path) -> Self {
        let image = Self { kind, file: directory.join("image"), at: directory.join("disk") };
        fs::create_dir(&image.at).expect("a directory");
        let file = fs::File::create(&image.file).expect("a file");
        file.set_len(IMAGE_BYTES).expect("a sparse file");
        run(kind.tools().0, ["-q".as_ref(), image.file.as_os_str()]);
        image.mount();
        image
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.at
    }

    /// The file that it is in.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// What the disk holds right now, as a copy: all that was written back to it, and nothing of what only the kernel
    /// holds. Nobody may write to the file system meanwhile.
    ///
    /// # Panics
    /// It can't be copied.
    pub fn copy(&self) -> PathBuf {
        let copy = self.file.with_file_name("copy");
        eventually("a copy of which nothing changed meanwhile", || {
            let changed = || fs::metadata(&self.file).and_then(|file| file.modified()).expect("a time");
            let before = changed();
            std::thread::sleep(TICK);
            run("cp", ["--sparse=always".as_ref(), self.file.as_os_str(), copy.as_os_str()]);
            (changed() == before).then_some(())
        });
        copy
    }

    /// Goes on with a copy, as after a power cut at its time. Nobody may use the file system.
    ///
    /// # Panics
    /// It can't be mounted.
    pub fn go_on_with(&mut self, copy: &Path) {
        self.unmount();
        fs::rename(copy, &self.file).expect("a copy can be renamed");
        self.mount();
    }

    fn mount(&self) {
        run(
            "mount",
            ["-o".as_ref(), self.kind.tools().1.as_ref(), self.file.as_os_str(), self.at.as_os_str()],
        );
    }

    /// Unmounts it. Nobody may use it.
    ///
    /// # Panics
    /// Somebody does.
    pub fn unmount(&self) {
        run("umount", [self.at.as_os_str()]);
    }
}

/// The checksum of each file below a directory.
///
/// # Panics
/// It can't be read.
pub fn contents(directory: &Path) -> BTreeMap<PathBuf, u32> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry")) {
        let (kind, path) = (entry.file_type().expect("a kind"), entry.path());
        if kind.is_dir() {
            found.extend(contents(&path));
        } else if kind.is_file() {
            let bytes = fs::read(&path).expect("a file");
            found.insert(path, crc32c::crc32c(&bytes));
        }
    }
    found
}

/// Runs a program that has to succeed.
///
/// # Panics
/// It does not.
pub fn run<A: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = A>) {
    Ended::of(Command::new(program).args(arguments)).expect_code(0);
}

//! The lines that were not imported, and why: written down so that they can be mended and imported again.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// A line that was not imported.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub struct Reject {
    /// Which line.
    pub line: u64,
    /// What the error of a single like would have been called.
    pub kind: String,
    /// Why.
    pub reason: String,
    /// Who was to like it, if that can be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<u64>,
    /// What was to be liked, if that can be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub article: Option<u64>,
    /// The saga that was undone, if one was begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saga_id: Option<String>,
    /// How the line begins, if it is no like.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// Which file it is, whatever it is called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// Of an open file.
    ///
    /// # Errors
    /// It is not open.
    pub fn of(file: impl AsFd) -> io::Result<Self> {
        let stat = rustix::fs::fstat(file)?;
        Ok(Self { device: stat.st_dev, inode: stat.st_ino })
    }
}

/// Whether what an import has written down, and how many bytes of it, still stands in this file.
pub fn stands_in(path: &Path, (before, bytes): &(PathBuf, u64)) -> bool {
    path.canonicalize().is_ok_and(|path| path == *before)
        && path.metadata().is_ok_and(|what| *bytes <= what.len())
}

/// A file of rejects: one JSON object a line, which `likectl import` reads as well.
#[derive(Debug)]
pub struct RejectsFile {
    path: PathBuf,
    file: BufWriter<File>,
    bytes: u64,
}

impl RejectsFile {
    /// Makes the file, or empties it. If `before` says that an import which is gone on with has written so many bytes of
    /// it, these stay.
    ///
    /// # Errors
    /// It can't be written, or is the input.
    pub fn open(path: &Path, before: Option<&(PathBuf, u64)>, input: FileId) -> io::Result<Self> {
        let mut file = File::options().write(true).create(true).truncate(false).open(path)?;
        if file.metadata()?.is_file() && FileId::of(&file)? == input {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is what is to be imported"));
        }
        let bytes = before.filter(|before| stands_in(path, before)).map_or(0, |(_, bytes)| *bytes);
        // A terminal or a pipe has nothing to be cut.
        if file.metadata()?.is_file() {
            file.set_len(bytes)?;
            file.seek(SeekFrom::Start(bytes))?;
        }
        Ok(Self { path: path.canonicalize()?, file: BufWriter::new(file), bytes })
    }

    /// Adds one. Neither written nor durable before [`RejectsFile::sync`].
    ///
    /// # Errors
    /// It can't be written.
    pub fn add(&mut self, reject: &Reject) -> io::Result<()> {
        let mut line = serde_json::to_vec(reject)?;
        line.push(b'\n');
        self.bytes += line.len() as u64;
        self.file.write_all(&line)
    }

    /// Makes everything so far durable, and says where it is and how long.
    ///
    /// # Errors
    /// It can't be written or synced.
    pub fn sync(&mut self) -> io::Result<(PathBuf, u64)> {
        self.file.flush()?;
        if self.file.get_ref().metadata()?.is_file() {
            self.file.get_ref().sync_data()?;
        }
        Ok((self.path.clone(), self.bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reject(line: u64) -> Reject {
        let (kind, reason) = ("invalid".to_owned(), "it is empty".to_owned());
        Reject { line, kind, reason, user: None, article: None, saga_id: None, text: None }
    }

    #[test]
    fn what_was_written_behind_the_note_is_written_again_and_nothing_stands_twice() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rejects");
        // Open all along, as it is in an import: else another file could become what it was.
        let imported = tempfile::tempfile().unwrap();
        let input = FileId::of(&imported).unwrap();
        let write = |before: Option<&(PathBuf, u64)>, lines: &[u64]| {
            let mut file = RejectsFile::open(&path, before, input).unwrap();
            lines.iter().for_each(|line| file.add(&reject(*line)).unwrap());
            file.sync().unwrap()
        };
        let noted = write(None, &[1, 2]);
        write(Some(&noted), &[3, 4]);
        write(Some(&noted), &[3]);
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = text.lines().map(|line| line.split(',').next().unwrap()).collect();
        assert_eq!(lines, ["{\"line\":1", "{\"line\":2", "{\"line\":3"]);
        write(Some(&(dir.path().join("another"), 20)), &[9]);
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 1);
    }

    #[test]
    fn what_is_to_be_imported_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("likes"), dir.path().join("link"));
        std::fs::write(&path, "1,2\n").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let input = FileId::of(File::open(&path).unwrap()).unwrap();
        for path in [&path, &link] {
            let refused = RejectsFile::open(path, None, input).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1,2\n");
    }
}

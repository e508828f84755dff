//! What a process did to files, as it stands in a record: one entry behind the other, in the order in which it happened
//! over all processes that write to the same record.
//!
//! A change is entered once it was made and before its caller goes on; a sync is entered twice, when it begins and when
//! it has ended. So whatever a sync has certainly reached stands in the record before that sync begins.

use std::io;
use std::path::{Path, PathBuf};

/// A file or directory, whatever it is called: its inode's number.
pub type Inode = u64;

/// One thing that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Entry {
    /// A file was opened so that it may have been made or emptied.
    Opened {
        /// Its name.
        path: PathBuf,
        /// Which one it is.
        file: Inode,
        /// Whether what was in it is gone.
        emptied: bool,
    },
    /// A directory was made.
    MadeDirectory {
        /// Its name.
        path: PathBuf,
        /// Which one it is.
        directory: Inode,
    },
    /// Bytes were written.
    Wrote {
        /// Into which file.
        file: Inode,
        /// From which offset on.
        at: u64,
        /// What.
        bytes: Vec<u8>,
    },
    /// A file was cut or lengthened.
    Resized {
        /// Which one.
        file: Inode,
        /// To how many bytes.
        length: u64,
    },
    /// A sync began.
    SyncBegan {
        /// In which thread.
        thread: u64,
        /// Of which file or directory.
        of: Inode,
    },
    /// A sync ended.
    SyncEnded {
        /// In which thread.
        thread: u64,
        /// Of which file or directory.
        of: Inode,
        /// Whether it succeeded.
        synced: bool,
    },
    /// A name was changed; whatever had the new name has it no longer.
    Renamed {
        /// The old name.
        from: PathBuf,
        /// The new name.
        to: PathBuf,
    },
    /// A name was removed.
    Removed {
        /// The name.
        path: PathBuf,
    },
    /// A process began to change things on somebody's behalf.
    Began {
        /// Who it is: a word that its starter chose.
        who: String,
    },
    /// Somebody was told something: from now on it must be true.
    Told {
        /// By whom.
        who: String,
        /// Whether on standard error.
        as_error: bool,
        /// What.
        bytes: Vec<u8>,
    },
}

impl Entry {
    /// The entry as bytes, its length in front, to be appended to a record by one `write(2)`.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Out(vec![0; 4]);
        match self {
            Self::Opened { path, file, emptied } => out.kind(0).path(path).number(*file).flag(*emptied),
            Self::MadeDirectory { path, directory } => out.kind(1).path(path).number(*directory),
            Self::Wrote { file, at, bytes } => out.kind(2).number(*file).number(*at).bytes(bytes),
            Self::Resized { file, length } => out.kind(3).number(*file).number(*length),
            Self::SyncBegan { thread, of } => out.kind(4).number(*thread).number(*of),
            Self::SyncEnded { thread, of, synced } => out.kind(5).number(*thread).number(*of).flag(*synced),
            Self::Renamed { from, to } => out.kind(6).path(from).path(to),
            Self::Removed { path } => out.kind(7).path(path),
            Self::Began { who } => out.kind(8).bytes(who.as_bytes()),
            Self::Told { who, as_error, bytes } => {
                out.kind(9).bytes(who.as_bytes()).flag(*as_error).bytes(bytes)
            }
        };
        let length = (out.0.len() - 4) as u32;
        out.0[..4].copy_from_slice(&length.to_le_bytes());
        out.0
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = In(bytes);
        let entry = match from.kind()? {
            0 => Self::Opened { path: from.path()?, file: from.number()?, emptied: from.flag()? },
            1 => Self::MadeDirectory { path: from.path()?, directory: from.number()? },
            2 => Self::Wrote { file: from.number()?, at: from.number()?, bytes: from.bytes()?.to_vec() },
            3 => Self::Resized { file: from.number()?, length: from.number()? },
            4 => Self::SyncBegan { thread: from.number()?, of: from.number()? },
            5 => Self::SyncEnded { thread: from.number()?, of: from.number()?, synced: from.flag()? },
            6 => Self::Renamed { from: from.path()?, to: from.path()? },
            7 => Self::Removed { path: from.path()? },
            8 => Self::Began { who: from.text()? },
            9 => Self::Told { who: from.text()?, as_error: from.flag()?, bytes: from.bytes()?.to_vec() },
            _ => return None,
        };
        from.0.is_empty().then_some(entry)
    }
}

/// Reads a whole record. An entry that its writer's death cut short is left out: it can only be the last one.
///
/// # Errors
/// The file can't be read, or is no record.
pub fn read(path: &Path) -> io::Result<Vec<Entry>> {
    let bytes = std::fs::read(path)?;
    let mut entries = Vec::new();
    let mut rest = bytes.as_slice();
    while let Some((length, behind)) = rest.split_at_checked(4) {
        let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
        let Some((entry, behind)) = behind.split_at_checked(length) else { break };
        entries.push(Entry::decode(entry).ok_or_else(|| io::Error::other("no entry of a record"))?);
        rest = behind;
    }
    Ok(entries)
}

struct Out(Vec<u8>);

impl Out {
    fn kind(&mut self, kind: u8) -> &mut Self {
        self.0.push(kind);
        self
    }

    fn number(&mut self, number: u64) -> &mut Self {
        self.0.extend(number.to_le_bytes());
        self
    }

    fn flag(&mut self, flag: bool) -> &mut Self {
        self.kind(u8::from(flag))
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.number(bytes.len() as u64);
        self.0.extend(bytes);
        self
    }

    fn path(&mut self, path: &Path) -> &mut Self {
        self.bytes(path.as_os_str().as_encoded_bytes())
    }
}

struct In<'a>(&'a [u8]);

impl<'a> In<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn kind(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    fn number(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn flag(&mut self) -> Option<bool> {
        Some(self.kind()? != 0)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(usize::try_from(length).ok()?)
    }

    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }

    fn path(&mut self) -> Option<PathBuf> {
        self.text().map(PathBuf::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written_up_to_an_entry_cut_short() {
        let entries = [
            Entry::Opened { path: "/a/b".into(), file: 7, emptied: true },
            Entry::MadeDirectory { path: "/a/c".into(), directory: 8 },
            Entry::Wrote { file: 7, at: 3, bytes: vec![1, 2, 3] },
            Entry::Resized { file: 7, length: 2 },
            Entry::SyncBegan { thread: 1, of: 7 },
            Entry::SyncEnded { thread: 1, of: 7, synced: false },
            Entry::Renamed { from: "/a/b".into(), to: "/a/d".into() },
            Entry::Removed { path: "/a/d".into() },
            Entry::Began { who: "one".to_owned() },
            Entry::Told { who: "one".to_owned(), as_error: true, bytes: vec![9] },
        ];
        let bytes: Vec<u8> = entries.iter().flat_map(Entry::encode).collect();
        let file = tempfile::NamedTempFile::new().expect("a file");
        for cut in [0, 1, 5] {
            std::fs::write(file.path(), &bytes[..bytes.len() - cut]).expect("written");
            let whole = entries.len() - usize::from(cut > 0);
            assert_eq!(read(file.path()).expect("a record"), entries[..whole]);
        }
    }
}

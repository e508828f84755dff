//! How far an import has come, so that the next one of the same file need not ask for every like again.
//!
//! A note spares time, and nothing depends on it: a like that is asked for again is found to be there. It counts only for
//! a file that begins with the very bytes that were imported, and for the very stores they went to. It is durable, and
//! what it says was durable before.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use like_protocol::ids::StoreId;
use serde::{Deserialize, Serialize};

use super::counts::Counts;
use super::input::{Mark, begins_as_before};

/// What a note says.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Note {
    /// The stores of the article and of the user service.
    pub stores: [StoreId; 2],
    /// Everything before it is imported, or refused for good.
    pub done_to: Mark,
    /// What came of that.
    pub counts: Counts,
    /// Where the refused lines were written, and how many bytes of them.
    pub rejects: Option<(PathBuf, u64)>,
}

/// Where the note of a file is: beside the saga log.
#[derive(Clone, Debug)]
pub struct Place {
    path: PathBuf,
}

impl Place {
    /// The place for the note of an input file.
    pub fn of(journal: &Path, input: &Path) -> Self {
        let mut name = DefaultHasher::new();
        fs::canonicalize(input).unwrap_or_else(|_| input.to_owned()).hash(&mut name);
        Self { path: journal.join(format!("import-{:016x}.json", name.finish())) }
    }

    /// The note, if there is one that counts for this file and these stores. One that can't be read counts for nothing.
    ///
    /// # Errors
    /// The input can't be read.
    pub fn read(&self, input: &File, stores: [StoreId; 2]) -> io::Result<Option<Note>> {
        let Some(note) =
            fs::read(&self.path).ok().and_then(|text| serde_json::from_slice::<Note>(&text).ok())
        else {
            return Ok(None);
        };
        let counts = note.stores == stores && begins_as_before(BufReader::new(input), &note.done_to)?;
        Ok(counts.then_some(note))
    }

    /// Leaves a note in the place of the one before. Durable on return.
    ///
    /// # Errors
    /// The file system refused; the one before may still be there.
    pub fn write(&self, note: &Note) -> io::Result<()> {
        let draft = self.path.with_extension(format!("draft-{}", std::process::id()));
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o660).open(&draft)?;
        file.write_all(&serde_json::to_vec(note)?)?;
        file.sync_all()?;
        fs::rename(&draft, &self.path)?;
        match self.path.parent() {
            Some(journal) => File::open(journal)?.sync_all(),
            None => Ok(()),
        }
    }

    /// Takes the note away: the file is through. Should a power loss bring it back, it is true all the same.
    pub fn remove(&self) {
        if let Err(e) = fs::remove_file(&self.path)
            && e.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!("can't remove {}: {e}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::input::Lines;
    use super::*;

    #[test]
    fn a_note_counts_for_the_same_beginning_and_the_same_stores_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("likes.csv");
        fs::write(&path, "1,2\n3,4\n").unwrap();
        let mut lines = Lines::new(&b"1,2\n3,4\n"[..]);
        lines.next(&mut Vec::new()).unwrap();
        let stores = [1, 2].map(|number| StoreId::from_bytes([number; 16]));
        let note = Note { stores, done_to: lines.mark(), counts: Counts::default(), rejects: None };
        let place = Place::of(dir.path(), &path);
        let read = |stores| place.read(&File::open(&path).unwrap(), stores).unwrap();
        assert_eq!(read(stores), None);
        place.write(&note).unwrap();
        place.write(&note).unwrap();
        assert_eq!(read(stores), Some(note));
        assert_eq!(read([stores[0], StoreId::from_bytes([3; 16])]), None);
        fs::write(&path, "1,3\n3,4\n").unwrap();
        assert_eq!(read(stores), None);
        place.remove();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing but the file is left");
    }
}

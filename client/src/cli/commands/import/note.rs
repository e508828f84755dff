//! How far an import has come, so that the next one of the same file need not ask for every like again.
//!
//! A note spares time, and nothing depends on it: a like that is asked for again is found to be there. It counts only for
//! a file that begins with the very bytes that were imported, and for the very stores they went to. It is durable, and
//! what it says was durable before.

use std::fs::{self, File, Permissions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use like_protocol::ids::StoreId;
use serde::{Deserialize, Serialize};

use super::counts::Counts;
use super::input::Mark;

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

    /// The note, if there is one for these stores. One that can't be read counts for nothing.
    pub fn read(&self, stores: [StoreId; 2]) -> Option<Note> {
        let text = fs::read(&self.path).ok()?;
        serde_json::from_slice(&text).ok().filter(|note: &Note| note.stores == stores)
    }

    /// Leaves a note in the place of the one before. Durable on return.
    ///
    /// # Errors
    /// The file system refused; the one before may still be there.
    pub fn write(&self, note: &Note) -> io::Result<()> {
        let draft = self.path.with_extension(format!("draft-{}", std::process::id()));
        let mut file = File::create(&draft)?;
        // As the log's segments, whatever the umask: another member of the group can resume the import.
        file.set_permissions(Permissions::from_mode(0o660))?;
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
    use super::*;

    #[test]
    fn a_note_counts_for_the_same_stores_alone() {
        let dir = tempfile::tempdir().unwrap();
        let stores = [1, u8::MAX].map(|number| StoreId::from_bytes([number; 16]));
        let done_to = Mark { lines: 1, bytes: 4, digest: 7 };
        let note = Note { stores, done_to, counts: Counts::default(), rejects: None };
        let place = Place::of(dir.path(), &dir.path().join("likes.csv"));
        assert_eq!(place.read(stores), None);
        place.write(&note).unwrap();
        place.write(&note).unwrap();
        assert_eq!(fs::metadata(&place.path).unwrap().permissions().mode() & 0o777, 0o660, "the group's too");
        assert_eq!(place.read(stores), Some(note));
        let text = fs::read_to_string(&place.path).unwrap();
        assert!(
            text.contains("[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],[255,255,"),
            "bytes, as they always were: {text}"
        );
        assert_eq!(place.read([stores[0], StoreId::from_bytes([3; 16])]), None);
        place.remove();
        assert_eq!(place.read(stores), None);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left");
    }
}

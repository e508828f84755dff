//! A directory with everything in it, held in memory.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::record::Inode;

/// Files and directories below a directory: a file's bytes, or nothing for a directory.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Tree(pub BTreeMap<PathBuf, Option<Arc<Vec<u8>>>>);

impl Tree {
    /// Reads what is below `root`, and which inode is which.
    ///
    /// # Errors
    /// Something can't be read.
    pub fn read(root: &Path) -> io::Result<(Self, BTreeMap<PathBuf, Inode>)> {
        let (mut tree, mut inodes) = (Self::default(), BTreeMap::new());
        tree.read_below(root, Path::new(""), &mut inodes)?;
        Ok((tree, inodes))
    }

    fn read_below(
        &mut self,
        root: &Path,
        name: &Path,
        inodes: &mut BTreeMap<PathBuf, Inode>,
    ) -> io::Result<()> {
        let directory = root.join(name);
        inodes.insert(name.to_owned(), fs::metadata(&directory)?.ino());
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let name = name.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                self.0.insert(name.clone(), None);
                self.read_below(root, &name, inodes)?;
            } else {
                self.0.insert(name.clone(), Some(Arc::new(fs::read(entry.path())?)));
                inodes.insert(name, entry.metadata()?.ino());
            }
        }
        Ok(())
    }

    /// Makes it below `root`, which exists and is empty.
    ///
    /// # Errors
    /// Something can't be written.
    pub fn write(&self, root: &Path) -> io::Result<()> {
        for (name, bytes) in &self.0 {
            match bytes {
                Some(bytes) => fs::write(root.join(name), bytes.as_slice())?,
                None => fs::create_dir(root.join(name))?,
            }
        }
        Ok(())
    }

    /// The same number for the same tree.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.0.hash(&mut hasher);
        hasher.finish()
    }
}

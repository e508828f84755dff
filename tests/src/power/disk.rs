//! A disk under the operations of a record: what is certainly on it, and what a power loss may keep, lose or tear.
//!
//! The rules are those of POSIX and no kinder: what was written since a file was last synced may be there or not, each
//! write for itself and in part; its length may be there without its bytes; a name may be there or not, whatever else
//! is, until its directory was synced. A sync counts from its end, and for what was done before it began.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::record::{Entry, Inode};
use super::tree::Tree;

type Id = usize;

/// When a change was made: a number that grows.
pub type Moment = u64;

/// A disk.
#[derive(Clone, Debug)]
pub struct Disk {
    root: PathBuf,
    objects: Vec<Object>,
    by_inode: HashMap<Inode, Id>,
    syncs: HashMap<(u64, Inode), Moment>,
    now: Moment,
}

#[derive(Clone, Debug)]
enum Object {
    File { synced: Arc<Vec<u8>>, length: u64, since: Vec<(Moment, Change)> },
    Directory { synced: Names, now: Names, since: Vec<(Moment, NameChange)> },
}

type Names = BTreeMap<OsString, Id>;

#[derive(Clone, Debug)]
enum Change {
    Wrote { at: u64, bytes: Vec<u8>, lengthens: bool },
    Resized(u64),
}

#[derive(Clone, Debug)]
enum NameChange {
    Added(OsString, Id),
    Removed(OsString),
    Renamed(OsString, OsString, Id),
}

/// A change that is not certain yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Open {
    /// Which one.
    pub moment: Moment,
    /// What it is about.
    pub about: About,
}

/// What an uncertain change is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum About {
    /// So many bytes from an offset on, and whether they lengthen their file.
    Bytes {
        /// The offset.
        at: u64,
        /// How many.
        count: u64,
        /// Whether the file was shorter before.
        lengthens: bool,
    },
    /// A file's length alone.
    Length,
    /// A name in a directory.
    Name,
}

/// What becomes of an uncertain change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It never happened.
    Lost,
    /// It happened.
    Kept,
    /// Of bytes: the file has the length, and zeros.
    Zeros,
    /// Of bytes: only those from one on, up to another, counted from the first.
    Part(u64, u64),
    /// Of bytes: each sector of 512 bytes for itself, as the bits of a number say over and over.
    Sectors(u64),
}

/// How many unsynced writes of the same bytes are told apart; of earlier ones it is forgotten that they were made.
const VERSIONS_MAX: usize = 4;

/// How many bytes a disk writes at once.
pub const SECTOR_BYTES: u64 = 512;

impl Disk {
    /// A disk on which `tree` certainly is, below `root`; `inodes` says what is what.
    pub fn of(root: &Path, tree: &Tree, inodes: &BTreeMap<PathBuf, Inode>) -> Self {
        let mut disk = Self {
            root: root.to_owned(),
            objects: vec![Object::directory()],
            by_inode: HashMap::new(),
            syncs: HashMap::new(),
            now: 0,
        };
        for (name, bytes) in &tree.0 {
            let object = match bytes {
                Some(bytes) => {
                    Object::File { synced: Arc::clone(bytes), length: bytes.len() as u64, since: Vec::new() }
                }
                None => Object::directory(),
            };
            let id = disk.add(object);
            let (above, name) =
                disk.place(&root.join(name)).expect("a tree has every directory before what is in it");
            if let Object::Directory { synced, now, .. } = &mut disk.objects[above] {
                synced.insert(name.clone(), id);
                now.insert(name, id);
            }
        }
        let all: Vec<_> =
            inodes.iter().filter_map(|(name, inode)| Some((*inode, disk.find(&root.join(name))?))).collect();
        disk.by_inode.extend(all);
        disk
    }

    fn add(&mut self, object: Object) -> Id {
        self.objects.push(object);
        self.objects.len() - 1
    }

    fn find(&self, path: &Path) -> Option<Id> {
        let mut id = 0;
        for name in path.strip_prefix(&self.root).ok()? {
            let Object::Directory { now, .. } = &self.objects[id] else { return None };
            id = *now.get(name)?;
        }
        Some(id)
    }

    /// The directory that a name is in, and the name in it.
    fn place(&self, path: &Path) -> Option<(Id, OsString)> {
        Some((self.find(path.parent()?)?, path.file_name()?.to_owned()))
    }

    /// Does what a record says was done. Whether the disk, or what is certain of it, may be another now.
    pub fn apply(&mut self, entry: &Entry) -> bool {
        self.now += 1;
        match entry {
            Entry::Opened { path, file, emptied } => self.opened(path, *file, *emptied),
            Entry::MadeDirectory { path, directory } => self.made(path, *directory, Object::directory()),
            Entry::Wrote { file, at, bytes } => self.wrote(*file, *at, bytes),
            Entry::Resized { file, length } => self.resized(*file, *length),
            Entry::SyncBegan { thread, of } => {
                self.syncs.insert((*thread, *of), self.now);
                false
            }
            Entry::SyncEnded { thread, of, synced } => {
                let began = self.syncs.remove(&(*thread, *of));
                if let (Some(began), Some(id), true) = (began, self.by_inode.get(of), *synced) {
                    return self.objects[*id].sync(began);
                }
                false
            }
            Entry::Renamed { from, to } => self.renamed(from, to),
            Entry::Removed { path } => self.removed(path),
            Entry::Began { .. } | Entry::Told { .. } => false,
        }
    }

    fn opened(&mut self, path: &Path, file: Inode, emptied: bool) -> bool {
        if self.find(path).is_none() {
            return self.made(
                path,
                file,
                Object::File { synced: Arc::default(), length: 0, since: Vec::new() },
            );
        }
        emptied && self.resized(file, 0)
    }

    fn made(&mut self, path: &Path, inode: Inode, object: Object) -> bool {
        let (now, Some((above, name))) = (self.now, self.place(path)) else { return false };
        let id = self.add(object);
        self.by_inode.insert(inode, id);
        self.objects[above].name(now, NameChange::Added(name, id));
        true
    }

    fn renamed(&mut self, from: &Path, to: &Path) -> bool {
        let (Some(id), Some((above, from)), Some((below, to))) =
            (self.find(from), self.place(from), self.place(to))
        else {
            return false;
        };
        assert_eq!(above, below, "nothing is moved from one directory to another");
        self.objects[above].name(self.now, NameChange::Renamed(from, to, id));
        true
    }

    fn removed(&mut self, path: &Path) -> bool {
        let Some((above, name)) = self.place(path) else { return false };
        self.objects[above].name(self.now, NameChange::Removed(name));
        true
    }

    fn wrote(&mut self, file: Inode, at: u64, bytes: &[u8]) -> bool {
        let (now, Some(id)) = (self.now, self.by_inode.get(&file)) else { return false };
        let Object::File { length, since, .. } = &mut self.objects[*id] else { return false };
        let end = at + bytes.len() as u64;
        let lengthens = end > *length;
        *length = end.max(*length);
        let is_version = |(_, change): &(Moment, Change)| match change {
            Change::Wrote { at: from, bytes: old, .. } => (*from, old.len()) == (at, bytes.len()),
            Change::Resized(_) => false,
        };
        if since.iter().filter(|change| is_version(change)).count() >= VERSIONS_MAX {
            let oldest = since.iter().position(is_version);
            oldest.map(|oldest| since.remove(oldest));
        }
        since.push((now, Change::Wrote { at, bytes: bytes.to_vec(), lengthens }));
        true
    }

    fn resized(&mut self, file: Inode, to: u64) -> bool {
        let (now, Some(id)) = (self.now, self.by_inode.get(&file)) else { return false };
        let Object::File { length, since, .. } = &mut self.objects[*id] else { return false };
        if *length == to {
            return false;
        }
        *length = to;
        since.push((now, Change::Resized(to)));
        true
    }

    /// Everything that is uncertain and can be seen from the root, oldest first.
    pub fn open(&self) -> Vec<Open> {
        let (mut open, mut seen, mut left) = (Vec::new(), HashSet::from([0]), vec![0]);
        while let Some(id) = left.pop() {
            match &self.objects[id] {
                Object::File { since, .. } => {
                    open.extend(since.iter().map(|(moment, change)| change.open(*moment)))
                }
                Object::Directory { synced, since, .. } => {
                    open.extend(since.iter().map(|(moment, _)| Open { moment: *moment, about: About::Name }));
                    let added = since.iter().filter_map(|(_, change)| change.id());
                    left.extend(synced.values().copied().chain(added).filter(|id| seen.insert(*id)));
                }
            }
        }
        open.sort_unstable_by_key(|open| open.moment);
        open
    }

    /// How many changes are uncertain, or `most` if there are more.
    pub fn uncertain(&self, most: usize) -> usize {
        let mut count = 0;
        for object in &self.objects {
            count += match object {
                Object::File { since, .. } => since.len(),
                Object::Directory { since, .. } => since.len(),
            };
            if count >= most {
                return most;
            }
        }
        count
    }

    /// What is found after a power loss if each uncertain change has this fate.
    pub fn after(&self, fate: &dyn Fn(Moment) -> Fate) -> Tree {
        let mut tree = Tree::default();
        self.build(0, Path::new(""), fate, &mut tree);
        tree
    }

    fn build(&self, directory: Id, path: &Path, fate: &dyn Fn(Moment) -> Fate, tree: &mut Tree) {
        let Object::Directory { synced, since, .. } = &self.objects[directory] else { return };
        let mut names = synced.clone();
        for (_, change) in since.iter().filter(|(moment, _)| fate(*moment) != Fate::Lost) {
            change.apply(&mut names);
        }
        for (name, id) in names {
            let path = path.join(name);
            match &self.objects[id] {
                Object::Directory { .. } => {
                    tree.0.insert(path.clone(), None);
                    self.build(id, &path, fate, tree);
                }
                Object::File { synced, since, .. } => {
                    tree.0.insert(path, Some(content(synced, since, fate)));
                }
            }
        }
    }
}

fn content(synced: &Arc<Vec<u8>>, since: &[(Moment, Change)], fate: &dyn Fn(Moment) -> Fate) -> Arc<Vec<u8>> {
    let mut bytes = Arc::clone(synced);
    for (moment, change) in since {
        let fate = fate(*moment);
        if fate != Fate::Lost {
            change.apply(Arc::make_mut(&mut bytes), fate);
        }
    }
    bytes
}

impl Object {
    fn directory() -> Self {
        Self::Directory { synced: Names::new(), now: Names::new(), since: Vec::new() }
    }

    fn name(&mut self, moment: Moment, change: NameChange) {
        let Self::Directory { now, since, .. } = self else { return };
        change.apply(now);
        since.push((moment, change));
    }

    /// What was done before `began` is certain.
    fn sync(&mut self, began: Moment) -> bool {
        match self {
            Self::File { synced, since, .. } => {
                let certain = since.iter().take_while(|(moment, _)| *moment < began).count();
                for (_, change) in since.drain(..certain) {
                    change.apply(Arc::make_mut(synced), Fate::Kept);
                }
                certain > 0
            }
            Self::Directory { synced, since, .. } => {
                let certain = since.iter().take_while(|(moment, _)| *moment < began).count();
                since.drain(..certain).for_each(|(_, change)| change.apply(synced));
                certain > 0
            }
        }
    }
}

impl NameChange {
    fn apply(&self, names: &mut Names) {
        match self {
            Self::Added(name, id) => drop(names.insert(name.clone(), *id)),
            Self::Removed(name) => drop(names.remove::<OsStr>(name)),
            Self::Renamed(from, to, id) => {
                names.remove::<OsStr>(from);
                names.insert(to.clone(), *id);
            }
        }
    }

    fn id(&self) -> Option<Id> {
        match self {
            Self::Added(_, id) | Self::Renamed(_, _, id) => Some(*id),
            Self::Removed(_) => None,
        }
    }
}

impl Change {
    fn open(&self, moment: Moment) -> Open {
        let about = match self {
            Self::Wrote { at, bytes, lengthens } => {
                About::Bytes { at: *at, count: bytes.len() as u64, lengthens: *lengthens }
            }
            Self::Resized(_) => About::Length,
        };
        Open { moment, about }
    }

    fn apply(&self, file: &mut Vec<u8>, fate: Fate) {
        let (at, bytes) = match self {
            Self::Resized(length) => return file.resize(*length as usize, 0),
            Self::Wrote { at, bytes, .. } => (*at as usize, bytes),
        };
        file.resize(file.len().max(at + bytes.len()), 0);
        let mut keep = |from: usize, to: usize| file[at + from..at + to].copy_from_slice(&bytes[from..to]);
        match fate {
            Fate::Lost | Fate::Zeros => {}
            Fate::Kept => keep(0, bytes.len()),
            Fate::Part(from, to) => keep(from as usize, to as usize),
            Fate::Sectors(bits) => {
                let sector = SECTOR_BYTES as usize;
                let mut from = 0;
                while from < bytes.len() {
                    let number = (at + from) / sector;
                    let to = bytes.len().min((number + 1) * sector - at);
                    if bits.rotate_right(number as u32) & 1 == 1 {
                        keep(from, to);
                    }
                    from = to;
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "disk_tests.rs"]
mod tests;

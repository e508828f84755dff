//! A disk in memory that loses power: what was synced is there afterwards, of the rest anything may be left.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use like_protocol::ids::BootId;

use crate::log::disk::{Directory, Disk, LogFile};
use crate::log::writer::{Released, Syncs};
use crate::log::{Journal, JournalError, history, segment};

/// The journal and its only slot.
const JOURNAL: &str = "/journal";
const SLOT: &str = "/journal/0";

/// What is written as a whole or not at all: small, as the segments here are. A header is never alone in one.
const SECTOR_BYTES: usize = 128;

/// Clones are the same disk.
#[derive(Clone, Default, Debug)]
pub(crate) struct CutDisk(Arc<Mutex<State>>);

#[derive(Default, Debug)]
pub(super) struct State {
    kept: Kept,
    boot: u8,
    wall_ms: u64,
    /// How many more operations the host lives to do.
    operations_left: Option<u32>,
    /// After how many more changes one fails, if one is to. Those behind it don't.
    pub(super) fails_after: Option<u32>,
    pub(super) syncs: Option<Syncs>,
    /// Whether its host can't tell its boots apart.
    pub(super) has_no_boot_id: bool,
    /// Whether it belongs to another host, so that locks on it can't be trusted.
    pub(super) is_remote: bool,
    /// How often more the slot is not to be opened, for want of permission.
    pub(super) denied: u32,
    /// Whether too little is left on it for sagas to begin.
    pub(super) is_short: bool,
    /// Whether nobody can write there.
    pub(super) is_read_only: bool,
    /// What the next readings of a file are given instead of its bytes.
    pub(super) misread: VecDeque<Vec<u8>>,
}

/// What is on the disk.
#[derive(Clone, Default, Debug)]
pub(super) struct Kept {
    slot: bool,
    slot_synced: bool,
    names: BTreeMap<String, usize>,
    names_synced: BTreeMap<String, usize>,
    files: Vec<Content>,
}

/// A file.
#[derive(Clone, Default, Debug)]
pub(super) struct Content {
    bytes: Vec<u8>,
    /// What is certainly on the disk, and what was written since that was said of it.
    synced: Vec<u8>,
    unsynced: Vec<(usize, Vec<u8>)>,
    /// Whether a sync of it has failed: what had been written by then is never on the disk, whoever syncs later.
    lacks_some: bool,
}

impl CutDisk {
    /// The journal on it.
    pub(crate) fn journal(&self) -> Journal {
        Journal::open_on(Arc::new(self.clone()), Path::new(JOURNAL)).unwrap()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// What is on it now.
    pub(super) fn kept(&self) -> Kept {
        self.lock().kept.clone()
    }

    /// Another disk with the same on it.
    pub(super) fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(State { kept: self.kept(), ..State::default() })))
    }

    /// Changes a byte of a segment.
    pub(super) fn damage(&self, segment: u64, at: usize) {
        let kept = &mut self.lock().kept;
        let file = kept.names[&name_of(&segment::path(Path::new(SLOT), segment)).unwrap()];
        kept.files[file].bytes[at] ^= 1;
    }

    /// How many sagas the worst of power losses would leave now.
    pub(crate) fn left(&self) -> usize {
        let after = self.copy();
        after.lose_power(|| 1);
        history::read(&after.journal()).unwrap().sagas.len()
    }

    /// Its process is killed: what it has written stays, and nothing is written on its way out.
    pub(super) fn kill<T>(&self, process: T) {
        let kept = self.kept();
        drop(process);
        let mut state = self.lock();
        state.kept = kept;
        state.syncs = None;
        state.operations_left = None;
    }

    /// Does the sync that is wanted.
    pub(crate) fn sync_what_is_wanted(&self) {
        let syncs = self.lock().syncs.take().unwrap();
        let sync = syncs.begin().expect("a sync that is wanted");
        let synced = sync.file().sync_data();
        syncs.finish(sync, synced, Released::tell);
        self.lock().syncs = Some(syncs);
    }

    /// Opens the slot so many times not, for want of permission.
    pub(crate) fn denies(&self, times: u32) {
        self.lock().denied = times;
    }

    /// Lets the host live for so many operations more.
    pub(super) fn lives_for(&self, operations: u32) {
        self.lock().operations_left = Some(operations);
    }

    /// Power goes and comes back. `fate` decides about what was not synced.
    pub(super) fn lose_power(&self, mut fate: impl FnMut() -> u8) {
        let mut state = self.lock();
        state.boot += 1;
        let kept = &mut state.kept;
        if kept.slot && !kept.slot_synced && fate().is_multiple_of(2) {
            *kept = Kept::default();
            return;
        }
        let all = kept.names.clone().into_iter().chain(kept.names_synced.clone());
        let survives = |name: &String, file: usize, fate: &mut dyn FnMut() -> u8| {
            let [now, synced] = [&kept.names, &kept.names_synced].map(|names| names.get(name) == Some(&file));
            if now == synced { now } else { fate().is_multiple_of(2) }
        };
        let all: BTreeMap<_, _> = all.collect();
        let names: BTreeMap<_, _> =
            all.into_iter().filter(|(name, file)| survives(name, *file, &mut fate)).collect();
        kept.names = names.clone();
        kept.names_synced = names;
        kept.files.iter_mut().for_each(|content| content.tear(&mut fate));
    }
}

impl Content {
    fn write(&mut self, bytes: &[u8], at: usize) {
        overwrite(&mut self.bytes, bytes, at);
        self.unsynced.push((at, bytes.to_vec()));
    }

    fn sync(&mut self) {
        for (at, bytes) in std::mem::take(&mut self.unsynced) {
            overwrite(&mut self.synced, &bytes, at);
        }
    }

    /// A sync of it has failed.
    fn give_up(&mut self) {
        self.unsynced.clear();
        self.lacks_some = true;
    }

    /// Of what was written and not synced, some is left: all, none, up to a moment, or of each write some of its sectors,
    /// and others changed. A lost sector is what it was before, or zeros where nothing was.
    fn tear(&mut self, fate: &mut impl FnMut() -> u8) {
        let writes = std::mem::take(&mut self.unsynced);
        if std::mem::take(&mut self.lacks_some) {
            self.bytes.clone_from(&self.synced);
            writes.iter().for_each(|(at, bytes)| overwrite(&mut self.bytes, bytes, *at));
        }
        if writes.is_empty() {
            return;
        }
        let how = fate() % 8;
        let last = if how == 2 { usize::from(fate()) % writes.len() } else { writes.len() };
        if how != 0 {
            self.bytes.clone_from(&self.synced);
        }
        for (number, (at, mut bytes)) in writes.into_iter().enumerate() {
            match how {
                0 | 1 => {}
                2 if number > last => {}
                2 => {
                    let kept = usize::from(fate()) * 7 % (bytes.len() + 1);
                    bytes.truncate(if number == last { kept } else { bytes.len() });
                    overwrite(&mut self.bytes, &bytes, at);
                }
                _ => self.keep_some(&bytes, at, fate),
            }
        }
        self.synced.clone_from(&self.bytes);
    }

    fn keep_some(&mut self, bytes: &[u8], at: usize, fate: &mut impl FnMut() -> u8) {
        let end = at + bytes.len();
        self.bytes.resize(self.bytes.len().max(end), 0);
        for sector in at / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES) {
            let from = (sector * SECTOR_BYTES).max(at);
            let to = ((sector + 1) * SECTOR_BYTES).min(end);
            match fate() % 4 {
                0 => {}
                1 => self.bytes[from..to].iter_mut().for_each(|byte| *byte ^= 0x5a),
                _ => self.bytes[from..to].copy_from_slice(&bytes[from - at..to - at]),
            }
        }
    }
}

fn overwrite(file: &mut Vec<u8>, bytes: &[u8], at: usize) {
    let end = at + bytes.len();
    file.resize(file.len().max(end), 0);
    file[at..end].copy_from_slice(bytes);
}

impl State {
    fn operate(&mut self) -> io::Result<&mut Kept> {
        if let Some(left) = &mut self.operations_left {
            *left = left.checked_sub(1).ok_or_else(|| io::Error::other("the host is gone"))?;
        }
        Ok(&mut self.kept)
    }

    /// The same for an operation that changes something.
    fn change(&mut self) -> io::Result<&mut Kept> {
        if let Some(left) = self.fails_after {
            self.fails_after = left.checked_sub(1);
            self.fails_after.ok_or_else(|| io::Error::other("it fails once"))?;
        }
        self.operate()
    }
}

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

fn name_of(file: &Path) -> io::Result<String> {
    Ok(file.file_name().and_then(|name| name.to_str()).ok_or_else(missing)?.to_owned())
}

impl Disk for CutDisk {
    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let kept = &self.lock().kept;
        if directory == Path::new(JOURNAL) {
            return Ok(kept.slot.then(|| "0".to_owned()).into_iter().collect());
        }
        Ok(kept.names.keys().cloned().collect())
    }

    fn is_directory(&self, path: &Path) -> bool {
        path == Path::new(JOURNAL) || (path == Path::new(SLOT) && self.lock().kept.slot)
    }

    fn make_directory(&self, path: &Path, _: bool) -> io::Result<()> {
        let mut state = self.lock();
        let kept = state.change()?;
        if path == Path::new(JOURNAL) || kept.slot {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        kept.slot = true;
        Ok(())
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        let mut state = self.lock();
        let kept = state.change()?;
        if directory == Path::new(JOURNAL) {
            kept.slot_synced = kept.slot;
        } else {
            kept.names_synced = kept.names.clone();
        }
        Ok(())
    }

    fn open_directory(&self, directory: &Path) -> Result<Box<dyn Directory>, JournalError> {
        assert!([JOURNAL, SLOT].map(Path::new).contains(&directory));
        let denied = &mut self.lock().denied;
        if let Some(left) = denied.checked_sub(1) {
            *denied = left;
            return Err(JournalError::io("write in", directory, io::ErrorKind::PermissionDenied.into()));
        }
        Ok(Box::new(CutDirectory(self.clone())))
    }

    fn admit(&self, path: &Path) -> Result<(), JournalError> {
        if self.lock().is_remote {
            return Err(JournalError::NetworkFileSystem { path: path.to_owned(), name: "remote" });
        }
        Ok(())
    }

    fn read(&self, file: &Path, most: Option<usize>) -> io::Result<Vec<u8>> {
        let mut state = self.lock();
        let misread = state.misread.pop_front();
        let kept = state.operate()?;
        let number = *kept.names.get(&name_of(file)?).ok_or_else(missing)?;
        let bytes = misread.as_ref().unwrap_or(&kept.files[number].bytes);
        Ok(bytes[..most.unwrap_or(usize::MAX).min(bytes.len())].to_vec())
    }

    fn create(&self, file: &Path) -> io::Result<Arc<dyn LogFile>> {
        let mut state = self.lock();
        let kept = state.change()?;
        let (name, number) = (name_of(file)?, kept.files.len());
        if kept.names.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        kept.files.push(Content::default());
        kept.names.insert(name, number);
        Ok(Arc::new(CutFile(self.clone(), number)))
    }

    fn sync_file(&self, file: &Path) -> io::Result<()> {
        let number = *self.lock().kept.names.get(&name_of(file)?).ok_or_else(missing)?;
        CutFile(self.clone(), number).sync_all()
    }

    fn remove(&self, file: &Path) -> io::Result<()> {
        let mut state = self.lock();
        let kept = state.change()?;
        kept.names.remove(&name_of(file)?).map(drop).ok_or_else(missing)
    }

    fn age(&self, _: &Path) -> io::Result<Duration> {
        Ok(Duration::ZERO)
    }

    fn wall_ms(&self) -> u64 {
        let mut state = self.lock();
        state.wall_ms += 1;
        state.wall_ms
    }

    fn boot(&self) -> Option<BootId> {
        let state = self.lock();
        (!state.has_no_boot_id).then(|| BootId::from_bytes([1 + state.boot; 16]))
    }

    fn pid(&self) -> u32 {
        1
    }

    fn lacks_room(&self, _: &Path) -> Option<String> {
        self.lock().is_short.then(|| "little is left".to_owned())
    }

    fn is_read_only(&self, _: &Path) -> bool {
        self.lock().is_read_only
    }

    fn run_syncs(&self, syncs: Syncs) -> io::Result<()> {
        let before = self.lock().syncs.replace(syncs);
        drop(before);
        Ok(())
    }
}

#[derive(Debug)]
struct CutDirectory(CutDisk);

impl Directory for CutDirectory {
    fn try_lock(&self) -> io::Result<bool> {
        Ok(true)
    }

    fn lock(&self) -> io::Result<()> {
        Ok(())
    }

    fn is_at(&self, _: &Path) -> io::Result<bool> {
        Ok(true)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_directory(Path::new(SLOT))
    }
}

#[derive(Debug)]
struct CutFile(CutDisk, usize);

impl LogFile for CutFile {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        self.0.lock().change()?.files[self.1].write(bytes, at as usize);
        Ok(bytes.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.0.lock();
        if state.fails_after == Some(0) {
            state.kept.files[self.1].give_up();
        }
        state.change()?.files[self.1].sync();
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }
}

//! The disk that a daemon's store is on: what was synced survives a power loss, of every other write anything may be left.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use like_daemon::store::commit_log::SEGMENT;
use like_daemon::store::disk::{Disk, DiskFile};

use super::faults::{Chore, Fault, Flaw};
use super::store::StoreFailing;
use super::world::{Host, MERGE, SYNCS_DIRECTORY, SYNCS_STORE, Service, World, lock};

/// So many writes of one file wait for a sync at most; then the kernel has written the first half of them by itself.
const UNSYNCED_MAX: usize = 48;

/// What a disk writes as a whole. Real ones write more.
const BLOCK_BYTES: usize = 64;

/// All files of one store.
#[derive(Default, Debug)]
pub struct StoreFiles {
    now: BTreeMap<String, u64>,
    synced: BTreeMap<String, u64>,
    contents: BTreeMap<u64, Content>,
    made: u64,
    /// What fails the next time it is done.
    pub fails_next: Option<StoreFailing>,
    /// Until when there is no space for more.
    pub full_until_ms: u64,
}

#[derive(Default, Debug)]
struct Content {
    bytes: Vec<u8>,
    unsynced: Vec<Written>,
    /// So many of them no sync will ever bring to the disk: one has failed.
    spoilt: usize,
}

/// A write, and what it overwrote.
#[derive(Debug)]
struct Written {
    place: usize,
    new: Vec<u8>,
    old: Vec<u8>,
    length_before: usize,
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl StoreFiles {
    fn number(&self, name: &str) -> io::Result<u64> {
        self.now.get(name).copied().ok_or_else(not_found)
    }

    /// What nobody can ever see again goes.
    fn forget(&mut self) {
        let (now, synced) = (&self.now, &self.synced);
        self.contents.retain(|number, _| now.values().chain(synced.values()).any(|named| named == number));
    }

    /// What a power loss leaves of it.
    pub fn lose_power(&mut self, world: &World) {
        let all: Vec<_> = self.now.keys().chain(self.synced.keys()).cloned().collect();
        for name in all {
            let (now, synced) = (self.now.get(&name).copied(), self.synced.get(&name).copied());
            if now == synced || world.percent(50) {
                continue;
            }
            match synced {
                Some(number) => {
                    world.fault(Fault::StoreNameBack, 0);
                    self.now.insert(name, number);
                }
                None => {
                    world.fault(Fault::StoreNameLost, 0);
                    self.now.remove(&name);
                }
            }
        }
        self.synced = self.now.clone();
        self.forget();
        self.contents.values_mut().for_each(|content| content.lose_power(world));
        self.fails_next = None;
    }
}

impl Content {
    fn write(&mut self, bytes: &[u8], place: usize) {
        let end = place + bytes.len();
        let length_before = self.bytes.len();
        if length_before < end {
            self.bytes.resize(end, 0);
        }
        let old = self.bytes[place..end.min(length_before).max(place)].to_vec();
        self.bytes[place..end].copy_from_slice(bytes);
        self.unsynced.push(Written { place, new: bytes.to_vec(), old, length_before });
        if self.unsynced.len() > UNSYNCED_MAX {
            self.unsynced.drain(..UNSYNCED_MAX / 2);
            self.spoilt = self.spoilt.saturating_sub(UNSYNCED_MAX / 2);
        }
    }

    /// Of what was not synced, the disk has written what it liked, in whatever order.
    fn lose_power(&mut self, world: &World) {
        if self.unsynced.is_empty() {
            return;
        }
        let before = self.bytes.clone();
        for written in self.unsynced.iter().rev() {
            self.bytes[written.place..][..written.old.len()].copy_from_slice(&written.old);
            self.bytes.truncate(written.length_before);
        }
        for written in std::mem::take(&mut self.unsynced) {
            self.keep_some(world, &written);
        }
        if self.bytes != before {
            world.fault(Fault::StoreTorn, 0);
        }
        self.spoilt = 0;
    }

    fn keep_some(&mut self, world: &World, written: &Written) {
        let Written { place, new, .. } = written;
        let fate = world.below(8);
        let kept = if fate == 2 { world.below(new.len() as u64 + 1) as usize } else { new.len() };
        if fate < 2 {
            return;
        }
        let length_before = self.bytes.len();
        if length_before < place + kept {
            self.bytes.resize(place + kept, 0);
        }
        for at in (0..kept).step_by(BLOCK_BYTES) {
            let block = at..(at + BLOCK_BYTES).min(kept);
            let there = &mut self.bytes[place + block.start..place + block.end];
            match fate {
                // Blocks that were not written: what was there before, zeros, or where nothing was, anything.
                3 if world.percent(40) => {}
                4 if world.percent(40) && place + block.start >= length_before => {
                    there.iter_mut().for_each(|byte| *byte = world.below(256) as u8);
                }
                _ => there.copy_from_slice(&new[block]),
            }
        }
    }
}

/// The disk as one daemon sees it.
#[derive(Clone, Debug)]
pub struct StoreDisk {
    host: Host,
    role: Service,
    path: PathBuf,
}

impl StoreDisk {
    /// The disk of a daemon's store.
    pub fn new(host: &Host, role: Service) -> Self {
        Self { host: host.clone(), role, path: Path::new("/").join(role.role()) }
    }

    fn files<T>(&self, what: impl FnOnce(&mut StoreFiles) -> T) -> T {
        what(&mut lock(&self.host.world.stores[self.role as usize]).files)
    }

    /// Something that only looks: no death is aimed at it.
    fn look<T>(&self, at: impl FnOnce(&mut StoreFiles) -> io::Result<T>) -> io::Result<T> {
        if self.host.life.is_dead() { Err(io::Error::other("killed")) } else { self.files(at) }
    }

    fn operate<T>(
        &self,
        what: &'static str,
        effect: impl FnOnce(&mut StoreFiles) -> io::Result<T>,
    ) -> io::Result<T> {
        self.host.world.operate(&self.host.life, what, || {
            self.host.world.note(self.host.life.pid, what, self.role as u64, 0);
            self.files(effect)
        })
    }

    fn fails(&self, files: &mut StoreFiles, how: StoreFailing, fault: Fault) -> bool {
        let fails = files.fails_next.take_if(|next| *next == how).is_some();
        if fails {
            self.host.world.fault(fault, self.host.life.pid);
        }
        fails
    }

    fn is_full(&self, files: &StoreFiles) -> bool {
        let full = files.full_until_ms > self.host.world.now_ms();
        if full {
            self.host.world.fault(Fault::StoreDiskFull, self.host.life.pid);
        }
        full
    }

    fn file(&self, number: u64, is_log: bool) -> Arc<dyn DiskFile> {
        Arc::new(StoreFile { disk: self.clone(), number, is_log })
    }
}

fn broken() -> io::Error {
    io::Error::other("input/output error")
}

impl Disk for StoreDisk {
    fn path(&self) -> &Path {
        &self.path
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.look(|files| Ok(files.now.keys().cloned().collect()))
    }

    fn read(&self, name: &str, most: Option<usize>) -> io::Result<Vec<u8>> {
        self.look(|files| {
            let number = files.number(name)?;
            let bytes = &files.contents.get(&number).ok_or_else(not_found)?.bytes;
            Ok(bytes[..bytes.len().min(most.unwrap_or(usize::MAX))].to_vec())
        })
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let number = self.look(|files| files.number(name))?;
        Ok(self.file(number, name.starts_with(SEGMENT)))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let number = self.operate("creates file", |files| {
            if self.is_full(files) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            if files.now.contains_key(name) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            files.made += 1;
            files.now.insert(name.to_owned(), files.made);
            files.contents.insert(files.made, Content::default());
            Ok(files.made)
        })?;
        let is_log = name.starts_with(SEGMENT);
        if is_log {
            self.host.world.fired.chore(Chore::SegmentBegun);
        }
        Ok(self.file(number, is_log))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.operate("renames file", |files| {
            let number = files.now.remove(from).ok_or_else(not_found)?;
            files.now.insert(to.to_owned(), number);
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.operate("removes file", |files| {
            files.now.remove(name).ok_or_else(not_found)?;
            files.forget();
            Ok(())
        })
    }

    fn sync_names(&self) -> io::Result<()> {
        self.operate(SYNCS_DIRECTORY, |files| {
            if self.fails(files, StoreFailing::Sync, Fault::StoreSyncFailed) {
                return Err(broken());
            }
            if !self.host.world.has(Flaw::StoreNamesLost) {
                files.synced = files.now.clone();
                files.forget();
            }
            Ok(())
        })
    }

    fn bytes(&self) -> u64 {
        0
    }

    /// Work in the background is done step by step, when its daemon comes to it.
    fn in_background(
        &self,
        what: &'static str,
        work: Box<dyn FnMut() -> bool + Send>,
    ) -> io::Result<Option<JoinHandle<()>>> {
        let chore = if what == MERGE { Chore::MergeBegun } else { Chore::CheckpointBegun };
        self.host.world.fired.chore(chore);
        lock(&self.host.world.background[self.role as usize]).push((what, work));
        Ok(None)
    }
}

#[derive(Debug)]
struct StoreFile {
    disk: StoreDisk,
    number: u64,
    is_log: bool,
}

impl DiskFile for StoreFile {
    fn write_at(&self, bytes: &[u8], place: u64) -> io::Result<()> {
        let disk = &self.disk;
        disk.operate("writes file", |files| {
            let length = files.contents.get(&self.number).map_or(0, |content| content.bytes.len());
            let end = place as usize + bytes.len();
            let fails = disk.fails(files, StoreFailing::Write, Fault::StoreWriteFailed)
                || (end > length && disk.is_full(files));
            // What a write that failed has done is not known.
            let done =
                if fails { disk.host.world.below(end as u64 + 1 - place) as usize } else { bytes.len() };
            if let Some(content) = files.contents.get_mut(&self.number) {
                content.write(&bytes[..done], place as usize);
            }
            if fails { Err(broken()) } else { Ok(()) }
        })
    }

    fn sync(&self) -> io::Result<()> {
        let disk = &self.disk;
        disk.operate(if self.is_log { SYNCS_STORE } else { "syncs file" }, |files| {
            let fails = disk.fails(files, StoreFailing::Sync, Fault::StoreSyncFailed);
            let Some(content) = files.contents.get_mut(&self.number) else { return Ok(()) };
            if fails {
                content.spoilt = content.unsynced.len();
                return Err(broken());
            }
            if !disk.host.world.has(Flaw::StoreSyncLies) {
                content.unsynced.truncate(content.spoilt);
            }
            Ok(())
        })
    }
}

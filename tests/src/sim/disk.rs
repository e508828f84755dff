//! The disk that saga logs are kept on: what was synced survives a power loss, of every other write anything may be left.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use like_client::log::disk::{Directory, Disk, LogFile};
use like_client::log::writer::{Released, Syncs};
use like_client::log::{JournalError, Owner};
use like_protocol::ids::BootId;

use super::content::Content;
use super::faults::{Fault, Flaw};
use super::found::Crash;
use super::world::{Host, SYNCS_DIRECTORY, World, lock};

/// All files and directories.
#[derive(Default, Debug)]
pub struct DiskState {
    directories: BTreeMap<PathBuf, Names>,
    files: Vec<Content>,
    /// Until when it is full.
    pub full_until_ms: u64,
    /// What fails the next time it is done.
    pub fails_next: Option<Failing>,
    tickets: u64,
}

/// What can be made to fail once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failing {
    /// The next sync of a file or directory.
    Sync,
    /// The next reading of a file.
    Read,
    /// The next append is cut short.
    Short,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Node {
    Directory,
    File(usize),
}

#[derive(Default, Debug)]
struct Names {
    now: BTreeMap<String, Node>,
    synced: BTreeMap<String, Node>,
    /// The process that holds its lock, and by which opening.
    locked: Option<(u32, u64)>,
}

impl Names {
    fn after(&self, crash: Crash) -> &BTreeMap<String, Node> {
        if crash == Crash::OfTheHost { &self.synced } else { &self.now }
    }
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

impl DiskState {
    fn names(&mut self, directory: &Path) -> io::Result<&mut Names> {
        self.directories.get_mut(directory).ok_or_else(not_found)
    }

    fn file(&mut self, path: &Path) -> io::Result<usize> {
        let names = self.names(path.parent().ok_or_else(not_found)?)?;
        match names.now.get(&name_of(path)) {
            Some(Node::File(number)) => Ok(*number),
            _ => Err(not_found()),
        }
    }

    /// Frees whatever a process had locked.
    pub fn release_all_of(&mut self, pid: u32) {
        for names in self.directories.values_mut() {
            names.locked.take_if(|(holder, _)| *holder == pid);
        }
    }

    /// The slots that a process has locked.
    pub(super) fn locked_by(&self, pid: u32) -> Vec<PathBuf> {
        let locked =
            self.directories.iter().filter(|(_, names)| names.locked.is_some_and(|(by, _)| by == pid));
        locked.map(|(path, _)| path.clone()).collect()
    }

    /// The names in a directory as a crash in this instant would leave them.
    pub(super) fn names_after(&self, directory: &Path, crash: Crash) -> io::Result<Vec<String>> {
        let names = self.directories.get(directory).ok_or_else(not_found)?;
        Ok(names.after(crash).keys().cloned().collect())
    }

    /// A file's bytes as a crash in this instant would leave them, so many at most.
    pub(super) fn bytes_after(&self, file: &Path, most: Option<usize>, crash: Crash) -> io::Result<Vec<u8>> {
        let names = file.parent().and_then(|above| self.directories.get(above)).ok_or_else(not_found)?;
        let Some(Node::File(number)) = names.after(crash).get(&name_of(file)) else {
            return Err(not_found());
        };
        let left = self.files[*number].after(crash);
        Ok(left[..left.len().min(most.unwrap_or(usize::MAX))].to_vec())
    }

    /// What a power loss leaves of it.
    pub fn lose_power(&mut self, world: &World) {
        let paths: Vec<_> = self.directories.keys().cloned().collect();
        for path in paths {
            // One above it may be gone by now.
            let Some(names) = self.directories.get_mut(&path) else { continue };
            names.locked = None;
            let all: BTreeSet<_> = names.now.keys().chain(names.synced.keys()).cloned().collect();
            let mut gone = Vec::new();
            for name in all {
                let (now, synced) = (names.now.get(&name).copied(), names.synced.get(&name).copied());
                if now == synced || world.percent(50) {
                    continue;
                }
                match synced {
                    Some(node) => {
                        world.fault(Fault::NameBack, 0);
                        names.now.insert(name, node);
                    }
                    None => {
                        world.fault(Fault::NameLost, 0);
                        names.now.remove(&name);
                        gone.push(path.join(&name));
                    }
                }
            }
            names.synced = names.now.clone();
            self.directories.retain(|below, _| !gone.iter().any(|gone| below.starts_with(gone)));
        }
        self.files.iter_mut().for_each(|content| content.lose_power(world));
    }
}

/// The disk as one process sees it.
#[derive(Clone, Debug)]
pub struct SimDisk(pub Host);

impl SimDisk {
    fn operate<T>(
        &self,
        what: &'static str,
        effect: impl FnOnce(&mut DiskState) -> io::Result<T>,
    ) -> io::Result<T> {
        let world = &self.0.world;
        world.operate(&self.0.life, what, || effect(&mut lock(&world.disk)))
    }

    /// Something that is to fail once fails now.
    fn fails(&self, disk: &mut DiskState, how: Failing, fault: Fault) -> bool {
        let fails = disk.fails_next.take_if(|next| *next == how).is_some();
        if fails {
            self.0.world.fault(fault, self.0.life.pid);
        }
        fails
    }

    fn is_full(&self, disk: &DiskState) -> bool {
        let full = disk.full_until_ms > self.0.world.now_ms();
        if full {
            self.0.world.fault(Fault::DiskFull, self.0.life.pid);
        }
        full
    }

    fn note(&self, what: &str, a: u64, b: u64) {
        self.0.world.note(self.0.life.pid, what, a, b);
    }

    async fn pause(&self, most_ms: u64) {
        let ms = self.0.world.below(most_ms + 1);
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}

fn full() -> io::Error {
    io::ErrorKind::StorageFull.into()
}

fn broken() -> io::Error {
    io::Error::other("input/output error")
}

impl Disk for SimDisk {
    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.operate("lists", |disk| Ok(disk.names(directory)?.now.keys().cloned().collect()))
    }

    fn is_directory(&self, path: &Path) -> bool {
        lock(&self.0.world.disk).directories.contains_key(path)
    }

    fn make_directory(&self, path: &Path, _with_parents: bool) -> io::Result<()> {
        self.operate("makes directory", |disk| {
            if disk.directories.contains_key(path) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            if self.is_full(disk) {
                return Err(full());
            }
            if let Some(above) = path.parent().and_then(|above| disk.directories.get_mut(above)) {
                above.now.insert(name_of(path), Node::Directory);
            }
            disk.directories.insert(path.to_owned(), Names::default());
            Ok(())
        })
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        self.operate(SYNCS_DIRECTORY, |disk| {
            if self.fails(disk, Failing::Sync, Fault::SyncFailed) {
                return Err(broken());
            }
            // What stands above a journal is not simulated.
            if let Ok(names) = disk.names(directory)
                && !self.0.world.has(Flaw::NamesLost)
            {
                names.synced = names.now.clone();
            }
            Ok(())
        })
    }

    fn open_directory(&self, directory: &Path) -> Result<Box<dyn Directory>, JournalError> {
        let opened = self.operate("opens directory", |disk| {
            disk.names(directory)?;
            disk.tickets += 1;
            Ok(disk.tickets)
        });
        let refused = |source| JournalError::Io { what: "open", path: directory.to_owned(), source };
        let ticket = opened.map_err(refused)?;
        Ok(Box::new(SimDirectory { disk: self.clone(), path: directory.to_owned(), ticket }))
    }

    fn read(&self, file: &Path, most: Option<usize>) -> io::Result<Vec<u8>> {
        self.operate("reads", |disk| {
            let number = disk.file(file)?;
            if self.fails(disk, Failing::Read, Fault::ReadFailed) {
                return Err(broken());
            }
            let bytes = disk.files[number].after(Crash::OfTheProcess);
            Ok(bytes[..bytes.len().min(most.unwrap_or(usize::MAX))].to_vec())
        })
    }

    fn create(&self, file: &Path) -> io::Result<Arc<dyn LogFile>> {
        self.operate("creates", |disk| {
            if self.is_full(disk) {
                return Err(full());
            }
            let number = disk.files.len();
            let names = disk.names(file.parent().ok_or_else(not_found)?)?;
            let name = name_of(file);
            if names.now.contains_key(&name) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            names.now.insert(name, Node::File(number));
            disk.files.push(Content::new(self.0.world.now_ms()));
            self.note("creates file", number as u64, 0);
            self.0.world.say(self.0.life.pid, {
                let file = file.display().to_string();
                move || format!("creates {file}")
            });
            Ok(Arc::new(SimFile { disk: self.clone(), number }) as Arc<dyn LogFile>)
        })
    }

    fn sync_file(&self, file: &Path) -> io::Result<()> {
        let number = lock(&self.0.world.disk).file(file)?;
        SimFile { disk: self.clone(), number }.sync_all()
    }

    fn remove(&self, file: &Path) -> io::Result<()> {
        self.operate("removes", |disk| {
            let number = disk.file(file)?;
            self.note("removes file", number as u64, 0);
            let names = disk.names(file.parent().ok_or_else(not_found)?)?;
            names.now.remove(&name_of(file));
            Ok(())
        })
    }

    fn age(&self, file: &Path) -> io::Result<Duration> {
        let mut disk = lock(&self.0.world.disk);
        let number = disk.file(file)?;
        Ok(Duration::from_millis(self.0.world.now_ms() - disk.files[number].written_ms()))
    }

    fn wall_ms(&self) -> u64 {
        self.0.world.wall_ms()
    }

    fn boot(&self) -> Option<BootId> {
        Some(self.0.world.now().boot)
    }

    fn pid(&self) -> u32 {
        self.0.life.pid
    }

    fn owner(&self, directory: &Path) -> Option<Owner> {
        let world = &self.0.world;
        let (pid, _) = lock(&world.disk).directories.get(directory)?.locked?;
        let life = world.life(pid)?;
        let stopped = life.stopped_until_ms.load(Ordering::Relaxed) > world.now_ms();
        Some(Owner { pid, command: life.name.to_owned(), stopped })
    }

    fn in_background(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, Result<(), String>> {
        let disk = self.clone();
        async move {
            disk.pause(1).await;
            work();
            Ok(())
        }
        .boxed()
    }

    /// A sync takes effect somewhere between being wanted and being over.
    fn run_syncs(&self, syncs: Syncs) -> io::Result<()> {
        let disk = self.clone();
        let most_ms = self.0.world.plan.sync_ms;
        tokio::spawn(async move {
            while syncs.wanted().await {
                disk.pause(most_ms).await;
                let Some(sync) = syncs.begin() else { continue };
                let synced = sync.file().sync_data();
                disk.pause(most_ms).await;
                syncs.finish(sync, synced, Released::tell);
            }
        });
        Ok(())
    }
}

#[derive(Debug)]
struct SimDirectory {
    disk: SimDisk,
    path: PathBuf,
    ticket: u64,
}

impl Directory for SimDirectory {
    fn try_lock(&self) -> io::Result<bool> {
        let pid = self.disk.0.life.pid;
        self.disk.operate("locks", |disk| {
            let names = disk.names(&self.path)?;
            let free = names.locked.is_none() || self.disk.0.world.has(Flaw::LocksShared);
            if free {
                names.locked = Some((pid, self.ticket));
                self.disk.note("locked", self.ticket, 0);
            }
            Ok(free)
        })
    }

    /// Nobody waits in a simulation: a wait would hold up the whole world.
    fn lock(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn is_at(&self, _: &Path) -> io::Result<bool> {
        Ok(true)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.sync_directory(&self.path)
    }
}

impl Drop for SimDirectory {
    fn drop(&mut self) {
        let mut disk = lock(&self.disk.0.world.disk);
        if let Ok(names) = disk.names(&self.path) {
            names.locked.take_if(|(_, ticket)| *ticket == self.ticket);
        }
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    number: usize,
}

impl LogFile for SimFile {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        self.disk.operate("writes", |disk| {
            let short = self.disk.fails(disk, Failing::Short, Fault::WriteShort);
            // What has its place on the disk can be written however full that is.
            let grows = at as usize + bytes.len() > disk.files[self.number].after(Crash::OfTheProcess).len();
            if grows && !short && self.disk.is_full(disk) {
                return Err(full());
            }
            let count =
                if short { self.disk.0.world.below(bytes.len() as u64) as usize } else { bytes.len() };
            disk.files[self.number].write(&bytes[..count], at as usize, self.disk.0.world.now_ms());
            self.disk.note("written", self.number as u64, at + count as u64);
            Ok(count)
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.operate("syncs", |disk| {
            let fails = self.disk.fails(disk, Failing::Sync, Fault::SyncFailed);
            let content = &mut disk.files[self.number];
            if fails {
                content.spoil();
                return Err(broken());
            }
            if !self.disk.0.world.has(Flaw::LogSyncLies) {
                content.sync();
            }
            self.disk.note("synced", self.number as u64, 0);
            Ok(())
        })
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }
}

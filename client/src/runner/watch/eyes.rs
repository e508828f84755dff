//! What is seen of a journal from outside: that slots are made and opened, and that something is made in them.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use tokio::sync::mpsc;

use super::Event;
use crate::log::{JournalError, Slot};

/// What is seen of a journal. A slot is made, and opened to its group a moment later: it may not be watched before.
const CHANGES: WatchFlags = WatchFlags::CREATE.union(WatchFlags::MOVED_TO).union(WatchFlags::ATTRIB);

/// inotify, on a journal and its slots, and a thread that reports what it sees as long as the journal is watched.
pub struct Eyes {
    inotify: Arc<OwnedFd>,
    /// The watch of the journal itself.
    journal: i32,
    /// Slots by their watch.
    slots: HashMap<i32, Slot>,
}

impl Eyes {
    /// Watches a journal. Its slots are watched one by one.
    pub fn open(journal: &Path, events: mpsc::UnboundedSender<Event>) -> Result<Self, JournalError> {
        let unwatched = |e: io::Error| JournalError::io("watch", journal, e);
        let inotify = Arc::new(inotify::init(CreateFlags::CLOEXEC).map_err(|e| unwatched(e.into()))?);
        let watch = inotify::add_watch(&inotify, journal, CHANGES).map_err(|e| unwatched(e.into()))?;
        let seen = Arc::clone(&inotify);
        let thread = std::thread::Builder::new().name("journal-watch".to_owned());
        thread.spawn(move || report_changes(&seen, watch, &events)).map_err(unwatched)?;
        Ok(Self { inotify, journal: watch, slots: HashMap::new() })
    }

    /// Whether the journal of this path is the one that is watched.
    pub fn still_see(&self, journal: &Path) -> Result<bool, JournalError> {
        let watch = inotify::add_watch(&self.inotify, journal, CHANGES);
        watch.map(|watch| watch == self.journal).map_err(|e| JournalError::io("watch", journal, e.into()))
    }

    /// Watches a slot; whether it was not watched before. A directory that is watched already keeps its watch; one that was
    /// made anew under the name of another gets one of its own.
    pub fn watch(&mut self, slot: &Slot) -> rustix::io::Result<bool> {
        let watch = inotify::add_watch(&self.inotify, slot.path(), WatchFlags::CREATE)?;
        let is_new = !self.slots.contains_key(&watch);
        if is_new {
            self.forget(slot);
            self.slots.insert(watch, slot.clone());
        }
        Ok(is_new)
    }

    /// Watches no longer what had this name: it was moved away. Back, it is watched as a new one.
    pub fn forget(&mut self, slot: &Slot) {
        for (watch, _) in self.slots.extract_if(|_, watched| watched == slot) {
            // Gone already, if its directory is.
            let _ = inotify::remove_watch(&self.inotify, watch);
        }
    }

    /// The slots that are watched so. An overflow (-1) says nothing about which: all of them.
    pub fn slots_of(&self, watches: &[i32]) -> Vec<Slot> {
        let overflow = watches.contains(&-1);
        let seen = self.slots.iter().filter(|(watch, _)| overflow || watches.contains(watch));
        seen.map(|(_, slot)| slot.clone()).collect()
    }
}

impl Drop for Eyes {
    /// Taking the watch away wakes the thread that reads, and is the last that it sees.
    fn drop(&mut self) {
        let _ = inotify::remove_watch(&self.inotify, self.journal);
    }
}

/// Reports changes until the journal is watched no longer, or nobody listens.
fn report_changes(inotify: &OwnedFd, journal: i32, events: &mpsc::UnboundedSender<Event>) {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(inotify, &mut buffer);
    let mut is_watched = true;
    while is_watched {
        let mut watches = Vec::new();
        let event = loop {
            match reader.next() {
                Ok(event) => {
                    let is_over = event.wd() == journal && event.events().contains(ReadFlags::IGNORED);
                    is_watched &= !is_over;
                    watches.push(event.wd());
                }
                Err(rustix::io::Errno::INTR) => continue,
                Err(e) => break Event::Blind(e.into()),
            }
            if reader.is_buffer_empty() {
                break Event::Changed(watches);
            }
        };
        let blind = matches!(event, Event::Blind(_));
        if events.send(event).is_err() || blind {
            return;
        }
    }
}

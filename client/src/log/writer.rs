//! The open log of a slot: appending, and group commit.
//!
//! An append is one `write(2)` by whoever appends: no thread is woken for it. A sync is done by the log's own thread,
//! one for all who wait: while it runs, others append and wait for the next one.
//!
//! A write or sync that fails or is short ends the log, and with it its runner: after a failed fsync nothing is known
//! of what is on disk, so nothing more may be written, answered or sent.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use like_protocol::ids::SagaId;

use super::record::{self, Entry, SagaRecord};
use super::segment::Fresh;
use super::slot::{JournalError, Slot, SlotLock};
use super::story::Story;
use super::takeover;
use super::wall_ms;
use crate::saga::Event;

/// A segment that grows by more than this behind its carry-over is followed by a new one: so a takeover reads no more
/// than this and what was open, and what is open is copied once for so many new bytes, however much it is.
const SEGMENT_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// How far a log has been written, over all its segments. Positions of one log increase.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Position(u64);

/// The log has ended: nothing more can be written, answered or sent by its runner.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the saga log has ended: {why}")]
pub struct LogEnded {
    /// What happened.
    pub why: String,
}

/// The open log of a slot. Clones share it; when the last one goes, the slot is let go.
#[derive(Clone, Debug)]
pub struct SagaLog {
    shared: Arc<Handle>,
}

/// What all clones share, and the sync thread does not: when it is dropped, the thread ends.
#[derive(Debug)]
struct Handle(Arc<Shared>);

impl std::ops::Deref for Handle {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.let_go();
    }
}

/// Lets go of the slot when the sync thread ends, by a panic too: without it, nobody who waits would ever be answered.
struct EndsWithThread<'a>(&'a Shared);

impl Drop for EndsWithThread<'_> {
    fn drop(&mut self) {
        self.0.let_go();
    }
}

#[derive(Debug)]
struct Shared {
    slot: Slot,
    retention: Duration,
    open: Mutex<Open>,
    /// Wakes the sync thread.
    wanted: Condvar,
    durable: watch::Sender<Durable>,
}

/// What is published to those who wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Durable {
    to: Position,
    ended: bool,
}

#[derive(Debug)]
struct Open {
    /// Gone once the log has ended.
    lock: Option<SlotLock>,
    why_ended: String,
    segment: Fresh,
    /// How large the segment may grow.
    segment_bytes_max: u64,
    file: Arc<File>,
    /// The offset that is durable, and the one that the segment states to be.
    durable_bytes: u64,
    stated_bytes: u64,
    written: Position,
    wanted: Position,
    /// The records of sagas that are not settled: what a rotation carries over.
    live: BTreeMap<SagaId, Vec<SagaRecord>>,
}

impl SagaLog {
    /// Starts appending to a fresh segment.
    ///
    /// # Errors
    /// The file handle can't be shared with the sync thread, or the thread can't be started.
    pub(super) fn start(
        lock: SlotLock,
        segment: Fresh,
        live: &[Story],
        retention: Duration,
    ) -> Result<Self, JournalError> {
        let slot = lock.slot().clone();
        let failed = |e| JournalError::io("start the log of", slot.path(), e);
        let file = segment.file.try_clone().map_err(failed)?;
        let start = Position(0);
        let open = Open {
            lock: Some(lock),
            why_ended: String::new(),
            durable_bytes: segment.bytes,
            stated_bytes: 0,
            segment_bytes_max: segment.bytes + SEGMENT_BYTES_MAX,
            segment,
            file: Arc::new(file),
            written: start,
            wanted: start,
            live: live.iter().map(|story| (story.saga, story.records.clone())).collect(),
        };
        let shared = Arc::new(Shared {
            slot: slot.clone(),
            retention,
            open: Mutex::new(open),
            wanted: Condvar::new(),
            durable: watch::Sender::new(Durable { to: start, ended: false }),
        });
        let syncs = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("saga-log-sync".to_owned());
        thread.spawn(move || syncs.sync_until_ended()).map_err(failed)?;
        Ok(Self { shared: Arc::new(Handle(shared)) })
    }

    /// The slot it is kept in.
    pub fn slot(&self) -> &Slot {
        &self.shared.slot
    }

    /// Writes events of one saga. On return they are safe from a crash of this process, but not from power loss; see
    /// [`SagaLog::durable`].
    ///
    /// # Errors
    /// The log has ended, now or before. What was to be written may or may not be found by a takeover.
    pub fn append(
        &self,
        saga: SagaId,
        events: impl IntoIterator<Item = Event>,
    ) -> Result<Position, LogEnded> {
        let mut open = self.shared.lock();
        open.refuse_ended()?;
        let written = open.write(saga, events);
        written.map_err(|e| self.shared.end(&mut open, &format!("write failed: {e}")))
    }

    /// How far the log has been written.
    pub fn written(&self) -> Position {
        self.shared.lock().written
    }

    /// Waits until everything up to `position` is durable.
    ///
    /// # Errors
    /// The log has ended.
    pub async fn durable(&self, position: Position) -> Result<(), LogEnded> {
        let mut published = self.shared.durable.subscribe();
        if published.borrow_and_update().to < position {
            let mut open = self.shared.lock();
            open.refuse_ended()?;
            if open.wanted < position {
                open.wanted = position;
                self.shared.wanted.notify_one();
            }
        }
        let published = published.wait_for(|durable| durable.ended || durable.to >= position).await;
        // What was published is copied: whoever looks at it holds up whoever publishes with the log locked.
        let reached = published.map(|durable| durable.to >= position);
        if reached.unwrap_or(false) {
            return Ok(());
        }
        Err(LogEnded { why: self.shared.lock().why_ended.clone() })
    }

    /// Lets go of the slot: nothing is written any more, and whoever waits for the slot gets it.
    pub fn let_go(&self) {
        self.shared.let_go();
    }

    /// Whether the log has ended, and why.
    pub fn ended(&self) -> Option<LogEnded> {
        self.shared.lock().refuse_ended().err()
    }
}

impl Open {
    fn refuse_ended(&self) -> Result<(), LogEnded> {
        if self.lock.is_some() { Ok(()) } else { Err(LogEnded { why: self.why_ended.clone() }) }
    }

    /// One `write(2)` for all, with a word on what is durable in front if that has news.
    fn write(&mut self, saga: SagaId, events: impl IntoIterator<Item = Event>) -> io::Result<Position> {
        let mut bytes = Vec::with_capacity(256);
        let mut tag = self.segment.tag;
        let mut encode = |entry: &Entry, bytes: &mut Vec<u8>, at: u64| {
            tag = record::encode(self.segment.place, at, tag, entry, bytes).map_err(io::Error::other)?;
            io::Result::Ok(tag)
        };
        let start = self.segment.bytes;
        if self.stated_bytes < self.durable_bytes {
            encode(&Entry::DurableTo(self.durable_bytes), &mut bytes, start)?;
        }
        let records = self.live.entry(saga).or_default();
        let mut settled = false;
        for event in events {
            settled |= event == Event::Settled;
            if matches!(event, Event::Begun(_)) {
                // A story whose beginning was lost is told anew from here.
                records.clear();
            }
            let seq = records.last().map_or(0, |last| last.seq + 1);
            let entry = Entry::Saga(SagaRecord { saga, seq, at_ms: wall_ms(), event });
            let at = start + bytes.len() as u64;
            encode(&entry, &mut bytes, at)?;
            if let Entry::Saga(record) = entry {
                records.push(record);
            }
        }
        if settled {
            self.live.remove(&saga);
        }
        write_whole(&self.segment.file, &bytes)?;
        self.segment.tag = tag;
        self.segment.bytes += bytes.len() as u64;
        self.stated_bytes = self.durable_bytes;
        self.written = Position(self.written.0 + bytes.len() as u64);
        Ok(self.written)
    }
}

/// A short write is a failure: what would follow it could not be told from damage.
fn write_whole(mut file: &File, bytes: &[u8]) -> io::Result<()> {
    let written = loop {
        match file.write(bytes) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => break other?,
        }
    };
    if written == bytes.len() {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::WriteZero, format!("only {written} of {} bytes", bytes.len())))
    }
}

impl Shared {
    /// A poisoned lock means that a thread panicked while it wrote: the log ends, and whoever waits is told.
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(|poisoned: PoisonError<_>| {
            let mut open = poisoned.into_inner();
            if open.lock.is_some() {
                self.end(&mut open, "a thread panicked while it held the log");
            }
            open
        })
    }

    fn let_go(&self) {
        let mut open = self.lock();
        if open.lock.is_some() {
            self.end(&mut open, "its runner has let go of its slot");
        }
    }

    fn end(&self, open: &mut Open, why: &str) -> LogEnded {
        open.lock = None;
        why.clone_into(&mut open.why_ended);
        self.durable.send_modify(|durable| durable.ended = true);
        self.wanted.notify_one();
        LogEnded { why: why.to_owned() }
    }

    /// The sync thread: one `fdatasync` for all who wait, then the next. However it ends, the log ends with it.
    fn sync_until_ended(&self) {
        let _ends = EndsWithThread(self);
        let mut open = self.lock();
        loop {
            open = self
                .wanted
                .wait_while(open, |open| open.lock.is_some() && open.wanted <= self.durable.borrow().to)
                .unwrap_or_else(PoisonError::into_inner);
            if open.lock.is_none() {
                return;
            }
            let (file, to, bytes) = (Arc::clone(&open.file), open.written, open.segment.bytes);
            drop(open);
            let synced = file.sync_data();
            open = self.lock();
            if open.lock.is_none() {
                return;
            }
            if let Err(e) = synced {
                self.end(&mut open, &format!("sync failed: {e}"));
                return;
            }
            open.durable_bytes = bytes;
            self.durable.send_modify(|durable| durable.to = to);
            if bytes > open.segment_bytes_max {
                self.rotate(&mut open);
            }
        }
    }

    /// Goes on in a new segment. Everything written so far is durable by then: what is open in the new segment, the
    /// rest in the old one.
    fn rotate(&self, open: &mut Open) {
        let stories = open.live.values().filter_map(|records| Story::of(records.clone()));
        let stories: Vec<_> = stories.map(Story::condensed).collect();
        let rotated = open.file.sync_data().map_err(|e| e.to_string()).and_then(|()| {
            let Some(lock) = &open.lock else { return Err("no lock".to_owned()) };
            let fresh = takeover::rotate(lock, &stories, self.retention).map_err(|e| e.to_string())?;
            let file = fresh.file.try_clone().map_err(|e| e.to_string())?;
            Ok((fresh, file))
        });
        match rotated {
            Ok((fresh, file)) => {
                open.durable_bytes = fresh.bytes;
                open.stated_bytes = 0;
                open.segment_bytes_max = fresh.bytes + SEGMENT_BYTES_MAX;
                open.segment = fresh;
                open.file = Arc::new(file);
                open.live = stories.into_iter().map(|story| (story.saga, story.records)).collect();
                let to = open.written;
                self.durable.send_modify(|durable| durable.to = to);
            }
            Err(why) => {
                self.end(open, &format!("rotation failed: {why}"));
            }
        }
    }
}

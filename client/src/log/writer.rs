//! The open log of a slot: appending, and group commit.
//!
//! What is appended gets safer in two steps. It is *written* by a `pwrite(2)` of whoever wants that: no thread is woken
//! for it. Those who append in the same moment share one: who puts it off until what rests on it is done ([`ToWrite`]), or
//! lets the others that are ready go first, finds that somebody has written for all. It is *durable* by a sync, which is
//! done beside, one for all who wait: while it runs, others append and wait for the next one. Those who want a sync in the
//! same moment ask for one together, and what it is to make durable is written by then: whoever syncs holds nobody up by
//! writing. Who waits is woken once, when what it waits for is durable. Who is alone, and holds nobody up, syncs on its own
//! thread instead.
//!
//! A write or sync that fails or is short ends the log, and with it its runner: after a failed fsync nothing is known
//! of what is on disk, so nothing more may be written, answered or sent.

mod open;
mod syncs;

use std::io;
use std::ops::RangeInclusive;
use std::sync::{Arc, PoisonError};

use tokio::sync::oneshot;

use like_protocol::ids::SagaId;

use self::open::Open;
pub use self::syncs::{Released, Syncing, Syncs};
use super::record::Entry;
use super::segment::Fresh;
use super::slot::{JournalError, Slot, SlotLock};
use super::story::Story;
use super::takeover::{self, Keeping};
use crate::saga::Event;
use crate::sync::{Mutex, MutexGuard, Notify};

/// How far a log has been written, over all its segments. Positions of one log increase.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct Position(u64);

/// The log has ended: nothing more can be written, answered or sent by its runner.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the saga log has ended: {why}")]
pub struct LogEnded {
    /// What happened.
    pub why: String,
}

/// No saga may begin: what its file system has left is kept for those that have begun.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{why}")]
pub struct LacksRoom {
    /// Where, and how little.
    pub why: String,
}

/// The open log of a slot. Clones share it; when the last one goes, the slot is let go.
#[derive(Clone, Debug)]
pub struct SagaLog {
    shared: Arc<Handle>,
}

/// What all clones share, and the syncs do not: when it is dropped, they end.
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

#[derive(Debug)]
struct Shared {
    slot: Slot,
    keeping: Keeping,
    open: Mutex<Open>,
    /// Wakes whoever runs the syncs.
    sync_wanted: Notify,
}

impl SagaLog {
    /// Starts appending to a fresh segment.
    ///
    /// # Errors
    /// Its syncs can't be run.
    pub(super) fn start(
        lock: SlotLock,
        segment: Fresh,
        live: &[Story],
        keeping: Keeping,
    ) -> Result<Self, JournalError> {
        let slot = lock.slot().clone();
        let open = Open::begin(lock, segment, live, &keeping);
        let shared =
            Shared { slot: slot.clone(), keeping, open: Mutex::new(open), sync_wanted: Notify::new() };
        let shared = Arc::new(shared);
        let running = slot.disk().run_syncs(Syncs(Arc::clone(&shared)));
        running.map_err(|e| JournalError::io("start the log of", slot.path(), e))?;
        Ok(Self { shared: Arc::new(Handle(shared)) })
    }

    /// The slot it is kept in.
    pub fn slot(&self) -> &Slot {
        &self.shared.slot
    }

    /// Puts events of one saga behind everything that was appended before. They are safe from nothing yet: see
    /// [`SagaLog::written`] and [`SagaLog::durable`].
    ///
    /// # Errors
    /// The log has ended. What was to be written may or may not be found by a takeover.
    pub fn append(
        &self,
        saga: SagaId,
        events: impl IntoIterator<Item = Event>,
    ) -> Result<Position, LogEnded> {
        self.append_all(events.into_iter().map(|event| (saga, event)))
    }

    /// The same for events of several sagas.
    ///
    /// # Errors
    /// As [`SagaLog::append`].
    pub fn append_all(
        &self,
        events: impl IntoIterator<Item = (SagaId, Event)>,
    ) -> Result<Position, LogEnded> {
        let mut open = self.shared.lock();
        open.refuse_ended()?;
        let encoded = open.encode(&**self.shared.slot.disk(), events);
        encoded.map_err(|e| self.shared.write_failed(&mut open, &e))
    }

    /// Whether there is room for another saga to begin. It is looked at again only where the log has been allotted more space
    /// since: within what it was allotted, nothing is taken from the file system.
    ///
    /// # Errors
    /// What is left is kept for sagas that have begun, and why that is little.
    pub fn room_to_begin(&self) -> Result<(), LacksRoom> {
        let (space, had_room) = {
            let open = self.shared.lock();
            (open.space(), open.roomy)
        };
        if had_room == Some(space) {
            return Ok(());
        }
        let slot = &self.shared.slot;
        match slot.disk().lacks_room(slot.path()) {
            Some(why) => Err(LacksRoom { why }),
            None => {
                self.shared.lock().roomy = Some(space);
                Ok(())
            }
        }
    }

    /// How far the log has been appended to.
    pub fn appended(&self) -> Position {
        self.shared.lock().appended
    }

    /// Writes everything up to `position`. On return it is safe from a crash of this process, and there for every
    /// reader; it is not safe from power loss.
    ///
    /// # Errors
    /// The log has ended.
    pub async fn written(&self, position: Position) -> Result<(), LogEnded> {
        // Whoever else is about to append does it now: then one write does for all.
        tokio::task::yield_now().await;
        self.shared.write_to(position)
    }

    /// For who does something that rests on what was appended, and can put the write off until that moment.
    pub fn to_write(&self, position: Position) -> ToWrite {
        ToWrite { shared: Arc::clone(&self.shared.0), position }
    }

    /// Waits until everything up to `position` is durable, written or not when it is called.
    ///
    /// # Errors
    /// The log has ended.
    pub async fn durable(&self, position: Position) -> Result<(), LogEnded> {
        let (hand_over, reached) = oneshot::channel();
        let ask = {
            let mut open = self.shared.lock();
            if open.durable >= position {
                return Ok(());
            }
            open.refuse_ended()?;
            open.waiting.push((position, hand_over));
            let is_first = !std::mem::replace(&mut open.asking, true);
            is_first.then(|| Ask(&self.shared))
        };
        if let Some(ask) = ask {
            tokio::task::yield_now().await;
            drop(ask);
        }
        reached.await.map_err(|_| LogEnded { why: self.shared.lock().why_ended.clone() })
    }

    /// The numbers of the segments that it has written so far.
    pub fn segments(&self) -> RangeInclusive<u64> {
        let open = self.shared.lock();
        open.segment.since..=open.segment.place.segment
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

/// Asks for a sync of all that is appended by the moment that it is dropped: whoever is about to ask does so even if its
/// future is given up.
struct Ask<'a>(&'a Shared);

impl Drop for Ask<'_> {
    fn drop(&mut self) {
        let mut open = self.0.lock();
        open.asking = false;
        if self.0.want(&mut open).is_ok() {
            drop(open);
            self.0.sync_wanted.notify_one();
        }
    }
}

/// What is to be written before something that rests on it is done. Does not keep the log open.
#[derive(Debug)]
pub struct ToWrite {
    shared: Arc<Shared>,
    position: Position,
}

impl ToWrite {
    /// Writes it, with all that was appended meanwhile, unless that has been done. Promises what [`SagaLog::written`] does.
    ///
    /// # Errors
    /// The log has ended.
    pub fn write(&self) -> Result<(), LogEnded> {
        self.shared.write_to(self.position)
    }
}

impl Shared {
    /// A poisoned lock means that a thread panicked while it wrote: the log ends, and whoever waits is told.
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(|poisoned: PoisonError<_>| {
            let mut open = poisoned.into_inner();
            if open.lock.is_some() {
                self.fail(&mut open, "a thread panicked while it held the log");
            }
            open
        })
    }

    fn write_to(&self, position: Position) -> Result<(), LogEnded> {
        let mut open = self.lock();
        if open.failed || open.written < position { self.write_all(&mut open) } else { Ok(()) }
    }

    fn write_all(&self, open: &mut Open) -> Result<(), LogEnded> {
        open.refuse_ended()?;
        open.write().map_err(|e| self.write_failed(open, &e))
    }

    /// All that is appended is to be durable: it is written, and stands for a sync.
    fn want(&self, open: &mut Open) -> Result<(), LogEnded> {
        self.write_all(open)?;
        open.wanted = open.written;
        Ok(())
    }

    fn let_go(&self) {
        let mut open = self.lock();
        if open.lock.is_some() {
            if let Err(e) = open.write_word(Entry::LetGo) {
                tracing::debug!("the log ends without a last word: {e}");
            }
            self.end(&mut open, "its runner has let go of its slot");
        }
    }

    /// Nothing was written since a sync began: the segment itself says that all of it is durable, or what is bad in its
    /// last group one day would be taken for a torn tail.
    fn state_if_idle(&self, synced: Position) {
        let mut open = self.lock();
        if open.lock.is_none() || open.appended != synced || open.stated_bytes >= open.durable_bytes {
            return;
        }
        if let Err(e) = open.write_word(Entry::DurableTo) {
            self.write_failed(&mut open, &e);
        }
    }

    fn write_failed(&self, open: &mut Open, error: &io::Error) -> LogEnded {
        self.fail(open, &format!("write failed: {error}"))
    }

    /// Nobody is told or sent anything more on the strength of this log.
    fn fail(&self, open: &mut Open, why: &str) -> LogEnded {
        open.failed = true;
        self.end(open, why)
    }

    fn end(&self, open: &mut Open, why: &str) -> LogEnded {
        open.lock = None;
        why.clone_into(&mut open.why_ended);
        open.waiting.clear();
        self.sync_wanted.notify_one();
        LogEnded { why: why.to_owned() }
    }

    /// Goes on in a new segment. Everything written so far is durable by then: what is open in the new segment, the
    /// rest in the old one.
    fn rotate(&self, open: &mut Open, tell: impl Fn(Released)) {
        // It may have ended since: then the segment is somebody else's.
        if open.lock.is_none() {
            return;
        }
        let mut live: Vec<_> = open.live.values().collect();
        live.sort_unstable_by_key(|live| live.last);
        let stories = live.into_iter().filter_map(|live| Story::of(live.records.clone()));
        let stories: Vec<_> = stories.map(Story::condensed).collect();
        let synced = open.write().and_then(|()| open.segment.file.sync_data());
        let rotated = synced.map_err(|e| e.to_string()).and_then(|()| {
            let Some(lock) = &open.lock else { return Err("no lock".to_owned()) };
            takeover::rotate(lock, &open.segment, &stories, &self.keeping).map_err(|e| e.to_string())
        });
        match rotated {
            Ok(fresh) => {
                open.go_on_in(fresh, stories, &self.keeping);
                tell(open.durable_to(open.written));
            }
            Err(why) => {
                self.fail(open, &format!("rotation failed: {why}"));
            }
        }
    }
}

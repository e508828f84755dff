//! Stays, and takes over the moment a runner dies.
//!
//! Nothing polls. For every slot that somebody owns, a thread waits in the kernel for the slot's lock, which it gets
//! the instant the owner is gone. A slot that is free and has nothing open is watched by inotify: its next owner makes
//! a new segment before it does anything else, and that wakes a waiter for it (`eyes`).

mod eyes;
mod take;

use std::collections::{HashMap, HashSet};
use std::io;
use std::time::Duration;

use like_protocol::ids::SagaId;
use rustix::io::Errno;
use tokio::sync::mpsc;

use self::eyes::Eyes;
use self::take::{Left, take_and_drive};
use super::context::Context;
use super::drive::Order;
use super::pace::SLOW;
use super::recover::{Recovery, Report};
use crate::log::{Journal, JournalError, Slot, SlotLock};
use crate::saga::End;

/// How long a slot that was taken over is driven without result, by whomever, before it is let go for a while, so that an operator
/// can reach it: their acts wait a little longer than this for its lock.
pub(super) const HOLD_MAX: Duration = Duration::from_secs(5);

/// How long a slot is left alone then, and after it could not be used; [`SLOW`] if that will hardly change by itself, or
/// nothing is left in it but what needs an operator or is only to be settled: whoever meets its locks does that before.
const PAUSE: Duration = Duration::from_secs(2);

/// A waiter only waits: it needs no more than this.
const WAITER_STACK_BYTES: usize = 64 * 1024;

/// What whoever makes a slot takes at most to open it to its group, whatever its umask.
const OPENED_WITHIN: Duration = Duration::from_millis(100);

/// What happens while a journal is watched.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Notice {
    /// A dead runner's slot was taken over.
    TakenOver {
        /// The slot's number.
        slot: u32,
        /// How many unfinished sagas were found.
        unfinished: usize,
    },
    /// What was found in a slot has been driven as far as it goes for now, and the slot was let go.
    LetGo {
        /// The slot's number.
        slot: u32,
        /// Where it stands.
        report: Report,
        /// The sagas that were found, and their ends.
        sagas: Vec<(SagaId, Option<End>)>,
    },
    /// A slot can't be used: it is left alone for a while.
    Skipped {
        /// The slot's number.
        slot: u32,
        /// Why.
        why: String,
    },
}

/// Watches a journal until `shutdown` ends, driving whatever dead runners leave. A saga that is stuck never ends the
/// watch: its slot is tried again at a slow pace.
///
/// # Errors
/// The journal can't be read or watched at the beginning, or another one has its name later.
pub async fn watch(
    context: &Context,
    order: Order,
    notices: mpsc::UnboundedSender<Notice>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), JournalError> {
    let (events, mut inbox) = mpsc::unbounded_channel();
    let mut watcher = Watcher::open(context.clone(), order, notices, events)?;
    watcher.look_for_slots()?;
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => return Ok(()),
            Some(event) = inbox.recv() => watcher.take(event)?,
        }
    }
}

/// What the threads and tasks of a watch report back.
enum Event {
    /// Something was made or opened in the journal, or made in the slots that are watched so.
    Changed(Vec<i32>),
    /// The journal can't be watched any longer.
    Blind(io::Error),
    /// A slot's lock was got.
    Locked(SlotLock),
    /// A slot could not be waited for.
    Failed(Slot, JournalError),
    /// A slot was let go, and nothing is open in it.
    LetGo(Slot),
    /// A slot was let go, and something is left open in it.
    LeftOpen(Slot, Left),
    /// A slot in which something was left open, or that could not be used, is due again.
    Due(Slot),
    /// Slots that could not be watched are due again.
    LookAgain,
}

/// What the watcher is about with a slot. A slot that it is not about anything with has nothing open, and its next
/// owner will be noticed.
enum Busy {
    /// A waiter or a recovery is under way; did the slot change meanwhile?
    UnderWay { changed: bool },
    /// Something is left open: it is due again later. Whoever uses the slot meanwhile may leave more.
    Pausing,
    /// It could not be used. It is due again later and no sooner: a failure may change the slot itself.
    Failed,
}

struct Watcher {
    context: Context,
    order: Order,
    notices: mpsc::UnboundedSender<Notice>,
    events: mpsc::UnboundedSender<Event>,
    eyes: Eyes,
    busy: HashMap<u32, Busy>,
    /// What was left open in slots that are pausing, or waited for since.
    left: HashMap<u32, Left>,
    /// What was last said of slots that could not be used since: it is said once, however often they are tried.
    skipped: HashMap<u32, String>,
    /// Slots that were not open to this process yet when they were first seen.
    closed: HashSet<u32>,
    /// Whether it will be looked again for slots that could not be watched.
    looks_again: bool,
    /// Whether the journal could not be looked at lately.
    unseen: bool,
}

impl Watcher {
    fn open(
        context: Context,
        order: Order,
        notices: mpsc::UnboundedSender<Notice>,
        events: mpsc::UnboundedSender<Event>,
    ) -> Result<Self, JournalError> {
        let eyes = Eyes::open(context.journal.path(), events.clone())?;
        Ok(Self {
            context,
            order,
            notices,
            events,
            eyes,
            busy: HashMap::new(),
            left: HashMap::new(),
            skipped: HashMap::new(),
            closed: HashSet::new(),
            looks_again: false,
            unseen: false,
        })
    }

    /// Watches slots that are new. Each is waited for at once: somebody may own it, or have died in it. A directory that is
    /// watched already keeps its watch; one that was made anew under the name of another gets one of its own.
    fn look_for_slots(&mut self) -> Result<(), JournalError> {
        for slot in self.context.journal.slots()? {
            match self.eyes.watch(&slot) {
                Ok(true) => {
                    // Whatever it is about with a directory that had this name before, it is not about with this one.
                    self.busy.remove(&slot.number());
                    self.wait_for(slot);
                }
                Ok(false) => {}
                // Whoever makes a slot opens it to its group a moment later.
                Err(Errno::ACCESS) if self.closed.insert(slot.number()) => {
                    self.after(OPENED_WITHIN, Event::Changed(Vec::new()));
                }
                Err(e) => {
                    self.skip(&slot, &format!("can't be watched: {e}"));
                    self.look_again_in(SLOW);
                }
            }
        }
        Ok(())
    }

    /// Looks for slots once more. A journal that can't be looked at right now, as while somebody has moved it away or no more
    /// files may be open, is looked at again in a moment.
    fn look_on(&mut self) -> Result<(), JournalError> {
        let journal = self.context.journal.path().to_owned();
        let looked = self.look_for_slots();
        match looked.and_then(|()| Ok(!self.unseen || self.eyes.still_see(&journal)?)) {
            Ok(true) => self.unseen = false,
            Ok(false) => {
                let other = io::Error::other("another directory has its name now");
                return Err(JournalError::io("watch", &journal, other));
            }
            Err(e) => {
                if !std::mem::replace(&mut self.unseen, true) {
                    tracing::warn!("what other runners leave can't be seen right now: {e}");
                }
                self.look_again_in(PAUSE);
            }
        }
        Ok(())
    }

    fn look_again_in(&mut self, pause: Duration) {
        if !std::mem::replace(&mut self.looks_again, true) {
            self.after(pause, Event::LookAgain);
        }
    }

    /// Reports an event to itself later.
    fn after(&self, pause: Duration, event: Event) {
        let events = self.events.clone();
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            // Nobody listens if the watch has ended.
            let _ = events.send(event);
        });
    }

    /// Starts a thread that waits for a slot's lock, unless the slot is being dealt with already.
    fn wait_for(&mut self, slot: Slot) {
        match self.busy.get_mut(&slot.number()) {
            Some(Busy::UnderWay { changed }) => {
                *changed = true;
                return;
            }
            Some(Busy::Failed) => return,
            Some(Busy::Pausing) | None => {}
        }
        self.busy.insert(slot.number(), Busy::UnderWay { changed: false });
        let journal: Journal = self.context.journal.clone();
        let events = self.events.clone();
        let waiter = std::thread::Builder::new().name(format!("slot-{}", slot.number()));
        let name = slot.clone();
        let spawned = waiter.stack_size(WAITER_STACK_BYTES).spawn(move || {
            let event = match claim_once_open(&journal, &slot) {
                Ok(Some(lock)) => Event::Locked(lock),
                Ok(None) => Event::LetGo(slot),
                Err(e) => Event::Failed(slot, e),
            };
            // If nobody listens any more, the lock goes with the event.
            let _ = events.send(event);
        });
        if let Err(e) = spawned {
            let error = JournalError::io("wait for", name.path(), e);
            self.failed(name, &error);
        }
    }

    fn take(&mut self, event: Event) -> Result<(), JournalError> {
        match event {
            Event::Changed(watches) => {
                self.look_on()?;
                self.eyes.slots_of(&watches).into_iter().for_each(|slot| self.wait_for(slot));
            }
            Event::Blind(e) => return Err(JournalError::io("watch", self.context.journal.path(), e)),
            Event::Locked(lock) => self.recover(lock),
            Event::Failed(slot, e) => self.failed(slot, &e),
            Event::LetGo(slot) => self.let_go(slot),
            Event::LeftOpen(slot, left) => self.left_open(slot, left),
            Event::Due(slot) => {
                if let Some(Busy::Pausing | Busy::Failed) = self.busy.get(&slot.number()) {
                    self.busy.remove(&slot.number());
                    self.wait_for(slot);
                }
            }
            Event::LookAgain => {
                self.looks_again = false;
                self.look_on()?;
            }
        }
        Ok(())
    }

    /// Nothing is open in a slot. If it changed meanwhile, that may have been its next owner.
    fn let_go(&mut self, slot: Slot) {
        if self.is_gone(&slot) {
            return;
        }
        self.skipped.remove(&slot.number());
        if let Some(Busy::UnderWay { changed: true }) = self.busy.remove(&slot.number()) {
            self.wait_for(slot);
        }
    }

    /// Something is open in a slot that was let go. Whoever has taken it since has made a segment of its own, and word of
    /// that may have come before: then it is waited for at once.
    fn left_open(&mut self, slot: Slot, left: Left) {
        self.skipped.remove(&slot.number());
        let has_owner = slot.newest_segment().is_ok_and(|now| now > left.newest);
        self.after(left.pause.saturating_sub(left.at.elapsed()), Event::Due(slot.clone()));
        self.busy.insert(slot.number(), Busy::Pausing);
        self.left.insert(slot.number(), left);
        if has_owner {
            self.wait_for(slot);
        }
    }

    /// Takes a locked slot over in the background, and drives what is open in it.
    fn recover(&mut self, lock: SlotLock) {
        let left = self.left.remove(&lock.slot().number());
        let (context, notices, events) = (self.context.clone(), self.notices.clone(), self.events.clone());
        let order = self.order;
        tokio::spawn(async move {
            // Nobody listens if the watch has ended.
            let _ = events.send(take_and_drive(&context, lock, order, left, &notices).await);
        });
    }

    /// A slot was moved away: word comes when it is back.
    fn is_gone(&mut self, slot: &Slot) -> bool {
        let is_gone = !slot.is_there();
        if is_gone {
            self.eyes.forget(slot);
            self.busy.remove(&slot.number());
            self.skipped.remove(&slot.number());
        }
        is_gone
    }

    fn failed(&mut self, slot: Slot, e: &JournalError) {
        if self.is_gone(&slot) {
            return;
        }
        self.busy.insert(slot.number(), Busy::Failed);
        self.skip(&slot, &e.to_string());
        self.after(if e.is_unreadable() { SLOW } else { PAUSE }, Event::Due(slot));
    }

    fn skip(&mut self, slot: &Slot, why: &str) {
        if self.skipped.insert(slot.number(), why.to_owned()).is_some_and(|before| before == why) {
            return;
        }
        tracing::warn!(slot = slot.number(), "slot skipped: {why}");
        let _ = self.notices.send(Notice::Skipped { slot: slot.number(), why: why.to_owned() });
    }
}

/// Waits for a slot's lock. A slot is heard of in the moment that it is made, and open to its group a moment later: one that may
/// not be used is looked at once more.
pub(super) fn claim_once_open(journal: &Journal, slot: &Slot) -> Result<Option<SlotLock>, JournalError> {
    match journal.claim_when_free(slot) {
        Err(e) if e.is_permission() => {
            std::thread::sleep(OPENED_WITHIN);
            journal.claim_when_free(slot)
        }
        claimed => claimed,
    }
}

#[cfg(test)]
mod tests;

//! What becomes of a slot whose lock was got.

use std::collections::HashSet;
use std::time::Duration;

use like_protocol::ids::SagaId;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Context, Event, HOLD_MAX, Notice, Order, PAUSE, Recovery, Report, SLOW};
use crate::log::{self, Found, JournalError, SlotLock};

/// What a recovery left open in a slot.
pub struct Left {
    pub sagas: HashSet<SagaId>,
    /// The slot's newest segment then: whoever uses the slot makes a newer one.
    pub newest: u64,
    /// How long it is left alone.
    pub pause: Duration,
    /// When it was left.
    pub at: Instant,
}

impl Left {
    /// Whether its slot, which was got, is left alone for now, and as what: nothing is open in it but what was left open before,
    /// and that is not due yet, or somebody else has just tried it. Of two who watch, each would otherwise begin when the other
    /// lets go, so that nobody's turn would ever come between.
    fn rests(self, found: &Found) -> Option<Self> {
        if !found.open().all(|story| self.sagas.contains(&story.saga)) {
            return None;
        }
        let (newest, since) = (found.newest_segment(), self.at.elapsed());
        if newest == self.newest {
            return (since < self.pause).then_some(self);
        }
        // Whoever has had it for longer was no other watch.
        let just_tried = since < self.pause + 2 * HOLD_MAX;
        just_tried.then_some(Self { newest, at: Instant::now(), ..self })
    }
}

/// Takes a locked slot over, not on this thread, and drives what is open in it.
pub async fn take_and_drive(
    context: &Context,
    lock: SlotLock,
    order: Order,
    left: Option<Left>,
    notices: &mpsc::UnboundedSender<Notice>,
) -> Event {
    let (slot, takes) = (lock.slot().clone(), context.clone());
    match context.in_background(move || take_over(&takes, lock, order, left)).await {
        Ok(Ok(Taken::Over(recovery))) => drive(context, recovery, notices).await,
        Ok(Ok(Taken::Nothing)) => Event::LetGo(slot),
        Ok(Ok(Taken::Rests(left))) => Event::LeftOpen(slot, left),
        Ok(Err(e)) | Err(e) => Event::Failed(slot, e),
    }
}

/// What comes of a slot that was got.
enum Taken {
    /// It is taken over, and driven.
    Over(Recovery),
    /// Nothing is open in it.
    Nothing,
    /// It is left alone for now.
    Rests(Left),
}

fn take_over(
    context: &Context,
    lock: SlotLock,
    order: Order,
    left: Option<Left>,
) -> Result<Taken, JournalError> {
    let found = log::find(lock, context.options.keeping)?;
    if found.open().next().is_none() {
        return Ok(Taken::Nothing);
    }
    match left.and_then(|left| left.rests(&found)) {
        Some(left) => Ok(Taken::Rests(left)),
        None => Recovery::of(context, found, order).map(Taken::Over),
    }
}

/// Drives what was taken over for a while, and tells how far it has come.
pub async fn drive(context: &Context, recovery: Recovery, notices: &mpsc::UnboundedSender<Notice>) -> Event {
    let (slot, until) = (recovery.log().slot().clone(), Instant::now() + HOLD_MAX);
    let _ = notices.send(Notice::TakenOver { slot: slot.number(), unfinished: recovery.found() });
    recovery.wait(until).await;
    let is_over = recovery.is_over();
    recovery.let_go(until).await;
    let newest = *recovery.log().segments().end();
    let told = context.in_background(move || {
        let mut report = Report::default();
        let (sagas, open) = recovery.tell(&mut report);
        (report, sagas, open)
    });
    let (report, sagas, open) = match told.await {
        Ok(told) => told,
        Err(e) => return Event::Failed(slot, e),
    };
    let pause = if is_over || report.unfinished == 0 { SLOW } else { PAUSE };
    let _ = notices.send(Notice::LetGo { slot: slot.number(), report, sagas });
    match open {
        Ok(open) if open.is_empty() => Event::LetGo(slot),
        Ok(sagas) => Event::LeftOpen(slot, Left { sagas, newest, pause, at: Instant::now() }),
        Err(e) => Event::Failed(slot, e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Keeping;
    use crate::log::tests::cut_disk::CutDisk;
    use crate::saga::Event as Happens;
    use crate::saga::tests::begun;

    const PAUSE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn what_was_left_open_rests_until_it_is_due_or_anything_else_is_open() {
        let journal = CutDisk::default().journal();
        let saga = SagaId::generate();
        let log = log::take_over(journal.claim_free().unwrap(), Keeping::default()).unwrap().log;
        log.append(saga, [Happens::Begun(begun().into())]).unwrap();
        let slot = log.slot().clone();
        log.let_go();
        let found = log::find(journal.claim(&slot).unwrap().unwrap(), Keeping::default()).unwrap();
        let left = Instant::now();
        let left = |saga, newest| Left { sagas: HashSet::from([saga]), newest, pause: PAUSE, at: left };
        let rests = |saga, newest| left(saga, newest).rests(&found).is_some();
        let now = found.newest_segment();
        assert!(rests(saga, now) && rests(saga, now - 1) && !rests(SagaId::generate(), now));
        tokio::time::advance(PAUSE).await;
        assert!(!rests(saga, now), "it is due");
        let again = left(saga, now - 1).rests(&found).expect("another watch has just tried it");
        assert_eq!((again.newest, again.at), (now, Instant::now()), "it rests anew");
        tokio::time::advance(2 * HOLD_MAX).await;
        assert!(!rests(saga, now - 1), "somebody has had it for longer");
    }
}

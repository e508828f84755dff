//! Finishes what dead runners left, once.
//!
//! One rule: a saga that was going forward goes forward, past its deadline too, until every participant has answered
//! definitely; one that was turning back goes on turning back. An operator's [`Order`] can change that for all.

use std::collections::{HashMap, HashSet};
use std::ops::{ControlFlow, Deref};
use std::time::Duration;

use like_protocol::ids::SagaId;
use tokio::time::Instant;

use super::context::Context;
use super::drive::Order;
use super::run::Runner;
use crate::log::{self, Found, JournalError, SagaLog, Slot, Story, history};
use crate::saga::End;

/// What recovery found and did.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Report {
    /// Unfinished sagas of dead runners that were taken over.
    pub recovered: usize,
    /// Of those: completed by now.
    pub completed: usize,
    /// Of those: compensated by now.
    pub compensated: usize,
    /// Of those: neither, and not in need of an operator. Running recovery again goes on with them.
    pub unfinished: usize,
    /// Of those: in need of an operator.
    pub needs_attention: usize,
    /// Sagas whose record is damaged: nobody drives them until an operator forces an end.
    pub quarantined: usize,
    /// Slots that could not be used, and why: sagas may stand there that nobody finishes.
    pub unusable: Vec<(u32, String)>,
}

/// Takes over every slot whose runner is gone, and drives what is open there for at most `wait`.
///
/// Slots of live runners are left alone. What has ended is settled as well, if its participants answer in time.
///
/// # Errors
/// The journal can't be read. A slot that can't be used is counted, and costs no other.
pub async fn once(context: &Context, order: Order, wait: Duration) -> Result<Report, JournalError> {
    let (mut recoveries, mut report) = (Vec::new(), Report::default());
    for slot in context.journal.slots()? {
        match Recovery::start(context, &slot, order) {
            Ok(recovery) => recoveries.extend(recovery),
            Err(e) => {
                tracing::warn!(slot = slot.number(), "slot skipped: {e}");
                report.unusable.push((slot.number(), e.to_string()));
            }
        }
    }
    let until = Instant::now() + wait;
    futures::future::join_all(recoveries.iter().map(|recovery| recovery.wait(until))).await;
    for recovery in recoveries {
        recovery.let_go(until).await;
        if let (_, Err(e)) = recovery.tell(&mut report) {
            tracing::warn!(slot = recovery.log().slot().number(), "can't be read after recovery: {e}");
        }
    }
    Ok(report)
}

/// Sagas that were found, and how they have ended, if they have.
type Ends = Vec<(SagaId, Option<End>)>;

/// A runner that is held for one act or recovery: it lets go of its slot when that is over, or given up.
pub(super) struct Held(pub Runner);

impl Deref for Held {
    type Target = Runner;

    fn deref(&self) -> &Runner {
        &self.0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.let_go();
    }
}

/// The recovery of one slot.
pub(super) struct Recovery {
    runner: Held,
    /// What was unfinished when it began.
    found: Vec<SagaId>,
}

impl Recovery {
    /// Takes a slot over if its runner is gone and something is open in it.
    pub fn start(context: &Context, slot: &Slot, order: Order) -> Result<Option<Self>, JournalError> {
        let Some(lock) = context.journal.claim(slot)? else { return Ok(None) };
        let found = log::find(lock, context.options.keeping)?;
        if found.open().next().is_none() { Ok(None) } else { Self::of(context, found, order).map(Some) }
    }

    /// Takes over a slot in which something is open.
    pub fn of(context: &Context, found: Found, order: Order) -> Result<Self, JournalError> {
        let (runner, open) = Runner::over_found(context.clone(), found)?;
        let unended = |story: &&Story| story.state.as_ref().is_none_or(|state| state.ended().is_none());
        let found = open.iter().filter(unended).map(|story| story.saga).collect();
        runner.drive_all(open, order);
        Ok(Self { runner: Held(runner), found })
    }

    /// How many unfinished sagas were found.
    pub fn found(&self) -> usize {
        self.found.len()
    }

    /// The log of its slot.
    pub fn log(&self) -> &SagaLog {
        self.runner.log()
    }

    /// Waits until everything has ended and is settled, or all that is left needs an operator, or `until`.
    pub async fn wait(&self, until: Instant) {
        let done = async {
            if self.runner.idle_or_stuck().await {
                self.runner.settled().await;
            }
        };
        let _ = tokio::time::timeout_at(until, done).await;
    }

    /// Whether nothing is driven any more though the log goes on: what has not ended then can't be driven here.
    pub fn is_over(&self) -> bool {
        self.runner.inner.active.is_empty() && self.log().ended().is_none()
    }

    /// Lets go of the slot. What has ended gets a moment to be settled before.
    pub async fn let_go(&self, until: Instant) {
        let left = until.saturating_duration_since(Instant::now());
        let _ = tokio::time::timeout(left.min(Duration::from_secs(1)), self.runner.settled()).await;
        self.runner.let_go();
    }

    /// Tells where what was found stands now that the slot is let go, and what is open in it.
    pub fn tell(&self, report: &mut Report) -> (Ends, Result<HashSet<SagaId>, JournalError>) {
        report.recovered += self.found.len();
        let (stand, open) = match self.where_all_stand() {
            Ok((stand, open)) => (stand, Ok(open)),
            Err(e) => (HashMap::new(), Err(e)),
        };
        let ends = self.found.iter().map(|saga| {
            let stands = stand.get(saga).copied().unwrap_or(Stands::Unfinished);
            *match stands {
                Stands::Ended(End::Completed) => &mut report.completed,
                Stands::Ended(End::Compensated) => &mut report.compensated,
                Stands::Quarantined => &mut report.quarantined,
                Stands::NeedsAttention => &mut report.needs_attention,
                Stands::Unfinished => &mut report.unfinished,
            } += 1;
            let end = if let Stands::Ended(end) = stands { Some(end) } else { None };
            (*saga, end)
        });
        (ends.collect(), open)
    }

    /// Where the log says that what was found stands, and what is open by now. What was found was carried over, so older segments
    /// have nothing to say of it: there may be a week of them.
    fn where_all_stand(&self) -> Result<(HashMap<SagaId, Stands>, HashSet<SagaId>), JournalError> {
        let (since, mut stand, mut open) = (*self.log().segments().start(), HashMap::new(), HashSet::new());
        let attention_after = self.runner.context().options.attention_after;
        history::newest_first(self.log().slot(), |segment, is_head, read| {
            if is_head {
                (stand, open) = Default::default();
            } else if segment < since {
                return Ok(ControlFlow::Break(()));
            }
            read(&mut |story| {
                stand.entry(story.saga).or_insert_with(|| Stands::of(&story, attention_after));
                open.extend(story.is_open().then_some(story.saga));
            })?;
            Ok(ControlFlow::Continue(()))
        })?;
        Ok((stand, open))
    }
}

/// Where a saga stands.
#[derive(Clone, Copy)]
enum Stands {
    Ended(End),
    Quarantined,
    NeedsAttention,
    Unfinished,
}

impl Stands {
    fn of(story: &Story, attention_after: u32) -> Self {
        let state = story.state.as_ref();
        match state.and_then(|state| state.ended()) {
            Some(end) => Self::Ended(end),
            None if story.is_quarantined() => Self::Quarantined,
            None if state.is_some_and(|state| state.needs_attention(attention_after)) => Self::NeedsAttention,
            None => Self::Unfinished,
        }
    }
}

//! What an operator may do to one saga: retry it now, turn it back, or force its end.
//!
//! Every act takes the lock of the saga's slot: a saga is never driven from two logs. A live owner is named.

use std::time::Duration;

use like_protocol::ids::{SagaId, StepId};
use like_protocol::message::{Ending, Settlement};
use like_protocol::time::DEADLINE_AHEAD_MAX;
use tokio::time::Instant;

use super::context::{ATTEMPT_TIMEOUT, Context};
use super::drive::Order;
use super::recover::Held;
use super::run::Runner;
use super::settle;
use super::watch::HOLD_MAX;
use crate::log::disk::Directory;
use crate::log::{JournalError, LogEnded, Owner, Slot, SlotLock, Story, history, owner};
use crate::saga::settlement::settlements;
use crate::saga::{Action, Begun, End, Event, ParticipantAt, PlannedStep, SagaState};

/// How long a slot's lock is waited for: longer than anybody who recovers it holds it at a time, with the attempt at settling what
/// has ended that may follow.
const LOCK_PATIENCE: Duration =
    HOLD_MAX.saturating_add(ATTEMPT_TIMEOUT).saturating_add(Duration::from_secs(1));

/// How often a lock is tried meanwhile.
const LOCK_AGAIN: Duration = Duration::from_millis(20);

/// The longest reason that is kept with a forced end, in characters.
pub const REASON_CHARS_MAX: usize = 1000;

/// The kind under which a saga stands that was written only to force its end.
pub const ORPHAN_KIND: &str = "orphan";

/// Why an operator's act was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The journal can't be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// No saga of this id stands in the journal.
    #[error("no saga {0} stands in the journal")]
    NotFound(SagaId),
    /// A live process drives it.
    #[error("saga {saga} belongs to {}", owner_in_words(.owner.as_ref()))]
    Owned {
        /// Which saga.
        saga: SagaId,
        /// Whose it is, if the kernel shows it.
        owner: Option<Owner>,
    },
    /// It has ended: there is nothing left to do.
    #[error("saga {saga} has ended already: {}{end}", if *.by_force { "forced as " } else { "" })]
    Ended {
        /// Which saga.
        saga: SagaId,
        /// How.
        end: End,
        /// Whether by an operator's word.
        by_force: bool,
    },
    /// A forced end needs a reason of 1 to [`REASON_CHARS_MAX`] characters.
    #[error("a forced end needs a reason of 1 to {REASON_CHARS_MAX} characters")]
    BadReason,
    /// Its record is damaged: it can't be driven, only be given an end by force.
    #[error("saga {0} is quarantined: its record is damaged, and it can only be given an end by force")]
    Quarantined(SagaId),
    /// The log failed.
    #[error(transparent)]
    LogEnded(#[from] LogEnded),
}

fn owner_in_words(owner: Option<&Owner>) -> String {
    owner.map_or_else(|| "a live process that this one can't see".to_owned(), ToString::to_string)
}

/// A forced end.
#[derive(Clone, Debug)]
pub struct Forced {
    /// Whether the saga stood in the journal before. If not, all that is known of it is its id.
    pub known: bool,
    /// Where the saga stands; `None` if it had ended before and its participants were only told again.
    pub state: Option<SagaState>,
    /// Which invariants may be left broken.
    pub leaves_broken: Vec<String>,
    /// Whether every participant has confirmed the end. If not, recovery goes on telling them.
    pub settled: bool,
}

/// Tries a saga now, with a new deadline if it goes forward, and waits for its end for at most `wait`.
///
/// # Errors
/// See [`AdminError`].
pub async fn retry(context: &Context, saga: SagaId, wait: Duration) -> Result<SagaState, AdminError> {
    drive_one(context, saga, Order::Resume { timeout: wait }, wait).await
}

/// Turns a saga back, every step of it, and waits for its end for at most `wait`. This can take back something that
/// was acknowledged.
///
/// # Errors
/// See [`AdminError`].
pub async fn compensate(context: &Context, saga: SagaId, wait: Duration) -> Result<SagaState, AdminError> {
    drive_one(context, saga, Order::Compensate, wait).await
}

/// Forces a saga's end. The end is durable on return, and participants are told for at most `wait`.
///
/// Works on a saga that stands in no log or is quarantined too: every step it could have had is sealed at every
/// participant; not while a slot can't be read, where it may stand. Of those who do so at once, one writes its story. A saga that
/// had ended so before has its participants told again; while its owner lives and has not settled it, that is the owner's to do.
///
/// # Errors
/// See [`AdminError`].
pub async fn force(
    context: &Context,
    saga: SagaId,
    end: End,
    reason: String,
    wait: Duration,
) -> Result<Forced, AdminError> {
    if reason.trim().is_empty() || reason.chars().count() > REASON_CHARS_MAX {
        return Err(AdminError::BadReason);
    }
    let mut found = find(context, saga)?;
    let mut alone = None;
    if found.is_none() {
        // Whoever else ends it now has written so when this one looks again, or comes after it.
        alone = Some(lock_journal(context, saga).await?);
        found = find(context, saga)?;
    }
    let lock = match found {
        Some((slot, story)) if let Some(ended) = story.state.as_ref().and_then(SagaState::ended) => {
            if ended != end {
                refuse_ended(&story)?;
            }
            return tell_again(context, &slot, &story, wait).await;
        }
        Some((slot, _)) => Some(claim(context, &slot, saga).await?),
        None => None,
    };
    let known = lock.is_some();
    let (runner, open) = match lock {
        Some(lock) => Runner::over(context.clone(), lock)?,
        None => Runner::over_free(context)?,
    };
    let runner = Held(runner);
    let mut story = open.into_iter().find(|story| story.saga == saga);
    match &story {
        Some(story) => refuse_ended(story)?,
        // Its owner ended and settled it before it let go.
        None if known => return Err(ended_meanwhile(context, saga)),
        None => {}
    }
    if story.as_ref().is_none_or(|story| story.state.is_none()) {
        let begun = Event::Begun(orphan(context).into());
        runner.log().append(saga, [begun.clone()])?;
        story = Story::begin(saga, context.journal.disk().wall_ms(), begun);
    }
    let Some(mut story) = story else { return Err(AdminError::NotFound(saga)) };
    let leaves_broken = story.state.as_ref().map(|state| broken_by(state, end)).unwrap_or_default();
    let by_uid = context.origin.uid;
    let forced = Event::Forced { end, reason, by_uid, leaves_broken: leaves_broken.clone() };
    runner.force(&mut story, forced).await?;
    drop(alone);
    let settled = tokio::time::timeout(wait, runner.settled()).await.unwrap_or(false);
    Ok(Forced { known, state: story.state, leaves_broken, settled })
}

/// The slot and story of a saga that stands in the journal.
///
/// # Errors
/// The journal can't be read; or not all of it, and the saga is not found in the rest.
pub fn find(context: &Context, saga: SagaId) -> Result<Option<(Slot, Story)>, JournalError> {
    history::find(&context.journal, saga)
}

async fn drive_one(
    context: &Context,
    saga: SagaId,
    order: Order,
    wait: Duration,
) -> Result<SagaState, AdminError> {
    let (slot, story) = find(context, saga)?.ok_or(AdminError::NotFound(saga))?;
    refuse_undrivable(&story)?;
    let lock = claim(context, &slot, saga).await?;
    let (runner, open) = Runner::over(context.clone(), lock)?;
    let runner = Held(runner);
    // Its owner may have ended it before it let go.
    let story = open.into_iter().find(|story| story.saga == saga);
    let Some(story) = story else { return after(context, saga) };
    refuse_undrivable(&story)?;
    runner.drive_on(story, order);
    let settled = async {
        runner.idle().await;
        runner.settled().await;
    };
    let _ = tokio::time::timeout(wait, settled).await;
    drop(runner);
    after(context, saga)
}

fn after(context: &Context, saga: SagaId) -> Result<SagaState, AdminError> {
    let found = find(context, saga)?.and_then(|(_, story)| story.state);
    found.ok_or(AdminError::NotFound(saga))
}

fn ended_already(saga: SagaId, state: &SagaState) -> Option<AdminError> {
    state.ended().map(|end| AdminError::Ended { saga, end, by_force: state.forced() })
}

/// A saga that has ended is left as it is.
fn refuse_ended(story: &Story) -> Result<(), AdminError> {
    let ended = story.state.as_ref().and_then(|state| ended_already(story.saga, state));
    ended.map_or(Ok(()), Err)
}

/// Nor is one driven whose record is damaged.
fn refuse_undrivable(story: &Story) -> Result<(), AdminError> {
    refuse_ended(story)?;
    if story.is_quarantined() { Err(AdminError::Quarantined(story.saga)) } else { Ok(()) }
}

fn ended_meanwhile(context: &Context, saga: SagaId) -> AdminError {
    match after(context, saga) {
        Ok(state) => ended_already(saga, &state).unwrap_or(AdminError::NotFound(saga)),
        Err(e) => e,
    }
}

/// Waits a moment for the slot's lock, then names who holds it.
async fn claim(context: &Context, slot: &Slot, saga: SagaId) -> Result<SlotLock, AdminError> {
    wait_for(saga, || context.journal.claim(slot), || owner::owner_of(slot)).await
}

/// The same for the lock of who writes a saga that stands nowhere.
async fn lock_journal(context: &Context, saga: SagaId) -> Result<Box<dyn Directory>, AdminError> {
    let journal = &context.journal;
    wait_for(saga, || journal.lock(), || journal.disk().owner(journal.path())).await
}

async fn wait_for<T>(
    saga: SagaId,
    take: impl Fn() -> Result<Option<T>, JournalError>,
    owner: impl Fn() -> Option<Owner>,
) -> Result<T, AdminError> {
    let until = Instant::now() + LOCK_PATIENCE;
    loop {
        if let Some(lock) = take()? {
            return Ok(lock);
        }
        let owner = owner();
        // One that is stopped won't let go by itself.
        let in_vain = owner.as_ref().is_some_and(|owner| owner.stopped);
        if in_vain || Instant::now() >= until {
            return Err(AdminError::Owned { saga, owner });
        }
        tokio::time::sleep(LOCK_AGAIN).await;
    }
}

/// A saga of which only the id is known: any step of any kind, at any participant, may have been its own.
fn orphan(context: &Context) -> Begun {
    let mut roles: Vec<_> = context.participants.all().map(|remote| remote.role()).collect();
    roles.sort_unstable();
    let numbers = 0..context.definitions.steps_max();
    let steps = numbers.flat_map(|number| {
        roles.iter().enumerate().map(move |(participant, role)| PlannedStep {
            name: format!("step {number} at {role}").into(),
            participant: participant as u8,
            number: number as u8,
        })
    });
    Begun {
        kind: ORPHAN_KIND.into(),
        version: 0,
        params: Default::default(),
        steps: steps.collect(),
        participants: roles.iter().map(|role| ParticipantAt { role: (*role).into(), store: None }).collect(),
        // Its own deadline is not known, but lies no further ahead than this.
        deadline: context.clock.now().deadline_in(DEADLINE_AHEAD_MAX),
        by_uid: context.origin.uid,
    }
}

/// What is left broken if a saga that stands so counts as ended so.
fn broken_by(state: &SagaState, end: End) -> Vec<String> {
    // Anything may have happened behind what is known of it, but that what was undone is done again.
    let more_happened = state.quarantined.is_some() || state.begun.kind == ORPHAN_KIND;
    let steps = state.begun.steps.iter().zip(&state.steps).enumerate();
    let broken = steps.filter_map(|(number, (planned, step))| match (end, &step.action, step.compensated) {
        (End::Completed, Action::Done(_), false) if !more_happened => None,
        (End::Completed, _, _) => Some(format!("'{}' may not have been done", planned.name)),
        (End::Compensated, _, true) => None,
        (End::Compensated, ..) if more_happened || state.may_have_been_sent(number) => {
            Some(format!("'{}' may have been done and not undone", planned.name))
        }
        (End::Compensated, ..) => None,
    });
    broken.collect()
}

/// Participants may have forgotten, or been restored from a time before the end: they are told it again, as forced, and
/// whatever store they have now.
///
/// An end that is not known to be settled may not be durable yet: the slot is taken over first, which makes it so.
async fn tell_again(
    context: &Context,
    slot: &Slot,
    story: &Story,
    wait: Duration,
) -> Result<Forced, AdminError> {
    let (saga, Some(state)) = (story.saga, &story.state) else {
        return Err(AdminError::NotFound(story.saga));
    };
    let taken = if story.is_open() {
        let (runner, open) = Runner::over(context.clone(), claim(context, slot, saga).await?)?;
        open.iter().any(|open| open.saga == saga).then_some(Held(runner))
    } else {
        None
    };
    let told = told_again(context, saga, state)
        .into_iter()
        .map(|(participant, settlement)| settle::tell_once(context, participant, vec![settlement]));
    let told = tokio::time::timeout(wait, futures::future::join_all(told)).await;
    let settled = told.is_ok_and(|told| told.iter().all(|told| told.as_ref().is_ok_and(Vec::is_empty)));
    if let Some(runner) = taken.filter(|_| settled) {
        let settled = runner.log().append(saga, [Event::Settled])?;
        runner.log().written(settled).await?;
    }
    Ok(Forced { known: true, state: Some(state.clone()), leaves_broken: Vec::new(), settled })
}

/// What participants are told of an end that they may have been told before: every step of it, with the notes that
/// belong to it.
fn told_again(context: &Context, saga: SagaId, state: &SagaState) -> Vec<(ParticipantAt, Settlement)> {
    let definition = context.definition_of(&state.begun).map(AsRef::as_ref);
    let now = context.clock.now();
    let mut noted = settlements(saga, state, definition);
    let told = state.begun.steps.iter().map(|planned| {
        let role = state.begun.participants[usize::from(planned.participant)].role.clone();
        let id = StepId { saga, step: planned.number };
        let note = noted.iter_mut().find(|(_, settled)| settled.id == id).and_then(|(_, s)| s.note.take());
        let deadline = now.deadline_in(DEADLINE_AHEAD_MAX);
        (ParticipantAt { role, store: None }, Settlement { id, deadline, ending: Ending::Forced, note })
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::saga::tests::{begun, done, sent};

    #[test]
    fn what_stands_as_an_end_says_is_not_left_broken_by_it() {
        let mut state = SagaState::begin(begun().into());
        [sent(0, 1), done(0)].iter().for_each(|event| state.apply(event).unwrap());
        assert_eq!(broken_by(&state, End::Completed), ["'give' may not have been done"]);
        assert_eq!(broken_by(&state, End::Compensated), ["'take' may have been done and not undone"]);
    }
}

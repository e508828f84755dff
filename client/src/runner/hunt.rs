//! Finishes what a dead runner holds, when somebody waits for it: so a lock outlives its holder only until it is wanted.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use like_protocol::ids::SagaId;
use tokio::time::Instant;

use super::drive::Order;
use super::pace::SLOW;
use super::run::{Inner, Runner, lock};
use super::watch::HOLD_MAX;
use crate::log::{JournalError, Owner, Slot, Story, history, owner};

/// Looking through all slots costs some reading: one runner does it at most this often.
const PAUSE: Duration = Duration::from_millis(50);

/// How long a slot is left alone that it took over before, and in which there is nothing to do but to tell of ends: that may be in
/// vain.
const TOLD_LATELY: Duration = Duration::from_secs(2);

/// When a runner last looked.
#[derive(Default)]
pub(super) struct Hunt {
    last: Mutex<Option<Instant>>,
    /// When it last took over which slot.
    taken: Mutex<HashMap<u32, Instant>>,
    /// Who was found then to drive a saga that is waited for.
    found: Mutex<Option<(SagaId, Owner)>>,
}

impl Hunt {
    fn is_due(&self) -> bool {
        let mut last = lock(&self.last);
        let due = is_over(PAUSE, *last);
        if due {
            *last = Some(Instant::now());
        }
        due
    }

    /// Who was last found to drive it.
    fn found(&self, by: SagaId) -> Option<Owner> {
        lock(&self.found).as_ref().filter(|(saga, _)| *saga == by).map(|(_, owner)| owner.clone())
    }

    /// Whether it has left a slot alone for so long.
    fn has_left_alone(&self, slot: &Slot, pause: Duration) -> bool {
        is_over(pause, lock(&self.taken).get(&slot.number()).copied())
    }

    fn takes(&self, slot: &Slot) {
        lock(&self.taken).insert(slot.number(), Instant::now());
    }
}

fn is_over(pause: Duration, since: Option<Instant>) -> bool {
    since.is_none_or(|at| at.elapsed() >= pause)
}

/// Takes over every slot whose runner is gone and that has open sagas, and drives those in the background. If a live
/// runner drives saga `by`, that is named: also between two looks, since the next attempt may be the last.
pub(super) async fn finish_dead(runner: &Arc<Inner>, by: SagaId) -> Option<Owner> {
    if !runner.hunt.is_due() {
        return runner.hunt.found(by);
    }
    let hunter = Arc::clone(runner);
    let found = runner.context.in_background(move || search(&hunter, by)).await;
    let (taken, owner) = found.unwrap_or_else(|e| {
        tracing::error!("looking for dead runners' sagas failed: {e}");
        Default::default()
    });
    for (taken, open) in taken {
        tracing::info!(
            slot = taken.log().slot().number(),
            sagas = open.len(),
            "finishing what a dead runner left"
        );
        taken.drive_all(open, Order::GoOn);
        tokio::spawn(taken.close(HOLD_MAX));
    }
    *lock(&runner.hunt.found) = owner.clone().map(|owner| (by, owner));
    owner
}

type Taken = (Runner, Vec<Story>);

fn search(runner: &Inner, by: SagaId) -> (Vec<Taken>, Option<Owner>) {
    let mut taken = Vec::new();
    let mut owner = None;
    let slots = runner.context.journal.slots().unwrap_or_default();
    for slot in slots.iter().filter(|slot| *slot != runner.log.slot()) {
        match look_into(runner, slot, by) {
            Ok(Found::Dead(runner)) => taken.push(runner),
            Ok(Found::Alive(found)) => owner = found,
            Ok(Found::Nothing) => {}
            Err(e) => tracing::debug!(slot = slot.number(), "slot skipped: {e}"),
        }
    }
    (taken, owner)
}

enum Found {
    Nothing,
    Dead(Taken),
    Alive(Option<Owner>),
}

fn look_into(runner: &Inner, slot: &Slot, by: SagaId) -> Result<Found, JournalError> {
    let open = history::open_in(slot)?;
    if open.is_empty() {
        return Ok(Found::Nothing);
    }
    let drives_it = open.iter().any(|story| story.saga == by);
    let after = runner.context.options.attention_after;
    // What needs an operator, or can't be driven here, is tried again at a slow pace: by recovery, and by who waits for that
    // very saga.
    let is_in_vain = |story: &Story| match &story.state {
        Some(state) => state.needs_attention(after) || runner.context.is_foreign(story),
        None => true,
    };
    let has_ended = |story: &Story| story.state.as_ref().is_some_and(|state| state.ended().is_some());
    let is_stuck = open.iter().all(is_in_vain);
    if is_stuck && !drives_it {
        return Ok(Found::Nothing);
    }
    let pause = if is_stuck {
        SLOW
    } else if open.iter().all(|story| has_ended(story) || is_in_vain(story)) {
        TOLD_LATELY
    } else {
        Duration::ZERO
    };
    if runner.hunt.has_left_alone(slot, pause)
        && let Some(lock) = runner.context.journal.claim(slot)?
    {
        runner.hunt.takes(slot);
        return Runner::over(runner.context.clone(), lock).map(Found::Dead);
    }
    Ok(if drives_it { Found::Alive(owner::owner_of(slot)) } else { Found::Nothing })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_looked_for_dead_runners_now_and_then_however_many_wait() {
        let hunt = Hunt::default();
        for _ in 0..3 {
            assert!(hunt.is_due() && !hunt.is_due() && !hunt.is_due());
            tokio::time::advance(PAUSE).await;
        }
    }
}

//! The sagas that a runner is driving: each in a task of its own, and where it stands. A saga that was taken over waits
//! for its turn without a task, since very many may have been.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use like_protocol::ids::SagaId;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::run::lock;
use crate::saga::SagaState;

/// The sagas that are being driven.
#[derive(Default)]
pub(super) struct Active {
    sagas: Mutex<Sagas>,
    /// Wakes those who wait until there is none.
    none_left: Notify,
    /// Wakes whoever waits for room.
    room: Notify,
}

#[derive(Default)]
struct Sagas {
    driven: HashMap<SagaId, Driven>,
    /// How many have a task that does not rest.
    under_way: usize,
    room_is_wanted: bool,
    /// Those who give sagas their turn.
    feeders: Vec<AbortHandle>,
}

struct Driven {
    state: Arc<Mutex<SagaState>>,
    /// None until it is its turn.
    task: Option<AbortHandle>,
    /// How many of its steps rest before they are tried again.
    resting: u8,
}

impl Active {
    /// A saga will be driven, but it is not its turn yet.
    pub fn enlist(&self, saga: SagaId, state: Arc<Mutex<SagaState>>) {
        lock(&self.sagas).driven.insert(saga, Driven { state, task: None, resting: 0 });
    }

    /// Drives a saga in a task, which says itself when it has [`ended`](Active::ended).
    pub fn drive(
        &self,
        saga: SagaId,
        state: Arc<Mutex<SagaState>>,
        driving: impl Future<Output = ()> + Send + 'static,
    ) {
        // Held until the saga stands in the map, which its task may otherwise find without it.
        let mut sagas = lock(&self.sagas);
        let task = Some(tokio::spawn(driving).abort_handle());
        sagas.driven.insert(saga, Driven { state, task, resting: 0 });
        sagas.under_way += 1;
    }

    /// Has enlisted sagas driven by a task that waits for [`room`](Active::room) for each.
    pub fn feed(&self, feeding: impl Future<Output = ()> + Send + 'static) {
        lock(&self.sagas).feeders.push(tokio::spawn(feeding).abort_handle());
    }

    /// Waits until fewer than so many sagas are under way.
    pub async fn room(&self, most: usize) {
        loop {
            let room = self.room.notified();
            {
                let mut sagas = lock(&self.sagas);
                if sagas.under_way < most {
                    return;
                }
                sagas.room_is_wanted = true;
            }
            room.await;
        }
    }

    /// A step of a saga rests before it is tried again: meanwhile there is room for another saga.
    pub fn rest(&self, saga: SagaId) -> Resting<'_> {
        self.change(|sagas| {
            let Some(driven) = sagas.driven.get_mut(&saga) else { return };
            driven.resting += 1;
            if driven.resting == 1 {
                sagas.under_way -= 1;
            }
        });
        Resting { active: self, saga }
    }

    /// A saga is driven no longer.
    pub fn ended(&self, saga: SagaId) {
        self.change(|sagas| {
            sagas.driven.remove(&saga);
            sagas.under_way -= 1;
        });
    }

    fn change(&self, change: impl FnOnce(&mut Sagas)) {
        let mut sagas = lock(&self.sagas);
        change(&mut sagas);
        if std::mem::take(&mut sagas.room_is_wanted) {
            self.room.notify_waiters();
        }
        if sagas.driven.is_empty() {
            self.none_left.notify_waiters();
        }
    }

    /// Whether only one is driven.
    pub fn is_one(&self) -> bool {
        lock(&self.sagas).driven.len() == 1
    }

    /// Waits until none is driven.
    pub async fn idle(&self) {
        loop {
            let none_left = self.none_left.notified();
            if lock(&self.sagas).driven.is_empty() {
                return;
            }
            none_left.await;
        }
    }

    /// Those that are driven right now, in their order, and where they stand.
    pub fn sagas(&self) -> Vec<(SagaId, SagaState)> {
        let sagas = lock(&self.sagas);
        let mut driven: Vec<_> =
            sagas.driven.iter().map(|(saga, it)| (*saga, lock(&it.state).clone())).collect();
        driven.sort_unstable_by_key(|(saga, _)| *saga);
        driven
    }

    /// Whether all have had their turn and stand so. It looks no further than the first that does not: there may be very many.
    pub fn all(&self, stands_so: impl Fn(&SagaState) -> bool) -> bool {
        lock(&self.sagas).driven.values().all(|it| it.task.is_some() && stands_so(&lock(&it.state)))
    }

    /// Stops driving all of them, wherever they stand.
    pub fn stop(&self) {
        let sagas = lock(&self.sagas);
        sagas.feeders.iter().for_each(AbortHandle::abort);
        sagas.driven.values().filter_map(|driven| driven.task.as_ref()).for_each(AbortHandle::abort);
    }
}

/// While it lives, a step of a saga rests.
pub(super) struct Resting<'a> {
    active: &'a Active,
    saga: SagaId,
}

impl Drop for Resting<'_> {
    fn drop(&mut self) {
        self.active.change(|sagas| {
            let Some(driven) = sagas.driven.get_mut(&self.saga) else { return };
            driven.resting -= 1;
            if driven.resting == 0 {
                sagas.under_way += 1;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::saga::tests::begun;

    fn saga(number: u8) -> SagaId {
        SagaId::from_bytes([number; 16])
    }

    fn state() -> Arc<Mutex<SagaState>> {
        Arc::new(Mutex::new(SagaState::begin(Arc::new(begun()))))
    }

    /// Whether there is room for one more than `under_way` that are under way at most.
    async fn has_room(active: &Active, most: usize) -> bool {
        tokio::time::timeout(std::time::Duration::from_secs(1), active.room(most)).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_saga_takes_room_while_it_is_under_way_and_none_while_it_waits_or_rests() {
        let active = Active::default();
        active.enlist(saga(1), state());
        assert!(has_room(&active, 1).await, "one that waits for its turn takes none");
        assert!(!active.all(|_| true), "it has not been tried yet, however it stands");
        active.drive(saga(1), state(), std::future::pending());
        assert!(!has_room(&active, 1).await && has_room(&active, 2).await);
        assert!(active.all(|_| true));
        let (one, other) = (active.rest(saga(1)), active.rest(saga(1)));
        assert!(has_room(&active, 1).await);
        drop(one);
        assert!(has_room(&active, 1).await, "another step of it rests");
        drop(other);
        assert!(!has_room(&active, 1).await);
        active.ended(saga(1));
        assert!(has_room(&active, 1).await);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_room_gets_it_when_a_saga_ends_or_rests() {
        let active = Arc::new(Active::default());
        for number in 1..=2 {
            active.drive(saga(number), state(), std::future::pending());
        }
        for free in [
            |active: &Active| active.ended(saga(1)),
            |active: &Active| {
                std::mem::forget(active.rest(saga(2)));
            },
        ] {
            active.drive(saga(3), state(), std::future::pending());
            let waiting = Arc::clone(&active);
            let waiting = tokio::spawn(async move { waiting.room(3).await });
            tokio::task::yield_now().await;
            assert!(!waiting.is_finished());
            free(&active);
            tokio::time::timeout(std::time::Duration::from_secs(1), waiting).await.unwrap().unwrap();
            active.ended(saga(3));
            active.drive(saga(1), state(), std::future::pending());
        }
    }
}

//! The sagas that a runner is driving, and where each stands. Those that go with others have one task together, the rest one each. A
//! saga that was taken over waits for its turn without a task, since very many may have been.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use foldhash::HashMap;
use like_protocol::ids::SagaId;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::{AbortHandle, JoinSet};

use super::run::lock;
use crate::saga::SagaState;

/// Where a saga stands: changed by whoever drives it, and looked at by others. What is told of its end, and settled, shares it.
pub(super) type Standing = Arc<Mutex<Arc<SagaState>>>;

/// The sagas that are being driven.
#[derive(Default)]
pub(super) struct Active {
    sagas: Mutex<Sagas>,
    /// Wakes those who wait until there is none.
    none_left: Notify,
}

#[derive(Default)]
struct Sagas {
    driven: HashMap<SagaId, Driven>,
    /// Those that look after several: drive them, or give them their turns.
    tasks: JoinSet<()>,
}

struct Driven {
    state: Standing,
    /// None until it is its turn.
    task: Option<AbortHandle>,
    /// None if it needs none, and once it is over.
    turn: Option<Turn>,
}

impl Active {
    /// A saga will be driven, but it is not its turn yet.
    pub fn enlist(&self, saga: SagaId, state: Standing) {
        lock(&self.sagas).driven.insert(saga, Driven { state, task: None, turn: None });
    }

    /// Drives a saga in a task, which says itself when it has [`ended`](Active::ended).
    pub fn drive(
        &self,
        saga: SagaId,
        state: Standing,
        turn: Option<Turn>,
        driving: impl Future<Output = ()> + Send + 'static,
    ) {
        // Held until the saga stands in the map, which its task may otherwise find without it.
        let mut sagas = lock(&self.sagas);
        let task = Some(tokio::spawn(driving).abort_handle());
        sagas.driven.insert(saga, Driven { state, task, turn });
    }

    /// Has enlisted sagas looked after by one task: driven, or given their turns.
    pub fn look_after(&self, looking_after: impl Future<Output = ()> + Send + 'static) {
        let tasks = &mut lock(&self.sagas).tasks;
        while tasks.try_join_next().is_some() {}
        tasks.spawn(looking_after);
    }

    /// A saga rests before it tries a step again: its turn is over.
    pub fn rests(&self, saga: SagaId) {
        lock(&self.sagas).driven.get_mut(&saga).and_then(|driven| driven.turn.take());
    }

    /// These sagas are driven no longer.
    pub fn ended(&self, ended: impl IntoIterator<Item = SagaId>) {
        let mut sagas = lock(&self.sagas);
        for saga in ended {
            sagas.driven.remove(&saga);
        }
        if sagas.driven.is_empty() {
            self.none_left.notify_waiters();
        }
    }

    /// Whether so many are driven.
    pub fn are(&self, many: usize) -> bool {
        lock(&self.sagas).driven.len() == many
    }

    /// Whether none is driven.
    pub fn is_empty(&self) -> bool {
        lock(&self.sagas).driven.is_empty()
    }

    /// Waits until none is driven.
    pub async fn idle(&self) {
        loop {
            let none_left = self.none_left.notified();
            if self.is_empty() {
                return;
            }
            none_left.await;
        }
    }

    /// Those that are driven right now, in their order, and where they stand.
    pub fn sagas(&self) -> Vec<(SagaId, SagaState)> {
        let sagas = lock(&self.sagas);
        let mut driven: Vec<_> =
            sagas.driven.iter().map(|(saga, it)| (*saga, SagaState::clone(&lock(&it.state)))).collect();
        driven.sort_unstable_by_key(|(saga, _)| *saga);
        driven
    }

    /// Whether there are any, and all have had their turn and stand so. It looks no further than the first that does not: there
    /// may be very many.
    pub fn all(&self, stands_so: impl Fn(&SagaState) -> bool) -> bool {
        let had_its_turn = |it: &Driven| it.task.is_some() && it.turn.is_none();
        let driven = &lock(&self.sagas).driven;
        !driven.is_empty() && driven.values().all(|it| had_its_turn(it) && stands_so(&lock(&it.state)))
    }

    /// Stops driving all of them, wherever they stand.
    pub fn stop(&self) {
        let mut sagas = lock(&self.sagas);
        sagas.tasks.abort_all();
        sagas.driven.values().filter_map(|driven| driven.task.as_ref()).for_each(AbortHandle::abort);
    }
}

/// A saga's turn, from when it begins to be driven until it first rests or ends.
pub(super) type Turn = OwnedSemaphorePermit;

/// Gives sagas their turns, so many at a time.
pub(super) struct Turns {
    most: usize,
    free: Arc<Semaphore>,
    /// When not one of those turns is over after this time, all who have them wait for a service that hangs.
    patience: Duration,
}

impl Turns {
    pub fn new(most: usize, patience: Duration) -> Self {
        Self { most, free: Arc::new(Semaphore::new(most)), patience }
    }

    /// Waits until there is one. Those who hang hold up nobody else: their turns don't count any more.
    pub async fn next(&mut self) -> Turn {
        loop {
            match tokio::time::timeout(self.patience, Arc::clone(&self.free).acquire_owned()).await {
                Ok(Ok(turn)) => return turn,
                _ => self.free = Arc::new(Semaphore::new(self.most)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::saga::tests::begun;

    const PATIENCE: Duration = Duration::from_secs(1);

    fn saga(number: u8) -> SagaId {
        SagaId::from_bytes([number; 16])
    }

    fn state() -> Standing {
        Arc::new(Mutex::new(Arc::new(SagaState::begin(Arc::new(begun())))))
    }

    /// Whether there is a turn without anybody's hanging.
    async fn is_free(turns: &mut Turns) -> Option<Turn> {
        tokio::time::timeout(PATIENCE / 2, turns.next()).await.ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_is_over_when_its_saga_first_rests_or_ends() {
        let (active, mut turns) = (Active::default(), Turns::new(1, PATIENCE));
        for is_over in [Active::rests, |active: &Active, saga| active.ended([saga])] {
            active.drive(saga(1), state(), is_free(&mut turns).await, std::future::pending());
            assert!(is_free(&mut turns).await.is_none());
            is_over(&active, saga(1));
        }
        assert!(is_free(&mut turns).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn however_a_saga_stands_it_is_looked_at_only_once_its_turn_is_over() {
        let (active, mut turns) = (Active::default(), Turns::new(1, PATIENCE));
        active.enlist(saga(1), state());
        assert!(!active.all(|_| true), "it has not been tried yet");
        active.drive(saga(1), state(), is_free(&mut turns).await, std::future::pending());
        assert!(!active.all(|_| true), "nothing has come of it yet");
        active.rests(saga(1));
        assert!(active.all(|_| true) && !active.all(|_| false));
        active.ended([saga(1)]);
        assert!(!active.all(|_| true), "none is left: who has just ended was not waited for in vain");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_gets_a_turn_any_more_once_all_are_stopped() {
        let active = Active::default();
        let (feeding, stopped) = tokio::sync::oneshot::channel::<()>();
        active.look_after(async move {
            let _feeding = feeding;
            std::future::pending().await
        });
        active.stop();
        assert!(tokio::time::timeout(PATIENCE, stopped).await.unwrap().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn who_hangs_holds_up_nobody_for_longer_than_a_while() {
        let (mut turns, began) = (Turns::new(2, PATIENCE), tokio::time::Instant::now());
        let hung = (turns.next().await, turns.next().await);
        let (third, fourth) = (turns.next().await, turns.next().await);
        assert_eq!(began.elapsed().as_secs(), 1);
        drop(hung);
        assert!(is_free(&mut turns).await.is_none(), "a turn that doesn't count makes room for another");
        drop(third);
        assert!(is_free(&mut turns).await.is_some());
        drop(fourth);
    }
}

//! The sagas that a runner is driving: each in a task of its own, and where it stands.

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
    driven: Mutex<HashMap<SagaId, Driven>>,
    /// Wakes those who wait until there is none.
    none_left: Notify,
}

struct Driven {
    state: Arc<Mutex<SagaState>>,
    task: AbortHandle,
}

impl Active {
    /// Drives a saga in a task, which says itself when it has [`ended`](Active::ended).
    pub fn drive(
        &self,
        saga: SagaId,
        state: Arc<Mutex<SagaState>>,
        driving: impl Future<Output = ()> + Send + 'static,
    ) {
        // Held until the saga stands in the map, which its task may otherwise find without it.
        let mut driven = lock(&self.driven);
        let task = tokio::spawn(driving).abort_handle();
        driven.insert(saga, Driven { state, task });
    }

    /// A saga is driven no longer.
    pub fn ended(&self, saga: SagaId) {
        let mut driven = lock(&self.driven);
        driven.remove(&saga);
        if driven.is_empty() {
            self.none_left.notify_waiters();
        }
    }

    /// Whether only one is driven.
    pub fn is_one(&self) -> bool {
        lock(&self.driven).len() == 1
    }

    /// Waits until none is driven.
    pub async fn idle(&self) {
        loop {
            let none_left = self.none_left.notified();
            if lock(&self.driven).is_empty() {
                return;
            }
            none_left.await;
        }
    }

    /// Those that are driven right now, in their order, and where they stand.
    pub fn sagas(&self) -> Vec<(SagaId, SagaState)> {
        let driven = lock(&self.driven);
        let mut sagas: Vec<_> = driven.iter().map(|(saga, it)| (*saga, lock(&it.state).clone())).collect();
        sagas.sort_unstable_by_key(|(saga, _)| *saga);
        sagas
    }

    /// Whether all that are driven stand so. It looks no further than the first that does not: there may be very many.
    pub fn all(&self, stands_so: impl Fn(&SagaState) -> bool) -> bool {
        lock(&self.driven).values().all(|driven| stands_so(&lock(&driven.state)))
    }

    /// Stops driving all of them, wherever they stand.
    pub fn stop(&self) {
        lock(&self.driven).values().for_each(|driven| driven.task.abort());
    }
}

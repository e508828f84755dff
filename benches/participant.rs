//! A group of requests at the user service, decided and put into a store in memory.

use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput};
use like_daemon::likes::user::Users;
use like_daemon::participant::{Moment, Participant};
use like_daemon::store::{Batch, MemoryStore, Store, Tx};
use like_protocol::codec;
use like_protocol::ids::{BootId, SagaId, StepId};
use like_protocol::likes::user::{LikeTarget, UserOperation};
use like_protocol::likes::{ArticleId, UserId};
use like_protocol::message::{Direction, Ending, ReplyBody, RequestBody, Settlement, StepRequest};
use like_protocol::time::Now;

/// How many sagas' requests are in a group.
pub const GROUP: u64 = 64;

const NOW: Now = Now { boot: BootId::from_bytes([1; 16]), at_ms: 100_000 };

/// The second steps of so many likes.
pub fn steps(likes: u64) -> Vec<StepRequest> {
    let step = |number: u64| {
        let target =
            LikeTarget { user: UserId(1000 + number), article: ArticleId(1 + number % 16), key: None };
        StepRequest {
            id: StepId { saga: SagaId::generate(), step: 1 },
            direction: Direction::Action,
            deadline: NOW.deadline_in(Duration::from_secs(10)),
            operation: codec::encode(&UserOperation::CreateLike(target)).expect("bytes"),
        }
    };
    (0..likes).map(step).collect()
}

/// A user service with nothing in it.
#[derive(Clone)]
pub struct Service {
    participant: Participant<Users>,
    store: MemoryStore,
}

impl Service {
    pub fn new() -> Self {
        let mut store = MemoryStore::default();
        let participant = Participant::open(Users, &mut store, &NOW).expect("a participant");
        Self { participant, store }
    }

    /// Decides a group; what it changes.
    pub fn decide(&mut self, group: Vec<RequestBody>) -> Batch {
        let moment = Moment { now: NOW, storage_low: false };
        let mut tx = Tx::new(&self.store);
        for body in group {
            let reply = self.participant.evaluate(&mut tx, &moment, body).expect("a reply");
            assert!(matches!(reply, ReplyBody::Step(_) | ReplyBody::Settled), "{reply:?}");
        }
        self.participant.end_group(&mut tx, &moment).expect("the end of a group");
        tx.into_batch()
    }

    fn apply(&mut self, batch: Batch) {
        self.store.apply(batch).expect("a change");
        self.store.sync().expect("a sync");
    }
}

pub fn bench(criterion: &mut Criterion) {
    let steps = steps(GROUP);
    let actions: Vec<_> = steps.iter().cloned().map(RequestBody::Step).collect();
    let settled = steps.iter().map(|step| {
        let (id, deadline) = (step.id, step.deadline);
        Settlement { id, deadline, ending: Ending::Natural, note: None }
    });
    let settle = vec![RequestBody::Settle(settled.collect())];
    let fresh = Service::new();
    let mut acted = fresh.clone();
    let batch = acted.decide(actions.clone());
    acted.apply(batch);

    let mut group = criterion.benchmark_group("participant");
    group.throughput(Throughput::Elements(GROUP));
    let mut of = |name: &str, service: &Service, requests: &[RequestBody]| {
        let input = || (service.clone(), requests.to_vec());
        group.bench_function(name, |b| {
            b.iter_batched(
                input,
                |(mut service, requests)| {
                    let batch = service.decide(requests);
                    service.apply(batch);
                    service
                },
                BatchSize::SmallInput,
            );
        });
    };
    of("64 likes", &fresh, &actions);
    of("64 likes, a second time", &acted, &actions);
    of("64 settlements", &acted, &settle);
    group.finish();
}

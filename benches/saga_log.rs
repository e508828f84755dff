//! The saga log: the records of likes written, made durable, and read again.

use std::path::Path;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use like_client::likes::acts::LIKE;
use like_client::log::{self, Journal, Keeping, SagaLog, history};
use like_client::saga::{Begun, End, Event, ParticipantAt, PlannedStep};
use like_protocol::codec;
use like_protocol::ids::{BootId, SagaId, StoreId};
use like_protocol::likes::user::LikeTarget;
use like_protocol::likes::{ARTICLE_ROLE, ArticleId, USER_ROLE, UserId};
use like_protocol::time::Now;

/// How many sagas are read again.
const SAGAS: u64 = 10_000;

/// What a like that goes well leaves in the log.
fn events(number: u64) -> Vec<Event> {
    let target = LikeTarget { user: UserId(number), article: ArticleId(1 + number % 16), key: None };
    let stores = [(ARTICLE_ROLE, 1), (USER_ROLE, 2)];
    let participants = stores
        .map(|(role, id)| ParticipantAt { role: role.into(), store: Some(StoreId::from_bytes([id; 16])) });
    let steps = ["add like", "create like record"].iter().zip(0..).map(|(name, step)| PlannedStep {
        name: (*name).into(),
        participant: step,
        number: step,
    });
    let begun = Begun {
        kind: LIKE.kind.into(),
        version: 1,
        params: LIKE.params(&target).expect("parameters"),
        steps: steps.collect(),
        participants: participants.to_vec(),
        deadline: Now { boot: BootId::from_bytes([1; 16]), at_ms: 5 }.deadline_in(Duration::from_secs(10)),
        by_uid: 0,
    };
    let attempt = |step| {
        let reply = codec::encode(&[step; 16]).expect("bytes");
        [Event::ActionSent { step, attempt: 1 }, Event::ActionDone { step, reply }]
    };
    let steps = (0..2).flat_map(attempt);
    std::iter::once(Event::Begun(begun.into()))
        .chain(steps)
        .chain([Event::Ended(End::Completed), Event::Settled])
        .collect()
}

fn open(path: &Path, keeping: Keeping) -> SagaLog {
    let journal = Journal::open(path).expect("a journal");
    log::take_over(journal.claim_free().expect("a slot"), keeping).expect("a log").log
}

pub fn bench(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let directory = tempfile::tempdir().expect("a directory");
    let mut group = criterion.benchmark_group("saga log");
    {
        // What was measured long ago need not be kept.
        let log =
            open(&directory.path().join("written"), Keeping { own_segments_max: 1, ..Keeping::default() });
        let mut number = 0;
        let mut write = || {
            number += 1;
            let (saga, mut last) = (SagaId::generate(), log.appended());
            for event in events(number) {
                last = log.append(saga, [event]).expect("a record");
                runtime.block_on(log.written(last)).expect("a write");
            }
            last
        };
        group.throughput(Throughput::Elements(1));
        group.bench_function("the records of a like, each written", |b| b.iter(&mut write));
        group.bench_function("written and durable", |b| {
            b.iter(|| {
                let last = write();
                runtime.block_on(log.durable(last)).expect("a sync");
            });
        });
    }
    let path = directory.path().join("read");
    let log = open(&path, Keeping::default());
    for number in 0..SAGAS {
        // Of every second one nobody knows that it was settled.
        let events = events(number);
        let told = events.len() - (number % 2) as usize;
        log.append(SagaId::generate(), events.into_iter().take(told)).expect("records");
    }
    runtime.block_on(log.durable(log.appended())).expect("a sync");
    log.let_go();
    let slot = Journal::open(&path).and_then(|journal| journal.slots()).expect("slots").remove(0);
    group.throughput(Throughput::Elements(SAGAS));
    group.sample_size(10);
    group.bench_function("10,000 sagas read again", |b| {
        b.iter(|| history::newest_in(&slot, 0).expect("what was written"));
    });
    group.finish();
}

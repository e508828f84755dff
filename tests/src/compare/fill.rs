//! Fills a store with likes, faster than sagas do: each is a step that is run and settled by the real participant on the
//! real store, as a daemon would with groups that are always full, but without runner, log and sockets.

use std::path::Path;
use std::time::Duration;

use like_daemon::likes::article::Articles;
use like_daemon::likes::user::Users;
use like_daemon::participant::domain::Domain;
use like_daemon::participant::{COLLECTED_PER_GROUP_MAX, Moment, Participant};
use like_daemon::store::data_dir::DataDir;
use like_daemon::store::{LoggedStore, Store, Tx};
use like_protocol::codec;
use like_protocol::ids::{SagaId, StepId};
use like_protocol::likes::article::{ArticleCommand, ArticleOperation};
use like_protocol::likes::user::{LikeTarget, UserOperation};
use like_protocol::likes::{ArticleId, UserId};
use like_protocol::message::{
    Direction, Ending, Payload, ReplyBody, RequestBody, SETTLEMENTS_MAX, Settlement, StepReply, StepRequest,
};
use like_protocol::time::{BootClock, Clock};

use crate::sides::{ARTICLES, Targets};

/// How many steps one group runs.
const GROUP: u64 = 1024;

/// Deadlines: short, so that operation records go while the store is filled, as they would.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Makes both stores, with the likes of these numbers and the articles they are of.
pub fn fill(article: &Path, user: &Path, targets: Targets, likes: u64) {
    std::thread::scope(|both| {
        both.spawn(|| {
            let mut filling = Filling::begin(Articles, article);
            let articles = (1..=ARTICLES).map(|id| {
                let (id, title) = (Some(ArticleId(id)), format!("article {id}"));
                RequestBody::Command(encode(&ArticleCommand::Create { id, title }))
            });
            filling.group(filling.moment(), articles.collect());
            filling.likes(0, likes, |number| {
                encode(&ArticleOperation::AddLike(ArticleId(targets.of(number).0)))
            });
        });
        both.spawn(|| {
            let mut filling = Filling::begin(Users, user);
            filling.likes(1, likes, |number| {
                let (article, user) = targets.of(number);
                let target = LikeTarget { user: UserId(user), article: ArticleId(article), key: None };
                encode(&UserOperation::CreateLike(target))
            });
        });
    });
}

fn encode<T: serde::Serialize>(value: &T) -> Payload {
    codec::encode(value).expect("it can be encoded")
}

/// A store that is being filled.
struct Filling<D: Domain> {
    participant: Participant<D>,
    store: LoggedStore,
    clock: BootClock,
}

impl<D: Domain> Filling<D> {
    fn begin(domain: D, path: &Path) -> Self {
        let data = DataDir::open(path, D::ROLE, false).expect("a data directory");
        let mut store = LoggedStore::open(data).expect("a store");
        let clock = BootClock::open().expect("a boot clock");
        let participant = Participant::open(domain, &mut store, &clock.now()).expect("a participant");
        Self { participant, store, clock }
    }

    /// Runs a step for each like, and settles it in the group after.
    fn likes(&mut self, step: u8, likes: u64, operation: impl Fn(u64) -> Payload) {
        let mut settle: Vec<Settlement> = Vec::new();
        for first in (0..likes).step_by(GROUP as usize) {
            let moment = self.moment();
            let deadline = moment.now.deadline_in(TIMEOUT);
            let mut group = Vec::new();
            group.extend(settle.chunks(SETTLEMENTS_MAX).map(|ended| RequestBody::Settle(ended.to_vec())));
            settle.clear();
            for number in first..likes.min(first + GROUP) {
                let id = StepId { saga: SagaId::generate(), step };
                let (direction, operation) = (Direction::Action, operation(number));
                group.push(RequestBody::Step(StepRequest { id, direction, deadline, operation }));
                settle.push(Settlement { id, deadline, ending: Ending::Natural, note: None });
            }
            self.group(moment, group);
        }
        self.group(
            self.moment(),
            settle.chunks(SETTLEMENTS_MAX).map(|ended| RequestBody::Settle(ended.to_vec())).collect(),
        );
    }

    fn moment(&self) -> Moment {
        Moment { now: self.clock.now(), storage_low: false }
    }

    fn group(&mut self, moment: Moment, group: Vec<RequestBody>) {
        let mut tx = Tx::new(&self.store);
        for body in group {
            let reply = self.participant.evaluate(&mut tx, &moment, body).expect("a reply");
            let done = matches!(
                reply,
                ReplyBody::Step(StepReply::Done(_)) | ReplyBody::Settled | ReplyBody::Answer(_)
            );
            assert!(done, "{reply:?}");
        }
        for _ in 0..=GROUP as usize / COLLECTED_PER_GROUP_MAX {
            self.participant.end_group(&mut tx, &moment).expect("the end of a group");
        }
        self.store.apply(tx.into_batch()).expect("a write");
        self.store.sync().expect("a sync");
    }
}

//! Sagas for tests of what is shown.

use like_protocol::codec;
use like_protocol::ids::{BootId, SagaId, StoreId};
use like_protocol::likes::article::ArticleReply;
use like_protocol::likes::user::LikeTarget;
use like_protocol::likes::{ArticleId, UserId};
use like_protocol::message::Payload;
use like_protocol::time::Deadline;

use super::SagaView;
use crate::likes;
use crate::likes::acts::LIKE;
use crate::log::{SagaRecord, Story};
use crate::saga::event::{Failure, FailureKind};
use crate::saga::{Begun, End, Event, ParticipantAt, PlannedStep, TurnBack};

/// The beginning of this user's like of article 1.
pub fn begun(user: u64) -> Event {
    let target = LikeTarget { user: UserId(user), article: ArticleId(1), key: None };
    let at =
        |role: &'static str| ParticipantAt { role: role.into(), store: Some(StoreId::from_bytes([1; 16])) };
    let step = |name: &'static str, number| PlannedStep { name: name.into(), participant: number, number };
    let begun = Begun {
        kind: LIKE.kind.into(),
        version: 1,
        params: LIKE.params(&target).unwrap(),
        participants: vec![at("article"), at("user")],
        steps: vec![step("add like", 0), step("create like record", 1)],
        deadline: Deadline { boot: BootId::from_bytes([1; 16]), at_ms: 1 },
        by_uid: 0,
    };
    Event::Begun(begun.into())
}

/// What is shown of a saga with these events, a millisecond apart.
pub fn view(events: Vec<Event>) -> SagaView {
    let saga = SagaId::from_bytes([7; 16]);
    let record = |(seq, event)| SagaRecord { saga, seq, at_ms: u64::from(seq), event };
    let story = Story::of((0..).zip(events).map(record).collect()).unwrap();
    SagaView::of(&story, &likes::definitions(), 5)
}

fn reply() -> Payload {
    codec::encode(&ArticleReply { likes: 1 }).unwrap()
}

/// A failure of an attempt.
pub fn down() -> Failure {
    Failure { kind: FailureKind::NotSent, detail: "it is down".to_owned() }
}

/// A like that has completed.
pub fn completed() -> Vec<Event> {
    vec![
        begun(7),
        Event::ActionSent { step: 0, attempt: 1 },
        Event::ActionDone { step: 0, reply: reply() },
        Event::ActionSent { step: 1, attempt: 1 },
        Event::ActionDone { step: 1, reply: Payload::default() },
        Event::Ended(End::Completed),
    ]
}

/// A like whose user service is down.
pub fn turning_back() -> Vec<Event> {
    vec![
        begun(7),
        Event::ActionSent { step: 0, attempt: 1 },
        Event::ActionDone { step: 0, reply: reply() },
        Event::ActionFailed { step: 1, failure: down() },
        Event::ActionFailed { step: 1, failure: down() },
        Event::TurnedBack(TurnBack::Deadline { step: 1 }),
    ]
}

/// The same in a later version of its kind, which is not known here.
pub fn foreign(events: Vec<Event>) -> Vec<Event> {
    let later = |event| match event {
        Event::Begun(begun) => Event::Begun(Begun { version: begun.version + 1, ..(*begun).clone() }.into()),
        event => event,
    };
    events.into_iter().map(later).collect()
}

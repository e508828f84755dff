//! Sagas for tests of what is shown.

use like_protocol::ids::{BootId, StoreId};
use like_protocol::likes::{ArticleId, UserId};
use like_protocol::time::Deadline;

use crate::likes::like::{KIND, LikeParams};
use crate::saga::{Begun, Event, ParticipantAt, PlannedStep};

/// The beginning of this user's like of article 1.
pub fn begun(user: u64) -> Event {
    let params = LikeParams { user: UserId(user), article: ArticleId(1), key: None };
    let at =
        |role: &'static str| ParticipantAt { role: role.into(), store: Some(StoreId::from_bytes([1; 16])) };
    let step = |name: &'static str, number| PlannedStep { name: name.into(), participant: number, number };
    let begun = Begun {
        kind: KIND.into(),
        version: 1,
        params: params.encode().unwrap(),
        participants: vec![at("article"), at("user")],
        steps: vec![step("add like", 0), step("create like record", 1)],
        deadline: Deadline { boot: BootId::from_bytes([1; 16]), at_ms: 1 },
        by_uid: 0,
    };
    Event::Begun(begun.into())
}

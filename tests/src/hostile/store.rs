//! Rows of a store: any bytes as they are, and any values with checksums that match.

use like_daemon::likes::article::Articles;
use like_daemon::likes::user::Users;
use like_daemon::participant::domain::Domain;
use like_daemon::participant::{Moment, Participant};
use like_daemon::store::seal::seal;
use like_daemon::store::{Batch, MemoryStore, Store, StoreError, Tx};
use like_protocol::codec;
use like_protocol::ids::{SagaId, StepId};
use like_protocol::likes::article::{ArticleOperation, ArticleQuery};
use like_protocol::likes::user::{CallerKey, LikeTarget, UserOperation, UserQuery};
use like_protocol::likes::{ArticleId, UserId};
use like_protocol::message::{
    Direction, Ending, Payload, ReplyBody, RequestBody, Settlement, StepRequest, UnsettledState,
};
use serde::Serialize;

use super::session::NOW;

/// Pieces of input are keys and values by turns. The first byte says whose rows they are, and whether their checksums
/// match: whatever they say, the store is refused with a reason or served, and every step can be ended by force.
pub fn store(data: &[u8]) {
    let Some((how, data)) = data.split_first() else { return };
    let pieces = super::pieces(data);
    let row = |pair: &[&[u8]]| {
        let value = if how & 2 == 0 { seal(pair[0], pair[1]) } else { pair[1].to_vec() };
        (pair[0].into(), Some(value))
    };
    let rows: Batch = pieces.chunks_exact(2).filter(|pair| !pair[0].is_empty()).map(row).collect();
    let rows = rows.into_iter().filter(|(key, _)| key[0] != u8::MAX).collect();
    if how & 1 == 0 { with(Articles, rows, articles()) } else { with(Users, rows, users()) }
}

fn payload<T: Serialize>(value: &T) -> Payload {
    codec::encode(value).expect("a small value")
}

fn articles() -> (Vec<Payload>, Payload) {
    let show = ArticleQuery::Show(ArticleId(1));
    let list = ArticleQuery::List { after: None, limit: 256 };
    (vec![payload(&show), payload(&list)], payload(&ArticleOperation::AddLike(ArticleId(1))))
}

fn users() -> (Vec<Payload>, Payload) {
    let (user, article) = (UserId(1), ArticleId(1));
    let key = Some(CallerKey(uuid::Uuid::from_bytes([1; 16])));
    let target = LikeTarget { user, article, key };
    let queries = [
        UserQuery::Standing(target),
        UserQuery::LikesOf { user, after: None, limit: 256 },
        UserQuery::LikersOf { article, after: None, limit: 256 },
        UserQuery::CountLikers { article, after: None },
        UserQuery::LikedArticles { after: None, limit: 256 },
        UserQuery::Standings(vec![target; 3]),
    ];
    (queries.iter().map(payload).collect(), payload(&UserOperation::CreateLike(target)))
}

fn with<D: Domain + Copy>(domain: D, rows: Batch, (queries, operation): (Vec<Payload>, Payload)) {
    let mut store = MemoryStore::default();
    store.apply(rows).expect("a store in memory does not fail");
    let mut participant = match Participant::open(domain, &mut store, &NOW) {
        Ok(participant) => participant,
        // Nothing but the store's own rows may stop it.
        Err(StoreError::Damaged(damage)) => {
            assert!((2..=4).contains(&damage.key[0]), "{damage}");
            return;
        }
        Err(failed) => panic!("{failed}"),
    };
    participant.look_through(&Tx::new(&store), 1000).expect("a store in memory does not fail");
    let moment = Moment { now: NOW, storage_low: false };
    let mut ask = |store: &mut MemoryStore, body| {
        let mut tx = Tx::new(store);
        let reply = participant.evaluate(&mut tx, &moment, body).expect("a store in memory does not fail");
        participant.end_group(&mut tx, &moment).expect("a store in memory does not fail");
        store.apply(tx.into_batch()).expect("a store in memory does not fail");
        reply
    };
    for query in queries {
        ask(&mut store, RequestBody::Query(query));
    }
    let deadline = NOW.deadline_in(std::time::Duration::from_secs(5));
    let mut ids = vec![StepId { saga: SagaId::from_bytes([1; 16]), step: 0 }];
    let ReplyBody::Unsettled(listed) = ask(&mut store, RequestBody::Unsettled { after: None, limit: 256 })
    else {
        panic!("no list");
    };
    ids.extend(listed.iter().map(|step| step.id));
    for id in ids {
        for direction in [Direction::Action, Direction::Compensation] {
            let operation = operation.clone();
            ask(&mut store, RequestBody::Step(StepRequest { id, direction, deadline, operation }));
        }
        let natural = Settlement { id, deadline, ending: Ending::Natural, note: None };
        match ask(&mut store, RequestBody::Settle(vec![natural])) {
            ReplyBody::Settled => {}
            ReplyBody::SettledBut(left) => assert!(left.len() == 1 && left[0].id == id, "{left:?}"),
            other => panic!("{other:?}"),
        }
        let forced = Settlement { id, deadline, ending: Ending::Forced, note: None };
        assert_eq!(ask(&mut store, RequestBody::Settle(vec![forced])), ReplyBody::Settled);
    }
    let ReplyBody::Unsettled(left) = ask(&mut store, RequestBody::Unsettled { after: None, limit: 256 })
    else {
        panic!("no list");
    };
    assert!(left.iter().all(|step| step.state != UnsettledState::Damaged), "{left:?}");
    Participant::open(domain, &mut store, &NOW).expect("it is served again");
}

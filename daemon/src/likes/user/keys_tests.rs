//! Keys against a reference that keeps them in a map.

use std::collections::{BTreeMap, BTreeSet};

use like_protocol::likes::user::{LikeTarget, UserOperation, UserReply};
use like_protocol::message::{Ending, ReplyBody, RequestBody, Settlement, StepReply};
use proptest::prelude::*;

use super::super::{LIKE, Users};
use super::*;
use crate::participant::harness::*;

#[derive(Clone, Copy, Debug)]
enum Event {
    /// A saga that is new asks for this.
    Act(KeyUse, LikeTarget),
    /// One of those that have done something, but have not ended, is undone.
    Undo(usize),
    /// One of them ends, and its caller is told of so many likes.
    Settle(usize, u64),
    Wait(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let usage = prop_oneof![Just(KeyUse::Like), Just(KeyUse::Unlike)];
    let key = prop::option::weighted(0.8, (0..16u128).prop_map(|key| CallerKey(Uuid::from_u128(key))));
    let target = (0..2u64, 0..8u64, key).prop_map(|(user, article, key)| LikeTarget {
        user: UserId(user),
        article: ArticleId(article),
        key,
    });
    prop_oneof![
        8 => (usage, target).prop_map(|(usage, target)| Event::Act(usage, target)),
        2 => any::<usize>().prop_map(Event::Undo),
        8 => (any::<usize>(), 0..9u64).prop_map(|(which, likes)| Event::Settle(which, likes)),
        1 => prop::sample::select(vec![1, KEY_KEPT_MS / 4, KEY_KEPT_MS - 1, KEY_KEPT_MS]).prop_map(Event::Wait),
    ]
}

/// A saga that has not ended.
#[derive(Clone, Copy)]
struct Open {
    number: u8,
    usage: KeyUse,
    target: LikeTarget,
    record: SagaId,
    is_undone: bool,
}

impl Open {
    fn operation(&self) -> UserOperation {
        operation(self.usage, self.target)
    }
}

fn operation(usage: KeyUse, target: LikeTarget) -> UserOperation {
    match usage {
        KeyUse::Like => UserOperation::CreateLike(target),
        KeyUse::Unlike => UserOperation::RemoveLike(target),
    }
}

#[derive(Default)]
struct Reference {
    now_ms: u64,
    likes: BTreeMap<(UserId, ArticleId), SagaId>,
    keys: BTreeMap<(UserId, CallerKey), (u64, FirstUse)>,
    open: Vec<Open>,
}

impl Reference {
    fn act(&mut self, number: u8, usage: KeyUse, target: LikeTarget) -> ReplyBody {
        let LikeTarget { user, article, key } = target;
        let of_user = || self.open.iter().filter(|open| open.target.user == user);
        let by_like = of_user().find(|open| open.target.article == article);
        let by_key = of_user().find(|open| key.is_some() && open.target.key == key);
        if let Some(open) = by_like.or(by_key) {
            return locked(open.number);
        }
        let first = key.and_then(|key| self.keys.get(&(user, key))).filter(|(until, _)| *until > self.now_ms);
        if let Some((_, first)) = first {
            return rejected(&UserRejection::KeyUsed(*first));
        }
        let record = match (usage, self.likes.get(&(user, article))) {
            (KeyUse::Like, None) => saga(number),
            (KeyUse::Like, Some(record)) => {
                return rejected(&UserRejection::AlreadyLiked { record: *record });
            }
            (KeyUse::Unlike, Some(record)) => *record,
            (KeyUse::Unlike, None) => return rejected(&UserRejection::NotLiked),
        };
        self.set(usage == KeyUse::Like, target, record);
        if let Some(key) = key {
            let first = FirstUse { usage, article, saga: saga(number), current_likes: None };
            self.keys.insert((user, key), (self.now_ms + KEY_KEPT_MS, first));
        }
        self.open.push(Open { number, usage, target, record, is_undone: false });
        done(&UserReply { record })
    }

    fn set(&mut self, liked: bool, target: LikeTarget, record: SagaId) {
        match liked {
            true => self.likes.insert((target.user, target.article), record),
            false => self.likes.remove(&(target.user, target.article)),
        };
    }

    /// What a saga says of its key, if the row is still its own.
    fn own(&mut self, open: &Open) -> Option<(UserId, CallerKey)> {
        let place = (open.target.user, open.target.key?);
        let (_, first) = self.keys.get(&place)?;
        (first.saga == saga(open.number)).then_some(place)
    }

    fn undo(&mut self, which: usize) {
        let open = self.open[which];
        if !open.is_undone {
            self.open[which].is_undone = true;
            self.set(open.usage == KeyUse::Unlike, open.target, open.record);
            self.own(&open).map(|place| self.keys.remove(&place));
        }
    }

    fn settle(&mut self, which: usize, likes: u64) {
        let open = self.open.remove(which);
        if !open.is_undone
            && let Some((_, first)) = self.own(&open).and_then(|place| self.keys.get_mut(&place))
        {
            first.current_likes = Some(likes);
        }
    }
}

/// The rows are those of the reference; of keys that are over some may have been swept out, with all that stands for them.
fn assert_rows(users: &Harness<Users>, reference: &Reference) {
    let (mut likes, mut keys, mut expiries, mut held) =
        (BTreeMap::new(), BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
    for (row, value) in users.domain_rows() {
        let user = u64::from_be_bytes(row[1..9].try_into().unwrap());
        match row[0] {
            LIKE => drop(likes.insert(row, value)),
            KEY => {
                let key = parse_key_row(&row).unwrap();
                let KeyRow { kept_until_ms, first } = KeyRow::load_all(&value).unwrap();
                keys.insert((UserId(user), key), (kept_until_ms, first));
            }
            EXPIRY => drop(expiries.insert(parse_expiry_row(&row).unwrap())),
            HELD => drop(held.insert(UserId(user), HeldKeys::load_all(&value).unwrap().0)),
            _ => {}
        }
    }
    let likes_expected = reference.likes.iter().map(|((user, article), record)| {
        (two_numbers(LIKE, user.0, article.0).to_vec(), record.as_bytes().to_vec())
    });
    assert_eq!(likes, likes_expected.collect());
    assert!(keys.iter().all(|(place, row)| reference.keys.get(place) == Some(row)), "{keys:?}");
    let live = reference.keys.iter().filter(|(_, (until, _))| *until > reference.now_ms);
    assert!(live.into_iter().all(|(place, _)| keys.contains_key(place)), "a key went too early");
    assert_eq!(expiries, keys.iter().map(|((user, key), (until, _))| (*until, *user, *key)).collect());
    let mut counted = BTreeMap::new();
    keys.keys().for_each(|(user, _)| *counted.entry(*user).or_default() += 1);
    assert_eq!(held, counted);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn keys_are_answered_and_kept_as_by_a_map(events in proptest::collection::vec(event(), 1..80)) {
        let (mut users, mut reference) = (Harness::new(Users), Reference::default());
        for (number, event) in (1..).zip(events) {
            let among = |which: usize| which.checked_rem(reference.open.len());
            match event {
                Event::Act(usage, target) => {
                    let expected = reference.act(number, usage, target);
                    prop_assert_eq!(users.act(number, &operation(usage, target)), expected);
                }
                Event::Undo(which) => if let Some(which) = among(which) {
                    let open = reference.open[which];
                    reference.undo(which);
                    prop_assert_eq!(users.undo(open.number, &open.operation()), ReplyBody::Step(StepReply::Undone));
                },
                Event::Settle(which, likes) => if let Some(which) = among(which) {
                    let note = Some(payload(&UserNote { current_likes: Some(likes) }));
                    let settlement = users.settlement(reference.open[which].number, Ending::Natural);
                    reference.settle(which, likes);
                    let settle = RequestBody::Settle(vec![Settlement { note, ..settlement }]);
                    prop_assert_eq!(users.ask(settle), ReplyBody::Settled);
                },
                Event::Wait(ms) => {
                    users.wait(ms);
                    reference.now_ms += ms;
                }
            }
            assert_rows(&users, &reference);
        }
    }
}

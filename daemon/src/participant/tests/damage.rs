//! Damage: every flip of every byte and every truncation of every stored value is found, and costs those alone who
//! need that row.

use like_protocol::likes::article::{Article, ArticleAnswer, ArticleQuery};
use like_protocol::likes::user::{CallerKey, Standing, UserAnswer, UserQuery};
use uuid::Uuid;

use super::*;
use crate::participant::domain::Domain;
use crate::store::{Damage, Found, MemoryStore, Store, seal};

type World<D> = (Harness<D>, Vec<Probe>);

/// A request whose answer is compared with the one that undamaged rows give.
struct Probe {
    /// What of the world it is about: damage to anything else must not show.
    about: Vec<Thing>,
    body: RequestBody,
}

/// What a row belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Thing {
    Saga(u8),
    Article(u64),
    User(u64),
    Store,
}
use Thing::{Article as OfArticle, Saga, User};

fn step_probe<O: serde::Serialize>(
    number: u8,
    direction: Direction,
    operation: &O,
    deadline: Deadline,
) -> RequestBody {
    RequestBody::Step(StepRequest { id: step(number), direction, deadline, operation: payload(operation) })
}

/// Every way in which a step can be asked for.
fn probes_of<D: Domain + Copy, O: serde::Serialize>(
    world: &Harness<D>,
    number: u8,
    operation: &O,
    about: &[Thing],
) -> Vec<Probe> {
    let deadline = world.within(10_000);
    let settle = |ending| RequestBody::Settle(vec![world.settlement(number, ending)]);
    let bodies = [
        step_probe(number, Direction::Action, operation, deadline),
        step_probe(number, Direction::Compensation, operation, deadline),
        settle(Natural),
        settle(Forced),
    ];
    let about = [&[Saga(number)], about].concat();
    bodies.into_iter().map(|body| Probe { about: about.clone(), body }).collect()
}

/// An article service on which everything has happened once.
fn article_world() -> World<Articles> {
    let mut world = articles();
    world.command(&ArticleCommand::Create { id: Some(ArticleId(2)), title: "two".to_owned() });
    let of = |article| ArticleOperation::AddLike(ArticleId(article));
    let done = [(1, 1), (2, 1), (3, 2), (4, 2), (5, 2)];
    for (number, article) in done {
        match number {
            4 => drop(world.undo(number, &of(article))),
            _ => drop(world.act(number, &of(article))),
        }
    }
    world.undo(3, &of(2));
    world.settle(1);
    world.reboot(2);
    world.act(6, &of(1));
    let mut probes = Vec::new();
    for (number, article) in done.into_iter().chain([(6, 1), (7, 1), (8, 2)]) {
        probes.extend(probes_of(&world, number, &of(article), &[OfArticle(article)]));
    }
    for id in [1, 2] {
        let body = RequestBody::Query(payload(&ArticleQuery::Show(ArticleId(id))));
        probes.push(Probe { about: vec![OfArticle(id)], body });
    }
    (world, probes)
}

fn key(number: u128) -> CallerKey {
    CallerKey(Uuid::from_u128(number))
}

pub(super) fn keyed(user: u64, article: u64, number: u128) -> LikeTarget {
    LikeTarget { key: Some(key(number)), ..target(user, article) }
}

/// A user service on which everything has happened once.
fn user_world() -> World<Users> {
    use UserOperation::{CreateLike, RemoveLike};
    let mut world = Harness::new(Users);
    let first = CreateLike(keyed(7, 1, 9));
    world.act(1, &first);
    world.settle(1);
    world.act(5, &like(10, 3));
    world.settle(5);
    world.reboot(2);
    let done = [
        (1, first),
        (2, CreateLike(keyed(8, 1, 4))),
        (3, like(9, 2)),
        (4, like(9, 3)),
        (6, RemoveLike(keyed(10, 3, 5))),
    ];
    world.act(2, &done[1].1);
    world.act(3, &done[2].1);
    world.undo(3, &done[2].1);
    world.undo(4, &done[3].1);
    world.act(6, &done[4].1);
    let mut probes = Vec::new();
    let new = [(11, like(11, 1)), (12, CreateLike(keyed(7, 2, 1))), (13, unlike(7, 1)), (14, like(8, 1))];
    for (number, operation) in done.into_iter().chain(new) {
        let (CreateLike(target) | RemoveLike(target)) = operation;
        probes.extend(probes_of(&world, number, &operation, &[User(target.user.0)]));
    }
    for user in 7..=11 {
        let standing = UserQuery::Standing(keyed(user, 1, 9));
        let likes = UserQuery::LikesOf { user: UserId(user), after: None, limit: PAGE_ROWS_MAX };
        for query in [standing, likes] {
            probes.push(Probe { about: vec![User(user)], body: RequestBody::Query(payload(&query)) });
        }
    }
    let both = [keyed(7, 1, 9), keyed(8, 1, 9)];
    let query = payload(&UserQuery::Standings(both.to_vec()));
    probes.push(Probe { about: vec![User(7), User(8)], body: RequestBody::Query(query) });
    (world, probes)
}

/// Which saga, article or user a row belongs to.
fn owner(domain: &str, key: &[u8]) -> Thing {
    let number = |at: usize| u64::from_be_bytes(key[at..at + 8].try_into().unwrap());
    match (domain, key[0]) {
        (_, 1) => Saga(key[1]),
        (_, 2..=4) => Thing::Store,
        ("article", _) => OfArticle(number(1)),
        (_, 0x11 | 0x13) => User(number(9)),
        _ => User(number(1)),
    }
}

fn rows(store: &MemoryStore) -> Vec<(Vec<u8>, Vec<u8>)> {
    store.rows().map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
}

/// Whether bytes are a whole value of `key`.
fn reads<D: Domain + Copy>(world: &Harness<D>, key: &[u8], bytes: Vec<u8>) -> bool {
    let Ok(value) = seal::open(key, bytes) else { return false };
    let found = Found { key: key.into(), value: Ok(value) };
    key[0] != 1 || Record::<D>::of(&found, &world.participant.boots).is_ok()
}

fn every_flip_and_every_truncation_is_found<D: Domain + Copy>(world: &Harness<D>) -> usize {
    let rows = rows(&world.store);
    let mut damages = 0;
    for (key, whole) in &rows {
        assert!(reads(world, key, whole.clone()));
        for at in 0..whole.len() {
            for mask in 1..=u8::MAX {
                let mut flipped = whole.clone();
                flipped[at] ^= mask;
                assert!(!reads(world, key, flipped), "{key:?}: byte {at} ^ {mask:02x}");
                damages += 1;
            }
            assert!(!reads(world, key, whole[..at].to_vec()), "{key:?}: cut to {at}");
            damages += 1;
        }
        for (_, foreign) in rows.iter().filter(|(other, _)| other != key) {
            assert!(!reads(world, key, foreign.clone()), "{key:?}: the value of another row");
            damages += 1;
        }
    }
    damages
}

#[test]
fn every_flip_and_every_truncation_of_every_value_is_found() {
    let damages = every_flip_and_every_truncation_is_found(&article_world().0)
        + every_flip_and_every_truncation_is_found(&user_world().0);
    println!("{damages} damaged values, all found");
    assert!(damages > 100_000, "{damages}");
}

/// Some damages to a value, of every sort.
fn damages(whole: &[u8], foreign: &[u8]) -> Vec<Vec<u8>> {
    let mut all = vec![Vec::new(), whole[..whole.len() - 1].to_vec(), foreign.to_vec()];
    for (at, mask) in [(0, 0x80), (whole.len() / 2, 1), (whole.len() - 1, 0xff)] {
        let mut flipped = whole.to_vec();
        flipped[at] ^= mask;
        all.push(flipped);
    }
    all
}

fn taken_up<D: Domain + Copy>(domain: D, world: &Harness<D>, store: MemoryStore) -> Harness<D> {
    let mut taken = Harness::of(domain, store, world.now);
    taken.participant.look_through(&Tx::new(&taken.store), usize::MAX).unwrap();
    taken
}

/// What an answer says apart from how many operation records are damaged.
fn without_unaccounted(reply: ReplyBody) -> ReplyBody {
    let ReplyBody::Answer(answer) = &reply else { return reply };
    if let Ok(ArticleAnswer::Article(article)) = codec::decode::<ArticleAnswer>(&answer.0) {
        return ReplyBody::Answer(payload(&ArticleAnswer::Article(Article { unaccounted: 0, ..article })));
    }
    reply
}

/// Whether an answer says that something is damaged.
fn confesses(reply: &ReplyBody) -> bool {
    match reply {
        ReplyBody::Damaged(_) | ReplyBody::SettledBut(_) => true,
        ReplyBody::Answer(answer) => match codec::decode::<UserAnswer>(&answer.0) {
            Ok(UserAnswer::Records(records)) => records.iter().any(|record| record.record.is_none()),
            _ => false,
        },
        _ => false,
    }
}

/// Damages every row in turn, asks everything, and returns how many answers were others than without the damage.
fn damage_costs_whoever_needs_the_row<D: Domain + Copy>(domain: D, (world, probes): &World<D>) -> usize {
    let whole = |probe: &Probe| {
        without_unaccounted(taken_up(domain, world, world.store.clone()).ask(probe.body.clone()))
    };
    let expected: Vec<_> = probes.iter().map(whole).collect();
    let rows = rows(&world.store);
    let mut confessed = 0;
    for (at, (key, value)) in rows.iter().enumerate() {
        let foreign = &rows[(at + 1) % rows.len()].1;
        for damaged in damages(value, foreign) {
            let mut store = world.store.clone();
            store.apply([(key.as_slice().into(), Some(damaged.clone()))].into()).unwrap();
            let owner = owner(D::ROLE, key);
            let known = taken_up(domain, world, store.clone()).participant.damaged();
            // The store's own rows are made up for at once; only a boot that others follow stays as it is.
            let stays = owner != Thing::Store || key[..] == [2, 0, 0, 0, 0];
            assert_eq!(known.0, u64::from(stays), "{key:?} {damaged:?}");
            for row in &known.1 {
                assert_eq!(row.row, Damage { key: key.as_slice().into(), why: Malformed("") }.row());
                let step = if let Saga(number) = owner { Some(step(number)) } else { None };
                assert_eq!(row.step, step);
                assert!(!row.what.contains("nobody knows"), "{row}");
            }
            for (probe, expected) in probes.iter().zip(&expected) {
                let reply = taken_up(domain, world, store.clone()).ask(probe.body.clone());
                if without_unaccounted(reply.clone()) == *expected {
                    continue;
                }
                let excused = probe.about.contains(&owner) && confesses(&reply)
                    || reveals_less(owner, &reply, expected);
                assert!(excused, "{:?} for damage to {owner:?}: {reply:?}, not {expected:?}", probe.body);
                confessed += 1;
            }
        }
    }
    confessed
}

/// A damaged record locks nothing and is not counted among those that touch something, once it is read anew.
fn reveals_less(owner: Thing, reply: &ReplyBody, expected: &ReplyBody) -> bool {
    let Saga(number) = owner else { return false };
    let was_locked = matches!(expected, ReplyBody::Step(StepReply::Locked { by }) if *by == saga(number));
    let (ReplyBody::Answer(said), ReplyBody::Answer(expected)) = (reply, expected) else { return was_locked };
    if let (Ok(ArticleAnswer::Article(said)), Ok(ArticleAnswer::Article(expected))) =
        (codec::decode(&said.0), codec::decode(&expected.0))
    {
        return said.unaccounted == 1
            && Article { unsettled: said.unsettled + 1, unaccounted: 1, ..said }
                == Article { unaccounted: 1, ..expected };
    }
    let (Ok(said), Ok(expected)) = (codec::decode::<UserAnswer>(&said.0), codec::decode(&expected.0)) else {
        return false;
    };
    let misses_the_lock = |said: &Standing, expected: &Standing| {
        expected.locked_by == Some(saga(number)) && said.locked_by.is_none()
    };
    match (said, expected) {
        (UserAnswer::Records(said), UserAnswer::Records(expected)) => {
            said.iter().zip(&expected).all(|(said, expected)| {
                said == expected || !said.pending && expected.record == Some(saga(number))
            })
        }
        (UserAnswer::Standing(said), UserAnswer::Standing(expected)) => misses_the_lock(&said, &expected),
        (UserAnswer::Standings(said), UserAnswer::Standings(expected)) => said
            .iter()
            .zip(&expected)
            .all(|(said, expected)| said == expected || misses_the_lock(said, expected)),
        _ => false,
    }
}

#[test]
fn damage_costs_those_alone_who_need_the_row() {
    let articles = damage_costs_whoever_needs_the_row(Articles, &article_world());
    let users = damage_costs_whoever_needs_the_row(Users, &user_world());
    println!("answers that say so: {articles} of the article service, {users} of the user service");
    assert!(articles > 100 && users > 100, "{articles} {users}");
}

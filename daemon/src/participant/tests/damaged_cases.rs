//! Damage, case by case: what a request is answered, what goes on, how it ends.

use like_protocol::likes::article::{ArticleAnswer, ArticleQuery, ListedArticle};
use like_protocol::likes::user::{LikerCount, UserAnswer, UserQuery};
use like_protocol::message::{DamagedRow, Unsettleable};

use super::damage::keyed;
use super::*;
use crate::participant::domain::Domain;
use crate::store::memory::Watched;
use crate::store::{Key, KeyRange, Store};

/// The damage under a key, as it is told.
fn damaged_row(reply: ReplyBody) -> DamagedRow {
    match reply {
        ReplyBody::Damaged(row) => *row,
        other => panic!("{other:?}"),
    }
}

fn damage<D: Domain + Copy>(world: &mut Harness<D>, key: &[u8]) {
    let mut value = world.store.get(key).unwrap().unwrap();
    *value.last_mut().unwrap() ^= 4;
    world.store_row(key.into(), value);
}

#[test]
fn a_damaged_record_is_never_taken_for_absent_and_goes_only_by_force() {
    for restarted in [false, true] {
        let mut articles = articles();
        articles.act(1, &ADD);
        articles.act(2, &ADD);
        damage(&mut articles, &record::key_of(&step(1)));
        if restarted {
            articles.restart();
        }
        let deadline = articles.within(10_000);
        for reply in [articles.act_by(1, &ADD, deadline), articles.undo_by(1, &ADD, deadline)] {
            let row = damaged_row(reply);
            assert_eq!((row.step, &row.what[..32]), (Some(step(1)), "the operation record of saga 010"));
        }
        articles.wait(20_000);
        assert!(matches!(articles.act_by(1, &ADD, deadline), ReplyBody::Damaged(_)), "past its deadline too");
        assert_eq!(likes(&mut articles), 2);

        let both = [1, 2, 1].map(|number| articles.settlement(number, Natural)).to_vec();
        let ReplyBody::SettledBut(left) = articles.ask(RequestBody::Settle(both)) else { panic!("settled") };
        assert!(matches!(&left[..], [Unsettleable { id, .. }] if *id == step(1)), "named once: {left:?}");
        let listed = articles.unsettled();
        let row = UnsettledStep { id: step(1), deadline: None, state: UnsettledState::Damaged };
        assert_eq!(listed, [row], "the other one is settled");

        let forced = articles.settlement(1, Forced);
        assert_eq!(articles.ask(RequestBody::Settle(vec![forced])), ReplyBody::Settled);
        assert_eq!(articles.participant.damaged(), (0, vec![]));
        assert!(articles.unsettled().is_empty() && articles.participant.holds.is_empty());
        let later = articles.within(10_000);
        assert_eq!(articles.act_by(1, &ADD, later), COMPENSATED, "a late copy finds the end");
        assert_eq!(likes(&mut articles), 2, "what it did stands");
        articles.wait(3_599_999);
        articles.ask(RequestBody::Settle(vec![]));
        assert_eq!(articles.records(), 1, "as long as any copy can be on its way");
        articles.wait(1);
        articles.ask(RequestBody::Settle(vec![]));
        assert_eq!(articles.records(), 0);
    }
}

/// An article whose one like was settled before its record was damaged.
fn damaged_behind_its_end() -> Harness<Articles> {
    let mut articles = articles();
    articles.act(1, &ADD);
    articles.settle(1);
    damage(&mut articles, &record::key_of(&step(1)));
    articles
}

#[test]
fn a_record_damaged_after_it_was_settled_is_never_forgotten() {
    let mut articles = damaged_behind_its_end();
    articles.wait(20_000);
    articles.act(2, &ADD);
    assert_eq!((articles.participant.damaged().0, articles.records()), (1, 2));
    articles.restart();
    assert_eq!((articles.participant.damaged().0, articles.participant.unsettled()), (1, 2));
}

#[test]
fn a_settled_record_that_is_replaced_by_force_waits_once_to_be_forgotten() {
    let mut articles = damaged_behind_its_end();
    damaged_row(articles.act(1, &ADD));
    let forced = articles.settlement(1, Forced);
    assert_eq!(articles.ask(RequestBody::Settle(vec![forced])), ReplyBody::Settled);
    assert_eq!((articles.participant.collectable(), articles.participant.unsettled()), (1, 0));
}

#[test]
fn a_look_through_the_rows_ends_where_it_is_told() {
    let mut articles = articles();
    let keys: Vec<_> = (0..=PAGE_ROWS as u64).map(|id| [&[0x10][..], &id.to_be_bytes()].concat()).collect();
    keys.iter().for_each(|key| articles.put_row(Key::from_slice(key), b"title".to_vec()));
    damage(&mut articles, &keys[PAGE_ROWS]);
    for (rows_max, found) in [(PAGE_ROWS, 0), (PAGE_ROWS + 1, 1)] {
        articles.participant.look_through(&Tx::new(&articles.store), rows_max).unwrap();
        assert_eq!(articles.participant.damaged().0, found, "{rows_max} rows");
    }
}

#[test]
fn what_a_damaged_record_held_is_locked_while_it_is_known_and_free_after_a_restart() {
    let mut users = Harness::new(Users);
    users.act(1, &like(7, 1));
    users.act(2, &like(8, 1));
    damage(&mut users, &record::key_of(&step(1)));
    damaged_row(users.act(1, &like(7, 1)));
    assert_eq!(users.act(3, &unlike(7, 1)), locked(1));
    users.restart();
    // Nothing can undo the like any more, so what is said of it now stays true.
    assert_eq!(users.act(3, &like(7, 1)), rejected(&UserRejection::AlreadyLiked { record: saga(1) }));
    assert_eq!(users.act(4, &unlike(8, 1)), locked(2), "other locks stand");
    let forced = users.settlement(1, Forced);
    users.ask(RequestBody::Settle(vec![forced]));
    assert_eq!(users.act(4, &unlike(8, 1)), locked(2));
}

#[test]
fn a_forced_end_of_a_damaged_step_does_not_depend_on_other_damage() {
    let mut users = Harness::new(Users);
    for number in 1..=3 {
        users.act(number, &like(u64::from(number), 1));
    }
    // Nobody has come upon either of them yet.
    damage(&mut users, &record::key_of(&step(1)));
    damage(&mut users, &record::key_of(&step(2)));
    let forced = users.settlement(1, Forced);
    assert_eq!(users.ask(RequestBody::Settle(vec![forced])), ReplyBody::Settled);
    let (rows, named) = users.participant.damaged();
    assert_eq!((rows, named[0].step), (1, Some(step(2))), "found on the way");
    assert_eq!(users.act(4, &unlike(3, 1)), locked(3), "other locks stand");
    assert_eq!(users.unsettled().len(), 2);
    let forced = users.settlement(2, Forced);
    assert_eq!(users.ask(RequestBody::Settle(vec![forced])), ReplyBody::Settled);
    users.settle(3);
    // From here on the harness compares what is in memory with what a restart finds.
    assert!(users.unsettled().is_empty() && users.participant.holds.is_empty());
}

#[test]
fn two_records_that_hold_the_same_are_damaged_and_stop_nobody() {
    let mut users = Harness::new(Users);
    users.act(1, &like(7, 1));
    users.act(2, &like(8, 1));
    let value = Tx::new(&users.store).get(&record::key_of(&step(1))).unwrap().unwrap();
    users.put_row(record::key_of(&step(3)), value);
    users.restart();
    assert_eq!(users.participant.damaged().1[0].step, Some(step(3)));
    assert!(matches!(users.undo(3, &like(7, 1)), ReplyBody::Damaged(_)));
    assert_eq!(users.undo(1, &like(7, 1)), UNDONE);
    let all = (1..=3).map(|number| users.settlement(number, Forced)).collect();
    assert_eq!(users.ask(RequestBody::Settle(all)), ReplyBody::Settled);
    assert!(users.participant.holds.is_empty() && users.unsettled().is_empty());
}

#[test]
fn no_count_is_repaired_while_it_is_not_known_what_is_in_flight() {
    let mut articles = articles();
    articles.act(1, &ADD);
    articles.settle(1);
    articles.act(2, &ADD);
    damage(&mut articles, &record::key_of(&step(2)));
    articles.restart();
    let repair = ArticleCommand::Repair { article: ArticleId(1), likes: 7, if_change: 2 };
    let unaccounted = ArticleRejection::Unaccounted(ArticleId(1));
    assert_eq!(articles.command(&repair), ReplyBody::Rejected(payload(&unaccounted)));
    let forced = articles.settlement(2, Forced);
    articles.ask(RequestBody::Settle(vec![forced]));
    assert!(matches!(articles.command(&repair), ReplyBody::Answer(_)));
    assert_eq!(likes(&mut articles), 7);
}

#[test]
fn lists_and_counts_name_what_is_damaged_and_show_the_rest() {
    let mut articles = articles();
    for id in [2, 3] {
        articles.command(&ArticleCommand::Create { id: Some(ArticleId(id)), title: "t".to_owned() });
    }
    for (tag, id) in [(0x11, 2u64), (0x10, 3)] {
        damage(&mut articles, &[&[tag], &id.to_be_bytes()[..]].concat());
    }
    let ReplyBody::Answer(page) = articles.query(&ArticleQuery::List { after: None, limit: 9 }) else {
        panic!("no page");
    };
    let ArticleAnswer::Page(page) = codec::decode(&page.0).unwrap() else { panic!("no page") };
    assert_eq!(page.iter().map(ListedArticle::id).collect::<Vec<_>>(), [1, 2, 3].map(ArticleId));
    for article in &page[1..] {
        assert!(matches!(article, ListedArticle::Damaged { why, .. } if why.contains("checksum")));
    }
    // Found by a list, it is known.
    let (_, named) = articles.participant.damaged();
    let named: Vec<_> = named.iter().map(|row| row.what.as_str()).collect();
    assert_eq!(named, ["the title of article 3", "the count of article 2"]);

    let mut users = Harness::new(Users);
    for user in 1..=4 {
        users.act(user as u8, &like(user, 1));
    }
    let ids =
        |tag: u8, first: u64, second: u64| [&[tag][..], &first.to_be_bytes(), &second.to_be_bytes()].concat();
    damage(&mut users, &ids(0x10, 2, 1));
    damage(&mut users, &ids(0x11, 1, 3));
    let answer = |users: &mut Harness<Users>, query| match users.query(&query) {
        ReplyBody::Answer(answer) => codec::decode(&answer.0).unwrap(),
        other => panic!("{other:?}"),
    };
    let counted = answer(&mut users, UserQuery::CountLikers { article: ArticleId(1), after: None });
    let count = LikerCount { records: 2, damaged: 2, more_after: None, unsettled: 4, unaccounted: 0 };
    assert_eq!(counted, UserAnswer::Count(count));
    let likers = answer(&mut users, UserQuery::LikersOf { article: ArticleId(1), after: None, limit: 9 });
    let UserAnswer::Records(likers) = likers else { panic!("{likers:?}") };
    assert_eq!(
        likers.iter().map(|liker| liker.record.is_some()).collect::<Vec<_>>(),
        [true, false, false, true]
    );
    let (rows, named) = users.participant.damaged();
    let named: Vec<_> = named.iter().map(|row| row.what.as_str()).collect();
    let names =
        ["the like record of user 2 on article 1", "the entry of user 3 among the likers of article 1"];
    assert_eq!((rows, &named[..]), (2, &names[..]));
}

#[test]
fn damaged_rows_of_other_users_keys_stand_in_nobodys_way() {
    let mut users = Harness::new(Users);
    for user in 1..=20u64 {
        users.act(user as u8, &UserOperation::CreateLike(keyed(user, 1, 9)));
        users.settle(user as u8);
    }
    let day = like_protocol::likes::user::KEY_KEPT_MS;
    for user in 1..=9u64 {
        let expiry = [&[0x13][..], &day.to_be_bytes(), &user.to_be_bytes(), &9u128.to_be_bytes()].concat();
        damage(&mut users, &expiry);
    }
    damage(&mut users, &[&[0x14][..], &12u64.to_be_bytes()].concat());
    users.wait(day);
    let swept =
        |users: &Harness<Users>| 20 - users.store.rows().filter(|(key, _)| key[0] == 0x12).count() as i64;
    let made = done(&UserReply { record: saga(21) });
    assert_eq!(users.act(21, &UserOperation::CreateLike(keyed(21, 1, 9))), made);
    assert_eq!(swept(&users), 8 - 1, "behind damaged rows too");
    assert_eq!(users.participant.damaged().0, 9, "the number of keys was counted anew, and said so");
}

#[test]
fn a_damaged_block_with_the_times_of_others_keys_stands_in_nobodys_way() {
    let mut users = Harness::new(Users);
    users.act(1, &UserOperation::CreateLike(keyed(1, 1, 9)));
    users.settle(1);
    users.wait(like_protocol::likes::user::KEY_KEPT_MS);
    // A block of rows is damaged: nothing in it can be read, and no range that reaches into it.
    let hole = KeyRange::prefix(&[0x13]);
    let damaged = || StoreError::damaged(&hole.from, Malformed("its block"));
    let sees = |key: &[u8]| if hole.has(key) { Err(damaged()) } else { Ok(()) };
    let holed = Watched { rows: users.store.clone(), sees };
    let (mut tx, moment) = (Tx::new(&holed), Moment { now: users.now, storage_low: false });
    let request = StepRequest {
        id: step(2),
        direction: Direction::Action,
        deadline: users.within(10_000),
        operation: payload(&UserOperation::CreateLike(keyed(2, 1, 9))),
    };
    let reply = users.participant.evaluate(&mut tx, &moment, RequestBody::Step(request)).unwrap();
    assert_eq!(reply, done(&UserReply { record: saga(2) }));
    assert_eq!(users.participant.damaged().0, 1, "it is named all the same");
}

#[test]
fn a_forced_end_goes_on_past_a_damaged_key() {
    let mut users = Harness::new(Users);
    let operation = UserOperation::CreateLike(keyed(7, 1, 9));
    users.act(1, &operation);
    damage(&mut users, &[&[0x12][..], &7u64.to_be_bytes(), &9u128.to_be_bytes()].concat());
    let note = Some(payload(&like_protocol::likes::user::UserNote { current_likes: Some(1) }));
    let natural = Settlement { note: note.clone(), ..users.settlement(1, Natural) };
    assert!(matches!(users.ask(RequestBody::Settle(vec![natural])), ReplyBody::SettledBut(_)));
    assert_eq!(users.unsettled().len(), 1, "its answer could not be kept, so it is not settled");
    let forced = Settlement { note, ..users.settlement(1, Forced) };
    assert_eq!(users.ask(RequestBody::Settle(vec![forced])), ReplyBody::Settled);
    assert!(users.unsettled().is_empty());
    assert!(matches!(users.act(2, &operation), ReplyBody::Damaged(_)), "the key itself can't be told");
}

#[test]
fn a_store_whose_running_time_is_lost_is_refused() {
    let mut users = Harness::new(Users);
    damage(&mut users, &[3]);
    users.restart();
    assert_eq!(users.participant.damaged().0, 0, "the copy made up for it");
    damage(&mut users, &[3]);
    damage(&mut users, &[4]);
    let refused = Participant::open(Users, &mut users.store, &users.now).err().unwrap();
    assert!(refused.to_string().contains("the row 03 is damaged"), "{refused}");
}

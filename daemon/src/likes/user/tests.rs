use like_protocol::codec;
use like_protocol::likes::user::{
    FirstUse, KEY_KEPT_MS, KEYS_PER_USER_MAX, LikeRecord, LikerCount, STANDINGS_MAX, Standing,
};
use like_protocol::message::{Ending, PAGE_ROWS_MAX, ReplyBody, RequestBody, Settlement, StepReply};
use uuid::Uuid;

use super::*;
use crate::participant::harness::*;

fn key(number: u128) -> Option<CallerKey> {
    Some(CallerKey(Uuid::from_u128(number)))
}

fn target(user: u64, article: u64, key: Option<CallerKey>) -> LikeTarget {
    LikeTarget { user: UserId(user), article: ArticleId(article), key }
}

fn like(user: u64, article: u64, key: Option<CallerKey>) -> UserOperation {
    UserOperation::CreateLike(target(user, article, key))
}

fn unlike(user: u64, article: u64, key: Option<CallerKey>) -> UserOperation {
    UserOperation::RemoveLike(target(user, article, key))
}

fn made(record: u8) -> ReplyBody {
    done(&UserReply { record: saga(record) })
}

fn used(usage: KeyUse, article: u64, by: u8, current_likes: Option<u64>) -> ReplyBody {
    let first = FirstUse { usage, article: ArticleId(article), saga: saga(by), current_likes };
    rejected(&UserRejection::KeyUsed(first))
}

fn settle_with_likes(users: &mut Harness<Users>, number: u8, current_likes: u64) {
    let note = Some(payload(&UserNote { current_likes: Some(current_likes) }));
    let settlement = Settlement { note, ..users.settlement(number, Ending::Natural) };
    assert_eq!(users.ask(RequestBody::Settle(vec![settlement])), ReplyBody::Settled);
}

fn asked(users: &mut Harness<Users>, query: &UserQuery) -> UserAnswer {
    match users.query(query) {
        ReplyBody::Answer(answer) => codec::decode(&answer.0).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn record(user: u64, article: u64, by: u8, pending: bool) -> LikeRecord {
    LikeRecord { record: Some(saga(by)), user: UserId(user), article: ArticleId(article), pending }
}

fn domain_rows(users: &Harness<Users>) -> Vec<(Vec<u8>, Vec<u8>)> {
    users.domain_rows()
}

#[test]
fn rows_are_pinned() {
    let mut users = Harness::new(Users);
    users.act(1, &like(7, 258, key(9)));
    settle_with_likes(&mut users, 1, 300);
    let (user, article, caller) = ([0, 0, 0, 0, 0, 0, 0, 7], [0, 0, 0, 0, 0, 0, 1, 2], 9u128.to_be_bytes());
    let until = KEY_KEPT_MS.to_be_bytes();
    let first = [&[2, 128, 184, 153, 41, 130, 2][..], &[1; 16], &[172, 2]].concat();
    let rows = [
        ([&[0x10][..], &user, &article].concat(), vec![1; 16]),
        ([&[0x11][..], &article, &user].concat(), vec![]),
        ([&[0x12][..], &user, &caller].concat(), first),
        ([&[0x13][..], &until, &user, &caller].concat(), vec![]),
        ([&[0x14][..], &user].concat(), vec![1]),
    ];
    assert_eq!(domain_rows(&users), rows);
}

#[test]
fn operations_and_replies_are_pinned() {
    let caller = 9u128.to_be_bytes();
    for (operation, golden) in [
        (like(7, 300, None), vec![0, 7, 172, 2]),
        (unlike(7, 300, None), vec![1, 7, 172, 2]),
        (like(7, 300, key(9)), [&[2, 7, 172, 2][..], &caller].concat()),
        (unlike(7, 300, key(9)), [&[3, 7, 172, 2][..], &caller].concat()),
    ] {
        assert_eq!(operation.stored(), golden);
        assert_eq!(UserOperation::load_all(&golden), Ok(operation));
    }
    assert_eq!(UserReply { record: saga(5) }.stored(), [5; 16]);
    assert!(UserOperation::load_all(&[4, 1, 1]).is_err());
}

#[test]
fn a_user_likes_an_article_at_most_once() {
    let mut users = Harness::new(Users);
    assert_eq!(users.act(1, &like(7, 1, None)), made(1));
    users.settle(1);
    assert_eq!(users.act(2, &like(7, 1, None)), rejected(&UserRejection::AlreadyLiked { record: saga(1) }));
    assert_eq!(users.act(3, &unlike(7, 2, None)), rejected(&UserRejection::NotLiked));
}

#[test]
fn undoing_a_removal_puts_back_the_very_same_record() {
    let mut users = Harness::new(Users);
    users.act(1, &like(7, 1, None));
    users.settle(1);
    let before = domain_rows(&users);
    assert_eq!(users.act(2, &unlike(7, 1, None)), made(1), "it answers which record it removed");
    assert!(domain_rows(&users).is_empty());
    users.undo(2, &unlike(7, 1, None));
    assert_eq!(domain_rows(&users), before);
}

#[test]
fn undoing_a_like_removes_every_row_of_it() {
    let mut users = Harness::new(Users);
    users.act(1, &like(7, 1, key(9)));
    users.undo(1, &like(7, 1, key(9)));
    assert!(domain_rows(&users).is_empty());
}

#[test]
fn what_was_changed_behind_a_lock_does_not_stop_an_undoing() {
    let mut users = Harness::new(Users);
    users.act(1, &like(7, 1, None));
    users.put_row(like_row(UserId(7), ArticleId(1)), RecordId(saga(5)).stored());
    assert_eq!(users.undo(1, &like(7, 1, None)), ReplyBody::Step(StepReply::Undone));
    assert_eq!(domain_rows(&users)[0].1, [5; 16], "another's record is left alone");
}

// Keys.

#[test]
fn a_retry_after_the_end_gets_the_first_answer_whatever_has_become_of_the_record() {
    let mut users = Harness::new(Users);
    users.act(1, &like(7, 1, key(9)));
    settle_with_likes(&mut users, 1, 42);
    assert_eq!(users.act(2, &like(7, 1, key(9))), used(KeyUse::Like, 1, 1, Some(42)));
    users.act(3, &unlike(7, 1, None));
    users.settle(3);
    users.restart();
    assert_eq!(users.act(4, &like(7, 1, key(9))), used(KeyUse::Like, 1, 1, Some(42)));
    assert!(users.unsettled().is_empty());
}

#[test]
fn a_key_used_otherwise_says_what_it_was_used_for() {
    let mut users = Harness::new(Users);
    users.act(1, &like(7, 1, key(9)));
    settle_with_likes(&mut users, 1, 1);
    assert_eq!(users.act(2, &like(7, 2, key(9))), used(KeyUse::Like, 1, 1, Some(1)), "another article");
    assert_eq!(users.act(3, &unlike(7, 1, key(9))), used(KeyUse::Like, 1, 1, Some(1)), "another kind");
    assert_eq!(users.act(4, &like(8, 1, key(9))), made(4), "another user's key is another key");
}

#[test]
fn a_key_is_locked_while_the_saga_that_used_it_is_unsettled() {
    let mut users = Harness::new(Users);
    users.act(1, &like(7, 1, key(9)));
    assert_eq!(users.act(2, &like(7, 2, key(9))), locked(1));
    users.undo(1, &like(7, 1, key(9)));
    assert_eq!(users.act(2, &like(7, 2, key(9))), locked(1), "undoing alone frees nothing");
    users.settle(1);
    assert_eq!(users.act(2, &like(7, 2, key(9))), made(2), "a compensated first try frees its key");
}

#[test]
fn an_unlike_keeps_its_key_as_a_like_does() {
    let mut users = Harness::new(Users);
    users.act(1, &like(7, 1, None));
    users.settle(1);
    users.act(2, &unlike(7, 1, key(9)));
    settle_with_likes(&mut users, 2, 0);
    assert_eq!(users.act(3, &unlike(7, 1, key(9))), used(KeyUse::Unlike, 1, 2, Some(0)));
}

#[test]
fn a_forced_end_leaves_the_answer_of_a_key_unknown() {
    let mut users = Harness::new(Users);
    users.act(1, &like(7, 1, key(9)));
    let forced = users.settlement(1, Ending::Forced);
    users.ask(RequestBody::Settle(vec![forced]));
    assert_eq!(users.act(2, &like(7, 1, key(9))), used(KeyUse::Like, 1, 1, None));
}

#[test]
fn a_key_is_kept_for_a_day_of_running_time_and_then_swept_out() {
    let mut users = Harness::new(Users);
    users.act(1, &like(7, 1, key(9)));
    settle_with_likes(&mut users, 1, 1);
    users.wait(KEY_KEPT_MS - 1);
    assert_eq!(users.act(2, &like(7, 2, key(9))), used(KeyUse::Like, 1, 1, Some(1)));
    users.wait(1);
    assert_eq!(users.act(2, &like(7, 2, key(9))), made(2));
    users.settle(2);
    users.wait(KEY_KEPT_MS);
    users.act(3, &like(8, 3, key(1)));
    let keys = domain_rows(&users).into_iter().filter(|(key, _)| key[0] == 0x12).count();
    assert_eq!(keys, 1, "another user's use swept it out");
}

#[test]
fn time_in_which_the_daemon_does_not_run_does_not_count() {
    let mut users = Harness::new(Users);
    users.act(1, &like(7, 1, key(9)));
    settle_with_likes(&mut users, 1, 1);
    users.wait(KEY_KEPT_MS - 5000);
    users.act(2, &like(8, 1, None));
    users.reboot(2);
    users.wait(4999);
    assert_eq!(users.act(3, &like(7, 2, key(9))), used(KeyUse::Like, 1, 1, Some(1)));
    users.wait(1);
    assert_eq!(users.act(3, &like(7, 2, key(9))), made(3));
}

#[test]
fn a_user_has_so_many_keys_and_no_more_until_old_ones_go() {
    let mut users = Harness::new(Users);
    // Sagas 1 and 2 take turns: each likes with a key of its own, settles, and unlikes.
    for number in 0..KEYS_PER_USER_MAX as u64 {
        let by = 1 + (number % 2) as u8;
        assert_eq!(users.act(by, &like(7, number, key(number.into()))), made(by), "key {number}");
        users.settle(by);
        users.wait(20_000);
        users.ask(RequestBody::Settle(vec![]));
    }
    let full = rejected(&UserRejection::TooManyKeys);
    assert_eq!(users.act(3, &like(7, 5000, key(5000))), full);
    assert_eq!(users.act(3, &like(7, 1, key(5000))), full, "before the record is looked at");
    assert_eq!(users.act(4, &like(8, 5000, key(5000))), made(4), "others have room");
    assert_eq!(users.act(5, &like(7, 5001, None)), made(5), "without a key there is room");
    users.wait(KEY_KEPT_MS - KEYS_PER_USER_MAX as u64 * 20_000);
    assert_eq!(users.act(3, &like(7, 5000, key(5000))), made(3), "the oldest is over");
    users.settle(3);
    assert_eq!(users.act(6, &like(7, 5002, key(5001))), full, "only one was");
}

#[test]
fn a_full_users_own_old_keys_make_room_even_behind_others() {
    let mut users = Harness::new(Users);
    for number in 0..20 {
        users.act(number, &like(u64::from(number), 1, key(1)));
    }
    users.act(20, &like(700, 1, key(1)));
    users.put_row(one_number(0x14, 700), vec![0x80, 8]);
    users.wait(KEY_KEPT_MS);
    assert_eq!(users.act(21, &like(700, 2, key(2))), made(21));
    let held = domain_rows(&users).into_iter().find(|(row, _)| row[..] == one_number(0x14, 700)[..]);
    assert_eq!(held.unwrap().1, [0x80, 8], "one has gone for it");
}

#[test]
fn of_a_key_that_is_over_nothing_is_left_when_it_is_used_anew_even_behind_others() {
    let mut users = Harness::new(Users);
    for number in 0..20 {
        users.act(number, &like(u64::from(number), 1, key(1)));
    }
    users.act(20, &like(700, 1, key(1)));
    users.settle(20);
    users.wait(KEY_KEPT_MS);
    assert_eq!(users.act(21, &like(700, 2, key(1))), made(21));
    let rows = domain_rows(&users);
    let its_rows =
        rows.iter().filter(|(row, _)| row[0] >= 0x12 && row.windows(8).any(|id| id == 700u64.to_be_bytes()));
    assert_eq!(its_rows.map(|(row, _)| row[0]).collect::<Vec<_>>(), [0x12, 0x13, 0x14]);
    assert_eq!(rows.last().unwrap().1, [1], "and it has one key");
}

#[test]
fn a_number_of_keys_that_is_damaged_is_counted_anew() {
    let mut users = Harness::new(Users);
    for number in [1, 2, 3] {
        users.store_row(one_number(0x14, 7), b"damaged".to_vec());
        users.act(number, &like(7, number.into(), key(number.into())));
        let held = domain_rows(&users).pop().unwrap();
        assert_eq!(held, (one_number(0x14, 7).to_vec(), vec![number]));
    }
    assert_eq!(users.participant.damaged().0, 0, "it was written anew each time");
    users.store_row(one_number(0x14, 7), b"damaged".to_vec());
    users.act(4, &unlike(7, 9, key(4)));
    assert_eq!(users.participant.damaged().0, 1, "nothing was written, so it is still damaged");
}

// Queries.

#[test]
fn a_standing_shows_record_lock_and_key() {
    let mut users = Harness::new(Users);
    let ask = |users: &mut Harness<Users>, key| asked(users, &UserQuery::Standing(target(7, 1, key)));
    let standing = |record: Option<u8>, locked_by: Option<u8>, key| {
        UserAnswer::Standing(Standing { record: record.map(saga), locked_by: locked_by.map(saga), key })
    };
    assert_eq!(ask(&mut users, key(9)), standing(None, None, None));
    users.act(1, &like(7, 1, key(9)));
    let first =
        |likes| FirstUse { usage: KeyUse::Like, article: ArticleId(1), saga: saga(1), current_likes: likes };
    assert_eq!(ask(&mut users, key(9)), standing(Some(1), Some(1), Some(first(None))));
    settle_with_likes(&mut users, 1, 3);
    assert_eq!(ask(&mut users, key(9)), standing(Some(1), None, Some(first(Some(3)))));
    users.act(2, &like(7, 2, key(8)));
    assert_eq!(ask(&mut users, key(8)), {
        let usage =
            FirstUse { usage: KeyUse::Like, article: ArticleId(2), saga: saga(2), current_likes: None };
        standing(Some(1), Some(2), Some(usage))
    });
    users.act(3, &unlike(7, 1, None));
    assert_eq!(ask(&mut users, key(7)), standing(None, Some(3), None));
    let settled = standing(None, None, Some(first(Some(3))));
    assert_eq!(ask(&mut users, key(9)), settled, "it is final, whoever holds the record");
}

#[test]
fn standings_that_are_asked_for_together_are_those_asked_for_one_by_one() {
    let mut users = Harness::new(Users);
    users.act(1, &like(7, 1, key(9)));
    users.act(2, &like(8, 1, None));
    users.settle(2);
    let targets = [target(7, 1, key(9)), target(8, 1, None), target(7, 2, key(9)), target(8, 1, None)];
    let one_by_one = targets.map(|target| match asked(&mut users, &UserQuery::Standing(target)) {
        UserAnswer::Standing(standing) => standing,
        other => panic!("{other:?}"),
    });
    let mut together = |targets| match asked(&mut users, &UserQuery::Standings(targets)) {
        UserAnswer::Standings(standings) => standings,
        other => panic!("{other:?}"),
    };
    assert_eq!(together(targets.to_vec()), one_by_one);
    assert_eq!(together(vec![]), []);

    let longest = LikeTarget { user: UserId(u64::MAX), article: ArticleId(u64::MAX), key: key(u128::MAX) };
    assert_eq!(
        together(vec![longest; STANDINGS_MAX]).len(),
        STANDINGS_MAX,
        "so many fit, however long they are"
    );
    let too_many = vec![targets[1]; STANDINGS_MAX + 1];
    assert_eq!(together(too_many), vec![one_by_one[1]; STANDINGS_MAX], "no more are looked for");
}

#[test]
fn records_are_listed_by_article_and_by_user_and_show_what_is_pending() {
    let mut users = Harness::new(Users);
    for (number, user, article) in [(1, 7, 1), (2, 7, 300), (3, 8, 1), (4, 9, 1)] {
        users.act(number, &like(user, article, None));
    }
    users.settle(1);
    users.settle(3);
    let of_seven = [record(7, 1, 1, false), record(7, 300, 2, true)];
    let likes_of = |after: Option<u64>, limit| UserQuery::LikesOf {
        user: UserId(7),
        after: after.map(ArticleId),
        limit,
    };
    assert_eq!(asked(&mut users, &likes_of(None, 9)), UserAnswer::Records(of_seven.to_vec()));
    assert_eq!(asked(&mut users, &likes_of(None, 1)), UserAnswer::Records(of_seven[..1].to_vec()));
    assert_eq!(asked(&mut users, &likes_of(Some(1), 9)), UserAnswer::Records(of_seven[1..].to_vec()));
    let of_one = [record(7, 1, 1, false), record(8, 1, 3, false), record(9, 1, 4, true)];
    let likers = |after: Option<u64>| UserQuery::LikersOf {
        article: ArticleId(1),
        after: after.map(UserId),
        limit: 2,
    };
    assert_eq!(asked(&mut users, &likers(None)), UserAnswer::Records(of_one[..2].to_vec()));
    assert_eq!(asked(&mut users, &likers(Some(8))), UserAnswer::Records(of_one[2..].to_vec()));
    users.act(5, &unlike(7, 1, None));
    users.undo(5, &unlike(7, 1, None));
    let put_back = asked(&mut users, &likes_of(None, 1));
    assert_eq!(put_back, UserAnswer::Records(of_seven[..1].to_vec()), "what was put back stays");
}

#[test]
fn likers_are_counted_in_pages() {
    let mut users = Harness::new(Users);
    for user in 0..300u64 {
        users.put_row(like_row(UserId(user), ArticleId(1)), vec![3; 16]);
        users.put_row(liker_row(ArticleId(1), UserId(user)), Vec::new());
    }
    users.act(1, &like(1000, 1, None));
    users.act(2, &like(1000, 2, None));
    let count = |users: &mut Harness<Users>, after: Option<u64>| {
        asked(users, &UserQuery::CountLikers { article: ArticleId(1), after: after.map(UserId) })
    };
    let page = |records, more_after: Option<u64>| {
        let more_after = more_after.map(UserId);
        UserAnswer::Count(LikerCount { records, damaged: 0, more_after, unsettled: 1, unaccounted: 0 })
    };
    assert_eq!(count(&mut users, None), page(PAGE_ROWS_MAX.into(), Some(255)));
    assert_eq!(count(&mut users, Some(255)), page(45, None));
    // A key that is none takes a place in a page, and ends no count.
    users.put_row(one_number(LIKER, 1), Vec::new());
    assert_eq!(count(&mut users, None), page(u64::from(PAGE_ROWS_MAX) - 1, Some(254)));
    assert_eq!(count(&mut users, Some(254)), page(46, None));
}

#[test]
fn articles_with_records_are_listed_once_each() {
    let mut users = Harness::new(Users);
    for (number, article) in [(1, 5), (2, 5), (3, u64::MAX), (4, 0)] {
        users.act(number, &like(number.into(), article, None));
    }
    let mut list = |after: Option<u64>, limit| match asked(
        &mut users,
        &UserQuery::LikedArticles { after: after.map(ArticleId), limit },
    ) {
        UserAnswer::Articles(articles) => articles.into_iter().map(|id| id.0).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(list(None, 9), [0, 5, u64::MAX]);
    assert_eq!(list(None, 2), [0, 5]);
    assert_eq!(list(Some(5), 9), [u64::MAX]);
    assert!(list(Some(u64::MAX), 9).is_empty());
}

#[test]
fn a_key_that_is_none_hides_no_liked_article() {
    let mut users = Harness::new(Users);
    users.act(1, &like(7, 5, None));
    users.act(2, &like(7, 6, None));
    users.act(3, &like(7, 7, None));
    // In front of all others, and in front of those of two articles.
    users.put_row(vec![LIKER, 0].into(), Vec::new());
    users.put_row(one_number(LIKER, 5), Vec::new());
    users.put_row(one_number(LIKER, 6), Vec::new());
    for (limit, articles) in [(1, &[5][..]), (2, &[5, 6]), (9, &[5, 6, 7])] {
        let liked = asked(&mut users, &UserQuery::LikedArticles { after: None, limit });
        assert_eq!(liked, UserAnswer::Articles(articles.iter().copied().map(ArticleId).collect()));
    }
    assert_eq!(users.participant.damaged().0, 3);
}

//! Every rule of the participant, on the two domains of likes.

use Ending::{Forced, Natural};
use like_protocol::ids::BootId;
use like_protocol::likes::article::{ArticleCommand, ArticleOperation, ArticleRejection, ArticleReply};
use like_protocol::likes::user::{LikeTarget, UserOperation, UserRejection, UserReply};
use like_protocol::likes::{ArticleId, UserId};
use like_protocol::message::{
    Direction, Ending, Refusal, SETTLEMENTS_MAX, Settlement, StepReply, StepRequest,
};

use super::harness::*;
use super::*;
use crate::likes::article::Articles;
use crate::likes::user::Users;

const ADD: ArticleOperation = ArticleOperation::AddLike(ArticleId(1));
const REMOVE: ArticleOperation = ArticleOperation::RemoveLike(ArticleId(1));
const EXPIRED: ReplyBody = ReplyBody::Step(StepReply::Refused(Refusal::Expired));
const COMPENSATED: ReplyBody = ReplyBody::Step(StepReply::Refused(Refusal::Compensated));
const FINAL: ReplyBody = ReplyBody::Step(StepReply::Refused(Refusal::Final));
const UNDONE: ReplyBody = ReplyBody::Step(StepReply::Undone);

fn target(user: u64, article: u64) -> LikeTarget {
    LikeTarget { user: UserId(user), article: ArticleId(article), key: None }
}

fn like(user: u64, article: u64) -> UserOperation {
    UserOperation::CreateLike(target(user, article))
}

fn unlike(user: u64, article: u64) -> UserOperation {
    UserOperation::RemoveLike(target(user, article))
}

/// An article service with article 1.
fn articles() -> Harness<Articles> {
    let mut articles = Harness::new(Articles);
    let created = articles.command(&ArticleCommand::Create { id: Some(ArticleId(1)), title: "t".to_owned() });
    assert!(matches!(created, ReplyBody::Answer(_)));
    articles
}

fn likes(articles: &mut Harness<Articles>) -> u64 {
    use like_protocol::likes::article::{ArticleAnswer, ArticleQuery};
    match articles.query(&ArticleQuery::Show(ArticleId(1))) {
        ReplyBody::Answer(answer) => match codec::decode(&answer.0).unwrap() {
            ArticleAnswer::Article(article) => article.likes,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

// The table, cell by cell.

#[test]
fn an_action_runs_once_and_its_copies_get_the_recorded_reply() {
    let mut articles = articles();
    assert_eq!(articles.act(1, &ADD), done(&ArticleReply { likes: 1 }));
    assert_eq!(articles.act(2, &ADD), done(&ArticleReply { likes: 2 }));
    let before = articles.store.clone();
    let deadline = articles.within(10_000);
    for _ in 0..2 {
        assert_eq!(articles.act_by(1, &ADD, deadline), done(&ArticleReply { likes: 1 }));
        articles.restart();
    }
    articles.wait(20_000);
    assert_eq!(articles.act_by(1, &ADD, deadline), done(&ArticleReply { likes: 1 }), "past its deadline too");
    assert_eq!(likes(&mut articles), 2);
    assert_eq!(articles.records(), 2);
    assert_eq!(before.rows().count(), articles.store.rows().count());
}

#[test]
fn copies_within_one_group_run_once() {
    let mut articles = articles();
    let deadline = articles.within(1000);
    let copy = RequestBody::Step(StepRequest {
        id: step(1),
        direction: Direction::Action,
        deadline,
        operation: payload(&ADD),
    });
    let replies = articles.group(vec![copy.clone(), copy]);
    assert_eq!(replies, [done(&ArticleReply { likes: 1 }), done(&ArticleReply { likes: 1 })]);
    assert_eq!(likes(&mut articles), 1);
}

#[test]
fn a_business_rejection_leaves_nothing() {
    let mut articles = articles();
    let before = articles.store.clone();
    let missing = ArticleOperation::AddLike(ArticleId(9));
    assert_eq!(articles.act(1, &missing), rejected(&ArticleRejection::NotFound(ArticleId(9))));
    assert_eq!(articles.act(2, &REMOVE), rejected(&ArticleRejection::NoLikes(ArticleId(1))));
    assert_eq!(articles.store, before);
    assert!(articles.participant.holds.is_empty() && articles.unsettled().is_empty());
}

#[test]
fn an_action_past_its_deadline_is_refused_and_leaves_nothing() {
    let mut articles = articles();
    let before = articles.store.clone();
    assert_eq!(articles.act_by(1, &ADD, articles.within(0)), EXPIRED);
    let of_another_boot = Deadline { boot: BootId::from_bytes([9; 16]), at_ms: u64::MAX };
    assert_eq!(articles.act_by(1, &ADD, of_another_boot), EXPIRED);
    assert_eq!(articles.store, before);
}

#[test]
fn a_compensation_that_comes_first_keeps_the_late_action_out() {
    let mut articles = articles();
    assert_eq!(articles.undo(1, &ADD), UNDONE);
    assert_eq!(articles.act(1, &ADD), COMPENSATED);
    assert_eq!(articles.undo(1, &ADD), UNDONE);
    articles.restart();
    assert_eq!(articles.act(1, &ADD), COMPENSATED);
    assert_eq!(likes(&mut articles), 0);
}

#[test]
fn a_compensation_past_the_deadline_writes_nothing_where_nothing_ran() {
    let mut articles = articles();
    let before = articles.store.clone();
    let deadline = articles.within(0);
    assert_eq!(articles.undo_by(1, &ADD, deadline), UNDONE);
    assert_eq!(articles.store, before);
    assert_eq!(articles.act_by(1, &ADD, deadline), EXPIRED, "the deadline keeps it out");
}

#[test]
fn an_action_is_undone_once_and_never_runs_again() {
    let mut articles = articles();
    articles.act(1, &ADD);
    articles.act(2, &ADD);
    assert_eq!(articles.undo(1, &ADD), UNDONE);
    assert_eq!(articles.undo(1, &ADD), UNDONE);
    articles.restart();
    assert_eq!(articles.undo(1, &ADD), UNDONE);
    assert_eq!(likes(&mut articles), 1);
    assert_eq!(articles.act(1, &ADD), COMPENSATED);
    assert_eq!(likes(&mut articles), 1);
}

#[test]
fn an_action_is_undone_past_its_deadline_too() {
    let mut articles = articles();
    let deadline = articles.within(10);
    articles.act_by(1, &ADD, deadline);
    articles.wait(1000);
    assert_eq!(articles.undo_by(1, &ADD, deadline), UNDONE);
    assert_eq!(likes(&mut articles), 0);
}

#[test]
fn what_is_settled_is_final() {
    let mut articles = articles();
    articles.act(1, &ADD);
    articles.settle(1);
    for _ in 0..2 {
        assert_eq!(articles.act(1, &ADD), done(&ArticleReply { likes: 1 }));
        assert_eq!(articles.undo(1, &ADD), FINAL);
        articles.restart();
    }
    assert_eq!(likes(&mut articles), 1);
}

#[test]
fn what_is_undone_and_settled_stays_undone() {
    let mut articles = articles();
    articles.act(1, &ADD);
    articles.undo(1, &ADD);
    articles.undo(2, &ADD);
    for number in [1, 2] {
        articles.settle(number);
        assert_eq!(articles.act(number, &ADD), COMPENSATED);
        assert_eq!(articles.undo(number, &ADD), UNDONE);
    }
    assert_eq!(likes(&mut articles), 0);
}

// Requests that make no sense.

#[test]
fn another_operation_under_the_same_step_id_is_invalid_and_changes_nothing() {
    let mut articles = articles();
    let created = articles.command(&ArticleCommand::Create { id: Some(ArticleId(2)), title: "t".to_owned() });
    assert!(matches!(created, ReplyBody::Answer(_)));
    articles.act(1, &ADD);
    let before = articles.store.clone();
    let other = ArticleOperation::AddLike(ArticleId(2));
    assert!(matches!(articles.act(1, &other), ReplyBody::Invalid(_)));
    assert!(matches!(articles.undo(1, &other), ReplyBody::Invalid(_)));
    assert_eq!(articles.store, before);
    articles.undo(1, &ADD);
    assert!(matches!(articles.act(1, &other), ReplyBody::Invalid(_)), "undone, it is still known");
}

#[test]
fn an_operation_that_makes_no_sense_never_runs_but_can_be_ruled_out() {
    let mut articles = articles();
    let nonsense = 99u64;
    assert!(matches!(articles.act(1, &nonsense), ReplyBody::Invalid(_)));
    assert_eq!(articles.records(), 0);
    assert_eq!(articles.undo(1, &nonsense), UNDONE);
    assert_eq!(articles.records(), 1);
}

#[test]
fn a_compensation_that_does_not_know_what_ran_undoes_what_ran() {
    let mut articles = articles();
    articles.act(1, &ADD);
    articles.act(2, &ADD);
    assert_eq!(articles.undo(1, &()), UNDONE, "nothing is said of the operation");
    assert_eq!(articles.undo(2, &99u64), UNDONE, "what is said of it can't be read");
    assert_eq!(likes(&mut articles), 0);
    assert_eq!(articles.undo(3, &()), UNDONE);
    assert_eq!(articles.act(3, &ADD), COMPENSATED);
}

#[test]
fn deadlines_more_than_an_hour_ahead_are_invalid_everywhere() {
    let mut articles = articles();
    let hour_ms = 3_600_000;
    let before = articles.store.clone();
    let far = articles.within(hour_ms + 1);
    assert!(matches!(articles.act_by(1, &ADD, far), ReplyBody::Invalid(_)));
    assert!(matches!(articles.undo_by(1, &ADD, far), ReplyBody::Invalid(_)));
    let settlement = Settlement { deadline: far, ..articles.settlement(1, Forced) };
    assert!(matches!(articles.ask(RequestBody::Settle(vec![settlement])), ReplyBody::Invalid(_)));
    assert_eq!(articles.store, before);
    assert_eq!(articles.act_by(1, &ADD, articles.within(hour_ms)), done(&ArticleReply { likes: 1 }));
}

// Semantic locks.

#[test]
fn a_like_of_an_unsettled_saga_is_locked_for_others() {
    let mut users = Harness::new(Users);
    let reply = done(&UserReply { record: saga(1) });
    assert_eq!(users.act(1, &like(7, 1)), reply);
    assert_eq!(users.act(2, &like(7, 1)), locked(1));
    assert_eq!(users.act(3, &unlike(7, 1)), locked(1));
    assert_eq!(users.act(1, &like(7, 1)), reply, "its own copy is answered");
    assert_eq!(users.act(4, &like(7, 2)), done(&UserReply { record: saga(4) }), "another article");
    assert_eq!(users.act(5, &like(8, 1)), done(&UserReply { record: saga(5) }), "another user");
    users.settle(1);
    assert_eq!(users.act(2, &like(7, 1)), rejected(&UserRejection::AlreadyLiked { record: saga(1) }));
    assert_eq!(users.act(3, &unlike(7, 1)), reply);
    assert_eq!(users.act(2, &like(7, 1)), locked(3), "a removal locks too");
}

#[test]
fn undoing_alone_keeps_the_lock() {
    let mut users = Harness::new(Users);
    users.act(1, &like(7, 1));
    users.undo(1, &like(7, 1));
    assert_eq!(users.act(2, &like(7, 1)), locked(1));
    users.settle(1);
    assert_eq!(users.act(2, &like(7, 1)), done(&UserReply { record: saga(2) }));
}

#[test]
fn locks_survive_restarts_and_reboots() {
    let mut users = Harness::new(Users);
    users.act(1, &like(7, 1));
    users.act(2, &like(7, 2));
    users.undo(2, &like(7, 2));
    users.restart();
    assert_eq!(users.act(3, &like(7, 1)), locked(1));
    users.reboot(2);
    assert_eq!(users.act(3, &like(7, 1)), locked(1));
    assert_eq!(users.act(3, &like(7, 2)), locked(2));
}

#[test]
fn a_tombstone_locks_nothing() {
    let mut users = Harness::new(Users);
    users.undo(1, &like(7, 1));
    assert_eq!(users.act(2, &like(7, 1)), done(&UserReply { record: saga(2) }));
}

// Settling.

#[test]
fn settling_is_idempotent() {
    let mut users = Harness::new(Users);
    let deadline = users.within(10_000);
    users.act_by(1, &like(7, 1), deadline);
    users.settle(1);
    let before = users.store.clone();
    users.settle(1);
    users.restart();
    users.settle(1);
    assert_eq!(users.store, before);
    assert!(users.unsettled().is_empty() && users.participant.holds.is_empty());
}

#[test]
fn a_natural_end_of_what_never_came_writes_nothing() {
    let mut articles = articles();
    let before = articles.store.clone();
    articles.settle(1);
    assert_eq!(articles.store, before);
}

#[test]
fn a_forced_end_of_what_never_came_keeps_it_out() {
    let mut articles = articles();
    let forced = articles.settlement(1, Forced);
    assert_eq!(articles.ask(RequestBody::Settle(vec![forced])), ReplyBody::Settled);
    assert_eq!(articles.act(1, &ADD), COMPENSATED);
    assert_eq!(articles.undo(1, &ADD), UNDONE);
    assert!(articles.unsettled().is_empty(), "a forced end needs no further settling");

    let before = articles.store.clone();
    let past = Settlement { deadline: articles.within(0), ..articles.settlement(2, Forced) };
    assert_eq!(articles.ask(RequestBody::Settle(vec![past])), ReplyBody::Settled);
    assert_eq!(articles.store, before, "a passed deadline keeps it out without");
}

#[test]
fn a_forced_end_seals_what_stands() {
    let mut users = Harness::new(Users);
    users.act(1, &like(7, 1));
    let forced = users.settlement(1, Forced);
    assert_eq!(users.ask(RequestBody::Settle(vec![forced])), ReplyBody::Settled);
    assert_eq!(users.undo(1, &like(7, 1)), FINAL);
    assert_eq!(users.act(2, &unlike(7, 1)), done(&UserReply { record: saga(1) }), "its lock is gone");
}

#[test]
fn one_settlement_that_makes_no_sense_spoils_its_request() {
    let mut users = Harness::new(Users);
    users.act(1, &like(7, 1));
    let good = users.settlement(1, Natural);
    let bad = Settlement { note: Some(Payload::from(vec![9])), ..users.settlement(2, Natural) };
    assert!(matches!(users.ask(RequestBody::Settle(vec![good.clone(), bad])), ReplyBody::Invalid(_)));
    assert_eq!(users.unsettled().len(), 1);
    let too_many = vec![good; SETTLEMENTS_MAX + 1];
    assert!(matches!(users.ask(RequestBody::Settle(too_many)), ReplyBody::Invalid(_)));
    assert_eq!(users.unsettled().len(), 1);
}

// Deadlines that move on, and forgetting.

#[test]
fn a_record_keeps_the_latest_deadline_that_any_request_named() {
    let mut articles = articles();
    let first = articles.within(10);
    articles.act_by(1, &ADD, first);
    let deadline = |articles: &mut Harness<Articles>| articles.unsettled()[0].deadline.unwrap();
    articles.act_by(1, &ADD, articles.within(20));
    assert_eq!(deadline(&mut articles), articles.within(20));
    articles.undo_by(1, &ADD, articles.within(30));
    assert_eq!(deadline(&mut articles), articles.within(30));
    articles.undo_by(1, &ADD, articles.within(40));
    articles.act_by(1, &ADD, first);
    assert_eq!(deadline(&mut articles), articles.within(40));
    articles.act_by(1, &ADD, articles.within(50));
    assert_eq!(deadline(&mut articles), articles.within(50), "a refused request counts too");
    let last = articles.within(60);
    let settlement = Settlement { deadline: last, ..articles.settlement(1, Natural) };
    articles.ask(RequestBody::Settle(vec![settlement.clone()]));
    articles.wait(59);
    articles.ask(RequestBody::Settle(vec![]));
    assert_eq!((articles.records(), articles.act_by(1, &ADD, last)), (1, COMPENSATED));
    let longer = Settlement { deadline: articles.within(11), ..settlement };
    articles.ask(RequestBody::Settle(vec![longer]));
    articles.wait(10);
    articles.ask(RequestBody::Settle(vec![]));
    assert_eq!(articles.records(), 1);
    articles.wait(1);
    articles.ask(RequestBody::Settle(vec![]));
    assert_eq!((articles.records(), articles.act_by(1, &ADD, last)), (0, EXPIRED));
}

#[test]
fn a_record_is_forgotten_when_it_is_settled_and_its_deadline_has_passed() {
    let mut articles = articles();
    let deadline = articles.within(10_000);
    for number in 1..=4 {
        articles.act_by(number, &ADD, deadline);
    }
    articles.undo_by(2, &ADD, deadline);
    articles.undo_by(5, &ADD, deadline);
    for number in [1, 2, 5] {
        articles.settle(number);
    }
    assert_eq!((articles.participant.unsettled(), articles.participant.collectable()), (2, 3));
    articles.wait(9_999);
    articles.ask(RequestBody::Settle(vec![]));
    assert_eq!(articles.records(), 5, "not before the deadline");
    assert_eq!(articles.participant.next_due_ms(), Some(deadline.at_ms));
    articles.wait(1);
    articles.ask(RequestBody::Settle(vec![]));
    assert_eq!(articles.records(), 2, "not what is unsettled");
    assert_eq!(articles.participant.next_due_ms(), None);
    for number in [1, 2, 5] {
        assert_eq!(articles.act_by(number, &ADD, deadline), EXPIRED);
        assert_eq!(articles.undo_by(number, &ADD, deadline), UNDONE);
    }
    assert_eq!(likes(&mut articles), 3);
}

#[test]
fn what_is_unsettled_is_remembered_over_boots_for_ever() {
    let mut articles = articles();
    articles.act(1, &ADD);
    articles.act(2, &ADD);
    articles.settle(2);
    articles.reboot(2);
    articles.wait(3_600_000);
    articles.ask(RequestBody::Settle(vec![]));
    assert_eq!(articles.records(), 1);
    assert_eq!(articles.undo(1, &ADD), UNDONE);
    assert_eq!(likes(&mut articles), 1);
}

#[test]
fn one_group_forgets_no_more_than_its_bound() {
    let mut articles = articles();
    let extra = 10;
    let ids: Vec<_> = (0..COLLECTED_PER_GROUP_MAX + extra)
        .map(|number| StepId {
            saga: like_protocol::ids::SagaId::from_bytes((number as u128).to_be_bytes()),
            step: 0,
        })
        .collect();
    for ids in ids.chunks(SETTLEMENTS_MAX) {
        let forced = ids.iter().map(|id| Settlement { id: *id, ..articles.settlement(0, Forced) });
        let forced = forced.collect();
        articles.ask(RequestBody::Settle(forced));
    }
    articles.wait(10_000);
    articles.ask(RequestBody::Settle(vec![]));
    assert_eq!(articles.records(), extra);
    articles.ask(RequestBody::Settle(vec![]));
    assert_eq!(articles.records(), 0);
}

// The disk, and lists.

#[test]
fn without_disk_space_only_what_is_new_is_put_off() {
    let mut articles = articles();
    articles.act(1, &ADD);
    articles.act(2, &ADD);
    articles.storage_low = true;
    let put_off = ReplyBody::Retry(RetryReason::Storage);
    assert_eq!(articles.act(3, &ADD), put_off);
    assert_eq!(articles.command(&ArticleCommand::Create { id: None, title: "t".to_owned() }), put_off);
    assert_eq!(articles.act(1, &ADD), done(&ArticleReply { likes: 1 }), "a copy is answered");
    assert_eq!(articles.undo(1, &ADD), UNDONE);
    assert_eq!(articles.undo(4, &ADD), UNDONE, "a tombstone is written");
    articles.settle(2);
    assert_eq!(likes(&mut articles), 1);
}

#[test]
fn unsettled_steps_are_listed_in_pages() {
    let mut articles = articles();
    let deadline = articles.within(10_000);
    articles.act(1, &ADD);
    articles.act(2, &ADD);
    articles.undo(2, &ADD);
    articles.undo(3, &ADD);
    articles.act(4, &ADD);
    articles.settle(4);
    let row = |number, state| UnsettledStep { id: step(number), deadline: Some(deadline), state };
    let all =
        [row(1, UnsettledState::Applied), row(2, UnsettledState::Undone), row(3, UnsettledState::Cancelled)];
    assert_eq!(articles.unsettled(), all);
    let page = articles.ask(RequestBody::Unsettled { after: Some(step(1)), limit: 1 });
    assert_eq!(page, ReplyBody::Unsettled(all[1..2].to_vec()));
    let end = articles.ask(RequestBody::Unsettled { after: Some(step(3)), limit: 9 });
    assert_eq!(end, ReplyBody::Unsettled(Vec::new()));
}

mod bounds;
mod damage;
mod damaged_cases;
mod random;
mod reference;
mod writes;

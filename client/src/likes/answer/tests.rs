use like_protocol::likes::user::CallerKey;
use serde::Serialize;
use uuid::Uuid;

use super::*;
use crate::saga::{Event, TurnBack};
use crate::view::samples;

const SAGA: SagaId = SagaId::from_bytes([7; 16]);

fn target() -> LikeTarget {
    let key = Some(CallerKey(Uuid::from_bytes([4; 16])));
    LikeTarget { user: UserId(1), article: ArticleId(2), key }
}

/// A like after these events.
fn after(events: &[Event]) -> SagaState {
    let Event::Begun(begun) = samples::begun(1) else { panic!("it begins") };
    let mut state = SagaState::begin(begun);
    for event in events {
        state.apply(event).unwrap();
    }
    state
}

fn encoded<T: Serialize>(value: &T) -> Payload {
    codec::encode(value).unwrap()
}

#[test]
fn a_like_that_completed_is_answered_with_the_count_and_the_record_that_its_steps_replied() {
    let record = SagaId::from_bytes([5; 16]);
    let completed = after(&[
        Event::ActionSent { step: 0, attempt: 1 },
        Event::ActionDone { step: 0, reply: encoded(&ArticleReply { likes: 3 }) },
        Event::ActionSent { step: 1, attempt: 1 },
        Event::ActionDone { step: 1, reply: encoded(&UserReply { record }) },
        Event::Ended(End::Completed),
    ]);
    let answer = LikeAnswer::of_ended(SAGA, &completed, &target()).ok().unwrap();
    assert_eq!((answer.current_likes, answer.record, answer.saga), (Some(3), record, SAGA));
}

#[test]
fn a_step_that_was_refused_is_told_as_such_and_not_as_a_deadline() {
    let refused = after(&[
        Event::ActionSent { step: 0, attempt: 1 },
        Event::ActionFailed {
            step: 0,
            failure: Failure { kind: FailureKind::Unknown, detail: "why".to_owned() },
        },
        Event::ActionRefused { step: 0, refusal: Refusal::Final },
        Event::TurnedBack(TurnBack::Refused { step: 0 }),
    ]);
    let Err(ActError::Compensated { last: None, detail, .. }) = why(&refused) else { panic!("not refused") };
    assert!(detail.contains("`add like` was ended by an operator"), "{detail}");
}

/// The article step done, the user step rejected.
fn rejected_by_user(rejection: UserRejection) -> SagaState {
    after(&[
        Event::ActionSent { step: 0, attempt: 1 },
        Event::ActionDone { step: 0, reply: encoded(&ArticleReply { likes: 1 }) },
        Event::ActionSent { step: 1, attempt: 1 },
        Event::ActionRejected { step: 1, rejection: encoded(&rejection) },
        Event::TurnedBack(TurnBack::Rejected { step: 1 }),
    ])
}

fn why(state: &SagaState) -> Result<Ended, ActError> {
    why_compensated(SAGA, state, &target(), KeyUse::Like)
}

fn first_use(usage: KeyUse, article: u64) -> UserRejection {
    let first = FirstUse {
        usage,
        article: ArticleId(article),
        saga: SagaId::from_bytes([9; 16]),
        current_likes: Some(5),
    };
    UserRejection::KeyUsed(first)
}

#[test]
fn a_rule_met_in_the_saga_is_the_rule_that_a_check_would_have_met() {
    let liked = why(&rejected_by_user(UserRejection::AlreadyLiked { record: SAGA }));
    let Err(ActError::Forbidden { rule, saga: Some(SAGA) }) = liked else { panic!("not forbidden") };
    assert_eq!(rule, Rule::AlreadyLiked { user: UserId(1), article: ArticleId(2) });

    let missing = after(&[
        Event::ActionSent { step: 0, attempt: 1 },
        Event::ActionRejected { step: 0, rejection: encoded(&ArticleRejection::NotFound(ArticleId(2))) },
    ]);
    let Err(ActError::Forbidden { rule, .. }) = why(&missing) else { panic!("not forbidden") };
    assert_eq!(rule, Rule::NoSuchArticle(ArticleId(2)));
}

#[test]
fn a_key_that_was_used_for_the_same_gets_the_first_answer() {
    let Ok(Ended::First(first)) = why(&rejected_by_user(first_use(KeyUse::Like, 2))) else {
        panic!("no answer")
    };
    let answer = LikeAnswer::of_first(&first);
    assert_eq!((answer.current_likes, answer.saga), (Some(5), SagaId::from_bytes([9; 16])));
    assert_eq!(answer.record, answer.saga, "a like record is named by the saga that made it");
}

#[test]
fn a_key_that_was_used_for_anything_else_is_refused() {
    for other in [first_use(KeyUse::Unlike, 2), first_use(KeyUse::Like, 3)] {
        let refused = why(&rejected_by_user(other));
        assert!(matches!(refused, Err(ActError::Forbidden { rule: Rule::KeyOfAnother(_), .. })));
    }
}

#[test]
fn a_deadline_that_passed_tells_what_the_last_attempt_came_to() {
    let failure = |kind| Failure { kind, detail: "why".to_owned() };
    // The last attempt may have come too late by a moment.
    let too_late = [
        Event::ActionSent { step: 0, attempt: 1 },
        Event::ActionRefused { step: 0, refusal: Refusal::Expired },
        Event::TurnedBack(TurnBack::Refused { step: 0 }),
    ];
    let given_up = [Event::TurnedBack(TurnBack::Deadline { step: 0 })];
    for kind in [FailureKind::Locked, FailureKind::Storage, FailureKind::NotSent] {
        for turned_back in [&given_up[..], &too_late] {
            let failed = Event::ActionFailed { step: 0, failure: failure(kind) };
            let state = after(&[&[failed], turned_back].concat());
            let Err(ActError::Compensated { last, detail, .. }) = why(&state) else { panic!("undone") };
            assert_eq!(last, Some(kind));
            assert!(detail.contains("`add like`") && detail.ends_with("why"), "{detail}");
        }
    }
    for silent in [&given_up[..], &too_late] {
        assert!(matches!(why(&after(silent)), Err(ActError::Compensated { last: None, .. })));
    }
}

#[test]
fn a_check_that_meets_a_locked_row_or_gets_no_answer_decides_nothing() {
    let UserRejection::KeyUsed(first) = first_use(KeyUse::Like, 2) else { panic!("a first use") };
    let silent = || AskError::Misunderstood { role: "user", detail: String::new() };
    let check = |usage, standing| before_saga(&target(), usage, Ok(()), standing);
    for usage in [KeyUse::Like, KeyUse::Unlike] {
        for record in [None, Some(SAGA)] {
            for key in [None, Some(first)] {
                let locked = Standing { record, locked_by: Some(SAGA), key };
                assert!(matches!(check(usage, Ok(locked)), Ok(None)));
            }
        }
        assert!(matches!(check(usage, Err(silent())), Ok(None)));
    }
    let standing = |record, key| Ok(Standing { record, locked_by: None, key });
    let liked = check(KeyUse::Like, standing(Some(SAGA), None));
    assert!(matches!(liked, Err(ActError::Forbidden { rule: Rule::AlreadyLiked { .. }, saga: None })));
    let not_liked = check(KeyUse::Unlike, standing(None, None));
    assert!(matches!(not_liked, Err(ActError::Forbidden { rule: Rule::NotLiked { .. }, saga: None })));
    assert_eq!(
        check(KeyUse::Like, standing(None, Some(first))).ok().flatten(),
        Some(first),
        "a key comes first"
    );
}

use like_protocol::codec;
use like_protocol::ids::SagaId;
use like_protocol::likes::article::ArticleReply;
use like_protocol::likes::user::UserRejection;
use like_protocol::message::Payload;

use super::*;
use crate::cli::samples;
use crate::likes;
use crate::log::{SagaRecord, Story};
use crate::saga::event::{Failure, FailureKind};
use crate::saga::{End, Event, TurnBack};

fn begun() -> Event {
    samples::begun(7)
}

/// Events a millisecond apart.
fn view(events: Vec<Event>) -> SagaView {
    let saga = SagaId::from_bytes([7; 16]);
    let record = |(seq, event)| SagaRecord { saga, seq, at_ms: u64::from(seq), event };
    let story = Story::of((0..).zip(events).map(record).collect()).unwrap();
    SagaView::of(&story, &likes::definitions(), 5)
}

fn reply() -> Payload {
    codec::encode(&ArticleReply { likes: 1 }).unwrap()
}

fn down() -> Failure {
    Failure { kind: FailureKind::NotSent, detail: "it is down".to_owned() }
}

fn completed() -> Vec<Event> {
    vec![
        begun(),
        Event::ActionSent { step: 0, attempt: 1 },
        Event::ActionDone { step: 0, reply: reply() },
        Event::ActionSent { step: 1, attempt: 1 },
        Event::ActionDone { step: 1, reply: Payload::default() },
        Event::Ended(End::Completed),
    ]
}

fn turning_back() -> Vec<Event> {
    vec![
        begun(),
        Event::ActionSent { step: 0, attempt: 1 },
        Event::ActionDone { step: 0, reply: reply() },
        Event::ActionFailed { step: 1, failure: down() },
        Event::ActionFailed { step: 1, failure: down() },
        Event::TurnedBack(TurnBack::Deadline { step: 1 }),
    ]
}

fn plain(saga: &SagaView) -> String {
    anstream::adapter::strip_str(&draw(saga, 3, None)).to_string()
}

#[test]
fn a_completed_like_is_told_from_beginning_to_end() {
    let mut events = completed();
    let unsettled = view(events.clone());
    assert!(plain(&unsettled).contains("completed, unsettled"));
    assert!(advice(&unsettled, None)[0].starts_with("Safe: `likectl recover`"));

    events.push(Event::Settled);
    let saga = view(events);
    assert_eq!((saga.state, saga.article_id, saga.user_id), ("completed", Some(1), Some(7)));
    assert_eq!((saga.started_ms, saga.ended_ms, saga.settled), (0, Some(5), true));
    let text = plain(&saga);
    assert!(text.starts_with("like of article 1 by user 7\n"), "{text}");
    assert!(text.contains("4 ms  user     create like record  ✓ done"), "{text}");
    assert!(text.ends_with("Nothing: it has ended, and every service knows."), "{text}");
}

#[test]
fn step_events_carry_service_direction_status_and_attempt() {
    let mut events = turning_back();
    events.push(Event::CompensationSent { step: 0, attempt: 1 });
    events.push(Event::CompensationDone { step: 0 });
    let told: Vec<_> = view(events)
        .events
        .iter()
        .map(|event| format!("{} {} {} {}", event.service, event.action_type, event.status, event.attempt))
        .collect();
    let expected = [
        "article main pending 1",
        "article main done 1",
        "user main failed 0",
        "user main failed 0",
        "article compensation pending 1",
        "article compensation done 1",
    ];
    assert_eq!(told, expected);
}

#[test]
fn failures_that_repeat_are_told_once() {
    let text = plain(&view(turning_back()));
    assert!(text.contains("✗ failed: it is down (2 times, last after 4 ms)"), "{text}");
    assert_eq!(text.matches("it is down").count(), 2, "once in the timeline, once in the advice: {text}");
    let mut events = turning_back();
    events.push(Event::CompensationSent { step: 0, attempt: 1 });
    events.extend((1..=9).map(|in_a_row| Event::CompensationFailed { step: 0, in_a_row, failure: down() }));
    let text = plain(&view(events));
    assert!(text.contains("7 ms  article  add like            ✗ compensation failed (9 in a row)"), "{text}");
    assert!(text.contains("it is down (last after 15 ms)") && !text.contains("(8 in a row)"), "{text}");
}

#[test]
fn a_rejection_is_told_in_the_domains_words() {
    let rejection = codec::encode(&UserRejection::NotLiked).unwrap();
    let mut events = completed();
    events.truncate(4);
    events.push(Event::ActionRejected { step: 1, rejection });
    let saga = view(events);
    assert_eq!(saga.events.last().unwrap().detail.as_deref(), Some("the user does not like the article"));
}

#[test]
fn what_may_be_done_next_depends_on_who_owns_the_saga() {
    let saga = view(turning_back());
    let owner = Owner { pid: 42, command: "likectl".to_owned(), stopped: false };
    assert!(advice(&saga, Some(&owner))[0].starts_with("Wait"));
    let stopped = Owner { stopped: true, ..owner };
    assert!(advice(&saga, Some(&stopped))[0].contains("kill -CONT 42"));
    assert!(advice(&saga, None)[0].contains("likectl recover"));
}

#[test]
fn a_stuck_saga_may_be_retried_and_only_then_forced() {
    let mut events = turning_back();
    events.push(Event::CompensationSent { step: 0, attempt: 1 });
    events.extend((1..=5).map(|in_a_row| Event::CompensationFailed { step: 0, in_a_row, failure: down() }));
    let saga = view(events);
    assert!(saga.needs_attention);
    let text = plain(&saga);
    assert!(text.contains("  failed (5 in a row)\n"), "however few of them reached the service: {text}");
    let advice = advice(&saga, None).join("\n");
    assert!(advice.find("saga retry") < advice.find("saga force"), "{advice}");
    assert!(!advice.contains("saga compensate"), "it is going back already: {advice}");
}

#[test]
fn what_a_gateway_drives_is_acted_on_there() {
    let mut events = turning_back();
    events.extend((1..=5).map(|in_a_row| Event::CompensationFailed { step: 0, in_a_row, failure: down() }));
    let saga = view(events);
    let owner = |command: &str| Owner { pid: 42, command: command.to_owned(), stopped: false };
    let told = |command: &str| advice(&saga, Some(&owner(command))).join("\n");
    let by_gateway = told("/usr/local/bin/like-gateway --log-format journald");
    assert!(by_gateway.contains(&format!("POST /sagas/{}/retry", saga.saga_id)), "{by_gateway}");
    assert!(!by_gateway.contains("likectl saga"), "it would be refused: {by_gateway}");
    let by_recovery = told("/usr/local/bin/likectl --json recover --watch");
    assert!(by_recovery.contains("likectl saga retry"), "it lets go between two tries: {by_recovery}");
}

#[test]
fn a_saga_hangs_once_it_has_been_open_for_too_long() {
    let open = view(turning_back());
    assert!(!open.hangs(1000, Duration::from_secs(1)));
    assert!(open.hangs(1001, Duration::from_secs(1)));
    assert!(view(completed()).hangs(1001, Duration::from_secs(1)), "its locks stay until it is settled");
    let mut settled = completed();
    settled.push(Event::Settled);
    assert!(!view(settled).hangs(1001, Duration::from_secs(1)));
}

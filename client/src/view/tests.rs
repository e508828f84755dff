use std::time::Duration;

use like_protocol::codec;
use like_protocol::likes::user::UserRejection;

use super::advice::advice;
use super::samples::{completed, down, foreign, turning_back, view};
use crate::log::Owner;
use crate::saga::Event;

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
fn nobody_is_advised_to_recover_what_this_program_does_not_know_how_to_drive() {
    let saga = view(foreign(turning_back()));
    let told = advice(&saga, None).join("\n");
    assert!(told.contains("kind `like`") && told.contains("of a release that does"), "{told}");
    assert!(told.contains("saga force") && !told.contains("saga retry"), "{told}");
    let owner = Owner { pid: 42, command: "likectl".to_owned(), stopped: false };
    assert!(advice(&saga, Some(&owner))[0].starts_with("Wait"), "that one may know");
}

#[test]
fn what_can_not_be_settled_any_more_can_be_forced_to_the_end_that_it_has() {
    let saga = view(completed());
    let told = advice(&saga, None).join("\n");
    assert!(told.contains("likectl recover"), "{told}");
    assert!(told.contains(&format!("likectl saga force {} --as completed", saga.saga_id)), "{told}");
    let settled = view([completed(), vec![Event::Settled]].concat());
    assert!(!advice(&settled, None).join("\n").contains("force"));
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

use super::*;
use crate::saga::Event;
use crate::view::samples::{completed, down, turning_back, view};

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
fn what_took_long_is_told_in_minutes() {
    let mut saga = view(completed());
    let [.., before, last] = saga.history.as_mut_slice() else { panic!("a history") };
    (before.after_ms, last.after_ms) = (59_999, 629_664);
    let text = plain(&saga);
    assert!(text.contains("59999 ms  user ") && text.contains("10 min 29 s  "), "{text}");
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

//! Every event against every state, and what each leaves behind.

use super::*;

/// A state by name, the events that lead to it, and the events that fit it, by their names in [`every_event`].
struct Row {
    state: &'static str,
    reached_by: Vec<Event>,
    fits: Vec<&'static str>,
}

fn every_event() -> Vec<(&'static str, Event)> {
    vec![
        ("begun", Event::Begun(begun().into())),
        ("sent 0", sent(0, 100)),
        ("sent 1", sent(1, 100)),
        ("sent 2", sent(2, 100)),
        ("done 0", done(0)),
        ("done 1", done(1)),
        ("done 2", done(2)),
        ("rejected 0", rejected(0)),
        ("rejected 1", rejected(1)),
        ("refused 0", refused(0)),
        ("refused 1", refused(1)),
        ("failed 0", failed(0)),
        ("failed 1", failed(1)),
        ("failed 2", failed(2)),
        ("back: rejected 0", back(TurnBack::Rejected { step: 0 })),
        ("back: rejected 1", back(TurnBack::Rejected { step: 1 })),
        ("back: refused 0", back(TurnBack::Refused { step: 0 })),
        ("back: refused 1", back(TurnBack::Refused { step: 1 })),
        ("back: deadline 0", back(TurnBack::Deadline { step: 0 })),
        ("back: deadline 1", back(TurnBack::Deadline { step: 1 })),
        ("back: deadline 2", back(TurnBack::Deadline { step: 2 })),
        ("back: operator", back(OPERATOR)),
        ("undo sent 0", undo_sent(0, 100)),
        ("undo sent 1", undo_sent(1, 100)),
        ("undo sent 2", undo_sent(2, 100)),
        ("undone 0", undone(0)),
        ("undone 1", undone(1)),
        ("undo failed 0", undo_failed(0, 1)),
        ("undo failed 1", undo_failed(1, 1)),
        ("completed", Event::Ended(End::Completed)),
        ("compensated", Event::Ended(End::Compensated)),
        ("forced", forced(End::Completed)),
        ("taken over", TAKEN_OVER),
        ("resumed", resumed(99)),
        ("settled", Event::Settled),
        ("quarantined", quarantined()),
    ]
}

fn every_state() -> Vec<Row> {
    let both_done = || vec![sent(0, 1), done(0), sent(1, 1), done(1)];
    let step_1_sent = || vec![sent(0, 1), done(0), sent(1, 1)];
    let both_sent = || vec![sent(0, 1), sent(1, 1)];
    let rejected_at_1 = || [step_1_sent(), vec![rejected(1)]].concat();
    let went_back = || [rejected_at_1(), vec![back(TurnBack::Rejected { step: 1 })]].concat();
    let all_undone = || [went_back(), vec![undo_sent(1, 1), undone(1), undo_sent(0, 1), undone(0)]].concat();
    // What fits every saga that has not ended, and every one that goes forward.
    let open = |fits: &[&'static str]| [fits, &["forced", "taken over", "quarantined"]].concat();
    let forward = |fits: &[&'static str]| open(&[fits, &["back: operator", "resumed"]].concat());
    let row = |state, reached_by, fits| Row { state, reached_by, fits };
    vec![
        row("begun", vec![], forward(&["sent 0", "failed 0", "failed 1", "back: deadline 0"])),
        row(
            "step 0 in doubt",
            vec![sent(0, 1)],
            forward(&[
                "sent 0",
                "sent 1",
                "done 0",
                "rejected 0",
                "refused 0",
                "failed 0",
                "failed 1",
                "back: deadline 0",
            ]),
        ),
        row(
            "both in doubt",
            both_sent(),
            forward(&[
                "sent 0",
                "sent 1",
                "done 0",
                "done 1",
                "rejected 0",
                "rejected 1",
                "refused 0",
                "refused 1",
                "failed 0",
                "failed 1",
                "back: deadline 0",
            ]),
        ),
        row(
            "step 0 in doubt, step 1 done",
            [both_sent(), vec![done(1)]].concat(),
            forward(&["sent 0", "done 0", "rejected 0", "refused 0", "failed 0", "back: deadline 0"]),
        ),
        row(
            "step 0 in doubt, step 1 rejected",
            [both_sent(), vec![rejected(1)]].concat(),
            forward(&[
                "done 0",
                "rejected 0",
                "refused 0",
                "failed 0",
                "back: rejected 1",
                "back: deadline 1",
            ]),
        ),
        row("step 0 done", vec![sent(0, 1), done(0)], forward(&["sent 1", "failed 1", "back: deadline 1"])),
        row(
            "step 1 in doubt",
            step_1_sent(),
            forward(&["sent 1", "done 1", "rejected 1", "refused 1", "failed 1", "back: deadline 1"]),
        ),
        row(
            "step 1 in doubt, taken over",
            [step_1_sent(), vec![TAKEN_OVER]].concat(),
            forward(&["sent 1", "done 1", "rejected 1", "refused 1", "failed 1"]),
        ),
        row("step 1 rejected", rejected_at_1(), forward(&["back: rejected 1", "back: deadline 1"])),
        row(
            "step 0 refused",
            vec![sent(0, 1), refused(0)],
            forward(&["failed 1", "back: refused 0", "back: deadline 0"]),
        ),
        row("both done", both_done(), forward(&["completed"])),
        row(
            "gone back",
            went_back(),
            open(&["undo sent 0", "undo sent 1", "undo failed 0", "undo failed 1"]),
        ),
        row(
            "gone back with nothing sent",
            vec![back(TurnBack::Deadline { step: 0 })],
            open(&["compensated"]),
        ),
        row(
            "gone back after a takeover with one step sent",
            vec![sent(0, 1), TAKEN_OVER, refused(0), back(TurnBack::Refused { step: 0 })],
            open(&["undo sent 0", "undo sent 1", "undo failed 0", "undo failed 1"]),
        ),
        row(
            "sent back by an operator with nothing sent",
            vec![back(OPERATOR)],
            open(&["undo sent 0", "undo sent 1", "undo failed 0", "undo failed 1"]),
        ),
        row(
            "undoing step 1",
            [went_back(), vec![undo_sent(1, 1)]].concat(),
            open(&["undo sent 0", "undo sent 1", "undone 1", "undo failed 0", "undo failed 1"]),
        ),
        row(
            "step 1 undone",
            [went_back(), vec![undo_sent(1, 1), undone(1)]].concat(),
            open(&["undo sent 0", "undo failed 0"]),
        ),
        row("all undone", all_undone(), open(&["compensated"])),
        row(
            "completed",
            [both_done(), vec![Event::Ended(End::Completed)]].concat(),
            vec!["taken over", "settled"],
        ),
        row(
            "compensated",
            [all_undone(), vec![Event::Ended(End::Compensated)]].concat(),
            vec!["taken over", "settled"],
        ),
        row("forced", [went_back(), vec![forced(End::Completed)]].concat(), vec!["taken over", "settled"]),
        row("settled", [both_done(), vec![Event::Ended(End::Completed), Event::Settled]].concat(), vec![]),
        row("quarantined", [step_1_sent(), vec![quarantined()]].concat(), vec!["forced"]),
        row(
            "quarantined, then forced",
            vec![quarantined(), forced(End::Compensated)],
            vec!["taken over", "settled"],
        ),
    ]
}

#[test]
fn every_event_fits_where_it_should_and_leaves_the_state_as_it_was_where_it_does_not() {
    for Row { state: name, reached_by, fits } in every_state() {
        let before = after(reached_by);
        for (event_name, event) in every_event() {
            let mut state = before.clone();
            let fitted = state.apply(&event).is_ok();
            assert_eq!(fitted, fits.contains(&event_name), "{event_name:?} in the state {name:?}");
            if !fitted {
                assert_eq!(state, before, "{event_name:?} changed the state {name:?}");
            }
        }
    }
}

#[test]
fn every_sort_of_event_but_the_first_fits_somewhere() {
    let rows = every_state();
    let sort = |name: &'static str| name.trim_end_matches(char::is_numeric);
    for (name, _) in every_event() {
        let somewhere = rows.iter().flat_map(|row| &row.fits).any(|fits| sort(fits) == sort(name));
        assert_eq!(somewhere, name != "begun", "{name:?}");
    }
}

#[test]
fn an_event_that_does_not_fit_says_what_and_where() {
    let error = after([]).apply(&Event::Settled).unwrap_err().to_string();
    assert!(error.contains("Settled") && error.contains("going forward"), "{error}");
}

#[test]
fn an_attempt_is_never_counted_twice() {
    let mut state = after([sent(0, 3)]);
    assert!(state.apply(&sent(0, 3)).is_err());
    assert!(state.apply(&sent(0, 2)).is_err());
    assert!(state.apply(&sent(0, 4)).is_ok());
    assert_eq!(state.steps[0].action_attempts, 4);

    let mut state = after([sent(0, 1), back(OPERATOR), undo_sent(0, 3)]);
    assert!(state.apply(&undo_sent(0, 3)).is_err());
    assert!(state.apply(&undo_sent(0, 4)).is_ok());
    assert_eq!(state.steps[0].compensation_attempts, 4);
}

#[test]
fn no_step_that_there_is_not_may_be_sent() {
    let state = after([sent(0, 1), sent(1, 1)]);
    assert_eq!([0, 1, 2].map(|step| state.may_be_sent(step)), [true, true, false]);
}

#[test]
fn an_action_goes_from_not_sent_to_in_doubt_to_its_outcome() {
    assert_eq!(after([]).steps[0].action, Action::NotSent);
    assert_eq!(after([failed(0)]).steps[0].action, Action::NotSent);
    assert_eq!(after([sent(0, 1)]).steps[0].action, Action::InDoubt);
    assert_eq!(after([sent(0, 1), failed(0)]).steps[0].action, Action::InDoubt);
    assert_eq!(after([sent(0, 1), done(0)]).steps[0].action, Action::Done(Payload::from(vec![0; 4])));
    assert_eq!(after([sent(0, 1), rejected(0)]).steps[0].action, Action::Rejected(Payload::from(vec![9])));
    assert_eq!(
        after([sent(0, 1), refused(0)]).steps[0].action,
        Action::Refused(crate::saga::Refusal::Expired)
    );
}

#[test]
fn a_failure_is_remembered_until_something_better_is_known() {
    assert_eq!(after([sent(0, 1), failed(0)]).steps[0].last_failure, Some(failure()));
    assert_eq!(after([sent(0, 1), failed(0), sent(0, 2), done(0)]).steps[0].last_failure, None);
    let stuck = after([sent(0, 1), failed(0), back(TurnBack::Deadline { step: 0 })]);
    assert_eq!(stuck.turned_back_after, Some(failure()));
    let late = after([sent(0, 1), failed(0), sent(0, 2), refused(0), back(TurnBack::Refused { step: 0 })]);
    assert_eq!(late.turned_back_after, Some(failure()), "that it came too late is nothing better");
}

#[test]
fn replies_are_kept_in_the_order_of_steps() {
    let state = after([sent(0, 1), done(0), sent(1, 1)]);
    assert_eq!(state.replies(), [Some(Payload::from(vec![0; 4])), None]);
    assert_eq!(state.replies_before(1), Some(vec![Payload::from(vec![0; 4])]));
    assert_eq!(state.replies_before(2), None);
    assert_eq!(state.replies_before(3), None);
}

#[test]
fn a_saga_needs_attention_after_so_many_failures_in_a_row_and_no_longer_once_the_step_is_undone() {
    let stuck = [sent(0, 1), back(TurnBack::Deadline { step: 0 }), undo_sent(0, 1), undo_failed(0, 4)];
    let mut state = after(stuck);
    assert!(!state.needs_attention(5));
    state.apply(&undo_failed(0, 5)).unwrap();
    assert!(state.needs_attention(5));
    state.apply(&undone(0)).unwrap();
    assert!(!state.needs_attention(5));
}

#[test]
fn a_saga_whose_actions_fail_needs_no_attention_and_a_quarantined_one_does() {
    let failing: Vec<_> = (1..9).flat_map(|attempt| [sent(0, attempt), failed(0)]).collect();
    assert!(!after(failing).needs_attention(5));
    assert!(after([quarantined()]).needs_attention(5));
    assert!(!after([quarantined(), forced(End::Completed)]).needs_attention(5));
}

#[test]
fn the_failures_of_a_saga_ended_by_force_need_no_attention() {
    let stuck = [sent(0, 1), back(OPERATOR), undo_sent(0, 1), undo_failed(0, 9)];
    assert!(after(stuck.clone()).needs_attention(5));
    assert!(!after(stuck.into_iter().chain([forced(End::Compensated)])).needs_attention(5));
}

#[test]
fn a_step_is_settled_where_it_may_have_left_something() {
    let owed = |state: &SagaState| [state.owes_settlement(0), state.owes_settlement(1)];
    assert_eq!(owed(&after([sent(0, 1), back(TurnBack::Deadline { step: 0 })])), [true, false]);
    // A compensation of a step that was never sent has left a tombstone.
    assert_eq!(owed(&after([back(OPERATOR), undo_sent(1, 1)])), [false, true]);
    assert_eq!(owed(&after([forced(End::Completed)])), [true, true]);
    assert_eq!(owed(&after([quarantined(), forced(End::Completed)])), [true, true]);
}

#[test]
fn a_new_deadline_replaces_the_old_one_while_the_saga_goes_forward() {
    assert_eq!(after([resumed(99_000)]).deadline.at_ms, 99_000);
    assert_eq!(after([resumed(99_000)]).begun.deadline.at_ms, DEADLINE_MS);
}

#[test]
fn a_new_deadline_never_shortens_the_old_one_but_replaces_that_of_another_boot() {
    assert_eq!(after([resumed(DEADLINE_MS - 1)]).deadline.at_ms, DEADLINE_MS);
    assert_eq!(after([resumed(99_000), resumed(98_000)]).deadline.at_ms, 99_000);
    let rebooted = Deadline { boot: BootId::from_bytes([0xee; 16]), at_ms: 5 };
    assert_eq!(after([Event::Resumed { deadline: rebooted, by_uid: 0 }]).deadline, rebooted);
}

#[test]
fn where_events_are_lost_only_an_end_and_an_operators_word_count() {
    let mut state = after([sent(0, 1), quarantined()]);
    let before = state.clone();
    for event in [done(0), sent(1, 1), back(OPERATOR), undone(0), TAKEN_OVER, resumed(1), quarantined()] {
        state.apply_where_readable(&event).unwrap();
        assert_eq!(state, before, "{event:?}");
    }
    state.apply_where_readable(&Event::Ended(End::Completed)).unwrap();
    assert_eq!(state.ended(), Some(End::Completed));
    assert!(!state.quarantined_now() && !state.forced());
    assert_eq!(state.next(&EARLY), Next::Settle(vec![0, 1]));
    state.apply_where_readable(&Event::Settled).unwrap();
    assert!(state.settled);

    let mut state = before;
    state.apply_where_readable(&forced(End::Compensated)).unwrap();
    assert_eq!(state.ended(), Some(End::Compensated));
    // A second end is not an end.
    state.apply_where_readable(&Event::Ended(End::Completed)).unwrap();
    assert_eq!(state.ended(), Some(End::Compensated));
    assert!(state.forced());
}

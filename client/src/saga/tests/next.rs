//! What is to be done in every phase.

use super::*;
use crate::saga::next::Milestone;

fn next(events: impl IntoIterator<Item = Event>, now: &Now) -> Next {
    after(events).next(now)
}

fn both_done() -> Vec<Event> {
    vec![sent(0, 1), done(0), sent(1, 1), done(1)]
}

#[test]
fn actions_are_done_in_order_and_again_while_in_doubt() {
    assert_eq!(next([], &EARLY), Next::Act(0));
    assert_eq!(next([sent(0, 1)], &EARLY), Next::Act(0));
    assert_eq!(next([sent(0, 1), failed(0)], &EARLY), Next::Act(0));
    assert_eq!(next([sent(0, 1), done(0)], &EARLY), Next::Act(1));
    assert_eq!(next(both_done(), &EARLY), Next::End(End::Completed));
}

#[test]
fn a_saga_whose_steps_are_all_done_completes_however_late_it_is() {
    assert_eq!(next(both_done(), &LATE), Next::End(End::Completed));
}

#[test]
fn a_rejection_or_refusal_turns_the_saga_back_whoever_drives_it() {
    let rejection = [sent(0, 1), done(0), sent(1, 1), rejected(1)];
    assert_eq!(next(rejection.clone(), &EARLY), Next::TurnBack(TurnBack::Rejected { step: 1 }));
    let taken_over = rejection.into_iter().chain([TAKEN_OVER]);
    assert_eq!(next(taken_over, &LATE), Next::TurnBack(TurnBack::Rejected { step: 1 }));
    assert_eq!(next([sent(0, 1), refused(0)], &EARLY), Next::TurnBack(TurnBack::Refused { step: 0 }));
    let beside_one_in_doubt = [sent(0, 1), sent(1, 1), rejected(1)];
    assert_eq!(next(beside_one_in_doubt, &EARLY), Next::TurnBack(TurnBack::Rejected { step: 1 }));
}

#[test]
fn a_saga_gives_up_at_its_deadline() {
    let just_before = Now { at_ms: DEADLINE_MS - 1, ..EARLY };
    assert_eq!(next([sent(0, 1)], &just_before), Next::Act(0));
    assert_eq!(next([sent(0, 1)], &LATE), Next::TurnBack(TurnBack::Deadline { step: 0 }));
    assert_eq!(next([], &LATE), Next::TurnBack(TurnBack::Deadline { step: 0 }));
    assert_eq!(next([sent(0, 1), done(0)], &LATE), Next::TurnBack(TurnBack::Deadline { step: 1 }));
}

#[test]
fn a_deadline_of_another_boot_has_passed() {
    let after_reboot = Now { boot: BootId::from_bytes([8; 16]), at_ms: 0 };
    assert_eq!(next([sent(0, 1)], &after_reboot), Next::TurnBack(TurnBack::Deadline { step: 0 }));
    assert_eq!(next([sent(0, 1), TAKEN_OVER], &after_reboot), Next::Act(0));
}

#[test]
fn a_saga_taken_over_while_going_forward_never_gives_up_by_itself() {
    assert_eq!(next([TAKEN_OVER], &LATE), Next::Act(0));
    assert_eq!(next([sent(0, 1), TAKEN_OVER], &LATE), Next::Act(0));
    assert_eq!(next([sent(0, 1), TAKEN_OVER, sent(0, 2), failed(0)], &LATE), Next::Act(0));
    assert_eq!(next([sent(0, 1), TAKEN_OVER, sent(0, 2), done(0)], &LATE), Next::Act(1));
    assert_eq!(next([sent(0, 1), TAKEN_OVER, resumed(DEADLINE_MS + 1)], &LATE), Next::Act(0));
}

#[test]
fn an_operator_can_turn_back_what_was_taken_over() {
    assert_eq!(next([TAKEN_OVER, back(OPERATOR)], &LATE), Next::Compensate(vec![1, 0]));
}

#[test]
fn a_resumed_saga_goes_by_its_new_deadline() {
    let resumed = |at_ms| [sent(0, 1), resumed(at_ms)];
    assert_eq!(next(resumed(DEADLINE_MS + 1), &LATE), Next::Act(0));
    assert_eq!(next(resumed(DEADLINE_MS), &LATE), Next::TurnBack(TurnBack::Deadline { step: 0 }));
}

#[test]
fn what_may_have_been_sent_is_undone_in_reverse_order_the_failing_step_included() {
    let rejection = [sent(0, 1), done(0), sent(1, 1), rejected(1), back(TurnBack::Rejected { step: 1 })];
    assert_eq!(next(rejection, &EARLY), Next::Compensate(vec![1, 0]));
    let refusal = [sent(0, 1), refused(0), back(TurnBack::Refused { step: 0 })];
    assert_eq!(next(refusal, &EARLY), Next::Compensate(vec![0]));
    let doubt = [sent(0, 1), done(0), sent(1, 1), failed(1), back(TurnBack::Deadline { step: 1 })];
    assert_eq!(next(doubt, &LATE), Next::Compensate(vec![1, 0]));
}

#[test]
fn a_step_that_was_never_sent_owes_nothing() {
    let never_sent = [sent(0, 1), done(0), failed(1), back(TurnBack::Deadline { step: 1 })];
    assert_eq!(next(never_sent, &LATE), Next::Compensate(vec![0]));
    assert_eq!(next([back(TurnBack::Deadline { step: 0 })], &LATE), Next::End(End::Compensated));
}

#[test]
fn what_a_takeover_finds_unsent_is_undone_all_the_same_for_it_may_have_been_sent_beside_what_failed() {
    let refused = [TAKEN_OVER, sent(0, 1), refused(0), back(TurnBack::Refused { step: 0 })];
    assert_eq!(next(refused, &LATE), Next::Compensate(vec![1, 0]));
}

#[test]
fn an_operator_who_turns_a_saga_back_has_every_step_undone() {
    assert_eq!(next([back(OPERATOR)], &EARLY), Next::Compensate(vec![1, 0]));
    assert_eq!(next([back(OPERATOR), undo_sent(0, 1), undone(0)], &EARLY), Next::Compensate(vec![1]));
}

#[test]
fn one_step_that_cannot_be_undone_does_not_hold_up_the_others() {
    let stuck = [sent(0, 1), done(0), sent(1, 1), back(TurnBack::Deadline { step: 1 }), undo_sent(1, 1)];
    let stuck = stuck.into_iter().chain([undo_failed(1, 1), undo_sent(0, 1), undone(0)]);
    assert_eq!(next(stuck, &LATE), Next::Compensate(vec![1]));
}

#[test]
fn an_ended_saga_is_settled_where_it_may_have_left_something_and_then_left_alone() {
    let completed: Vec<_> = both_done().into_iter().chain([Event::Ended(End::Completed)]).collect();
    assert_eq!(next(completed.clone(), &LATE), Next::Settle(vec![0, 1]));
    assert_eq!(next(completed.into_iter().chain([Event::Settled]), &LATE), Next::Nothing);
    let half = [sent(0, 1), back(TurnBack::Deadline { step: 0 }), undo_sent(0, 1), undone(0)];
    let half = half.into_iter().chain([Event::Ended(End::Compensated)]);
    assert_eq!(next(half, &LATE), Next::Settle(vec![0]));
    let nothing = [back(TurnBack::Deadline { step: 0 }), Event::Ended(End::Compensated)];
    assert_eq!(next(nothing, &LATE), Next::Settle(vec![]));
}

#[test]
fn a_forced_end_is_settled_at_every_step() {
    assert_eq!(next([forced(End::Completed)], &EARLY), Next::Settle(vec![0, 1]));
}

#[test]
fn nothing_is_done_about_a_quarantined_saga_until_its_end_is_forced() {
    assert_eq!(next([sent(0, 1), quarantined()], &LATE), Next::Nothing);
    assert_eq!(next([back(OPERATOR), quarantined()], &LATE), Next::Nothing);
    assert_eq!(next([quarantined(), forced(End::Compensated)], &LATE), Next::Settle(vec![0, 1]));
}

#[test]
fn what_is_done_rests_on_the_event_without_which_a_power_loss_would_make_it_wrong() {
    for (next, milestone) in [
        (Next::Act(0), Some(Milestone::Begun)),
        (Next::TurnBack(OPERATOR), None),
        (Next::Compensate(vec![0]), Some(Milestone::TurnedBack)),
        (Next::End(End::Compensated), Some(Milestone::TurnedBack)),
        (Next::End(End::Completed), None),
        (Next::Settle(vec![0]), Some(Milestone::Ended)),
        (Next::Nothing, None),
    ] {
        assert_eq!(next.rests_on(), milestone, "{next:?}");
    }
    for (event, milestone) in [
        (Event::Begun(begun().into()), Some(Milestone::Begun)),
        (sent(0, 1), None),
        (back(OPERATOR), Some(Milestone::TurnedBack)),
        (Event::Ended(End::Completed), Some(Milestone::Ended)),
        (forced(End::Completed), Some(Milestone::Ended)),
        (Event::Settled, None),
    ] {
        assert_eq!(event.milestone(), milestone, "{event:?}");
    }
}

//! What a runner left, and who finishes it.

use super::*;
use crate::runner::admin;
use crate::runner::pace::SLOW;
use crate::runner::recover::{self, Recovery, Report};
use crate::saga::Event;

#[tokio::test]
async fn a_saga_taken_over_while_going_forward_never_gives_up_on_an_unknown_outcome() {
    let bench = Bench::new();
    left_in_doubt(&bench, 2 * SHORT).await;
    // Long past its deadline the service still says nothing: it is asked again and again, and nothing is undone.
    let report = recover::once(&bench.context(), Order::GoOn, 5 * SHORT).await.unwrap();
    assert_eq!((report.recovered, report.unfinished), (1, 1));
    assert!(!bench.heard().iter().any(|heard| heard.ends_with("compensation")));
    // What its log lost could have been an acknowledged end: the recorded reply completes it.
    say(&bench.right.actions, vec![done()]);
    let report = recover::once(&bench.context(), Order::GoOn, LONG).await.unwrap();
    assert_eq!((report.recovered, report.completed), (1, 1));
}

#[tokio::test]
async fn a_saga_taken_over_past_its_deadline_waits_for_an_answer_as_long_as_any_other() {
    let bench = Bench::new();
    left_in_doubt(&bench, 2 * SHORT).await;
    tokio::time::sleep(2 * SHORT).await;
    // Later than an attempt is given that leaves at its saga's deadline.
    say(&bench.right.actions, vec![Script::SayLate(ReplyBody::Step(StepReply::Done(Payload::default())))]);
    let mut context = bench.context();
    context.options.attempt_timeout = LONG;
    let report = recover::once(&context, Order::GoOn, LONG).await.unwrap();
    assert_eq!((report.recovered, report.completed), (1, 1));
}

#[tokio::test]
async fn a_saga_taken_over_while_going_forward_turns_back_on_a_definite_refusal() {
    let bench = Bench::new();
    left_in_doubt(&bench, LONG).await;
    say(&bench.right.actions, vec![Script::Say(ReplyBody::Step(StepReply::Refused(Refusal::Expired)))]);
    let report = recover::once(&bench.context(), Order::GoOn, LONG).await.unwrap();
    assert_eq!((report.recovered, report.compensated), (1, 1));
    assert!(bench.heard().contains(&"left compensation".to_owned()));
}

#[tokio::test]
async fn an_operator_who_compensates_turns_back_every_step() {
    let bench = Bench::new();
    leave(&bench, bench.context(), 1).await;
    let report = recover::once(&bench.context(), Order::Compensate, LONG).await.unwrap();
    assert_eq!((report.recovered, report.compensated), (1, 1));
    // The log knows of no second step; a log that lost something wouldn't either.
    assert!(bench.heard().contains(&"right compensation".to_owned()), "{:?}", bench.heard());
}

#[tokio::test]
async fn a_saga_is_never_driven_against_another_store() {
    let bench = Bench::new();
    left_in_doubt(&bench, LONG).await;
    let restored = Service::new("right", &bench.heard);
    bench.heard.lock().unwrap().clear();
    let other = bench.context_with(&restored);
    let report = recover::once(&other, Order::GoOn, 3 * SHORT).await.unwrap();
    assert_eq!((report.recovered, report.needs_attention), (1, 1));
    assert!(!bench.heard().iter().any(|heard| heard.starts_with("right")), "{:?}", bench.heard());
    // An operator knows what the stores are.
    let saga = *bench.states().keys().next().unwrap();
    let forced = admin::force(&other, saga, End::Compensated, "restored".to_owned(), LONG).await.unwrap();
    assert!(forced.settled && bench.heard().contains(&"right settle".to_owned()), "{:?}", bench.heard());
}

#[tokio::test]
async fn a_runner_that_closes_does_not_wait_for_a_saga_that_needs_an_operator() {
    let bench = Bench::new();
    left_in_doubt(&bench, LONG).await;
    let other = bench.context_with(&Service::new("right", &bench.heard));
    let runner = Runner::start(other).unwrap();
    assert_eq!(runner.active().len(), 1, "it has found what the other one left");
    tokio::time::timeout(LONG / 2, runner.close(LONG)).await.unwrap();
}

/// Leaves so many sagas behind whose first step is in doubt.
async fn leave(bench: &Bench, context: Context, many: usize) {
    say(&bench.left.actions, vec![Script::Hush]);
    let runner = Runner::start(context).unwrap();
    let runs = (0..many).map(|_| runner.run("pair", Payload::default(), LONG));
    let _ = tokio::time::timeout(SHORT, futures::future::join_all(runs)).await;
    runner.let_go();
    say(&bench.left.actions, vec![done()]);
    bench.heard.lock().unwrap().clear();
}

#[tokio::test]
async fn of_what_was_left_no_more_is_under_way_at_a_time_than_may_be() {
    let bench = Bench::new();
    leave(&bench, bench.context(), 3).await;
    let report = recover::once(&patient(&bench), Order::GoOn, LONG).await.unwrap();
    assert_eq!((report.recovered, report.completed), (3, 3));
    let actions: Vec<_> = bench.heard().into_iter().filter(|heard| heard.ends_with("action")).collect();
    assert_eq!(actions, ["left action", "right action"].repeat(3));
}

#[tokio::test]
async fn a_saga_that_gets_nowhere_lets_those_that_wait_have_their_turn() {
    let bench = Bench::new();
    leave(&bench, bench.context(), 1).await;
    // Against another store the first one is never driven.
    let mut context = bench.context_with(&Service::new("right", &bench.heard));
    context.options.under_way_max = 1;
    leave(&bench, context.clone(), 2).await;
    let report = recover::once(&context, Order::GoOn, LONG).await.unwrap();
    assert_eq!((report.recovered, report.completed, report.needs_attention), (3, 2, 1));
}

#[tokio::test]
async fn who_takes_over_more_than_it_comes_to_begins_the_next_time_with_what_it_has_not_come_to() {
    let bench = Bench::new();
    leave(&bench, bench.context(), 3).await;
    say(&bench.left.actions, vec![Script::Hush]);
    let (context, slot) = (patient(&bench), bench.context().journal.slots().unwrap().remove(0));
    let before = bench.states();
    let is_tried = |(saga, state): &(SagaId, SagaState)| {
        state.steps[0].action_attempts > before[saga].steps[0].action_attempts
    };
    for tried in 1..=3 {
        let recovery = Recovery::start(&context, &slot, Order::GoOn).unwrap().unwrap();
        let mut over = Box::pin(recovery.wait(tokio::time::Instant::now() + LONG));
        until(|| bench.heard().len() == tried, &mut over).await;
        drop(over);
        recovery.let_go(tokio::time::Instant::now()).await;
        assert_eq!(bench.states().into_iter().filter(is_tried).count(), tried);
    }
}

#[tokio::test]
async fn what_ended_in_a_segment_that_is_full_by_now_is_told_all_the_same() {
    let bench = Bench::new();
    leave(&bench, bench.context(), 5).await;
    // Each ends by itself, and a segment is full with the second that does in it.
    say(&bench.left.actions, vec![Script::SayLate(ReplyBody::Step(StepReply::Done(Payload::default())))]);
    let mut context = patient(&bench);
    context.options.keeping.segment_bytes_max = 400;
    let slot = context.journal.slots().unwrap().remove(0);
    let before = slot.newest_segment().unwrap();
    let report = recover::once(&context, Order::GoOn, LONG).await.unwrap();
    assert!(slot.newest_segment().unwrap() > before + 2, "it went on in no new segments");
    assert_eq!((report.recovered, report.completed), (5, 5), "{report:?}");
}

#[tokio::test]
async fn who_waits_for_a_lock_finishes_what_any_dead_runner_left() {
    let bench = Bench::new();
    let [first, second, waits] = [(); 3].map(|()| Runner::start(bench.context()).unwrap());
    say(&bench.left.actions, vec![Script::Hush]);
    let run = |runner| async move {
        let _ = tokio::time::timeout(SHORT, Runner::run(runner, "pair", Payload::default(), LONG)).await;
        let (saga, _) = runner.active().remove(0);
        runner.let_go();
        saga
    };
    let (by, another) = futures::join!(run(&first), run(&second));
    say(&bench.left.actions, vec![Script::Say(ReplyBody::Step(StepReply::Locked { by })), done()]);
    waits.run("pair", Payload::default(), LONG).await.unwrap();
    let both_have_ended = async {
        while [by, another].iter().any(|saga| bench.states()[saga].ended().is_none()) {
            tokio::time::sleep(SHORT / 30).await;
        }
    };
    tokio::time::timeout(LONG, both_have_ended).await.unwrap();
}

#[tokio::test]
async fn who_watches_keeps_what_it_took_over_until_that_has_been_answered() {
    let bench = Bench::new();
    left_in_doubt(&bench, LONG).await;
    let late = ReplyBody::Step(StepReply::Done(Payload::default()));
    say(&bench.right.actions, vec![Script::SayLate(late)]);
    watched(&bench, async |told| {
        taken_over(told, 1).await;
        let ended = tokio::time::timeout(LONG, told.recv()).await.unwrap();
        assert!(matches!(&ended, Some(Notice::LetGo { report, .. }) if report.completed == 1), "{ended:?}");
    })
    .await;
}

/// One turn at a time, and who hangs is waited for as long as [`LONG`].
fn patient(bench: &Bench) -> Context {
    let mut context = bench.context();
    (context.options.attempt_timeout, context.options.under_way_max) = (8 * LONG, 1);
    context
}

#[tokio::test]
async fn what_is_new_takes_no_turn_from_what_was_left() {
    let bench = Bench::new();
    leave(&bench, bench.context(), 1).await;
    let runner = Runner::start(patient(&bench)).unwrap();
    let (left, _) = runner.active().remove(0);
    // The new one waits for its beginning to be durable, and then for its first step.
    say(&bench.left.actions, vec![done(), Script::Hush]);
    let mut run = Box::pin(runner.run("pair", Payload::default(), LONG));
    assert!(futures::poll!(&mut run).is_pending());
    until(|| bench.states()[&left].ended().is_some(), &mut run).await;
}

#[tokio::test]
async fn what_is_tried_again_takes_no_turn_from_what_waits_for_its_first() {
    let bench = Bench::new();
    leave(&bench, bench.context(), 3).await;
    let late = Script::SayLate(ReplyBody::Step(StepReply::Done(Payload::default())));
    let busy = Script::Say(ReplyBody::Retry(RetryReason::Busy));
    // The first is tried again, and hangs, while the second has its turn.
    say(&bench.left.actions, vec![busy, late, Script::Hush, done()]);
    let runner = Runner::start(patient(&bench)).unwrap();
    let two_have_ended = async {
        while runner.active().len() > 1 {
            tokio::time::sleep(SHORT / 100).await;
        }
    };
    tokio::time::timeout(LONG / 2, two_have_ended).await.unwrap();
}

#[tokio::test]
async fn what_hangs_holds_up_what_waits_for_its_turn_no_longer_than_a_while() {
    let bench = Bench::new();
    leave(&bench, bench.context(), 3).await;
    say(&bench.left.actions, vec![Script::Hush, Script::Hush, done()]);
    let runner = Runner::start(patient(&bench)).unwrap();
    let mut idle = Box::pin(runner.idle());
    for hang in 1..=2 {
        until(|| bench.heard().len() == hang, &mut idle).await;
        pass(LONG).await;
    }
    until(|| runner.active().len() == 2, &mut idle).await;
}

#[tokio::test]
async fn what_needed_an_operator_is_not_given_up_before_it_has_been_answered_once_more() {
    let bench = Bench::new();
    let mut context = bench.context();
    context.options.attention_after = 1;
    say(&bench.right.actions, vec![Script::Say(ReplyBody::Step(StepReply::Refused(Refusal::Expired)))]);
    say(&bench.left.compensations, vec![Script::Say(ReplyBody::Retry(RetryReason::Storage))]);
    let dead = Runner::start(context.clone()).unwrap();
    let _ = tokio::time::timeout(SHORT, dead.run("pair", Payload::default(), LONG)).await;
    assert!(dead.stuck());
    dead.let_go();
    // Its daemon has too much to do at first, and answers later than it is first looked whether waiting is in vain.
    let busy = Script::Say(ReplyBody::Retry(RetryReason::Busy));
    let late = Script::SayLate(ReplyBody::Step(StepReply::Undone));
    say(&bench.left.compensations, vec![busy.clone(), busy.clone(), busy, late]);
    let report = recover::once(&context, Order::GoOn, LONG).await.unwrap();
    assert_eq!((report.recovered, report.compensated), (1, 1), "{report:?}");
}

#[tokio::test]
async fn nothing_is_open_any_more_of_what_has_ended_and_is_settled() {
    let bench = Bench::new();
    leave(&bench, bench.context(), 1).await;
    let context = bench.context();
    let slot = context.journal.slots().unwrap().remove(0);
    let recovery = Recovery::start(&context, &slot, Order::GoOn).unwrap().unwrap();
    let until = tokio::time::Instant::now() + LONG;
    recovery.wait(until).await;
    recovery.let_go(until).await;
    let (ends, open) = recovery.tell(&mut Report::default());
    assert!(matches!(ends[..], [(_, Some(End::Completed))]), "{ends:?}");
    assert!(open.unwrap().is_empty());
}

#[tokio::test]
async fn nobody_waits_for_a_settlement_that_was_tried_in_vain() {
    let bench = Bench::new();
    left_unsettled(&bench).await;
    let mut context = bench.context_with(&Service::new("right", &bench.heard));
    context.options.attempt_timeout = 9 * LONG;
    let acts = async {
        Runner::start(context.clone()).unwrap().close(9 * LONG).await;
        recover::once(&context, Order::GoOn, 9 * LONG).await.unwrap();
    };
    tokio::time::timeout(LONG, acts).await.expect("it waits for what a person has to see to");
    assert!(bench.states().values().all(|state| !state.settled), "it is not forgotten");
}

/// How often a step's action, or its compensation, was found to have failed.
fn failures(bench: &Bench, saga: SagaId) -> usize {
    let (_, story) = history::find(&bench.context().journal, saga).unwrap().unwrap();
    let failed =
        |event: &Event| matches!(event, Event::ActionFailed { .. } | Event::CompensationFailed { .. });
    story.records.iter().filter(|record| failed(&record.event)).count()
}

/// A saga is tried in vain for so long, in no time: from its first failure on, since the clock does not wait for a sync.
async fn tried_in_vain(bench: &Bench, saga: SagaId, long: Duration) -> usize {
    while failures(bench, saga) == 0 {
        tokio::time::sleep(SHORT / 100).await;
    }
    tokio::time::pause();
    tokio::time::sleep(long).await;
    failures(bench, saga)
}

/// A service comes back just after it was tried in vain: the saga ends soon, and not when it is tried next.
async fn ends_once_it_is_reached(bench: &Bench, runner: &Runner, saga: SagaId, service: &Service) {
    let before = failures(bench, saga);
    while failures(bench, saga) == before {
        tokio::time::sleep(SHORT).await;
    }
    service.down.send_replace(false);
    let began = tokio::time::Instant::now();
    runner.idle().await;
    assert!(began.elapsed() < SLOW / 4, "{:?}", began.elapsed());
}

#[tokio::test]
async fn an_overdue_saga_is_tried_less_and_less_often_until_its_service_says_hello_again() {
    let bench = Bench::new();
    let (saga, _) = left_in_doubt(&bench, SHORT).await;
    tokio::time::sleep(SHORT).await;
    bench.right.down.send_replace(true);
    say(&bench.right.actions, vec![done()]);
    let runner = Runner::start(bench.context()).unwrap();
    let tried = tried_in_vain(&bench, saga, 100 * SLOW).await;
    assert!((50..120).contains(&tried), "{tried}");
    ends_once_it_is_reached(&bench, &runner, saga, &bench.right).await;
    assert_eq!(bench.states()[&saga].phase, Phase::Ended(End::Completed));
}

#[tokio::test]
async fn a_compensation_goes_on_once_its_service_says_hello_again_however_slowly_it_was_tried() {
    let bench = Bench::new();
    let (saga, _) = left_in_doubt(&bench, LONG).await;
    bench.left.down.send_replace(true);
    say(&bench.right.actions, vec![Script::Say(ReplyBody::Step(StepReply::Refused(Refusal::Expired)))]);
    let runner = Runner::start(bench.context()).unwrap();
    let tried = tried_in_vain(&bench, saga, 3 * SLOW).await;
    assert!(tried > 5, "{tried}");
    ends_once_it_is_reached(&bench, &runner, saga, &bench.left).await;
    assert_eq!(bench.states()[&saga].phase, Phase::Ended(End::Compensated));
}

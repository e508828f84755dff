//! One saga: its steps, its failures, its end.

use std::sync::atomic::{AtomicU64, Ordering};

use like_protocol::time::Now;

use super::*;
use crate::log::tests::Ear;
use crate::log::tests::cut_disk::CutDisk;
use crate::runner::pace::SLOW;
use crate::runner::settle::{Ended, Settler};
use crate::runner::{admin, recover};
use crate::saga::Event;

#[tokio::test]
async fn a_saga_runs_its_steps_in_order_and_is_settled() {
    let bench = Bench::new();
    let runner = Runner::start(bench.context()).unwrap();
    let outcome = runner.run("pair", Payload::default(), LONG).await.unwrap();
    assert_eq!(outcome.state.ended(), Some(End::Completed));
    runner.close(LONG).await;
    assert_eq!(bench.heard()[..2], ["left action", "right action"]);
    assert_eq!(bench.heard()[2..].iter().filter(|heard| heard.ends_with("settle")).count(), 2);
    assert!(bench.states()[&outcome.saga].settled);
}

/// A runner on a disk on which nobody syncs but those beside whom nothing goes on, by themselves.
fn syncing_by_itself(bench: &Bench) -> (CutDisk, Runner) {
    let disk = CutDisk::default();
    let options = Options { sync_here: true, ..bench.context().options };
    let runner = Runner::start(Context { journal: disk.journal(), options, ..bench.context() }).unwrap();
    (disk, runner)
}

#[tokio::test]
async fn sagas_beside_which_nothing_goes_on_sync_by_themselves() {
    let bench = Bench::new();
    let (disk, runner) = syncing_by_itself(&bench);
    let run = || runner.run("pair", Payload::default(), LONG);
    for begun in 1..=3 {
        assert_eq!(run().await.unwrap().state.ended(), Some(End::Completed));
        assert_eq!(disk.left(), begun, "its beginning was not durable");
    }
    let all = futures::future::join_all((0..64).map(|_| run())).await;
    assert!(all.into_iter().all(|ran| ran.unwrap().state.ended() == Some(End::Completed)));
    assert_eq!(disk.left(), 3 + 64);
}

#[tokio::test]
async fn who_waits_for_an_answer_is_held_up_by_no_sync() {
    let bench = Bench::new();
    let (_disk, runner) = syncing_by_itself(&bench);
    let run = || tokio::time::timeout(SHORT, runner.run("pair", Payload::default(), LONG));
    run().await.unwrap().unwrap();
    bench.right.settles.send_replace(false);
    let right = runner.context().participants.find("right").unwrap().open().unwrap();
    let mut asked = Box::pin(right.call(RequestBody::Settle(Vec::new()), LONG));
    assert!(futures::poll!(&mut asked).is_pending());
    let second = run().await;
    assert!(second.is_err(), "it has synced by itself");
    assert_eq!(bench.heard(), ["left action", "right action", "right settle"]);
}

#[tokio::test]
async fn a_saga_that_rests_before_it_tries_again_is_held_up_by_no_sync() {
    let bench = Bench::new();
    let (_disk, runner) = syncing_by_itself(&bench);
    say(&bench.left.actions, vec![Script::Say(ReplyBody::Retry(RetryReason::Busy))]);
    let mut rests = Box::pin(runner.run("pair", Payload::default(), LONG));
    until(|| runner.active().iter().any(|(_, state)| state.steps[0].last_failure.is_some()), &mut rests)
        .await;
    say(&bench.left.actions, vec![Script::Hush]);
    let second = tokio::time::timeout(SHORT, runner.run("beside", Payload::default(), LONG)).await;
    assert!(second.is_err() && !bench.has_heard("right action"), "it has synced by itself");
}

#[tokio::test]
async fn no_participant_is_told_of_an_end_that_is_not_durable() {
    let bench = Bench::new();
    // That is no way to make an end durable.
    let (_disk, runner) = syncing_by_itself(&bench);
    runner.run("pair", Payload::default(), LONG).await.unwrap();
    assert!(tokio::time::timeout(SHORT, runner.settled()).await.is_err());
    assert_eq!(bench.heard(), ["left action", "right action"]);
}

#[tokio::test]
async fn nothing_is_undone_before_the_turning_back_is_durable() {
    let bench = Bench::new();
    let (_disk, runner) = syncing_by_itself(&bench);
    say(&bench.right.actions, vec![Script::Say(ReplyBody::Retry(RetryReason::Busy))]);
    let mut first = Box::pin(runner.run("pair", Payload::default(), LONG));
    until(|| bench.has_heard("right action"), &mut first).await;
    let mut second = Box::pin(runner.run("pair", Payload::default(), LONG));
    assert!(futures::poll!(&mut second).is_pending());
    assert_eq!(runner.active().len(), 2);
    say(&bench.right.actions, vec![Script::Say(ReplyBody::Step(StepReply::Rejected(Payload::default())))]);
    let turned = || runner.active().iter().any(|(_, state)| matches!(state.phase, Phase::Back(_)));
    until(turned, &mut first).await;
    assert!(tokio::time::timeout(SHORT, &mut first).await.is_err(), "its caller was told");
    assert!(!bench.heard().iter().any(|heard| heard.ends_with("compensation")), "{:?}", bench.heard());
}

#[tokio::test]
async fn a_saga_whose_runner_has_other_things_to_do_holds_nobody_up() {
    let bench = Bench::new();
    let journal = CutDisk::default().journal();
    let runner = Runner::start(Context { journal, ..bench.context() }).unwrap();
    let alone = tokio::time::timeout(SHORT, runner.run("pair", Payload::default(), LONG)).await;
    assert!(alone.is_err(), "it has synced by itself");
    assert_eq!(bench.heard(), [""; 0], "a request left before its saga's beginning was durable");
}

#[tokio::test]
async fn a_rejected_step_is_compensated_too_and_compensations_start_in_reverse_order() {
    let bench = Bench::new();
    say(
        &bench.right.actions,
        vec![Script::Say(ReplyBody::Step(StepReply::Rejected(Payload::from(vec![9]))))],
    );
    let runner = Runner::start(bench.context()).unwrap();
    let outcome = runner.run("pair", Payload::default(), LONG).await.unwrap();
    assert_eq!(outcome.state.ended(), Some(End::Compensated));
    assert_eq!(
        bench.heard()[..4],
        ["left action", "right action", "right compensation", "left compensation"]
    );
    runner.close(LONG).await;
    assert_eq!(bench.left.noted(), [None], "a note belongs to what has completed");
}

#[tokio::test]
async fn a_step_that_was_never_sent_needs_nothing_and_the_saga_ends_while_its_service_is_down() {
    let bench = Bench::new();
    let runner = Runner::start(bench.context()).unwrap();
    runner.run("pair", Payload::default(), LONG).await.unwrap();
    runner.settled().await;
    bench.right.down.send_replace(true);
    let right = runner.context().participants.find("right").unwrap();
    while right.connect(SHORT).await.is_ok() {
        tokio::task::yield_now().await;
    }
    bench.heard.lock().unwrap().clear();
    let outcome = runner.run("pair", Payload::default(), SHORT).await.unwrap();
    assert_eq!(outcome.state.ended(), Some(End::Compensated));
    assert_eq!(bench.heard()[..2], ["left action", "left compensation"]);
    runner.close(LONG).await;
    assert!(bench.states()[&outcome.saga].settled, "the service that is down has nothing to settle");
}

#[tokio::test]
async fn an_unknown_outcome_is_asked_again_until_the_deadline_and_then_compensated() {
    let bench = Bench::new();
    say(&bench.right.actions, vec![Script::Hush]);
    let runner = Runner::start(bench.context()).unwrap();
    let outcome = runner.run("pair", Payload::default(), 3 * SHORT).await.unwrap();
    assert_eq!(outcome.state.phase, Phase::Ended(End::Compensated));
    let asked = bench.heard().iter().filter(|heard| *heard == "right action").count();
    assert!(asked >= 2, "asked {asked} times");
    assert_eq!(outcome.state.steps[1].action_attempts as usize, asked);
    let after = outcome.state.turned_back_after.clone().unwrap();
    assert_eq!(after.kind, FailureKind::Unknown);
}

#[tokio::test]
async fn a_lock_and_a_busy_daemon_are_only_waited_for() {
    let bench = Bench::new();
    let locked = Script::Say(ReplyBody::Step(StepReply::Locked { by: SagaId::generate() }));
    let busy = Script::Say(ReplyBody::Retry(RetryReason::Busy));
    say(&bench.right.actions, vec![locked.clone(), locked, busy, done()]);
    let runner = Runner::start(bench.context()).unwrap();
    let outcome = runner.run("pair", Payload::default(), LONG).await.unwrap();
    assert_eq!(outcome.state.ended(), Some(End::Completed));
    assert_eq!(outcome.state.steps[1].action_attempts, 4);
}

#[tokio::test]
async fn a_service_that_stays_busy_is_asked_less_and_less_often() {
    let bench = Bench::new();
    say(&bench.right.actions, vec![Script::Say(ReplyBody::Retry(RetryReason::Busy))]);
    let runner = Runner::start(bench.context()).unwrap();
    let outcome = runner.run("pair", Payload::default(), 3 * SHORT).await.unwrap();
    // After 10 ms at the earliest, then after 20, 40, 80, 160, 320 and 640.
    let asked = outcome.state.steps[1].action_attempts;
    assert!(asked <= 8, "asked {asked} times");
}

#[tokio::test]
async fn dropping_the_future_of_a_saga_changes_nothing_about_it() {
    let bench = Bench::new();
    let runner = Runner::start(bench.context()).unwrap();
    {
        let run = runner.run("pair", Payload::default(), LONG);
        tokio::pin!(run);
        // Polled until it waits for its saga, then dropped.
        assert!(futures::poll!(&mut run).is_pending());
        while runner.active().is_empty() {
            // On a machine that is slow to look, it may have ended already: then there is nothing left to drop.
            if futures::poll!(&mut run).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    runner.close(LONG).await;
    let states = bench.states();
    assert_eq!(states.len(), 1);
    assert!(states.values().all(|state| state.ended() == Some(End::Completed) && state.settled));
}

#[tokio::test]
async fn a_compensation_that_keeps_failing_needs_attention_and_does_not_hold_up_others() {
    let bench = Bench::new();
    say(&bench.right.actions, vec![Script::Say(ReplyBody::Step(StepReply::Rejected(Payload::default())))]);
    say(&bench.right.compensations, vec![Script::Say(ReplyBody::Retry(RetryReason::Storage))]);
    let mut context = bench.context();
    context.options.attention_after = 2;
    let runner = Runner::start(context).unwrap();
    let run = runner.run("pair", Payload::default(), LONG);
    assert!(tokio::time::timeout(4 * SHORT, run).await.is_err());
    assert!(runner.stuck());
    let (_, state) = runner.active().remove(0);
    assert!(state.needs_attention(2) && state.steps[0].compensated && !state.steps[1].compensated);
    assert_eq!(state.steps[1].compensation_attempts, 2, "it is tried slowly from then on");
}

#[tokio::test]
async fn a_compensation_that_meets_a_busy_daemon_has_not_failed() {
    let bench = Bench::new();
    say(&bench.right.actions, vec![Script::Say(ReplyBody::Step(StepReply::Rejected(Payload::default())))]);
    let busy = Script::Say(ReplyBody::Retry(RetryReason::Busy));
    say(&bench.right.compensations, [vec![busy; 5], vec![undone()]].concat());
    let mut context = bench.context();
    context.options.attention_after = 1;
    let (ear, _listens) = Ear::listen();
    let runner = Runner::start(context).unwrap();
    let outcome = runner.run("pair", Payload::default(), LONG).await.unwrap();
    assert_eq!(outcome.state.ended(), Some(End::Compensated));
    assert_eq!(outcome.state.steps[1].compensation_attempts, 6);
    assert!(!ear.heard().contains("an operator is needed"), "{}", ear.heard());
}

#[tokio::test]
async fn what_would_not_fit_the_log_never_gets_there() {
    let bench = Bench::new();
    let long = Payload::from(vec![0; like_protocol::message::PAYLOAD_BYTES_MAX + 1]);
    say(&bench.right.actions, vec![Script::Say(ReplyBody::Step(StepReply::Done(long.clone()))), done()]);
    let runner = Runner::start(bench.context()).unwrap();
    assert!(matches!(runner.run("pair", long, LONG).await, Err(RunError::Unknown(_))));
    let outcome = runner.run("pair", Payload::default(), LONG).await.unwrap();
    assert_eq!(outcome.state.ended(), Some(End::Completed));
    assert_eq!(outcome.state.steps[1].action_attempts, 2, "the answer that is too long came to nothing");
    let reason = "x".repeat(admin::REASON_CHARS_MAX + 1);
    let forced = admin::force(&bench.context(), SagaId::generate(), End::Completed, reason, LONG).await;
    assert!(matches!(forced, Err(admin::AdminError::BadReason)));
}

#[tokio::test]
async fn a_settlement_in_whose_way_damage_stands_does_not_keep_the_others_open() {
    let bench = Bench::new();
    bench.right.damaged.send_replace(true);
    let runner = Runner::start(bench.context()).unwrap();
    let (first, second) = futures::join!(
        runner.run("pair", Payload::default(), LONG),
        runner.run("pair", Payload::default(), LONG)
    );
    let sagas = [first.unwrap().saga, second.unwrap().saga];
    let settled = || sagas.map(|saga| bench.states()[&saga].settled);
    while settled().iter().filter(|settled| **settled).count() < 1 {
        tokio::time::sleep(SHORT / 30).await;
    }
    let in_the_way = bench.right.first_settled.lock().unwrap().unwrap();
    assert_eq!(settled(), sagas.map(|saga| saga != in_the_way));
    assert!(!runner.settled().await, "it is not forgotten");
    runner.close(SHORT).await;

    let context = bench.context();
    let again = admin::force(&context, in_the_way, End::Completed, "looked at it".to_owned(), LONG);
    assert!(!again.await.unwrap().settled, "not even by force, while the service can't");
    bench.right.damaged.send_replace(false);
    let again = admin::force(&context, in_the_way, End::Completed, "looked at it".to_owned(), LONG);
    assert!(again.await.unwrap().settled);
    assert_eq!(settled(), [true; 2]);
}

#[tokio::test]
async fn what_could_not_be_settled_is_settled_once_nothing_stands_in_its_way() {
    let bench = Bench::new();
    bench.right.damaged.send_replace(true);
    let runner = Runner::start(bench.context()).unwrap();
    let run = || runner.run("pair", Payload::default(), LONG);
    let (first, second) = futures::join!(run(), run());
    assert!(!runner.settled().await);
    bench.right.damaged.send_replace(false);
    while !runner.settled().await {
        pass(SLOW).await;
    }
    runner.close(LONG).await;
    let states = bench.states();
    assert!([first, second].iter().all(|ended| states[&ended.as_ref().unwrap().saga].settled));
}

#[tokio::test]
async fn who_has_lost_its_log_settles_nothing_any_more() {
    let bench = Bench::new();
    let runner = Runner::start(bench.context()).unwrap();
    runner.inner.settler.stop();
    let Outcome { saga, state } = runner.run("pair", Payload::default(), LONG).await.unwrap();
    let (log, context) = (runner.log().clone(), runner.context().clone());
    let end = log.appended();
    log.durable(end).await.unwrap();
    let settler = Settler::start(context, log.clone());
    settler.settle(std::iter::once(Ended { saga, left: false, state, position: end }));
    log.let_go();
    assert!(tokio::time::timeout(SHORT, settler.idle()).await.is_err());
    assert_eq!(bench.heard(), ["left action", "right action"]);
}

#[tokio::test]
async fn a_saga_whose_record_is_damaged_needs_an_operator_and_is_ended_by_force() {
    let bench = Bench::new();
    let damaged = || vec![Script::Say(ReplyBody::Damaged(damaged_row().into()))];
    say(&bench.right.actions, damaged());
    say(&bench.right.compensations, damaged());
    let context = Context {
        options: Options { attempt_timeout: SHORT, attention_after: 2, ..Options::default() },
        ..bench.context()
    };
    let runner = Runner::start(context.clone()).unwrap();
    let unfinished = runner.run("pair", Payload::default(), SHORT).await.unwrap_err();
    let RunError::Unfinished { saga, .. } = unfinished else { panic!("{unfinished}") };
    while !runner.stuck() {
        tokio::time::sleep(SHORT / 30).await;
    }
    runner.close(SHORT).await;
    let state = bench.states()[&saga].clone();
    assert!(state.needs_attention(2) && state.steps[0].compensated && !state.steps[1].compensated);
    let kind = state.steps[1].last_failure.as_ref().map(|failure| failure.kind);
    assert_eq!(kind, Some(FailureKind::Damaged));
    let asked = |what: &str| bench.heard().iter().filter(|heard| *heard == what).count();
    assert!(asked("right action") >= 2 && asked("right compensation") >= 2);

    let forced = admin::force(&context, saga, End::Compensated, "looked".to_owned(), LONG).await.unwrap();
    assert!(forced.settled);
    assert_eq!(forced.leaves_broken, ["'second' may have been done and not undone"]);
}

#[tokio::test]
async fn a_saga_taken_over_past_damage_needs_an_operator_at_once() {
    let bench = Bench::new();
    left_in_doubt(&bench, LONG).await;
    say(&bench.right.actions, vec![Script::Say(ReplyBody::Damaged(damaged_row().into()))]);
    let report = recover::once(&bench.context(), Order::GoOn, LONG).await.unwrap();
    assert_eq!((report.recovered, report.needs_attention), (1, 1));
}

/// A clock that can be put ahead.
#[derive(Clone)]
struct Ahead {
    clock: BootClock,
    ahead_ms: Arc<AtomicU64>,
}

impl Clock for Ahead {
    fn now(&self) -> Now {
        let now = self.clock.now();
        Now { at_ms: now.at_ms + self.ahead_ms.load(Ordering::Relaxed), ..now }
    }
}

#[tokio::test]
async fn an_attempt_that_the_deadline_cuts_short_does_not_hide_why_the_saga_was_given_up() {
    let bench = Bench::new();
    let locked = Script::Say(ReplyBody::Step(StepReply::Locked { by: SagaId::generate() }));
    say(&bench.right.actions, vec![locked, Script::Hush]);
    let clock = Ahead { clock: BootClock::open().unwrap(), ahead_ms: Arc::default() };
    let runner = Runner::start(Context { clock: Arc::new(clock.clone()), ..bench.context() }).unwrap();
    let mut run = Box::pin(runner.run("pair", Payload::default(), LONG));
    let asked = || bench.heard().iter().filter(|heard| *heard == "right action").count();
    until(|| asked() == 2, &mut run).await;
    clock.ahead_ms.store(LONG.as_millis() as u64, Ordering::Relaxed);
    let outcome = run.await.unwrap();
    assert_eq!((outcome.state.ended(), asked()), (Some(End::Compensated), 2));
    assert_eq!(outcome.state.turned_back_after.clone().unwrap().kind, FailureKind::Locked);
}

#[tokio::test]
async fn every_attempt_that_meets_a_lock_tells_who_holds_it() {
    let bench = Bench::new();
    let (_holder, (by, _)) = in_doubt(&bench, LONG).await;
    say(&bench.right.actions, vec![Script::Say(ReplyBody::Step(StepReply::Locked { by }))]);
    let runner = Runner::start(bench.context()).unwrap();
    let mut waits = Box::pin(runner.run("pair", Payload::default(), LONG));
    until(|| runner.active().iter().any(|(_, saga)| saga.steps[1].action_attempts >= 5), &mut waits).await;
    let story = history::read(&bench.context().journal).unwrap().sagas.into_iter();
    let story = story.map(|(_, story)| story).find(|story| story.saga != by).unwrap();
    let failures = story.records.iter().filter_map(|record| match &record.event {
        Event::ActionFailed { failure, .. } => Some(failure.detail.clone()),
        _ => None,
    });
    let failures: Vec<_> = failures.collect();
    let named = format!("locked by saga {by} of pid {}", std::process::id());
    assert!(failures.len() >= 4 && failures.iter().all(|told| told.starts_with(&named)), "{failures:?}");
}

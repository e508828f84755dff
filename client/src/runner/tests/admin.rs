//! An operator's acts.

use like_protocol::time::DEADLINE_AHEAD_MAX;

use super::*;
use crate::log::tests::cut_disk::CutDisk;
use crate::log::{self, Keeping};
use crate::runner::context::ATTEMPT_TIMEOUT;
use crate::runner::watch::HOLD_MAX;
use crate::runner::{admin, recover};
use crate::saga::Event;
use crate::saga::tests::{begun, done as has_done, sent};

#[tokio::test]
async fn a_saga_that_is_retried_gets_a_new_deadline_and_is_driven_to_its_end() {
    let bench = Bench::new();
    let (saga, before) = left_in_doubt(&bench, LONG).await;
    say(&bench.right.actions, vec![done()]);
    let state = admin::retry(&bench.context(), saga, LONG).await.unwrap();
    assert!(state.ended() == Some(End::Completed) && state.settled, "{state:?}");
    assert!(state.deadline.at_ms > before.deadline.at_ms);
    let again = admin::retry(&bench.context(), saga, LONG).await;
    assert!(matches!(again, Err(admin::AdminError::Ended { end: End::Completed, .. })), "{again:?}");
    let turned = admin::compensate(&bench.context(), saga, LONG).await;
    assert!(matches!(turned, Err(admin::AdminError::Ended { end: End::Completed, .. })), "{turned:?}");
}

#[tokio::test]
async fn no_new_deadline_lies_further_ahead_than_a_daemon_accepts() {
    let bench = Bench::new();
    let (saga, before) = left_in_doubt(&bench, LONG).await;
    say(&bench.right.actions, vec![done()]);
    let context = bench.context();
    let runner = Runner::start(bench.context_with(&Service::new("right", &bench.heard))).unwrap();
    let begun = runner.run("pair", Payload::default(), 2 * DEADLINE_AHEAD_MAX).await.unwrap().state;
    assert!(!begun.deadline.too_far_ahead(&context.clock.now()));
    runner.let_go();
    let state = admin::retry(&context, saga, 2 * DEADLINE_AHEAD_MAX).await.unwrap();
    assert!(state.deadline.at_ms > before.deadline.at_ms);
    assert!(!state.deadline.too_far_ahead(&context.clock.now()), "every step would be invalid");
}

#[tokio::test]
async fn a_saga_that_goes_back_goes_on_going_back_whatever_it_is_told() {
    for compensates in [false, true] {
        let bench = Bench::new();
        say(&bench.left.compensations, vec![Script::Hush]);
        let rejected = ReplyBody::Step(StepReply::Rejected(Payload::default()));
        say(&bench.right.actions, vec![Script::Say(rejected)]);
        let runner = Runner::start(bench.context()).unwrap();
        let mut run = Box::pin(runner.run("pair", Payload::default(), LONG));
        until(|| bench.has_heard("left compensation"), &mut run).await;
        let (saga, _) = runner.active().remove(0);
        runner.let_go();
        say(&bench.left.compensations, vec![undone()]);
        let context = bench.context();
        let state = match compensates {
            false => admin::retry(&context, saga, LONG).await.unwrap(),
            true => admin::compensate(&context, saga, LONG).await.unwrap(),
        };
        assert!(state.phase == Phase::Ended(End::Compensated) && state.settled, "{state:?}");
    }
}

#[tokio::test]
async fn who_waits_for_a_saga_that_its_owner_ends_meanwhile_learns_of_that_end_and_changes_nothing() {
    let bench = Bench::new();
    say(&bench.right.actions, vec![Script::Hush]);
    let runner = Runner::start(bench.context()).unwrap();
    let mut run = Box::pin(runner.run("pair", Payload::default(), LONG));
    until(|| bench.has_heard("right action"), &mut run).await;
    let (saga, _) = runner.active().remove(0);
    let context = bench.context();
    let mut retried = Box::pin(admin::retry(&context, saga, LONG));
    let mut forced = Box::pin(admin::force(&context, saga, End::Compensated, "it hangs".to_owned(), LONG));
    // Both have found it unfinished, and wait for its slot.
    assert!(futures::poll!(&mut retried).is_pending() && futures::poll!(&mut forced).is_pending());
    say(&bench.right.actions, vec![done()]);
    assert_eq!(run.await.unwrap().state.ended(), Some(End::Completed));
    runner.close(LONG).await;
    let retried = retried.await.unwrap();
    assert!(retried.phase == Phase::Ended(End::Completed) && retried.settled, "{retried:?}");
    let forced = forced.await;
    assert!(matches!(forced, Err(admin::AdminError::Ended { end: End::Completed, .. })), "{forced:?}");
    assert_eq!(bench.states()[&saga], retried);
}

#[tokio::test]
async fn a_saga_whose_story_is_damaged_is_counted_and_left_alone_until_its_end_is_forced() {
    let bench = Bench::new();
    let (saga, _) = left_in_doubt(&bench, LONG).await;
    say(&bench.right.actions, vec![done()]);
    let lock = bench.context().journal.claim_free().unwrap();
    let log = log::take_over(lock, Keeping::default()).unwrap().log;
    log.append(saga, [Event::Quarantined { detail: "damaged".to_owned() }]).unwrap();
    log.let_go();
    bench.heard.lock().unwrap().clear();
    let runner = Runner::start(bench.context()).unwrap();
    assert_eq!(runner.active().len(), 0, "who finds it drives it");
    runner.let_go();
    let report = recover::once(&bench.context(), Order::GoOn, LONG).await.unwrap();
    assert_eq!((report.recovered, report.quarantined), (1, 1), "{report:?}");
    let retried = admin::retry(&bench.context(), saga, LONG).await;
    assert!(matches!(retried, Err(admin::AdminError::Quarantined(_))), "{retried:?}");
    let turned = admin::compensate(&bench.context(), saga, LONG).await;
    assert!(matches!(turned, Err(admin::AdminError::Quarantined(_))), "{turned:?}");
    assert_eq!(bench.heard(), [""; 0]);
    let forced =
        admin::force(&bench.context(), saga, End::Completed, "looked".to_owned(), LONG).await.unwrap();
    assert!(forced.known && forced.settled && bench.states()[&saga].forced());
    assert!(bench.heard().iter().all(|heard| heard.ends_with("settle")), "{:?}", bench.heard());
    // What is lost of it may have been a new deadline.
    bench.right.settled_for_as_long_as_any_request_may_be_under_way();
}

#[tokio::test]
async fn whatever_a_damaged_story_may_have_lost_may_be_left_broken() {
    for (end, broken) in [
        (End::Completed, ["'take' may not have been done", "'give' may not have been done"]),
        (
            End::Compensated,
            ["'take' may have been done and not undone", "'give' may have been done and not undone"],
        ),
    ] {
        let bench = Bench::new();
        let (saga, context) = (SagaId::generate(), bench.context());
        let log = log::take_over(context.journal.claim_free().unwrap(), Keeping::default()).unwrap().log;
        let damaged = Event::Quarantined { detail: "damaged".to_owned() };
        log.append(saga, [Event::Begun(begun().into()), sent(0, 1), has_done(0), damaged]).unwrap();
        log.let_go();
        let forced = admin::force(&context, saga, end, "looked".to_owned(), Duration::ZERO).await.unwrap();
        assert_eq!(forced.leaves_broken, broken);
    }
}

#[tokio::test]
async fn a_forced_end_is_told_to_nobody_before_it_is_durable() {
    let bench = Bench::new();
    // Nobody syncs on this disk.
    let context = Context { journal: CutDisk::default().journal(), ..bench.context() };
    let force = admin::force(&context, SagaId::generate(), End::Completed, "lost".to_owned(), SHORT / 10);
    assert!(tokio::time::timeout(SHORT, force).await.is_err(), "the operator was told");
    assert_eq!(bench.heard(), [""; 0]);
}

/// A saga that has ended, of which its right service does not confirm the end.
async fn unsettled(context: Context, right: &Service) -> SagaId {
    right.settles.send_replace(false);
    let runner = Runner::start(context).unwrap();
    let saga = runner.run("pair", Payload::default(), LONG).await.unwrap().saga;
    runner.close(Duration::ZERO).await;
    saga
}

#[tokio::test]
async fn an_end_that_another_store_can_t_confirm_is_settled_by_an_operator() {
    let bench = Bench::new();
    let saga = unsettled(bench.context(), &bench.right).await;
    assert!(!bench.states()[&saga].settled);
    let other = bench.context_with(&Service::new("right", &bench.heard));
    recover::once(&other, Order::GoOn, SHORT).await.unwrap();
    assert!(!bench.states()[&saga].settled, "never told to a store that it did not begin with");
    let wrong = admin::force(&other, saga, End::Compensated, "restored".to_owned(), LONG).await;
    assert!(
        matches!(wrong, Err(admin::AdminError::Ended { end: End::Completed, by_force: false, .. })),
        "{wrong:?}"
    );
    let forced = admin::force(&other, saga, End::Completed, "restored".to_owned(), LONG).await.unwrap();
    assert!(forced.settled && bench.states()[&saga].settled);
}

#[tokio::test]
async fn an_end_that_another_store_can_t_confirm_does_not_keep_the_others_open() {
    let bench = Bench::new();
    let restored = Service::new("right", &bench.heard);
    let (before, after) = (bench.context(), bench.context_with(&restored));
    let mut left = Vec::new();
    for (context, right) in [(&before, &bench.right), (&after, &restored)] {
        left.push(unsettled(context.clone(), right).await);
    }
    restored.settles.send_replace(true);
    only_the_second_is_settled(&bench, after, left.try_into().unwrap()).await;
}

#[tokio::test]
async fn an_end_that_no_service_here_can_be_told_does_not_keep_the_others_open() {
    let bench = Bench::new();
    let elsewhere = Service::new("elsewhere", &bench.heard);
    elsewhere.settles.send_replace(false);
    let mut other = bench.context();
    other.participants = other.participants.with(Arc::new(elsewhere.remote(&other.clock)));
    let orphan = SagaId::generate();
    let forced = admin::force(&other, orphan, End::Completed, "lost".to_owned(), Duration::ZERO).await;
    assert!(!forced.unwrap().settled);
    let saga = unsettled(bench.context(), &bench.right).await;
    bench.right.settles.send_replace(true);
    only_the_second_is_settled(&bench, bench.context(), [orphan, saga]).await;
}

/// Both are found at once, so they are settled together.
async fn only_the_second_is_settled(bench: &Bench, context: Context, left: [SagaId; 2]) {
    let runner = Runner::start(context).unwrap();
    let settled = || left.map(|saga| bench.states()[&saga].settled);
    let the_second_is = async {
        while !settled()[1] {
            tokio::time::sleep(SHORT / 30).await;
        }
    };
    tokio::time::timeout(LONG, the_second_is).await.expect("it waits for the first, which never will be");
    assert_eq!(settled(), [false, true]);
    assert!(!runner.settled().await, "it is not forgotten");
}

#[tokio::test]
async fn an_end_that_is_told_again_is_told_with_its_notes() {
    let bench = Bench::new();
    let saga = unsettled(bench.context(), &bench.right).await;
    let unheard =
        admin::force(&bench.context(), saga, End::Completed, "it hung".to_owned(), SHORT / 10).await.unwrap();
    assert!(!unheard.settled && !bench.states()[&saga].settled);
    bench.right.settles.send_replace(true);
    let again =
        admin::force(&bench.context(), saga, End::Completed, "it hung".to_owned(), LONG).await.unwrap();
    assert!(again.settled && bench.states()[&saga].settled);
    assert_eq!(bench.right.noted(), [Some(Payload::from(vec![1]))]);
    bench.right.settled_for_as_long_as_any_request_may_be_under_way();
}

#[tokio::test]
async fn an_end_that_may_not_be_durable_is_settled_by_its_owner_alone() {
    let bench = Bench::new();
    let runner = Runner::start(bench.context()).unwrap();
    runner.inner.settler.stop();
    let saga = runner.run("pair", Payload::default(), LONG).await.unwrap().saga;
    let refused = admin::force(&bench.context(), saga, End::Completed, "it hangs".to_owned(), LONG).await;
    assert!(matches!(refused, Err(admin::AdminError::Owned { .. })), "{refused:?}");
    assert_eq!(bench.heard(), ["left action", "right action"]);
}

#[tokio::test]
async fn an_orphan_can_be_given_an_end_at_every_participant() {
    let bench = Bench::new();
    let orphan = SagaId::generate();
    let reason = "its journal was lost".to_owned();
    let forced = admin::force(&bench.context(), orphan, End::Compensated, reason, LONG).await.unwrap();
    assert!(forced.settled);
    assert_eq!(forced.leaves_broken.len(), 4, "any of its steps may have been done");
    bench.right.settled_for_as_long_as_any_request_may_be_under_way();
    assert_eq!(
        bench.heard().iter().filter(|heard| heard.ends_with("settle")).count(),
        2,
        "{:?}",
        bench.heard()
    );
    let state = &bench.states()[&orphan];
    assert!(state.forced() && state.settled && state.ended() == Some(End::Compensated));
    assert_eq!(state.steps.len(), 4, "two numbers at two participants");
    let retried = admin::retry(&bench.context(), orphan, LONG).await.unwrap_err().to_string();
    assert_eq!(retried, format!("saga {orphan} has ended already: forced as compensated"));
}

#[tokio::test]
async fn two_who_end_an_orphan_at_once_write_one_story() {
    let bench = Bench::new();
    let (orphan, context, other) = (SagaId::generate(), bench.context(), bench.context());
    let force = |context, end| admin::force(context, orphan, end, "it is lost".to_owned(), LONG);
    let (first, second) = futures::join!(force(&context, End::Completed), force(&other, End::Compensated));
    assert!(first.unwrap().settled);
    assert!(
        matches!(second, Err(admin::AdminError::Ended { end: End::Completed, by_force: true, .. })),
        "{second:?}"
    );
    assert_eq!(history::read(&context.journal).unwrap().sagas.len(), 1);
    let again = force(&other, End::Completed).await.unwrap();
    assert!(again.known && again.settled);
}

#[tokio::test]
async fn who_waits_for_an_orphan_to_be_settled_holds_up_nobody_who_ends_another() {
    let (bench, reason) = (Bench::new(), "it is lost".to_owned());
    bench.right.settles.send_replace(false);
    let context = bench.context();
    let mut first =
        Box::pin(admin::force(&context, SagaId::generate(), End::Completed, reason.clone(), LONG));
    until(|| bench.has_heard("right settle"), &mut first).await;
    admin::force(&context, SagaId::generate(), End::Completed, reason, Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn a_forced_end_that_a_participant_did_not_confirm_is_told_it_by_recovery() {
    let bench = Bench::new();
    bench.right.settles.send_replace(false);
    let orphan = SagaId::generate();
    let reason = "its journal was lost".to_owned();
    let forced = admin::force(&bench.context(), orphan, End::Completed, reason, SHORT).await.unwrap();
    assert!(!forced.settled && !bench.states()[&orphan].settled);
    bench.right.settles.send_replace(true);
    recover::once(&bench.context(), Order::GoOn, LONG).await.unwrap();
    assert!(bench.states()[&orphan].settled);
}

#[tokio::test]
async fn a_live_owner_is_named_and_its_saga_left_alone() {
    let bench = Bench::new();
    say(&bench.right.actions, vec![Script::Hush]);
    let runner = Runner::start(bench.context()).unwrap();
    let _ = tokio::time::timeout(SHORT, runner.run("pair", Payload::default(), LONG)).await;
    let (saga, _) = runner.active().remove(0);
    let refused = admin::compensate(&bench.context(), saga, SHORT).await;
    match refused {
        Err(admin::AdminError::Owned { owner, .. }) => {
            assert_eq!(owner.map(|owner| owner.pid), Some(std::process::id()));
        }
        other => panic!("{other:?}"),
    }
}

/// Goes on with what drives a saga that hangs, until it does, and then gives it up: nobody has its slot any more.
async fn lets_go<T>(bench: &Bench, driving: impl Future<Output = T>) {
    bench.heard.lock().unwrap().clear();
    let mut driving = Box::pin(driving);
    until(|| bench.has_heard("right action"), &mut driving).await;
    drop(driving);
    let journal = bench.context().journal;
    let slot = journal.slots().unwrap().remove(0);
    assert!(journal.claim(&slot).unwrap().is_some());
}

#[tokio::test]
async fn who_is_given_up_while_it_drives_what_it_took_over_lets_go_of_it() {
    let bench = Bench::new();
    let (saga, _) = left_in_doubt(&bench, LONG).await;
    let context = bench.context();
    lets_go(&bench, admin::retry(&context, saga, LONG)).await;
    lets_go(&bench, recover::once(&context, Order::GoOn, LONG)).await;
}

#[tokio::test]
async fn a_saga_that_somebody_drives_who_waits_for_its_lock_can_always_be_reached() {
    let bench = Bench::new();
    let (saga, _) = left_in_doubt(&bench, LONG).await;
    let (left, slot) = (bench.context(), bench.context().journal.slots().unwrap().remove(0));
    let elsewhere = left.journal.claim(&slot).unwrap();
    let hunter = Runner::start(bench.context()).unwrap();
    drop(elsewhere);
    say(&bench.left.actions, vec![Script::Say(ReplyBody::Step(StepReply::Locked { by: saga }))]);
    let mut waits = Box::pin(hunter.run("pair", Payload::default(), LONG));
    bench.heard.lock().unwrap().clear();
    until(|| bench.has_heard("right action"), &mut waits).await;
    say(&bench.left.actions, vec![Script::Hush]);
    let mut retried = Box::pin(admin::retry(&left, saga, SHORT));
    assert!(futures::poll!(&mut retried).is_pending());
    pass(HOLD_MAX + SHORT).await;
    let retried = retried.await;
    assert!(retried.is_ok(), "{retried:?}");
}

#[tokio::test]
async fn who_drives_a_slot_and_then_waits_for_a_settlement_lets_go_before_an_operator_gives_up() {
    let bench = Bench::new();
    unsettled(bench.context(), &bench.right).await;
    bench.heard.lock().unwrap().clear();
    let (saga, _) = left_in_doubt(&bench, LONG).await;
    let context = bench.context();
    let slot = context.journal.slots().unwrap().remove(0);
    let mut slow = bench.context();
    slow.options.attempt_timeout = ATTEMPT_TIMEOUT;
    let (driver, open) = Runner::over(slow, context.journal.claim(&slot).unwrap().unwrap()).unwrap();
    driver.drive_all(open, Order::GoOn);
    tokio::spawn(driver.close(HOLD_MAX));
    tokio::task::yield_now().await;
    let mut retried = Box::pin(admin::retry(&context, saga, SHORT));
    assert!(futures::poll!(&mut retried).is_pending());
    pass(HOLD_MAX).await;
    assert!(tokio::time::timeout(SHORT / 10, &mut retried).await.is_err(), "the slot is free already");
    pass(ATTEMPT_TIMEOUT).await;
    let retried = retried.await;
    assert!(retried.is_ok(), "{retried:?}");
}

#[tokio::test]
async fn a_saga_that_recovery_is_busy_with_can_always_be_reached() {
    let bench = Bench::new();
    say(&bench.right.actions, (0..1000).map(|_| Script::Hush).collect());
    let runner = Runner::start(bench.context()).unwrap();
    let _ = tokio::time::timeout(SHORT, runner.run("pair", Payload::default(), LONG)).await;
    let (saga, _) = runner.active().remove(0);
    runner.let_go();
    watched(&bench, async |told| {
        // The worst moment: the slot has only just been taken.
        taken_over(told, 1).await;
        let retried = admin::retry(&bench.context(), saga, SHORT).await;
        assert!(retried.is_ok(), "{retried:?}");
    })
    .await;
}

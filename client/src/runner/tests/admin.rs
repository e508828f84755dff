//! An operator's acts.

use super::*;
use crate::runner::watch::{Notice, watch};
use crate::runner::{admin, recover};

#[tokio::test]
async fn an_end_that_another_store_can_t_confirm_is_settled_by_an_operator() {
    let bench = Bench::new();
    let runner = Runner::start(bench.context()).unwrap();
    bench.right.settles.send_replace(false);
    let saga = runner.run("pair", Payload::default(), LONG).await.unwrap().saga;
    runner.close(Duration::ZERO).await;
    assert!(!bench.states()[&saga].settled);
    let mut other = bench.context();
    let clock = Arc::clone(&other.clock);
    let remote = Remote::new("right", Box::new(DialService(Service::new("right", &bench.heard))), clock);
    other.participants = other.participants.with(Arc::new(remote));
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
async fn an_end_that_is_told_again_is_told_with_its_notes() {
    let bench = Bench::new();
    let runner = Runner::start(bench.context()).unwrap();
    bench.right.settles.send_replace(false);
    let saga = runner.run("pair", Payload::default(), LONG).await.unwrap().saga;
    runner.close(Duration::ZERO).await;
    bench.right.settles.send_replace(true);
    let again =
        admin::force(&bench.context(), saga, End::Completed, "it hung".to_owned(), LONG).await.unwrap();
    assert!(again.settled && bench.states()[&saga].settled);
    assert_eq!(*bench.right.noted.lock().unwrap(), [Some(Payload::from(vec![1]))]);
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

#[tokio::test]
async fn a_saga_that_recovery_is_busy_with_can_always_be_reached() {
    let bench = Bench::new();
    say(&bench.right.actions, (0..1000).map(|_| Script::Hush).collect());
    let runner = Runner::start(bench.context()).unwrap();
    let _ = tokio::time::timeout(SHORT, runner.run("pair", Payload::default(), LONG)).await;
    let (saga, _) = runner.active().remove(0);
    runner.let_go();
    let (notices, mut noticed) = tokio::sync::mpsc::unbounded_channel();
    let context = bench.context();
    let retried = async {
        // The worst moment: the slot has only just been taken.
        let taken = noticed.recv().await;
        assert!(matches!(taken, Some(Notice::TakenOver { unfinished: 1, .. })), "{taken:?}");
        admin::retry(&bench.context(), saga, SHORT).await
    };
    let retried = tokio::select! {
        retried = retried => retried,
        watched = watch(&context, Order::GoOn, notices, std::future::pending()) => panic!("{watched:?}"),
    };
    assert!(retried.is_ok(), "{retried:?}");
}

//! Steps whose actions go side by side.

use super::*;
use crate::runner::recover;
use crate::saga::Action;

/// A runner that has connections to both services.
async fn connected(bench: &Bench) -> Runner {
    let runner = Runner::start(bench.context()).unwrap();
    runner.run("pair", Payload::default(), LONG).await.unwrap();
    runner.settled().await;
    bench.heard.lock().unwrap().clear();
    runner
}

async fn goes_down(service: &Service, runner: &Runner) {
    service.down.send_replace(true);
    let remote = runner.context().participants.find(service.role).unwrap();
    while remote.connect(SHORT).await.is_ok() {
        tokio::task::yield_now().await;
    }
}

fn rejection() -> Script {
    Script::Say(ReplyBody::Step(StepReply::Rejected(Payload::from(vec![9]))))
}

#[tokio::test]
async fn both_are_under_way_at_once_in_their_order_and_again_if_both_fail() {
    let bench = Bench::new();
    let runner = connected(&bench).await;
    for service in [&bench.left, &bench.right] {
        say(&service.actions, vec![Script::Hush, done()]);
    }
    let mut run = Box::pin(runner.run("beside", Payload::default(), LONG));
    until(|| bench.has_heard("right action"), &mut run).await;
    let steps = runner.active().remove(0).1.steps;
    assert!(steps.iter().all(|step| step.action == Action::InDoubt), "one was waited for: {steps:?}");
    assert_eq!(bench.heard(), ["left action", "right action"]);
    let outcome = run.await.unwrap();
    assert_eq!(outcome.state.ended(), Some(End::Completed));
    assert!(outcome.state.steps.iter().all(|step| step.action_attempts == 2), "{:?}", outcome.state.steps);
}

#[tokio::test]
async fn what_is_done_is_not_asked_again_while_the_step_beside_it_is() {
    let bench = Bench::new();
    let runner = connected(&bench).await;
    let busy = || Script::Say(ReplyBody::Retry(RetryReason::Busy));
    say(&bench.left.actions, vec![busy(), busy(), done()]);
    let outcome = runner.run("beside", Payload::default(), LONG).await.unwrap();
    assert_eq!(outcome.state.ended(), Some(End::Completed));
    let attempts: Vec<_> = outcome.state.steps.iter().map(|step| step.action_attempts).collect();
    assert_eq!(attempts, [3, 1]);
}

#[tokio::test]
async fn a_step_is_not_started_while_the_one_before_it_cannot_be() {
    let bench = Bench::new();
    let runner = connected(&bench).await;
    goes_down(&bench.left, &runner).await;
    let outcome = runner.run("beside", Payload::default(), SHORT).await.unwrap();
    assert_eq!(outcome.state.ended(), Some(End::Compensated));
    assert_eq!(bench.heard(), [""; 0], "the second service was asked though the first can't be reached");
}

#[tokio::test]
async fn one_that_is_forbidden_turns_the_saga_back_while_nothing_is_known_of_the_other() {
    for silent_first in [true, false] {
        let bench = Bench::new();
        let runner = connected(&bench).await;
        let (silent, forbids) =
            if silent_first { (&bench.left, &bench.right) } else { (&bench.right, &bench.left) };
        say(&silent.actions, vec![Script::Hush]);
        say(&forbids.actions, vec![rejection()]);
        let outcome = runner.run("beside", Payload::default(), LONG).await.unwrap();
        assert_eq!(outcome.state.ended(), Some(End::Compensated));
        let steps = &outcome.state.steps;
        assert!(steps.iter().all(|step| step.action_attempts == 1 && step.compensated), "{steps:?}");
        assert_eq!(bench.heard()[2..4], ["right compensation", "left compensation"]);
    }
}

/// A power loss may have taken from the log that the second was sent.
#[tokio::test]
async fn what_a_takeover_finds_unsent_beside_a_step_that_is_refused_is_undone_too() {
    let bench = Bench::new();
    let runner = connected(&bench).await;
    goes_down(&bench.right, &runner).await;
    say(&bench.left.actions, vec![Script::Hush]);
    let mut run = Box::pin(runner.run("beside", Payload::default(), LONG));
    until(|| bench.has_heard("left action"), &mut run).await;
    runner.let_go();
    bench.heard.lock().unwrap().clear();
    say(&bench.left.actions, vec![Script::Say(ReplyBody::Step(StepReply::Refused(Refusal::Expired)))]);
    let context = bench.context();
    let mut recovery = Box::pin(recover::once(&context, Order::GoOn, LONG));
    until(|| bench.has_heard("left compensation"), &mut recovery).await;
    bench.right.down.send_replace(false);
    assert_eq!(recovery.await.unwrap().compensated, 1);
    assert_eq!(bench.heard()[..3], ["left action", "left compensation", "right compensation"]);
}

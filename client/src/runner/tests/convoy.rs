//! Sagas that begin in the same moment.

use std::sync::atomic::{AtomicBool, Ordering};

use futures::FutureExt;
use futures::future::{join, join_all};
use tokio::time::Instant;

use super::*;
use crate::log::tests::cut_disk::CutDisk;
use crate::runner::convoy::TOGETHER_MAX;

fn run<'a>(runner: &'a Runner, kind: &'a str) -> impl Future<Output = Result<Outcome, RunError>> + 'a {
    runner.run(kind, Payload::default(), LONG)
}

#[tokio::test]
async fn each_of_them_ends_however_many_they_are() {
    let bench = Bench::new();
    let runner = Runner::start(bench.context()).unwrap();
    run(&runner, "pair").await.unwrap();
    for many in [TOGETHER_MAX, TOGETHER_MAX + 1, 3 * TOGETHER_MAX - 1] {
        let outcomes = join_all((0..many).map(|_| run(&runner, "beside"))).await;
        let ended = |outcome: &Result<Outcome, _>| outcome.as_ref().unwrap().state.ended();
        assert!(outcomes.iter().all(|outcome| ended(outcome) == Some(End::Completed)));
        let sagas: std::collections::HashSet<_> = outcomes.into_iter().map(|it| it.unwrap().saga).collect();
        assert_eq!(sagas.len(), many);
    }
    runner.idle().await;
    assert!(runner.settled().await);
    let all = 1 + 5 * TOGETHER_MAX;
    assert_eq!(bench.states().values().filter(|state| state.settled).count(), all);
    let asked = bench.heard().iter().filter(|heard| *heard == "right action").count();
    assert_eq!(asked, all, "one was asked for twice");
}

#[tokio::test]
async fn one_that_is_not_answered_holds_up_none_and_its_reply_counts_once_it_comes() {
    for kind in ["pair", "beside"] {
        let bench = Bench::new();
        let runner = Runner::start(bench.context()).unwrap();
        run(&runner, kind).await.unwrap();
        let done_late = Script::SayLate(ReplyBody::Step(StepReply::Done(Payload::from(vec![1]))));
        say(&bench.right.actions, vec![Script::Hush, done(), done(), done_late]);
        let began = Instant::now();
        let (silent, quick, quick_too, late) = (
            run(&runner, kind),
            async { run(&runner, kind).await.map(|outcome| (outcome, began.elapsed())) },
            async { run(&runner, kind).await.map(|outcome| (outcome, began.elapsed())) },
            run(&runner, kind),
        );
        let (silent, quick, quick_too, late) = tokio::join!(silent, quick, quick_too, late);
        for (outcome, took) in [quick.unwrap(), quick_too.unwrap()] {
            assert_eq!(outcome.state.ended(), Some(End::Completed));
            assert!(took < SHORT / 2, "it was held up for {took:?}");
        }
        let attempts = |outcome: Outcome| {
            assert_eq!(outcome.state.ended(), Some(End::Completed));
            outcome.state.steps.iter().map(|step| step.action_attempts).collect::<Vec<_>>()
        };
        assert_eq!(attempts(late.unwrap()), [1, 1], "it was asked again though it was answered in time");
        assert_eq!(attempts(silent.unwrap()), [1, 2]);
    }
}

#[tokio::test]
async fn one_that_fails_or_turns_back_takes_none_with_it() {
    let bench = Bench::new();
    let runner = Runner::start(bench.context()).unwrap();
    run(&runner, "pair").await.unwrap();
    let busy = Script::Say(ReplyBody::Retry(RetryReason::Busy));
    let rejected = Script::Say(ReplyBody::Step(StepReply::Rejected(Payload::from(vec![9]))));
    say(&bench.right.actions, vec![busy, rejected, done()]);
    let outcomes = join_all((0..4).map(|_| run(&runner, "beside"))).await;
    let ends: Vec<_> = outcomes.iter().map(|it| it.as_ref().unwrap().state.ended().unwrap()).collect();
    assert_eq!(ends, [End::Completed, End::Compensated, End::Completed, End::Completed]);
    let first = &outcomes[0].as_ref().unwrap().state.steps;
    assert_eq!(first.iter().map(|step| step.action_attempts).collect::<Vec<_>>(), [1, 2]);
    let undone = |heard: &String| heard.ends_with("compensation");
    assert_eq!(bench.heard().iter().filter(|heard| undone(heard)).count(), 2, "{:?}", bench.heard());
}

#[tokio::test]
async fn what_they_ask_and_how_they_end_stands_in_the_log_before() {
    let bench = Bench::new();
    let runner = Runner::start(bench.context()).unwrap();
    let ended = run(&runner, "pair").await.unwrap().saga;
    assert_eq!(bench.states()[&ended].ended(), Some(End::Completed));
    // Or it would be written with what says that.
    assert!(runner.settled().await);
    bench.heard.lock().unwrap().clear();
    say(&bench.right.actions, vec![Script::Hush]);
    let mut under_way = Box::pin(run(&runner, "beside"));
    until(|| bench.has_heard("left action") && bench.has_heard("right action"), &mut under_way).await;
    let (_, stands) = bench.states().into_iter().find(|(saga, _)| *saga != ended).unwrap();
    assert!(stands.steps.iter().all(|step| step.action_attempts == 1), "{:?}", stands.steps);
}

#[tokio::test]
async fn when_their_log_ends_each_caller_is_told_so_wherever_its_saga_stands() {
    let bench = Bench::new();
    let journal = CutDisk::default().journal();
    let runner = Runner::start(Context { journal, ..bench.context() }).unwrap();
    // Nobody syncs on that disk.
    let mut begun = Box::pin(join(run(&runner, "pair"), run(&runner, "pair")));
    assert!(tokio::time::timeout(SHORT, &mut begun).await.is_err());
    runner.log().let_go();
    let (first, second) = tokio::time::timeout(SHORT, begun).await.unwrap();
    assert!(matches!((first, second), (Err(RunError::LogEnded { .. }), Err(RunError::LogEnded { .. }))));
    assert!(runner.active().is_empty() && bench.heard().is_empty());

    let runner = Runner::start(bench.context()).unwrap();
    let late = || Script::SayLate(ReplyBody::Step(StepReply::Done(Payload::from(vec![1]))));
    say(&bench.right.actions, vec![late(), late()]);
    let mut under_way = Box::pin(join(run(&runner, "beside"), run(&runner, "beside")));
    until(|| bench.has_heard("right action"), &mut under_way).await;
    runner.log().let_go();
    let (first, second) = under_way.await;
    assert!(matches!((first, second), (Err(RunError::LogEnded { .. }), Err(RunError::LogEnded { .. }))));
    assert!(runner.active().is_empty());
}

#[tokio::test]
async fn a_participant_that_has_another_store_by_then_is_not_asked() {
    let (bench, disk) = (Bench::new(), CutDisk::default());
    let other = Service::new("right", &bench.heard);
    let (right, moved) = (Arc::clone(&bench.right), Arc::new(AtomicBool::new(false)));
    let has_moved = Arc::clone(&moved);
    let there = move || Arc::clone(if has_moved.load(Ordering::Relaxed) { &other } else { &right });
    let mut context = Context { journal: disk.journal(), ..bench.context() };
    let remote = Service::remote_of("right", there, &context.clock);
    context.participants = context.participants.with(Arc::new(remote));
    let runner = Runner::start(context).unwrap();
    let mut under_way = Box::pin(run(&runner, "beside"));
    until(|| !runner.active().is_empty(), &mut under_way).await;

    moved.store(true, Ordering::Relaxed);
    bench.right.down.send_replace(true);
    let remote = runner.context().participants.find("right").unwrap();
    while remote.open().is_some() {
        tokio::task::yield_now().await;
    }
    remote.connect(SHORT).await.unwrap();
    disk.sync_what_is_wanted();
    until(|| runner.stuck(), &mut under_way).await;
    assert_eq!(bench.heard(), ["left action"]);
    let failure = runner.active()[0].1.steps[1].last_failure.clone().unwrap();
    assert_eq!(failure.kind, FailureKind::OtherStore);
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_too_long_is_left_and_the_saga_goes_on() {
    let (bench, disk) = (Bench::new(), CutDisk::default());
    let attempts = Options { attempt_timeout: SHORT, ..bench.context().options };
    let context = Context { journal: disk.journal(), options: attempts, ..bench.context() };
    let runner = Runner::start(context).unwrap();
    let began = Instant::now();
    let left_after = async |timeout| {
        let told = runner.run("beside", Payload::default(), timeout).await;
        assert!(matches!(told, Err(RunError::Unfinished { .. })), "{told:?}");
        began.elapsed()
    };
    let syncs_late = async {
        tokio::time::sleep(LONG / 2).await;
        while !runner.active().is_empty() {
            disk.sync_what_is_wanted();
            tokio::time::sleep(SHORT / 10).await;
        }
    };
    // All of them wait for the same sync.
    let (sooner, later, patient, ()) =
        tokio::join!(left_after(SHORT), left_after(3 * SHORT), run(&runner, "beside"), syncs_late);
    let about = |took: Duration, expected| took >= expected && took < expected + SHORT / 10;
    assert!(about(sooner, 2 * SHORT) && about(later, 4 * SHORT), "{sooner:?} {later:?}");
    assert_eq!(patient.unwrap().state.ended(), Some(End::Completed));
    let sagas = history::read(&runner.context().journal).unwrap().sagas;
    let ended = sagas.iter().filter(|(_, story)| story.state.as_ref().is_some_and(|it| it.ended().is_some()));
    assert_eq!((sagas.len(), ended.count()), (3, 3), "the others' sagas ended too");
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_too_long_for_a_saga_that_goes_on_alone_is_left_too() {
    let bench = Bench::new();
    let hushed = || (0..100).map(|_| Script::Hush).collect();
    say(&bench.left.actions, hushed());
    say(&bench.left.compensations, hushed());
    let journal = CutDisk::default();
    let options = Options { attempt_timeout: SHORT, sync_here: true, ..bench.context().options };
    let runner = Runner::start(Context { journal: journal.journal(), options, ..bench.context() }).unwrap();
    let began = Instant::now();
    let told = tokio::time::timeout(LONG, runner.run("pair", Payload::default(), 2 * SHORT)).await;
    assert!(matches!(told, Ok(Err(RunError::Unfinished { .. }))), "{told:?}");
    let took = began.elapsed();
    assert!(took >= 3 * SHORT && took < 3 * SHORT + SHORT / 10, "{took:?}");
    assert_eq!(runner.active().len(), 1, "it goes on");
}

#[tokio::test]
async fn none_begins_any_more_once_its_runner_has_let_go() {
    let bench = Bench::new();
    let runner = Runner::start(bench.context()).unwrap();
    run(&runner, "pair").await.unwrap();
    let mut about_to = Box::pin(run(&runner, "pair"));
    assert!(futures::poll!(&mut about_to).is_pending());
    runner.let_go();
    let told = tokio::time::timeout(SHORT, about_to).await.expect("it waits for what never comes");
    assert!(matches!(told, Err(RunError::LogEnded { .. })), "it stands nowhere, and nobody will finish it");
    assert!(runner.active().is_empty());
    assert!(matches!(run(&runner, "pair").await, Err(RunError::LogEnded { .. })), "nor one that comes later");
    assert_eq!(bench.states().len(), 1);
}

/// Somebody on another thread looks at the very moment: as a process does that ends once nothing is left to do.
#[tokio::test]
async fn where_nothing_is_driven_any_more_what_has_ended_waits_to_be_settled() {
    let bench = Bench::new();
    let runner = Runner::start(bench.context()).unwrap();
    let confirmed = |left: &Service| left.settled.lock().unwrap().len();
    for _ in 0..500 {
        while !runner.settled().await {}
        let (looks, left, before) = (runner.clone(), Arc::clone(&bench.left), confirmed(&bench.left));
        let (begins, begun) = std::sync::mpsc::channel();
        let over = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        let watcher = std::thread::spawn(move || {
            begins.send(()).unwrap();
            while looks.inner.active.is_empty() && !is_over.load(Ordering::Relaxed) {}
            while !looks.inner.active.is_empty() {}
            let says_settled = looks.settled().now_or_never() == Some(true);
            // It may have come too late to see anything.
            says_settled && confirmed(&left) == before && !is_over.load(Ordering::Relaxed)
        });
        begun.recv().unwrap();
        run(&runner, "beside").await.unwrap();
        while bench.left.settled.lock().unwrap().len() == before && !watcher.is_finished() {
            tokio::task::yield_now().await;
        }
        over.store(true, Ordering::Relaxed);
        assert!(!watcher.join().unwrap(), "a process would have ended before it settled what had ended");
    }
}

#[tokio::test(start_paused = true)]
async fn settlements_go_with_what_leaves_for_their_participants() {
    let bench = Bench::new();
    // Where no thread syncs, no time passes meanwhile.
    let options = Options { sync_here: true, ..bench.context().options };
    let journal = CutDisk::default().journal();
    let runner = Runner::start(Context { journal, options, ..bench.context() }).unwrap();
    let began = Instant::now();
    run(&runner, "pair").await.unwrap();
    assert!(!bench.has_heard("left settle"), "its end was not durable");
    run(&runner, "pair").await.unwrap();
    assert!(began.elapsed().is_zero());
    assert!(bench.has_heard("left settle") && bench.has_heard("right settle"), "{:?}", bench.heard());
}

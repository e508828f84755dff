//! Slots that can't be used, and who meets them.

use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use super::*;
use crate::log::disk::{LogFile, RealDisk};
use crate::log::tests::Ear;
use crate::log::tests::cut_disk::CutDisk;
use crate::runner::pace::SLOW;
use crate::runner::watch::claim_once_open;

/// A stray file with the name of a newer segment: nobody knows what was open in the slot.
fn stray(bench: &Bench) -> std::path::PathBuf {
    bench.directory.path().join("journal/0/00000099.log")
}

/// A saga that a dead runner left unfinished in slot 0.
async fn left_behind(bench: &Bench) {
    left_in_doubt(bench, LONG).await;
    say(&bench.right.actions, vec![done()]);
}

async fn is_quiet(told: &mut UnboundedReceiver<Notice>, when: &str) {
    let again = tokio::time::timeout(SHORT, told.recv()).await;
    assert!(again.is_err(), "{when}: {again:?}");
}

#[tokio::test]
async fn a_slot_that_cannot_be_used_is_tried_again_later_and_no_sooner() {
    let bench = Bench::new();
    left_behind(&bench).await;
    std::fs::write(stray(&bench), "").unwrap();
    watched(&bench, async |told| {
        let skipped = told.recv().await;
        assert!(matches!(skipped, Some(Notice::Skipped { slot: 0, .. })), "{skipped:?}");
        // A takeover that fails makes a file as well: that is no news.
        std::fs::write(stray(&bench).with_extension("new"), "").unwrap();
        is_quiet(told, "at once").await;
        pass(SLOW).await;
        is_quiet(told, "later").await;
        std::fs::remove_file(stray(&bench)).unwrap();
        pass(SLOW).await;
        taken_over(told, 1).await;
    })
    .await;
}

#[tokio::test]
async fn a_slot_that_cannot_be_read_holds_up_no_new_runner() {
    let bench = Bench::new();
    left_behind(&bench).await;
    std::fs::write(stray(&bench), "").unwrap();
    for _ in 0..2 {
        let runner = Runner::start(bench.context()).unwrap();
        assert_eq!(runner.log().slot().number(), 1);
        runner.run("pair", Payload::default(), LONG).await.unwrap();
        runner.close(LONG).await;
    }
    let report = crate::runner::recover::once(&bench.context(), Order::GoOn, LONG).await.unwrap();
    let [(slot, why)] = &report.unusable[..] else { panic!("{report:?}") };
    assert_eq!((report.recovered, *slot), (0, 0));
    assert!(why.contains("00000099.log"), "{why}");
    // It may stand there, so it is nobody's to end.
    let reason = "it is gone".to_owned();
    let forced =
        crate::runner::admin::force(&bench.context(), SagaId::generate(), End::Completed, reason, SHORT)
            .await;
    assert!(matches!(forced, Err(crate::runner::admin::AdminError::Journal(_))), "{forced:?}");
    std::fs::remove_file(stray(&bench)).unwrap();
    let report = crate::runner::recover::once(&bench.context(), Order::GoOn, LONG).await.unwrap();
    assert_eq!((report.recovered, report.completed, report.unusable.len()), (1, 1, 0));
}

/// A file that takes nothing, on a disk without space.
#[derive(Debug)]
struct Full;

impl LogFile for Full {
    fn write_at(&self, _: &[u8], _: u64) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::StorageFull.into())
    }

    fn sync_data(&self) -> std::io::Result<()> {
        Ok(())
    }

    fn sync_all(&self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn who_can_not_write_in_a_slot_says_so_and_takes_no_other_one() {
    let bench = Bench::new();
    left_behind(&bench).await;
    let disk = RealDisk { around: Some(Arc::new(|_| Arc::new(Full))) };
    let journal = Journal::open_on(Arc::new(disk), bench.context().journal.path()).unwrap();
    let refused = Runner::start(Context { journal, ..bench.context() }).err().unwrap();
    assert!(refused.is_full() && refused.to_string().contains("/0/"), "{refused}");
    assert_eq!(bench.context().journal.slots().unwrap().len(), 1);
}

#[tokio::test]
async fn what_needs_an_operator_is_tried_again_at_a_slow_pace() {
    let bench = Bench::new();
    left_behind(&bench).await;
    say(&bench.right.actions, vec![Script::Say(ReplyBody::Damaged(damaged_row().into()))]);
    watched(&bench, async |told| {
        taken_over(told, 1).await;
        let left = told.recv().await;
        assert!(
            matches!(&left, Some(Notice::LetGo { report, .. }) if report.needs_attention == 1),
            "{left:?}"
        );
        say(&bench.right.actions, vec![done()]);
        is_quiet(told, "at once").await;
        pass(SLOW / 2).await;
        is_quiet(told, "soon").await;
        pass(SLOW / 2).await;
        taken_over(told, 1).await;
        let ended = told.recv().await;
        assert!(matches!(&ended, Some(Notice::LetGo { report, .. }) if report.completed == 1), "{ended:?}");
    })
    .await;
}

#[tokio::test]
async fn two_who_watch_do_not_take_turns_with_what_neither_can_finish() {
    let bench = Bench::new();
    left_behind(&bench).await;
    say(&bench.right.actions, vec![Script::Say(ReplyBody::Damaged(damaged_row().into()))]);
    let slot = bench.context().journal.slots().unwrap().remove(0);
    let before = slot.newest_segment().unwrap();
    let (first, second) = (bench.context(), bench.context());
    let watched = |context| {
        let (notices, told) = unbounded_channel();
        (watch(context, Order::GoOn, notices, std::future::pending()), told)
    };
    let ((first, _told), (second, _told_too)) = (watched(&first), watched(&second));
    let _ = tokio::time::timeout(6 * SHORT, futures::future::join(first, second)).await;
    let taken = slot.newest_segment().unwrap() - before;
    assert!((1..=2).contains(&taken), "taken over {taken} times");
}

/// A saga that needs an operator is left alone by who watches; then `goes_on` uses its slot, which is taken over after it.
async fn taken_over_after(goes_on: impl AsyncFn(Runner), unfinished: usize) {
    let bench = Bench::new();
    left_behind(&bench).await;
    say(&bench.right.actions, vec![Script::Say(ReplyBody::Damaged(damaged_row().into()))]);
    watched(&bench, async |told| {
        while !matches!(told.recv().await, Some(Notice::LetGo { slot: 0, .. })) {}
        let runner = Runner::start(bench.context()).unwrap();
        assert_eq!(runner.log().slot().number(), 0);
        goes_on(runner.clone()).await;
        runner.let_go();
        taken_over(told, unfinished).await;
    })
    .await;
}

#[tokio::test]
async fn what_is_new_in_a_slot_that_is_left_alone_is_taken_over_at_once() {
    let leaves_another = async |runner: Runner| {
        let _ = tokio::time::timeout(SHORT, runner.run("pair", Payload::default(), LONG)).await;
    };
    taken_over_after(leaves_another, 2).await;
}

#[tokio::test]
async fn a_slot_that_somebody_had_for_long_is_taken_over_at_once_though_nothing_is_new_in_it() {
    taken_over_after(async |_| pass(2 * SLOW).await, 1).await;
}

/// The newest segment of slot 0 tells how often somebody has taken it over.
async fn hunts(bench: &Bench, by: Option<SagaId>) -> u64 {
    let mut context = bench.context();
    context.options.attention_after = 1;
    let (dead, hunter) = (Runner::start(context.clone()).unwrap(), Runner::start(context).unwrap());
    let _ = tokio::time::timeout(SHORT, dead.run("pair", Payload::default(), LONG)).await;
    let (stuck, state) = dead.active().remove(0);
    assert!(state.needs_attention(1), "{state:?}");
    let slot = dead.log().slot().clone();
    dead.let_go();
    let before = slot.newest_segment().unwrap();
    let locked = Script::Say(ReplyBody::Step(StepReply::Locked { by: by.unwrap_or(stuck) }));
    say(&bench.left.actions, vec![locked]);
    let _ = hunter.run("pair", Payload::default(), SHORT).await;
    hunter.let_go();
    slot.newest_segment().unwrap() - before
}

#[tokio::test]
async fn what_needs_an_operator_is_driven_by_who_waits_for_it_and_that_not_over_and_over() {
    for (by, taken) in [(Some(SagaId::generate()), 0), (None, 1)] {
        let bench = Bench::new();
        let refused = ReplyBody::Step(StepReply::Refused(Refusal::Expired));
        say(&bench.right.actions, vec![Script::Say(refused)]);
        say(&bench.left.compensations, vec![Script::Say(ReplyBody::Retry(RetryReason::Storage))]);
        assert_eq!(hunts(&bench, by).await, taken);
    }
}

#[tokio::test]
async fn what_is_settled_in_vain_is_not_taken_over_at_each_look_of_who_waits_for_a_lock() {
    let bench = Bench::new();
    bench.right.settles.send_replace(false);
    let mut context = bench.context_with(&Service::new("right", &bench.heard));
    context.options.attempt_timeout = SHORT;
    let (dead, hunter) = (Runner::start(bench.context()).unwrap(), Runner::start(context).unwrap());
    let by = dead.run("pair", Payload::default(), LONG).await.unwrap().saga;
    let slot = dead.log().slot().clone();
    dead.let_go();
    let (before, began) = (slot.newest_segment().unwrap(), Instant::now());
    say(&bench.left.actions, vec![Script::Say(ReplyBody::Step(StepReply::Locked { by }))]);
    let _ = hunter.run("pair", Payload::default(), 2 * SHORT).await;
    let taken = slot.newest_segment().unwrap() - before;
    assert!((1..=1 + began.elapsed().as_secs() / 2).contains(&taken), "{taken}");
}

#[tokio::test]
async fn what_nobody_here_knows_how_to_drive_is_tried_again_at_a_slow_pace() {
    let bench = Bench::new();
    left_behind(&bench).await;
    let context = Context { definitions: Definitions::new(), ..bench.context() };
    let (notices, mut told) = unbounded_channel();
    let looks = async {
        for _ in 0..2 {
            taken_over(&mut told, 1).await;
            let left = told.recv().await;
            assert!(
                matches!(&left, Some(Notice::LetGo { report, .. }) if report.unfinished == 1),
                "{left:?}"
            );
            pass(SLOW / 2).await;
            is_quiet(&mut told, "soon").await;
            pass(SLOW / 2).await;
        }
    };
    tokio::select! {
        () = looks => {}
        watched = watch(&context, Order::GoOn, notices, std::future::pending()) => panic!("{watched:?}"),
    }
}

#[tokio::test]
async fn what_nobody_here_knows_how_to_drive_is_left_alone_by_who_waits_for_something_else() {
    let bench = Bench::new();
    left_behind(&bench).await;
    let slot = bench.context().journal.slots().unwrap().remove(0);
    let held = bench.context().journal.claim(&slot).unwrap().unwrap();
    let hunter =
        Runner::start(Context { definitions: Definitions::new().with(BESIDE), ..bench.context() }).unwrap();
    drop(held);
    let before = slot.newest_segment().unwrap();
    let by = SagaId::generate();
    say(&bench.left.actions, vec![Script::Say(ReplyBody::Step(StepReply::Locked { by }))]);
    let _ = hunter.run("beside", Payload::default(), SHORT).await;
    assert_eq!(slot.newest_segment().unwrap(), before);
}

#[tokio::test]
async fn what_nobody_here_knows_how_to_drive_is_left_to_who_does_however_long_this_runner_lives() {
    let bench = Bench::new();
    left_behind(&bench).await;
    let older = Context { definitions: Definitions::new().with(BESIDE), ..bench.context() };
    let lives = Runner::start(older.clone()).unwrap();
    assert_eq!(lives.log().slot().number(), 1);
    let report = crate::runner::recover::once(&bench.context(), Order::GoOn, LONG).await.unwrap();
    assert_eq!((report.recovered, report.completed), (1, 1));
    assert_eq!(Runner::start(older).unwrap().log().slot().number(), 0, "what has ended is in nobody's way");
}

#[tokio::test]
async fn an_end_is_told_by_who_does_not_know_what_it_is_the_end_of() {
    let bench = Bench::new();
    left_unsettled(&bench).await;
    let older = Runner::start(Context { definitions: Definitions::new(), ..bench.context() }).unwrap();
    assert_eq!(older.log().slot().number(), 0);
}

#[tokio::test]
async fn who_begins_a_saga_is_told_of_another_that_it_is_another() {
    let bench = Bench::new();
    say(&bench.right.actions, vec![Script::Say(ReplyBody::Step(StepReply::Refused(Refusal::Expired)))]);
    say(&bench.left.compensations, vec![Script::Say(ReplyBody::Retry(RetryReason::Storage))]);
    bench.right.settles.send_replace(false);
    let mut context = bench.context();
    context.options.attention_after = 1;
    let said = async |context: Context, what: &str| {
        let (ear, _listens) = Ear::listen();
        let runner = Runner::start(context).unwrap();
        let mut run = Box::pin(runner.run("pair", Payload::default(), LONG));
        until(|| ear.heard().contains(what), &mut run).await;
        drop(run);
        let failures = runner.active().first().map(|(_, state)| state.steps[0].compensation_failures);
        runner.let_go();
        (ear.heard(), failures)
    };
    let (own, failures) = said(context.clone(), "compensation keeps failing").await;
    assert!(!own.contains("left by"), "{own}");
    // One more than the first one has met. The new saga does not come to an end.
    say(&bench.right.actions, vec![Script::Hush]);
    context.options.attention_after = failures.unwrap() + 1;
    said(context, "left by an earlier runner: compensation keeps failing").await;
    let ended = Runner::start(bench.context()).unwrap();
    say(&bench.right.actions, vec![done()]);
    ended.run("pair", Payload::default(), LONG).await.unwrap();
    ended.let_go();
    say(&bench.right.actions, vec![Script::Hush]);
    let elsewhere = bench.context_with(&Service::new("right", &bench.heard));
    let (ear, _listens) = Ear::listen();
    let runner = Runner::start(elsewhere).unwrap();
    assert!(!runner.settled().await);
    assert!(ear.heard().contains("left by an earlier runner: can't be settled"), "{}", ear.heard());
}

#[test]
fn a_slot_that_is_not_open_to_its_group_yet_is_waited_for() {
    let disk = CutDisk::default();
    let journal = disk.journal();
    let slot = journal.claim_free().unwrap().slot().clone();
    disk.denies(1);
    assert!(claim_once_open(&journal, &slot).unwrap().is_some());
    disk.denies(2);
    assert!(claim_once_open(&journal, &slot).unwrap_err().is_permission(), "one that stays closed");
}

fn set_mode(bench: &Bench, mode: u32) {
    let slot = bench.directory.path().join("journal/0");
    std::fs::set_permissions(slot, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[tokio::test]
async fn a_slot_that_may_not_be_watched_is_taken_as_soon_as_it_is_opened() {
    if run_by_nobody(
        "runner::tests::unusable::a_slot_that_may_not_be_watched_is_taken_as_soon_as_it_is_opened",
    ) {
        return;
    }
    let bench = Bench::new();
    left_behind(&bench).await;
    set_mode(&bench, 0);
    watched(&bench, async |told| {
        let skipped = told.recv().await;
        assert!(matches!(skipped, Some(Notice::Skipped { slot: 0, .. })), "{skipped:?}");
        set_mode(&bench, 0o770);
        taken_over(told, 1).await;
    })
    .await;
}

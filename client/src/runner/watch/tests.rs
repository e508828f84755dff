use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::sync::Arc;

use like_protocol::time::BootClock;

use super::take::drive;
use super::*;
use crate::runner::tests::run_by_nobody;
use crate::runner::{Options, Origin, Participants, Runner};
use crate::saga::Definitions;

const LONG: Duration = Duration::from_secs(20);

/// A journal, and what runners in it work with.
fn journal() -> (tempfile::TempDir, Context) {
    let directory = tempfile::tempdir().unwrap();
    let context = Context {
        journal: Journal::open(directory.path()).unwrap(),
        definitions: Definitions::new(),
        participants: Participants::new(),
        clock: Arc::new(BootClock::open().unwrap()),
        origin: Origin::of_this_process(),
        options: Options::default(),
    };
    (directory, context)
}

type Told<T> = mpsc::UnboundedReceiver<T>;

fn opened(context: &Context) -> (Watcher, Told<Event>, Told<Notice>) {
    let (notices, told) = mpsc::unbounded_channel();
    let (events, inbox) = mpsc::unbounded_channel();
    (Watcher::open(context.clone(), Order::GoOn, notices, events).unwrap(), inbox, told)
}

#[tokio::test]
async fn who_took_a_slot_before_word_came_that_it_was_let_go_is_waited_for() {
    let (_directory, context) = journal();
    let owner = Runner::start(context.clone()).unwrap();
    let slot = owner.log().slot().clone();
    let newest = slot.newest_segment().unwrap();
    let (mut watcher, mut inbox, _told) = opened(&context);
    watcher.busy.insert(slot.number(), Busy::UnderWay { changed: true });
    let left =
        Left { sagas: HashSet::new(), newest: newest - 1, pause: LONG, at: tokio::time::Instant::now() };
    watcher.left_open(slot, left);
    owner.let_go();
    let got = tokio::time::timeout(LONG / 2, inbox.recv()).await;
    assert!(matches!(got, Ok(Some(Event::Locked(_)))), "nobody waited for the slot");
}

#[tokio::test]
async fn a_slot_that_is_not_open_yet_is_looked_at_once_more_before_that_is_said() {
    if run_by_nobody(
        "runner::watch::tests::a_slot_that_is_not_open_yet_is_looked_at_once_more_before_that_is_said",
    ) {
        return;
    }
    let (directory, context) = journal();
    std::fs::DirBuilder::new().mode(0o0).create(directory.path().join("0")).unwrap();
    let (mut watcher, mut inbox, mut told) = opened(&context);
    watcher.look_for_slots().unwrap();
    assert!(told.try_recv().is_err(), "said at once");
    let again = inbox.recv().await.unwrap();
    watcher.take(again).unwrap();
    assert!(matches!(told.try_recv(), Ok(Notice::Skipped { slot: 0, .. })));
}

/// A watcher of a journal with one slot, which `owner` has.
fn watched(context: &Context) -> (Watcher, Told<Event>, Runner) {
    let owner = Runner::start(context.clone()).unwrap();
    let (mut watcher, inbox, _told) = opened(context);
    watcher.look_for_slots().unwrap();
    (watcher, inbox, owner)
}

/// Lets go of its slot, in which it leaves a saga.
fn leaves_a_saga(owner: Runner) -> Slot {
    let begun = crate::saga::Event::Begun(Arc::new(crate::saga::tests::begun()));
    owner.log().append(SagaId::from_bytes([7; 16]), [begun]).unwrap();
    let slot = owner.log().slot().clone();
    owner.let_go();
    slot
}

/// Waits until a slot's lock was got.
async fn locked(watcher: &mut Watcher, inbox: &mut Told<Event>) {
    loop {
        let event = tokio::time::timeout(LONG, inbox.recv()).await.expect("nobody waits for the slot");
        let got = matches!(event, Some(Event::Locked(_)));
        watcher.take(event.unwrap()).unwrap();
        if got {
            return;
        }
    }
}

#[tokio::test]
async fn a_slot_that_was_moved_away_and_made_anew_is_watched_anew() {
    for its_owner_dies_first in [true, false] {
        let (directory, context) = journal();
        let (mut watcher, mut inbox, owner) = watched(&context);
        let slot = owner.log().slot().clone();
        if its_owner_dies_first {
            owner.let_go();
            locked(&mut watcher, &mut inbox).await;
        } else {
            let inode = format!(":{} ", std::fs::metadata(slot.path()).unwrap().ino());
            let waits = |lock: &str| lock.contains("->") && lock.contains(&inode);
            while !std::fs::read_to_string("/proc/locks").unwrap().lines().any(waits) {
                tokio::task::yield_now().await;
            }
        }
        std::fs::rename(slot.path(), directory.path().join("moved")).unwrap();
        let next = Runner::start(context).unwrap();
        assert_eq!(*next.log().slot(), slot);
        next.let_go();
        locked(&mut watcher, &mut inbox).await;
    }
}

#[tokio::test]
async fn a_slot_that_was_moved_away_is_waited_for_no_more_until_it_is_back() {
    let gone = |slot: Slot| {
        let error = JournalError::io("read", slot.path(), io::ErrorKind::NotFound.into());
        Event::Failed(slot, error)
    };
    for noticed in [Event::LetGo, gone] {
        let (directory, context) = journal();
        let (mut watcher, mut inbox, owner) = watched(&context);
        let (slot, moved) = (owner.log().slot().clone(), directory.path().join("moved"));
        std::fs::rename(slot.path(), &moved).unwrap();
        watcher.skipped.insert(slot.number(), "it was damaged".to_owned());
        watcher.take(noticed(slot.clone())).unwrap();
        assert!(watcher.busy.is_empty() && watcher.skipped.is_empty());
        std::fs::rename(&moved, slot.path()).unwrap();
        owner.let_go();
        locked(&mut watcher, &mut inbox).await;
    }
}

#[tokio::test]
async fn a_slot_that_has_its_name_again_is_watched_again() {
    let (directory, context) = journal();
    let (mut watcher, mut inbox, owner) = watched(&context);
    let (slot, moved) = (owner.log().slot().clone(), directory.path().join("moved"));
    owner.let_go();
    locked(&mut watcher, &mut inbox).await;
    std::fs::rename(slot.path(), &moved).unwrap();
    std::fs::create_dir(slot.path()).unwrap();
    watcher.look_for_slots().unwrap();
    std::fs::remove_dir(slot.path()).unwrap();
    std::fs::rename(&moved, slot.path()).unwrap();
    assert!(watcher.eyes.watch(&slot).unwrap());
}

/// Waits until it is to be looked again, and looks.
async fn looks_again(watcher: &mut Watcher, inbox: &mut Told<Event>) -> Result<(), JournalError> {
    let again = async { while !matches!(inbox.recv().await, Some(Event::LookAgain)) {} };
    tokio::time::timeout(LONG, again).await.expect("nobody looks again");
    watcher.take(Event::LookAgain)
}

#[tokio::test]
async fn a_journal_that_was_moved_away_is_watched_on_when_it_is_back() {
    let (directory, context) = journal();
    let (journal, moved) = (directory.path().join("journal"), directory.path().join("moved"));
    let context = Context { journal: Journal::open(&journal).unwrap(), ..context };
    let (mut watcher, mut inbox, owner) = watched(&context);
    std::fs::rename(&journal, &moved).unwrap();
    watcher.take(Event::Changed(Vec::new())).unwrap();
    looks_again(&mut watcher, &mut inbox).await.unwrap();
    let slot = owner.log().slot().clone();
    watcher.take(Event::LetGo(slot)).unwrap();
    std::fs::rename(&moved, &journal).unwrap();
    owner.let_go();
    locked(&mut watcher, &mut inbox).await;

    // Not another one.
    std::fs::rename(&journal, &moved).unwrap();
    watcher.take(Event::Changed(Vec::new())).unwrap();
    Journal::open(&journal).unwrap();
    let refused = looks_again(&mut watcher, &mut inbox).await.unwrap_err().to_string();
    assert!(refused.contains("another directory"), "{refused}");
}

#[tokio::test]
async fn nothing_is_taken_over_on_the_thread_that_watches() {
    let (_directory, context) = journal();
    let (mut watcher, mut inbox, owner) = watched(&context);
    let slot = leaves_a_saga(owner);
    let before = slot.newest_segment().unwrap();
    locked(&mut watcher, &mut inbox).await;
    assert_eq!(slot.newest_segment().unwrap(), before);
    while slot.newest_segment().unwrap() == before {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_slot_that_can_t_be_read_after_its_recovery_is_tried_again() {
    let (_directory, context) = journal();
    let owner = Runner::start(context.clone()).unwrap();
    let slot = leaves_a_saga(owner);
    let recovery = Recovery::start(&context, &slot, Order::GoOn).unwrap().unwrap();
    std::fs::write(slot.path().join("00000099.log"), "").unwrap();
    let (notices, _told) = mpsc::unbounded_channel();
    assert!(matches!(drive(&context, recovery, &notices).await, Event::Failed(..)));
}

#[tokio::test]
async fn a_slot_is_due_when_its_pause_is_over_however_often_it_was_got_meanwhile() {
    let (_directory, context) = journal();
    let (mut watcher, mut inbox, owner) = watched(&context);
    let at = tokio::time::Instant::now() - LONG;
    let newest = owner.log().slot().newest_segment().unwrap();
    let left = Left { sagas: HashSet::new(), newest, pause: LONG, at };
    watcher.take(Event::LeftOpen(owner.log().slot().clone(), left)).unwrap();
    let due =
        tokio::time::timeout(LONG / 2, async { while !matches!(inbox.recv().await, Some(Event::Due(_))) {} });
    due.await.unwrap();
}

#[tokio::test]
async fn what_stands_in_the_way_of_a_slot_is_said_again_once_it_was_used_in_between() {
    let (_directory, context) = journal();
    let (mut watcher, _inbox, owner) = watched(&context);
    let slot = owner.log().slot().clone();
    let left = Left { sagas: HashSet::new(), newest: u64::MAX, pause: LONG, at: tokio::time::Instant::now() };
    for used in [Event::LetGo(slot.clone()), Event::LeftOpen(slot.clone(), left)] {
        watcher.skipped.insert(slot.number(), "it was damaged".to_owned());
        watcher.take(used).unwrap();
        assert!(watcher.skipped.is_empty());
    }
}

#[tokio::test]
async fn every_change_of_a_journal_is_seen_not_the_first_alone() {
    let directory = tempfile::tempdir().unwrap();
    let (events, mut inbox) = mpsc::unbounded_channel();
    let _eyes = Eyes::open(directory.path(), events).unwrap();
    for slot in ["0", "1", "2"] {
        std::fs::create_dir(directory.path().join(slot)).unwrap();
        let seen = tokio::time::timeout(LONG, inbox.recv()).await;
        assert!(matches!(seen, Ok(Some(Event::Changed(_)))), "{slot} is not seen");
    }
}

#[tokio::test]
async fn any_slot_may_have_changed_when_changes_were_lost() {
    let (_directory, context) = journal();
    let (watcher, _inbox, owner) = watched(&context);
    assert_eq!(watcher.eyes.slots_of(&[-1]), [owner.log().slot().clone()]);
    assert_eq!(watcher.eyes.slots_of(&[]), []);
}

#[tokio::test]
async fn the_thread_that_sees_changes_ends_with_the_watch_however_long_somebody_still_listens() {
    let directory = tempfile::tempdir().unwrap();
    let (events, mut inbox) = mpsc::unbounded_channel();
    drop(Eyes::open(directory.path(), events).unwrap());
    let ended = async { while inbox.recv().await.is_some() {} };
    tokio::time::timeout(LONG, ended).await.expect("it goes on");
}

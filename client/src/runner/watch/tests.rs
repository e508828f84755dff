use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;

use like_protocol::time::BootClock;

use super::*;
use crate::runner::tests::run_by_nobody;
use crate::runner::{Options, Origin, Participants, Runner};
use crate::saga::Definitions;

const LONG: Duration = Duration::from_secs(20);

fn context(directory: &tempfile::TempDir) -> Context {
    Context {
        journal: Journal::open(directory.path()).unwrap(),
        definitions: Definitions::new(),
        participants: Participants::new(),
        clock: Arc::new(BootClock::open().unwrap()),
        origin: Origin::of_this_process(),
        options: Options::default(),
    }
}

#[tokio::test]
async fn who_took_a_slot_before_word_came_that_it_was_let_go_is_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let context = context(&directory);
    let owner = Runner::start(context.clone()).unwrap();
    let slot = owner.log().slot().clone();
    let newest = slot.newest_segment().unwrap();
    let (notices, _told) = mpsc::unbounded_channel();
    let (events, mut inbox) = mpsc::unbounded_channel();
    let mut watcher = Watcher::open(context, Order::GoOn, notices, events).unwrap();
    watcher.busy.insert(slot.number(), Busy::UnderWay { changed: true });
    let left = Left { sagas: HashSet::new(), newest: newest - 1, pause: LONG, at: Instant::now() };
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
    let directory = tempfile::tempdir().unwrap();
    let context = context(&directory);
    std::fs::DirBuilder::new().mode(0o0).create(directory.path().join("0")).unwrap();
    let (notices, mut told) = mpsc::unbounded_channel();
    let (events, mut inbox) = mpsc::unbounded_channel();
    let mut watcher = Watcher::open(context, Order::GoOn, notices, events).unwrap();
    watcher.look_for_slots().unwrap();
    assert!(told.try_recv().is_err(), "said at once");
    let again = inbox.recv().await.unwrap();
    watcher.take(again).unwrap();
    assert!(matches!(told.try_recv(), Ok(Notice::Skipped { slot: 0, .. })));
}

#[tokio::test]
async fn a_slot_that_was_moved_away_and_made_anew_is_watched_anew() {
    let directory = tempfile::tempdir().unwrap();
    let context = context(&directory);
    let slot = Runner::start(context.clone()).unwrap().log().slot().clone();
    let (notices, _told) = mpsc::unbounded_channel();
    let (events, mut inbox) = mpsc::unbounded_channel();
    let mut watcher = Watcher::open(context.clone(), Order::GoOn, notices, events).unwrap();
    watcher.look_for_slots().unwrap();
    let mut locked = async |watcher: &mut Watcher| loop {
        let event = tokio::time::timeout(LONG, inbox.recv()).await.expect("nobody waits for the slot");
        let got = matches!(event, Some(Event::Locked(_)));
        watcher.take(event.unwrap()).unwrap();
        if got {
            return;
        }
    };
    locked(&mut watcher).await;
    std::fs::rename(slot.path(), directory.path().join("moved")).unwrap();
    let next = Runner::start(context).unwrap();
    assert_eq!(*next.log().slot(), slot);
    next.let_go();
    locked(&mut watcher).await;
}

//! Syncs by who waits for them, and nobody beside.

use futures::FutureExt;

use super::cut_disk::{CutDisk, JOURNAL};
use super::*;
use crate::log::history;
use crate::log::writer::{Released, Syncing};

fn take_on(disk: &CutDisk) -> SagaLog {
    let journal = Journal::open_on(Arc::new(disk.clone()), Path::new(JOURNAL)).unwrap();
    take_over(journal.claim_free().unwrap(), Keeping::default()).unwrap().log
}

/// How many sagas the worst of power losses would leave.
fn left(disk: &CutDisk) -> usize {
    let after = disk.copy();
    after.lose_power(|| 1);
    let journal = Journal::open_on(Arc::new(after), Path::new(JOURNAL)).unwrap();
    history::read(&journal).unwrap().sagas.len()
}

fn begin(disk: &CutDisk) -> Option<Syncing> {
    disk.lock().syncs.as_ref().and_then(|syncs| syncs.begin())
}

fn finish(disk: &CutDisk, sync: Syncing) {
    let synced = sync.file().sync_data();
    let syncs = disk.lock().syncs.take().unwrap();
    syncs.finish(sync, synced, Released::tell);
    disk.lock().syncs = Some(syncs);
}

#[test]
fn who_is_alone_needs_nobody_to_sync() {
    let disk = CutDisk::default();
    let log = take_on(&disk);
    for number in 1..9 {
        let position = log.append(saga(number), open_events()).unwrap();
        assert_eq!(left(&disk), usize::from(number) - 1);
        assert_eq!(log.durable_here(position).now_or_never(), Some(Ok(())));
        assert_eq!(left(&disk), usize::from(number));
    }
    assert!(disk.lock().syncs.as_ref().unwrap().wanted().now_or_never().is_none(), "nobody else was asked");
}

#[test]
fn who_finds_others_that_want_a_sync_waits_with_them() {
    let disk = CutDisk::default();
    let log = take_on(&disk);
    let first = log.append(saga(1), open_events()).unwrap();
    let mut asked = Box::pin(log.durable(first));
    let context = &mut std::task::Context::from_waker(std::task::Waker::noop());
    assert!(asked.as_mut().poll(context).is_pending());
    let mut here = Box::pin(log.durable_here(first));
    assert!(here.as_mut().poll(context).is_pending(), "somebody is about to ask for all");
    assert!(asked.as_mut().poll(context).is_pending());
    finish(&disk, begin(&disk).unwrap());
    assert!(asked.as_mut().poll(context).is_ready() && here.as_mut().poll(context).is_ready());
}

#[test]
fn there_is_one_sync_at_a_time_and_the_next_one_is_asked_for() {
    let disk = CutDisk::default();
    let log = take_on(&disk);
    let first = log.append(saga(1), open_events()).unwrap();
    assert_eq!(log.durable(first).now_or_never(), None);
    let sync = begin(&disk).unwrap();
    let second = log.append(saga(2), open_events()).unwrap();
    assert_eq!(log.durable_here(second).now_or_never(), None, "a sync is under way");
    assert!(begin(&disk).is_none(), "there would be two");
    let wanted = || disk.lock().syncs.as_ref().unwrap().wanted().now_or_never();
    assert_eq!(wanted(), None);
    finish(&disk, sync);
    assert_eq!(wanted(), Some(true));
    assert_eq!(log.durable(second).now_or_never(), None, "it was appended behind the first sync");
    finish(&disk, begin(&disk).unwrap());
    assert_eq!(log.durable(second).now_or_never(), Some(Ok(())));
    assert_eq!(left(&disk), 2);
}

#[test]
fn a_sync_that_fails_ends_the_log() {
    let disk = CutDisk::default();
    let log = take_on(&disk);
    let position = log.append(saga(1), open_events()).unwrap();
    // One for the write.
    disk.lives_for(1);
    let ended = log.durable_here(position).now_or_never().unwrap().unwrap_err();
    assert!(ended.to_string().contains("sync failed"), "{ended}");
    assert_eq!(log.ended(), Some(ended));
}

//! Syncs by who waits for them, and nobody beside.

use futures::FutureExt;

use super::cut_disk::CutDisk;
use super::*;
use crate::log::history;
use crate::log::writer::{Released, Syncing, Syncs};

/// A disk on which nobody syncs but by a test's word, and a log on it.
fn taken() -> (CutDisk, SagaLog) {
    let disk = CutDisk::default();
    let log = take_over(disk.journal().claim_free().unwrap(), Keeping::default()).unwrap().log;
    (disk, log)
}

/// How many sagas the worst of power losses would leave.
fn left(disk: &CutDisk) -> usize {
    let after = disk.copy();
    after.lose_power(|| 1);
    history::read(&after.journal()).unwrap().sagas.len()
}

fn syncs_of(disk: &CutDisk) -> Syncs {
    disk.lock().syncs.take().unwrap()
}

fn finish(syncs: &Syncs, sync: Syncing) {
    let synced = sync.file().sync_data();
    syncs.finish(sync, synced, Released::tell);
}

fn is_ready(future: &mut (impl Future + Unpin)) -> bool {
    future.poll_unpin(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_ready()
}

#[test]
fn who_is_alone_needs_nobody_to_sync() {
    let (disk, log) = taken();
    for number in 1..9 {
        let position = log.append(saga(number), open_events()).unwrap();
        assert_eq!(left(&disk), usize::from(number) - 1);
        assert_eq!(log.durable_here(position).now_or_never(), Some(Ok(())));
        assert_eq!(left(&disk), usize::from(number));
    }
    assert!(syncs_of(&disk).wanted().now_or_never().is_none(), "nobody else was asked");
}

#[test]
fn who_finds_others_that_want_a_sync_waits_with_them() {
    let (disk, log) = taken();
    let syncs = syncs_of(&disk);
    let first = log.append(saga(1), open_events()).unwrap();
    let mut asks = Box::pin(log.durable(first));
    assert!(!is_ready(&mut asks));
    let mut here = Box::pin(log.durable_here(first));
    assert!(!is_ready(&mut here), "somebody is about to ask for all");
    assert!(!is_ready(&mut asks));
    finish(&syncs, syncs.begin().unwrap());
    assert!(is_ready(&mut asks) && is_ready(&mut here));
}

#[test]
fn there_is_one_sync_at_a_time_and_who_runs_them_is_woken_for_the_next() {
    let (disk, log) = taken();
    let syncs = syncs_of(&disk);
    let first = log.append(saga(1), open_events()).unwrap();
    assert_eq!(log.durable(first).now_or_never(), None);
    let sync = syncs.begin().unwrap();
    let second = log.append(saga(2), open_events()).unwrap();
    assert_eq!(log.durable_here(second).now_or_never(), None, "a sync is under way");
    assert!(syncs.begin().is_none(), "there would be two");
    let mut wanted = Box::pin(syncs.wanted());
    assert!(!is_ready(&mut wanted));
    let synced = sync.file().sync_data();
    syncs.finish(sync, synced, |released| {
        released.tell();
        assert!(syncs.begin().is_none(), "the first one may be about to go on in a new segment");
    });
    assert!(is_ready(&mut wanted));
    assert_eq!(log.durable(second).now_or_never(), None, "it was appended behind the first sync");
    finish(&syncs, syncs.begin().unwrap());
    assert_eq!(log.durable(second).now_or_never(), Some(Ok(())));
    assert_eq!(left(&disk), 2);
}

#[test]
fn a_sync_that_fails_ends_the_log() {
    let (disk, log) = taken();
    let position = log.append(saga(1), open_events()).unwrap();
    // One for the write.
    disk.lives_for(1);
    let ended = log.durable_here(position).now_or_never().unwrap().unwrap_err();
    assert!(ended.to_string().contains("sync failed"), "{ended}");
    assert_eq!(log.ended(), Some(ended));
}

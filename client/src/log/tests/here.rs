//! Syncs by who waits for them, and nobody beside.

use futures::FutureExt;

use super::cut_disk::CutDisk;
use super::*;
use crate::log::disk::Disk;
use crate::log::history;
use crate::log::writer::{Released, Syncing, Syncs};
use crate::saga::tests::forced;

/// A disk on which nobody syncs but by a test's word, and a log on it.
fn taken() -> (CutDisk, SagaLog) {
    taken_keeping(Keeping::default())
}

fn taken_keeping(keeping: Keeping) -> (CutDisk, SagaLog) {
    let disk = CutDisk::default();
    let log = take_over(disk.journal().claim_free().unwrap(), keeping).unwrap().log;
    (disk, log)
}

/// Up to where a segment says to be durable, and where the records of a saga in it begin and end.
fn stated(disk: &CutDisk, log: &SagaLog, segment: u64, saga: SagaId) -> (u64, u64, u64) {
    let bytes = disk.read(&segment::path(log.slot().path(), segment), None).unwrap();
    let scan = scan(Place { slot: 0, segment }, &bytes, Certain::Stated);
    let told: Vec<_> = scan.records.iter().filter(|(_, record)| record.saga == saga).collect();
    (scan.durable_to, told[0].0, told[told.len() - 1].0)
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
        assert_eq!(disk.left(), usize::from(number) - 1);
        assert_eq!(log.durable_here(position).now_or_never(), Some(Ok(())));
        assert_eq!(disk.left(), usize::from(number));
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
    assert_eq!(disk.left(), 2);
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

#[test]
fn a_write_that_fails_is_the_last_one_whoever_waits_for_it() {
    let (disk, log) = taken();
    let put_off = log.to_write(log.append(saga(1), open_events()).unwrap());
    disk.lives_for(0);
    let ended = put_off.write().unwrap_err();
    disk.lives_for(1000);
    assert_eq!(put_off.write(), Err(ended));
    log.let_go();
    assert!(history::read(&disk.journal()).unwrap().sagas.is_empty(), "the slot may be another's by now");
}

#[test]
fn once_a_sync_has_failed_nothing_rests_on_what_was_written_before() {
    let (disk, log) = taken();
    let first = log.append(saga(1), open_events()).unwrap();
    let put_off = log.to_write(first);
    put_off.write().unwrap();
    let second = log.append(saga(2), open_events()).unwrap();
    disk.lives_for(1);
    let ended = log.durable_here(second).now_or_never().unwrap().unwrap_err();
    assert!(ended.to_string().contains("sync failed"), "{ended}");
    assert_eq!(put_off.write(), Err(ended.clone()), "a request would leave, a caller be told");
    assert_eq!(block_on(log.written(first)), Err(ended));
}

#[test]
fn a_log_in_which_nothing_follows_says_all_the_same_what_of_it_is_durable() {
    let (disk, log) = taken();
    let position = log.append(saga(1), open_events()).unwrap();
    assert_eq!(log.durable_here(position).now_or_never(), Some(Ok(())));
    let (durable, _, last) = stated(&disk, &log, 1, saga(1));
    assert!(durable > last, "{durable} is not behind {last}");
}

#[test]
fn what_was_appended_while_a_sync_was_asked_for_is_not_called_durable_by_it() {
    let (disk, log) = taken();
    let syncs = syncs_of(&disk);
    let first = log.append(saga(1), open_events()).unwrap();
    assert_eq!(log.durable(first).now_or_never(), None);
    let second = log.append(saga(2), open_events()).unwrap();
    finish(&syncs, syncs.begin().unwrap());
    log.to_write(second).write().unwrap();
    log.to_write(log.append(saga(3), open_events()).unwrap()).write().unwrap();
    let (durable, from, _) = stated(&disk, &log, 1, saga(2));
    assert!(durable <= from, "{durable} is behind {from}");
    assert!(durable > stated(&disk, &log, 1, saga(1)).2);
}

#[test]
fn a_new_segment_says_of_itself_what_is_durable_and_no_more() {
    let (disk, log) = taken_keeping(Keeping { segment_bytes_max: 2000, ..Keeping::default() });
    for number in [3, 4] {
        let settled = [large(1500), forced(End::Completed), Event::Settled];
        let position = log.append(saga(number), settled).unwrap();
        assert_eq!(log.durable_here(position).now_or_never(), Some(Ok(())));
    }
    assert_eq!(log.segments(), 1..=2);
    let position = log.append(saga(2), open_events()).unwrap();
    log.to_write(position).write().unwrap();
    let (durable, from, _) = stated(&disk, &log, 2, saga(2));
    assert!(durable <= from, "{durable} is behind {from}");
    assert_eq!(log.durable_here(position).now_or_never(), Some(Ok(())));
    let (durable, _, last) = stated(&disk, &log, 2, saga(2));
    assert!(durable > last, "{durable} is not behind {last}");
}

#[test]
fn a_log_ends_where_it_cannot_say_what_is_durable_nor_go_on_in_a_new_segment() {
    for (segment_bytes_max, why) in [(u64::from(u32::MAX), "write failed"), (0, "rotation failed")] {
        let (disk, log) = taken_keeping(Keeping { segment_bytes_max, ..Keeping::default() });
        let position = log.append(saga(1), open_events()).unwrap();
        // One for the write, one for the sync.
        disk.lives_for(2);
        assert_eq!(log.durable_here(position).now_or_never(), Some(Ok(())));
        let ended = log.ended().unwrap();
        assert!(ended.to_string().contains(why), "{ended}");
    }
}

#[test]
fn a_log_ends_with_who_runs_its_syncs() {
    let (disk, log) = taken();
    let position = log.append(saga(1), open_events()).unwrap();
    let mut waits = Box::pin(log.durable(position));
    assert!(!is_ready(&mut waits));
    drop(syncs_of(&disk));
    assert!(waits.now_or_never().is_some_and(|told| told.is_err()), "it would wait for ever");
}

#[tokio::test]
async fn what_is_durable_is_said_by_what_is_written_next_and_behind_those_who_write_nothing() {
    let (disk, log) = taken();
    let syncs = syncs_of(&disk);
    for (number, goes_on) in [(1, true), (2, false)] {
        let position = log.append(saga(number), open_events()).unwrap();
        let durable = || stated(&disk, &log, 1, saga(number)).0;
        let waits = async {
            log.durable(position).await.unwrap();
            let before = durable();
            if goes_on {
                log.to_write(log.append(saga(number), [sent(0, 1)]).unwrap()).write().unwrap();
            }
            (before, stated(&disk, &log, 1, saga(number)))
        };
        let tells = async {
            syncs.wanted().await;
            let (sync, told) = (syncs.begin().unwrap(), std::cell::Cell::new(None));
            let synced = sync.file().sync_data();
            syncs.finish(sync, synced, |released| told.set(Some(released)));
            told.take().unwrap().tell_in_bursts().await;
        };
        let ((before, (after, first, _)), ()) = futures::join!(waits, tells);
        assert!(before <= first, "nothing holds up those who are told");
        assert_eq!(after > first, goes_on);
        assert!(durable() > first);
    }
}

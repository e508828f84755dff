//! The log of a store: what a group changes written, made durable, and read again.

use std::sync::Arc;

use criterion::{Criterion, Throughput};
use like_daemon::store::commit_log::{self, CommitLog, Found};
use like_daemon::store::disk::RealDisk;
use like_protocol::message::RequestBody;

use crate::participant::{GROUP, Service, steps};

/// How large a log is read again: as large as it grows before a checkpoint.
const LOG_BYTES: u64 = 32 * 1024 * 1024;

pub fn bench(criterion: &mut Criterion) {
    let changes = Service::new().decide(steps(GROUP).into_iter().map(RequestBody::Step).collect());
    let directory = tempfile::tempdir().expect("a directory");
    let disk = RealDisk::open(directory.path()).expect("it is there");
    let begin = || CommitLog::go_on(Arc::new(disk.clone()), &Found::default(), LOG_BYTES).expect("a log");
    let empty = |log: &mut CommitLog| {
        let full = log.roll().expect("a segment");
        commit_log::remove(&disk, &full).expect("they can be removed");
    };
    let mut group = criterion.benchmark_group("commit log");
    group.throughput(Throughput::Elements(GROUP));
    let mut log = begin();
    group.bench_function("what 64 likes change, written and durable", |b| {
        b.iter(|| {
            if log.bytes() >= LOG_BYTES {
                empty(&mut log);
            }
            log.append(&changes).expect("a record");
            log.sync().expect("a sync");
        });
    });
    empty(&mut log);
    let checkpoint = log.last();
    while log.bytes() < LOG_BYTES {
        log.append(&changes).expect("a record");
    }
    log.sync().expect("a sync");
    group.throughput(Throughput::Bytes(LOG_BYTES));
    group.sample_size(10);
    group.bench_function("32 MiB read again", |b| {
        b.iter(|| commit_log::read(&disk, checkpoint, None).expect("what was written"));
    });
    group.finish();
}

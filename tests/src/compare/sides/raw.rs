//! The limit: what the least three durable hops cost that the protocol needs, and nothing else.
//!
//! A like is durable three times in a row: in the saga log, at the article service, at the user service. So no system
//! that keeps these promises can be faster than three appends, one after the other, each synced.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use crate::turn::{Stopwatch, Turn};

/// About what one hop writes for one like.
const RECORD: [u8; 128] = [7; 128];

/// Three files that are appended to and synced.
#[derive(Debug)]
pub struct RawLogs {
    files: [File; 3],
    _directory: tempfile::TempDir,
}

impl RawLogs {
    /// Three empty ones.
    pub fn open() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let open = |name: &str| {
            let path = directory.path().join(name);
            OpenOptions::new().create(true).append(true).open(path).expect("a file")
        };
        Self { files: ["log", "article", "user"].map(open), _directory: directory }
    }

    /// One client: three appends with their syncs in a row, in one thread.
    pub fn one_at_a_time(&mut self, length: Duration) -> Turn {
        let mut watch = Stopwatch::start(&[], length);
        while !watch.is_over() {
            let began = Instant::now();
            for file in &mut self.files {
                append(file, 1);
            }
            watch.note(began.elapsed());
        }
        watch.stop()
    }

    /// Many clients: a thread for each log appends and syncs for all that wait, and hands them on to the next log.
    pub fn group_committed(&mut self, clients: usize, length: Duration) -> Turn {
        let mut watch = Stopwatch::start(&[], length);
        let [first, second, third] = &mut self.files;
        let (enter, to_first) = channel();
        let (from_first, to_second) = channel();
        let (from_second, to_third) = channel();
        let (from_third, done) = channel();
        std::thread::scope(|scope| {
            scope.spawn(|| hop(first, to_first, from_first));
            scope.spawn(|| hop(second, to_second, from_second));
            scope.spawn(|| hop(third, to_third, from_third));
            enter.send(vec![Instant::now(); clients]).expect("the first log");
            let mut waiting = clients;
            while waiting > 0 {
                let group: Vec<Instant> = done.recv().expect("the last log");
                group.iter().for_each(|began| watch.note(began.elapsed()));
                if watch.is_over() {
                    waiting -= group.len();
                } else {
                    enter.send(vec![Instant::now(); group.len()]).expect("the first log");
                }
            }
            drop(enter);
        });
        watch.stop()
    }
}

fn hop(file: &mut File, waiting: Receiver<Vec<Instant>>, on: Sender<Vec<Instant>>) {
    while let Ok(mut group) = waiting.recv() {
        group.extend(waiting.try_iter().flatten());
        append(file, group.len());
        if on.send(group).is_err() {
            return;
        }
    }
}

fn append(file: &mut File, records: usize) {
    file.write_all(&RECORD.repeat(records)).expect("a write");
    file.sync_data().expect("a sync");
}

//! Several threads note events of their sagas in one log and wait, each in its own way, until these are safe. What they are told must
//! then be so, nobody may wait for ever, and whoever writes must own the slot.

use std::sync::Arc;

use fastrand::Rng;
use futures::FutureExt;
use like_protocol::ids::{BootId, SagaId};
use like_protocol::message::Payload;
use like_protocol::time::Deadline;
use shuttle::future::block_on;

use crate::log::{Keeping, LogEnded, Position, SagaLog, history, take_over};
use crate::log_disk::{Crash, LogDisk};
use crate::saga::{Begun, Event};
use crate::sync::thread;

/// What a thread does once it has noted an event.
#[derive(Clone, Copy, Debug)]
enum Wants {
    /// It waits until the event is durable.
    Durable,
    /// As well, and syncs by itself if nobody else wants that.
    DurableHere,
    /// It waits until the event is written.
    Written,
    /// It writes it at once, with whatever is noted.
    PutOff,
    /// It asks for a sync, and gives up waiting.
    GivesUp,
}

const WANTS: [Wants; 5] = [Wants::Durable, Wants::DurableHere, Wants::Written, Wants::PutOff, Wants::GivesUp];

/// What happens besides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Besides {
    Nothing,
    /// So many writes or syncs succeed, and the next one does not.
    WriteFails(u32),
    SyncFails(u32),
    /// Somebody lets go of the slot.
    LetGo,
    /// Somebody reads the log.
    Read,
}

/// What is tried.
#[derive(Debug)]
struct Plan {
    threads: Vec<Vec<Wants>>,
    segment_bytes_max: u64,
    besides: Besides,
}

impl Plan {
    fn of(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        // Half of them want one thing only: then every moment is one of those in which that matters.
        let only = random.bool().then(|| random.choice(WANTS)).flatten();
        let wants = |random: &mut Rng| only.or_else(|| random.choice(WANTS)).unwrap_or(Wants::Durable);
        let threads = (0..random.usize(2..=3))
            .map(|_| (0..random.usize(1..=3)).map(|_| wants(&mut random)).collect())
            .collect();
        // None of them is full, or each behind one or two groups.
        let segment_bytes_max = random.choice([1 << 20, 250, 1]).unwrap_or(1);
        let besides = match random.u8(..8) {
            0 => Besides::WriteFails(random.u32(..4)),
            1 => Besides::SyncFails(random.u32(..3)),
            2 | 3 => Besides::LetGo,
            4 => Besides::Read,
            _ => Besides::Nothing,
        };
        Self { threads, segment_bytes_max, besides }
    }
}

/// Plays what a seed says, in the order that the scheduler of the running search chooses.
///
/// # Panics
/// A promise was broken.
pub fn play(seed: u64) {
    let Plan { threads, segment_bytes_max, besides } = Plan::of(seed);
    let disk = LogDisk::empty();
    let lock = disk.journal().claim_free().expect("a free slot");
    let keeping = Keeping { segment_bytes_max, merge_bytes_max: 0, ..Keeping::default() };
    let log = take_over(lock, keeping).expect("a log").log;
    match besides {
        Besides::WriteFails(after) => disk.fail_after(Some(after), None),
        Besides::SyncFails(after) => disk.fail_after(None, Some(after)),
        _ => {}
    }
    let noting: Vec<_> = (1..)
        .zip(threads)
        .map(|(number, wants)| {
            let thread = Noting { log: log.clone(), disk: disk.clone(), saga: saga(number), besides };
            thread::spawn(move || thread.note(&wants))
        })
        .collect();
    match besides {
        Besides::LetGo => log.let_go(),
        Besides::Read => {
            let read = history::read(&disk.journal()).expect("a journal");
            assert!(read.gaps.are_none(), "a live log is called damaged: {:?}", read.gaps);
        }
        _ => {}
    }
    drop(log);
    let durable: Vec<_> = noting.into_iter().map(|thread| thread.join().expect("a thread")).collect();
    disk.syncs_end();
    assert!(!disk.is_locked(), "nobody has the log any more, and its slot is not free");
    let after = disk.after_power_loss();
    for (number, events) in (1..).zip(durable) {
        assert!(after.has(saga(number), events, Crash::Process), "what was durable is gone");
    }
    let next = take_over(after.journal().claim_free().expect("a free slot"), keeping).expect("a log");
    assert!(next.damage.is_empty(), "a power loss is called damage: {:?}", next.damage);
    drop(next);
    after.syncs_end();
}

/// A thread that notes events of one saga.
struct Noting {
    log: SagaLog,
    disk: LogDisk,
    saga: SagaId,
    besides: Besides,
}

impl Noting {
    /// Notes an event for each of these, and tells up to which one they were said to be durable.
    fn note(self, wants: &[Wants]) -> u32 {
        let (mut durable, mut last) = (0, None);
        for (seq, wants) in (0..).zip(wants) {
            let noted = self.log.append(self.saga, [event(seq)]);
            match noted.and_then(|position| self.wait(*wants, last.insert(position))) {
                Ok(None) => {}
                Ok(Some(crash)) => {
                    assert!(self.disk.has(self.saga, seq + 1, crash), "{wants:?}: {seq} is not safe");
                    if crash == Crash::Host {
                        durable = seq + 1;
                    }
                }
                Err(ended) => {
                    self.has_ended(&ended, last);
                    break;
                }
            }
        }
        durable
    }

    /// Which crash the event is said to be safe from, if from any.
    fn wait(&self, wants: Wants, position: &Position) -> Result<Option<Crash>, LogEnded> {
        let (log, position) = (&self.log, *position);
        match wants {
            Wants::Durable => block_on(log.durable(position)).map(|()| Some(Crash::Host)),
            Wants::DurableHere => block_on(log.durable_here(position)).map(|()| Some(Crash::Host)),
            Wants::Written => block_on(log.written(position)).map(|()| Some(Crash::Process)),
            Wants::PutOff => log.to_write(position).write().map(|()| Some(Crash::Process)),
            Wants::GivesUp => log.durable(position).now_or_never().transpose().map(|_| None),
        }
    }

    /// A log ends for a reason, and nothing rests on one that has failed.
    fn has_ended(&self, ended: &LogEnded, last: Option<Position>) {
        match self.besides {
            Besides::WriteFails(_) | Besides::SyncFails(_) => {
                assert!(ended.why.contains("failed"), "it ended for another reason: {ended}");
                if let Some(last) = last {
                    assert!(
                        self.log.to_write(last).write().is_err(),
                        "something rests on a log that has failed"
                    );
                }
            }
            Besides::LetGo => {}
            Besides::Nothing | Besides::Read => panic!("it has ended: {ended}"),
        }
    }
}

fn saga(number: u8) -> SagaId {
    SagaId::from_bytes([number; 16])
}

/// The events of a saga, by their number.
fn event(seq: u32) -> Event {
    let deadline = Deadline { boot: BootId::from_bytes([1; 16]), at_ms: 1 };
    match seq {
        0 => Event::Begun(Arc::new(Begun {
            kind: "transfer".into(),
            version: 1,
            params: Payload::default(),
            participants: Vec::new(),
            steps: Vec::new(),
            deadline,
            by_uid: 0,
        })),
        _ => Event::Resumed { deadline, by_uid: seq },
    }
}

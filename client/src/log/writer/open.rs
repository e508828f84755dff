//! What stands in an open log: how far it has been appended to, written and synced, who waits for that, and what a rotation
//! carries over. Nothing here takes a lock, waits, or decides when a log ends.

use std::io;

use foldhash::HashMap;
use like_protocol::ids::SagaId;
use like_protocol::message::SETTLEMENTS_MAX;
use tokio::sync::oneshot;

use super::super::disk::Disk;
use super::super::record::{Entry, SagaRecord};
use super::super::segment::Fresh;
use super::super::slot::SlotLock;
use super::super::story::Story;
use super::super::takeover::Keeping;
use super::{LogEnded, Position, Released};
use crate::saga::Event;

/// How many records a saga of two steps leaves until it is settled, if nothing fails.
const RECORDS_USUAL: usize = 6;

/// Of how many settled sagas the memory is kept for those that begin: as many as are settled together, several times.
const SPARE_MAX: usize = 4 * SETTLEMENTS_MAX;

/// Somebody who waits until a position is durable; dropped unanswered if the log ends before.
pub(super) type Waiting = (Position, oneshot::Sender<()>);

/// A segment, and how much of the file system it takes. What is written into that takes nothing more.
pub(super) type Space = (u64, u64);

/// How far a log has come, with everything that one lock guards.
#[derive(Debug)]
pub(super) struct Open {
    /// Gone once the log has ended.
    pub lock: Option<SlotLock>,
    pub why_ended: String,
    /// Whether it has ended by a failure: then nothing may rest on what had been written either.
    pub failed: bool,
    pub segment: Fresh,
    /// How large the segment may grow.
    pub segment_bytes_max: u64,
    /// The space that it had when sagas were last found to have room to begin.
    pub roomy: Option<Space>,
    /// The offset that is durable, and the one that the segment states to be.
    pub durable_bytes: u64,
    pub stated_bytes: u64,
    /// Encoded, and not yet written: the end of `segment.bytes`.
    pub unwritten: Vec<u8>,
    pub appended: Position,
    pub written: Position,
    /// What has been asked to be durable; it was written before.
    pub wanted: Position,
    /// Whether somebody is about to ask for a sync, for all who want one in the same moment.
    pub asking: bool,
    /// Whether a sync is under way: there is never more than one.
    pub syncing: bool,
    pub durable: Position,
    pub waiting: Vec<Waiting>,
    /// Sagas that are not settled: what a rotation carries over.
    pub live: HashMap<SagaId, Live>,
    /// Room for the records of sagas that begin, left by sagas that are settled.
    spare: Vec<Vec<SagaRecord>>,
    /// How many events there have been.
    events: u64,
}

/// What is told of a saga that is not settled.
#[derive(Debug)]
pub struct Live {
    /// All its records.
    pub records: Vec<SagaRecord>,
    /// For comparing: when its last one was told.
    pub last: u64,
}

impl Live {
    /// What the records of another saga can be put into.
    fn spare(self) -> Option<Vec<SagaRecord>> {
        let mut records = self.records;
        records.clear();
        (records.capacity() == RECORDS_USUAL).then_some(records)
    }
}

/// What stories tell, in their order.
fn live(open: impl Iterator<Item = (SagaId, Vec<SagaRecord>)>) -> HashMap<SagaId, Live> {
    (0..).zip(open).map(|(last, (saga, records))| (saga, Live { records, last })).collect()
}

impl Open {
    /// The log that begins with this segment, which tells of what is open.
    pub fn begin(lock: SlotLock, segment: Fresh, open: &[Story], keeping: &Keeping) -> Self {
        let start = Position::default();
        Self {
            lock: Some(lock),
            why_ended: String::new(),
            failed: false,
            segment_bytes_max: segment.bytes + keeping.segment_bytes_max,
            roomy: None,
            durable_bytes: segment.bytes,
            stated_bytes: 0,
            segment,
            unwritten: Vec::new(),
            appended: start,
            written: start,
            wanted: start,
            asking: false,
            syncing: false,
            durable: start,
            waiting: Vec::new(),
            live: live(open.iter().map(|story| (story.saga, story.records.clone()))),
            spare: Vec::new(),
            events: open.len() as u64,
        }
    }

    /// From now on it is appended to this segment, which tells of what is open.
    pub fn go_on_in(&mut self, segment: Fresh, open: Vec<Story>, keeping: &Keeping) {
        self.durable_bytes = segment.bytes;
        self.stated_bytes = 0;
        self.segment_bytes_max = segment.bytes + keeping.segment_bytes_max;
        self.segment = segment;
        self.live = live(open.into_iter().map(|story| (story.saga, story.records)));
    }

    /// What it takes of its file system.
    pub fn space(&self) -> Space {
        (self.segment.place.segment, self.segment.allotted)
    }

    /// Nothing is done with a log that has ended.
    pub fn refuse_ended(&self) -> Result<(), LogEnded> {
        if self.lock.is_some() { Ok(()) } else { Err(LogEnded { why: self.why_ended.clone() }) }
    }

    /// Encodes what is to be written, with a word on what is durable in front if that has news.
    pub fn encode(
        &mut self,
        disk: &dyn Disk,
        events: impl IntoIterator<Item = (SagaId, Event)>,
    ) -> io::Result<Position> {
        let before = self.segment.bytes;
        if self.stated_bytes < self.durable_bytes {
            self.state_durable(Entry::DurableTo)?;
        }
        let at_ms = disk.wall_ms();
        for (saga, event) in events {
            let settles = event == Event::Settled;
            let spare = &mut self.spare;
            let Live { records, last } = self.live.entry(saga).or_insert_with(|| Live {
                records: spare.pop().unwrap_or_else(|| Vec::with_capacity(RECORDS_USUAL)),
                last: 0,
            });
            *last = self.events;
            self.events += 1;
            if matches!(event, Event::Begun(_)) {
                // A story whose beginning was lost is told anew from here.
                records.clear();
            }
            let seq = records.last().map_or(0, |last| last.seq + 1);
            let entry = Entry::Saga(SagaRecord { saga, seq, at_ms, event });
            self.segment.encode(&entry, &mut self.unwritten)?;
            if settles {
                self.segment.all_open = false;
                self.spare.extend(self.live.remove(&saga).and_then(Live::spare));
                self.spare.truncate(SPARE_MAX);
            } else if let Entry::Saga(record) = entry {
                records.push(record);
            }
        }
        self.appended = Position(self.appended.0 + self.segment.bytes - before);
        Ok(self.appended)
    }

    /// An entry that belongs to no saga, on what is durable. No position increases by it if nobody appends with it.
    fn state_durable(&mut self, word: fn(u64) -> Entry) -> io::Result<()> {
        self.stated_bytes = self.durable_bytes;
        self.segment.encode(&word(self.durable_bytes), &mut self.unwritten)
    }

    /// One write for all that is not written yet.
    pub fn write(&mut self) -> io::Result<()> {
        if !self.unwritten.is_empty() {
            self.segment.write(&mut self.unwritten)?;
        }
        self.written = self.appended;
        Ok(())
    }

    /// An entry of that sort, written at once.
    pub fn write_word(&mut self, word: fn(u64) -> Entry) -> io::Result<()> {
        self.state_durable(word)?;
        self.write()
    }

    /// Everything up to a position is durable: takes out who waited for that.
    pub fn durable_to(&mut self, position: Position) -> Released {
        self.durable = position;
        Released::of(self.waiting.extract_if(.., |(wanted, _)| *wanted <= position).collect())
    }
}

//! The log's tests: what is on disk, what survives a crash, and who may write when.

mod golden;
mod history;
mod record;
mod scan;
mod slot;
mod story;
mod takeover;
mod writer;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use like_protocol::ids::SagaId;

use super::record::{Entry, FIRST_TAG, Header, Place, SagaRecord, encode};
use super::{Damage, Journal, Story, TakenOver, take_over};
use crate::saga::tests::{begun, done, live, sent};
use crate::saga::{End, Event};

const PLACE: Place = Place { slot: 3, segment: 5 };

/// Longer than any test takes.
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

fn saga(number: u8) -> SagaId {
    SagaId::from_bytes([number; 16])
}

/// The records of a saga with these events, from its `Begun` on.
fn records(saga: SagaId, events: impl IntoIterator<Item = Event>) -> Vec<SagaRecord> {
    let numbered = (0..).zip(events);
    numbered.map(|(seq, event)| SagaRecord { saga, seq, at_ms: 1_000_000 + u64::from(seq), event }).collect()
}

/// The events of a saga that has completed and been settled.
fn settled_events() -> Vec<Event> {
    let actions = [sent(0, 1), done(0), sent(1, 1), done(1)];
    let begun = std::iter::once(Event::Begun(begun()));
    begun.chain(actions).chain([Event::Ended(End::Completed), Event::Settled]).collect()
}

/// The events of a saga that waits for its second step.
fn open_events() -> Vec<Event> {
    settled_events().into_iter().take(4).collect()
}

/// A segment's bytes, and where its records begin.
struct Written {
    bytes: Vec<u8>,
    tag: u32,
    starts: Vec<(usize, Entry)>,
}

impl Written {
    fn new() -> Self {
        let bytes = Header { place: PLACE, lowest_live: 1 }.encode().to_vec();
        Self { bytes, tag: FIRST_TAG, starts: Vec::new() }
    }

    fn put(&mut self, entry: Entry) -> &mut Self {
        let at = self.bytes.len();
        self.tag = encode(PLACE, at as u64, self.tag, &entry, &mut self.bytes).unwrap();
        self.starts.push((at, entry));
        self
    }

    fn put_all(&mut self, records: impl IntoIterator<Item = SagaRecord>) -> &mut Self {
        for record in records {
            self.put(Entry::Saga(record));
        }
        self
    }

    /// A word that all so far is durable.
    fn put_durable(&mut self) -> &mut Self {
        self.put(Entry::DurableTo(self.bytes.len() as u64))
    }
}

/// What a journal's open sagas are, each with the state it is in, whether it was taken over left out.
fn open_sagas(stories: impl IntoIterator<Item = Story>) -> BTreeMap<SagaId, Option<crate::saga::SagaState>> {
    let open = stories.into_iter().filter(Story::is_open);
    let state = |story: Story| {
        let mut state = story.state;
        if let Some(state) = &mut state {
            state.taken_over_forward = false;
        }
        (story.saga, state)
    };
    open.map(state).collect()
}

/// Takes the first slot of the journal at `path` over.
fn take(path: &Path) -> TakenOver {
    let lock = Journal::open(path).unwrap().claim_free().unwrap();
    take_over(lock, WEEK).unwrap()
}

/// Copies a directory of directories of files.
fn copy_journal(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_journal(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

//! The log's tests: what is on disk, what survives a crash, and who may write when.

pub(crate) mod cut_disk;
mod damage;
mod golden;
mod here;
mod history;
mod power;
mod record;
mod scan;
mod slot;
mod space;
mod story;
mod takeover;
mod turns;
mod writer;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use like_protocol::ids::SagaId;
use like_protocol::message::Payload;
use tracing::subscriber::DefaultGuard;

use super::disk::RealDisk;
use super::record::{Entry, FIRST_TAG, Header, Place, SagaRecord, encode};
use super::scan::{Certain, scan};
use super::{Damage, Journal, Keeping, LogEnded, Position, SagaLog, Story, TakenOver, segment, take_over};
use crate::saga::tests::{begun, done, live, sent};
use crate::saga::{Begun, End, Event};
use futures::executor::block_on;

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
    let begun = std::iter::once(Event::Begun(begun().into()));
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
        let bytes = Header { place: PLACE, lowest_live: 1, boot: None }.encode().to_vec();
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

/// Between fork and exec a child holds every lock that this process holds, even one that is let go of just then. Whoever
/// starts a child holds this for writing, and for reading who expects a lock to be free at once.
static SPAWNING: RwLock<()> = RwLock::new(());

fn undisturbed() -> RwLockReadGuard<'static, ()> {
    SPAWNING.read().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn spawn(command: &mut Command) -> std::io::Result<Child> {
    let _alone = SPAWNING.write().unwrap_or_else(PoisonError::into_inner);
    command.spawn()
}

/// A child process that runs one test of this binary, in which it finds its journal.
pub(crate) fn child(test: &str, journal: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]);
    command.env(CHILD_JOURNAL, journal).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Tells a child process its journal.
const CHILD_JOURNAL: &str = "LOG_TEST_CHILD_JOURNAL";

/// Takes over the first slot of the journal at `path`, making both if need be.
fn take(path: &Path) -> TakenOver {
    take_keeping(path, WEEK)
}

fn take_keeping(path: &Path, retention: Duration) -> TakenOver {
    let journal = Journal::open(path).unwrap();
    let lock = match journal.slots().unwrap().first() {
        Some(slot) => journal.claim_when_free(slot).unwrap().unwrap(),
        None => journal.claim_free().unwrap(),
    };
    take_over(lock, Keeping { retention, ..Keeping::default() }).unwrap()
}

/// Appends a saga's events and writes them.
fn write(log: &SagaLog, saga: SagaId, events: impl IntoIterator<Item = Event>) -> Result<Position, LogEnded> {
    let position = log.append(saga, events)?;
    block_on(log.written(position)).map(|()| position)
}

/// Writes a saga's events, one by one.
fn tell(log: &SagaLog, saga: SagaId, events: impl IntoIterator<Item = Event>) -> Position {
    events.into_iter().map(|event| write(log, saga, [event]).unwrap()).last().unwrap()
}

/// A beginning so large that a few of them fill a segment.
fn large(bytes: usize) -> Event {
    Event::Begun(Begun { params: Payload::from(vec![0xa5; bytes]), ..begun() }.into())
}

/// What stands in a segment of the first slot, without the space behind it.
fn written(path: &Path, segment: u64) -> Vec<u8> {
    let mut bytes = std::fs::read(segment::path(&path.join("0"), segment)).unwrap();
    let end = scan(Place { slot: 0, segment }, &bytes, Certain::Stated).written;
    bytes.truncate(end as usize);
    bytes
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

/// Waits for something that has no event to wait for.
fn until(what: &str, mut so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < Duration::from_secs(20), "in vain: {what}");
        std::thread::yield_now();
    }
}

/// Waits for one future.
fn wait_for<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Hears what is said aloud on this thread.
#[derive(Clone, Default)]
pub(crate) struct Ear(Arc<Mutex<Vec<u8>>>);

impl Ear {
    /// Listens for as long as the guard lives.
    pub fn listen() -> (Self, DefaultGuard) {
        let ear = Self::default();
        let writer = ear.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        (ear, tracing::subscriber::set_default(subscriber))
    }

    /// What was said so far.
    pub fn heard(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl std::io::Write for Ear {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

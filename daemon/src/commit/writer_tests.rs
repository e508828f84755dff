use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc as std_mpsc;

use like_protocol::codec;
use like_protocol::ids::BootId;
use like_protocol::likes::ArticleId;
use like_protocol::likes::article::{
    ArticleAnswer, ArticleCommand, ArticleOperation, ArticleQuery, ArticleReply,
};
use like_protocol::message::{Ending, Request, Settlement, StepReply, StepRequest};
use tokio::sync::mpsc;

use super::*;
use crate::commit::unsent::UNSENT_BYTES_MAX;
use crate::likes::article::Articles;
use crate::participant::harness::{done, payload, step};
use crate::store::{Batch, KeyRange, MemoryStore, Row};

#[path = "leaving_tests.rs"]
mod leaving;

/// What a store was asked to do, in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Did {
    Apply,
    Sync,
}

/// A store that tells what it does, and fails when it is told to.
struct Probe {
    rows: MemoryStore,
    did: Arc<Mutex<Vec<Did>>>,
    fails: Arc<Mutex<Option<Did>>>,
    /// Called in the middle of a sync.
    at_sync: Box<dyn FnMut() + Send>,
    /// Called when it is to be tidied.
    at_tidy: Box<dyn FnMut() + Send>,
}

impl Probe {
    fn note(&mut self, did: Did) -> Result<(), StoreError> {
        self.did.lock().unwrap().push(did);
        match *self.fails.lock().unwrap() {
            Some(fails) if fails == did => Err(StoreError::failed("write to the store", "broken disk")),
            _ => Ok(()),
        }
    }
}

impl Store for Probe {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.rows.get(key)
    }
    fn scan(&self, range: &KeyRange, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.rows.scan(range, limit)
    }
    fn last(&self, range: &KeyRange) -> Result<Option<Row>, StoreError> {
        self.rows.last(range)
    }
    fn apply(&mut self, batch: Batch) -> Result<(), StoreError> {
        self.note(Did::Apply)?;
        self.rows.apply(batch)
    }
    fn sync(&mut self) -> Result<(), StoreError> {
        (self.at_sync)();
        self.note(Did::Sync)?;
        self.rows.sync()
    }
    fn tidy(&mut self) {
        (self.at_tidy)();
    }
    fn bytes(&self) -> u64 {
        self.rows.bytes()
    }
}

/// A clock that tests move, and that moves by itself at every look if they say so.
#[derive(Debug)]
struct Hand {
    now: Mutex<Now>,
    ms_a_look: AtomicU64,
}

impl Clock for Hand {
    fn now(&self) -> Now {
        let mut now = self.now.lock().unwrap();
        now.at_ms += self.ms_a_look.load(Ordering::Relaxed);
        *now
    }
}

struct Rig {
    writer: Writer<Articles, Probe>,
    work: Work,
    did: Arc<Mutex<Vec<Did>>>,
    fails: Arc<Mutex<Option<Did>>>,
    clock: Arc<Hand>,
    free_bytes: Arc<Mutex<u64>>,
    looks: Arc<Mutex<u32>>,
    session: Arc<Mailbox>,
    answers: Arc<Mutex<mpsc::UnboundedReceiver<Answer>>>,
}

impl Rig {
    /// A writer over an article service that has article 1.
    fn new() -> Self {
        let now = Now { boot: BootId::from_bytes([1; 16]), at_ms: 1000 };
        let clock = Arc::new(Hand { now: Mutex::new(now), ms_a_look: AtomicU64::new(0) });
        let (did, fails) = (Arc::default(), Arc::default());
        let (free_bytes, looks) = (Arc::new(Mutex::new(1 << 40)), Arc::new(Mutex::new(0)));
        let (rows, at_sync, at_tidy) = (MemoryStore::default(), Box::new(|| ()), Box::new(|| ()));
        let mut store = Probe { rows, did: Arc::clone(&did), fails: Arc::clone(&fails), at_sync, at_tidy };
        let participant = Participant::open(Articles, &mut store, &now).unwrap();
        let (free, looked) = (free_bytes.clone(), looks.clone());
        let space: Space = Arc::new(move || {
            *looked.lock().unwrap() += 1;
            Ok(Room { free_bytes: *free.lock().unwrap(), reserve_bytes: 1 << 20 })
        });
        let identity =
            Identity { role: "article", store: StoreId::from_bytes([5; 16]), software: "t".to_owned() };
        let (queue, gauges) = (Arc::new(Queue::new(100)), Arc::default());
        let writer = Writer {
            participant,
            store,
            queue,
            clock: clock.clone(),
            space,
            identity,
            gauges,
            heartbeat: None,
        };
        let (session, answers) = Mailbox::open();
        let work = Work::begin(now);
        let answers = Arc::new(Mutex::new(answers));
        let mut rig = Self { writer, work, did, fails, clock, free_bytes, looks, session, answers };
        rig.ask(create()).unwrap();
        rig.answers();
        rig.did();
        rig
    }

    fn submit(&self, bodies: Vec<RequestBody>) {
        for (id, body) in (0..).zip(bodies) {
            let job = Job { request: Request { id, body }, session: Arc::clone(&self.session) };
            self.writer.queue.submit(job, 0).unwrap();
        }
    }

    fn group(&mut self, bodies: Vec<RequestBody>) -> Result<(), StoreError> {
        self.submit(bodies);
        let changes = self.writer.queue.drain_now(GROUP_REQUESTS_MAX);
        self.writer.answer_reads(&mut self.work)?;
        self.writer.group(&mut self.work, changes)
    }

    fn ask(&mut self, body: RequestBody) -> Result<(), StoreError> {
        self.group(vec![body])
    }

    /// What has been answered since the last call.
    fn answers(&self) -> Vec<ReplyBody> {
        let mut answers = self.answers.lock().unwrap();
        std::iter::from_fn(|| answers.try_recv().ok()).map(|answer| answer.reply.body).collect()
    }

    fn did(&self) -> Vec<Did> {
        std::mem::take(&mut self.did.lock().unwrap())
    }

    fn wait(&self, ms: u64) {
        self.clock.now.lock().unwrap().at_ms += ms;
    }

    fn add(&self, number: u8, direction: Direction) -> RequestBody {
        let deadline = self.clock.now().deadline_in(Duration::from_secs(10));
        let operation = payload(&ArticleOperation::AddLike(ArticleId(1)));
        RequestBody::Step(StepRequest { id: step(number), direction, deadline, operation })
    }

    fn settle(&self, number: u8) -> RequestBody {
        let deadline = self.clock.now().deadline_in(Duration::from_secs(10));
        RequestBody::Settle(vec![Settlement {
            id: step(number),
            deadline,
            ending: Ending::Natural,
            note: None,
        }])
    }
}

fn create() -> RequestBody {
    RequestBody::Command(payload(&ArticleCommand::Create { id: None, title: "t".to_owned() }))
}

fn show() -> RequestBody {
    RequestBody::Query(payload(&ArticleQuery::Show(ArticleId(1))))
}

#[test]
fn a_group_is_made_durable_once_and_answered_afterwards_copies_too() {
    let mut rig = Rig::new();
    let answers = rig.answers.clone();
    let (at_sync, seen) = std_mpsc::channel();
    rig.writer.store.at_sync = Box::new(move || at_sync.send(answers.lock().unwrap().len()).unwrap());
    let add = rig.add(1, Direction::Action);
    rig.group(vec![add.clone(), add]).unwrap();
    assert_eq!(rig.did(), [Did::Apply, Did::Sync]);
    assert_eq!(seen.try_iter().collect::<Vec<_>>(), [0], "answered before it was durable");
    assert_eq!(rig.answers(), [done(&ArticleReply { likes: 1 }), done(&ArticleReply { likes: 1 })]);
}

#[test]
fn all_of_a_group_is_decided_by_one_look_at_the_clock() {
    let mut rig = Rig::new();
    // Ten seconds are enough for one look, and not for two.
    let both = vec![rig.add(1, Direction::Action), rig.add(2, Direction::Action)];
    rig.clock.ms_a_look.store(6_000, Ordering::Relaxed);
    rig.group(both).unwrap();
    assert_eq!(rig.answers(), [1, 2].map(|likes| done(&ArticleReply { likes })));
}

#[test]
fn reads_show_what_is_durable_and_wait_for_no_sync() {
    let mut rig = Rig::new();
    rig.ask(show()).unwrap();
    let before = rig.answers();
    let answers = rig.answers.clone();
    let (at_sync, seen) = std_mpsc::channel();
    rig.writer.store.at_sync = Box::new(move || at_sync.send(answers.lock().unwrap().len()).unwrap());
    let unsettled = RequestBody::Unsettled { after: None, limit: 9 };
    rig.group(vec![rig.add(1, Direction::Action), show(), unsettled, RequestBody::Status]).unwrap();
    assert_eq!(seen.try_iter().collect::<Vec<_>>(), [3], "reads are answered when the group is synced");
    let answers = rig.answers();
    assert_eq!(answers[..1], before, "a read shows what could still be lost");
    assert_eq!(answers[1], ReplyBody::Unsettled(Vec::new()), "a read shows what could still be lost");
    assert_eq!(answers[3], done(&ArticleReply { likes: 1 }));
    rig.ask(show()).unwrap();
    assert_ne!(rig.answers(), before, "what was acknowledged is shown");
}

#[test]
fn a_group_that_writes_nothing_is_not_synced() {
    let mut rig = Rig::new();
    let add = rig.add(1, Direction::Action);
    rig.ask(add.clone()).unwrap();
    rig.did();
    rig.group(vec![show(), add]).unwrap();
    assert_eq!(rig.did(), []);
    assert_eq!(rig.answers().len(), 3);
}

#[tokio::test]
async fn a_failed_write_or_sync_answers_nobody_and_ends_the_writer() {
    for fails in [Did::Apply, Did::Sync] {
        let mut rig = Rig::new();
        *rig.fails.lock().unwrap() = Some(fails);
        rig.submit(vec![show(), rig.add(1, Direction::Action)]);
        rig.writer.queue.close();
        let failed = rig.writer.run().await.unwrap_err();
        assert!(failed.to_string().contains("broken disk"), "{failed}");
        assert_eq!(rig.answers().len(), 1, "{fails:?}: only what was read is answered");
    }
}

#[tokio::test]
async fn a_closed_queue_is_emptied_before_the_writer_ends() {
    let mut rig = Rig::new();
    rig.submit(vec![rig.add(1, Direction::Action), show()]);
    rig.writer.queue.close();
    rig.writer.run().await.unwrap();
    assert_eq!(rig.answers().len(), 2);
    assert_eq!(rig.did(), [Did::Apply, Did::Sync]);
}

#[test]
fn low_disk_space_is_looked_for_only_when_something_new_is_asked() {
    let mut rig = Rig::new();
    let looked = *rig.looks.lock().unwrap();
    *rig.free_bytes.lock().unwrap() = 0;
    rig.group(vec![show(), rig.add(1, Direction::Compensation), rig.settle(1)]).unwrap();
    assert_eq!(*rig.looks.lock().unwrap(), looked);
    rig.answers();
    let put_off = ReplyBody::Retry(RetryReason::Storage);
    for new in [rig.add(2, Direction::Action), create()] {
        rig.group(vec![rig.add(3, Direction::Compensation), new]).unwrap();
        assert_eq!(rig.answers(), [ReplyBody::Step(StepReply::Undone), put_off.clone()]);
    }
    *rig.free_bytes.lock().unwrap() = 1 << 40;
    rig.ask(rig.add(2, Direction::Action)).unwrap();
    assert_eq!(rig.answers(), [done(&ArticleReply { likes: 1 })]);
}

#[test]
fn an_idle_writer_waits_without_end_unless_a_record_will_be_due() {
    let mut rig = Rig::new();
    assert_eq!(rig.writer.idle_wait(&rig.work), None);
    rig.group(vec![rig.add(1, Direction::Action), rig.settle(1)]).unwrap();
    assert_eq!(rig.writer.idle_wait(&rig.work), Some(Duration::from_millis(10_000 + COLLECTION_SLACK_MS)));
    rig.wait(10_000 + COLLECTION_SLACK_MS);
    assert_eq!(rig.writer.idle_wait(&rig.work), Some(Duration::ZERO));
    rig.group(Vec::new()).unwrap();
    assert_eq!(rig.writer.participant.collectable(), 0);
    assert_eq!(rig.writer.idle_wait(&rig.work), None, "one wait, no tick");
}

#[test]
fn reads_alone_do_not_put_off_forgetting_for_ever() {
    let mut rig = Rig::new();
    rig.group(vec![rig.add(1, Direction::Action), rig.settle(1)]).unwrap();
    rig.did();
    rig.wait(10_000);
    rig.ask(show()).unwrap();
    assert_eq!(rig.did(), [], "not for the sake of one record");
    rig.wait(COLLECTION_SLACK_MS);
    rig.ask(show()).unwrap();
    assert_eq!(rig.did(), [Did::Apply, Did::Sync]);
}

#[tokio::test]
async fn a_supervisor_hears_from_an_idle_writer_and_from_a_busy_one() {
    let mut rig = Rig::new();
    let (beat, mut beats) = mpsc::unbounded_channel();
    let interval = Duration::from_millis(20);
    rig.writer.heartbeat = Some(Heartbeat { interval, beat: Box::new(move || beat.send(()).unwrap()) });
    let queue = rig.writer.queue.clone();
    let listen = async {
        for _ in 0..3 {
            beats.recv().await.unwrap();
        }
        queue.close();
    };
    let (ended, ()) = futures::join!(rig.writer.run(), listen);
    ended.unwrap();
}

#[test]
fn a_supervisor_hears_at_least_twice_in_the_time_that_it_waits() {
    let mut rig = Rig::new();
    let (beat, mut beats) = mpsc::unbounded_channel();
    let interval = Duration::from_secs(60);
    rig.writer.heartbeat = Some(Heartbeat { interval, beat: Box::new(move || beat.send(()).unwrap()) });
    assert!(rig.writer.idle_wait(&rig.work).unwrap() <= interval / 2);
    rig.writer.beat(&mut rig.work);
    assert!(beats.try_recv().is_err(), "it has heard just now");
    rig.work.beaten -= interval / 2;
    assert_eq!(rig.writer.idle_wait(&rig.work), Some(Duration::ZERO));
    rig.writer.beat(&mut rig.work);
    assert!(beats.try_recv().is_ok());
    assert!(rig.writer.idle_wait(&rig.work) > Some(Duration::ZERO), "it counts from there");
}

/// How many likes an answer to [`show`] shows.
fn shown(answer: &ReplyBody) -> Option<u64> {
    let ReplyBody::Answer(answer) = answer else { return None };
    match codec::decode(&answer.0).unwrap() {
        ArticleAnswer::Article(article) => Some(article.likes),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_flood_of_reads_holds_nobody_up_for_longer_than_a_round() {
    let mut rig = Rig::new();
    // Three reads take the time of a round.
    rig.clock.ms_a_look.store(2, Ordering::Relaxed);
    let (beat, beats) = mpsc::unbounded_channel();
    rig.writer.heartbeat =
        Some(Heartbeat { interval: Duration::ZERO, beat: Box::new(move || beat.send(()).unwrap()) });
    rig.submit([vec![show(); 30], vec![rig.add(1, Direction::Action)], vec![show(); 30]].concat());
    rig.writer.queue.close();
    // A session on the same thread is let to send after the reads of every round, and after its changes.
    let (queue, left) = (rig.writer.queue.clone(), Mutex::new(Vec::new()));
    let session = async {
        while !queue.is_empty() {
            left.lock().unwrap().push(queue.len());
            tokio::task::yield_now().await;
        }
    };
    let (served, ()) = futures::join!(rig.writer.run(), session);
    served.unwrap();
    let answers = rig.answers();
    let likes: Vec<_> = answers.iter().map(shown).collect();
    let expected = [vec![Some(0); 3], vec![None], vec![Some(1); 57]].concat();
    assert_eq!(likes, expected, "one round of reads, the change, and the others from what is durable then");
    assert_eq!(answers[3], done(&ArticleReply { likes: 1 }));
    assert_eq!(left.into_inner().unwrap(), (1..20).flat_map(|round| [60 - 3 * round; 2]).collect::<Vec<_>>());
    assert!(beats.len() >= 20, "the supervisor hears after every round");
}

#[test]
fn what_is_left_of_the_reads_comes_in_later_rounds_in_its_order() {
    let mut rig = Rig::new();
    rig.clock.ms_a_look.store(2, Ordering::Relaxed);
    let other = Mailbox::open();
    rig.submit(vec![show(); 7]);
    let ids = |answers: &mut mpsc::UnboundedReceiver<Answer>| {
        std::iter::from_fn(|| answers.try_recv().ok()).map(|answer| answer.reply.id).collect::<Vec<_>>()
    };
    let (answers, mut others) = (rig.answers.clone(), other.1);
    assert!(rig.writer.answer_reads(&mut rig.work).unwrap());
    assert_eq!(ids(&mut answers.lock().unwrap()), [0, 1, 2]);
    let job = Job { request: Request { id: 9, body: show() }, session: other.0 };
    rig.writer.queue.submit(job, 0).unwrap();
    assert!(rig.writer.answer_reads(&mut rig.work).unwrap());
    assert_eq!((ids(&mut answers.lock().unwrap()), ids(&mut others)), (vec![3, 4], vec![9]));
    assert!(rig.writer.answer_reads(&mut rig.work).unwrap());
    assert_eq!(ids(&mut answers.lock().unwrap()), [5, 6]);
    assert!(!rig.writer.answer_reads(&mut rig.work).unwrap());
}

#[test]
fn pages_that_nobody_takes_put_off_further_reads() {
    let mut rig = Rig::new();
    let page = ReplyBody::Answer(like_protocol::message::Payload::from(vec![0; UNSENT_BYTES_MAX + 1]));
    let deaf = Mailbox::open().0;
    let unsent = [&deaf, &rig.session].map(|session| rig.work.unsent.count(&session.unsent, &page));
    let unsettled = RequestBody::Unsettled { after: None, limit: 1 };
    rig.group(vec![show(), unsettled, rig.add(1, Direction::Action)]).unwrap();
    let busy = ReplyBody::Retry(RetryReason::Busy);
    assert_eq!(rig.answers(), [busy.clone(), busy, done(&ArticleReply { likes: 1 })]);
    drop(unsent);
    rig.ask(show()).unwrap();
    assert!(matches!(rig.answers()[..], [ReplyBody::Answer(_)]));
    let _unsent = rig.work.unsent.count(&deaf.unsent, &page);
    rig.ask(show()).unwrap();
    assert!(matches!(rig.answers()[..], [ReplyBody::Answer(_)]), "others do not suffer for it");
}

#[test]
fn the_status_tells_how_the_daemon_is() {
    let mut rig = Rig::new();
    rig.group(vec![rig.add(1, Direction::Action), rig.add(2, Direction::Action), rig.settle(2)]).unwrap();
    rig.writer.gauges.connections.store(7, Ordering::Relaxed);
    rig.wait(500);
    rig.answers();
    rig.ask(RequestBody::Status).unwrap();
    let answers = rig.answers();
    let [ReplyBody::Status(status)] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!((status.role.as_str(), status.store), ("article", StoreId::from_bytes([5; 16])));
    assert_eq!((status.unsettled, status.collectable, status.connections), (1, 1, 7));
    assert_eq!((status.groups, status.committed, status.up_ms), (2, 4, 500));
    assert_eq!((status.queued, status.queue_limit, status.storage_low), (0, 100, false));
}

#[test]
fn a_disk_that_cannot_be_seen_counts_as_full_and_the_status_says_so() {
    let mut rig = Rig::new();
    rig.writer.space = Arc::new(|| Err(std::io::ErrorKind::NotFound.into()));
    rig.ask(rig.add(1, Direction::Action)).unwrap();
    assert_eq!(rig.answers(), [ReplyBody::Retry(RetryReason::Storage)]);
    rig.ask(RequestBody::Status).unwrap();
    let answers = rig.answers();
    let [ReplyBody::Status(status)] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!((status.free_bytes, status.storage_low), (0, true));
}

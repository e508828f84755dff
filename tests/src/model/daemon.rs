//! The two services: the shipped participants on stores in memory.
//!
//! What a service has stored is a number here, and so is every request and reply; what a participant makes of a request
//! is computed once by the shipped code, and looked up from then on. Each time it is computed, it is computed twice: by
//! the participant that has been running, and by one that was opened anew on the same rows. That both say the same shows
//! that a participant remembers nothing which its rows don't say, so that a daemon that is killed and restarted needs no
//! step of its own.

use like_daemon::participant::domain::Domain;
use like_daemon::participant::{Moment, Participant};
use like_daemon::store::{MemoryStore, Store, Tx};
use like_protocol::codec;
use like_protocol::ids::StepId;
use like_protocol::message::{ReplyBody, RequestBody, UnsettledStep};
use like_protocol::time::Now;

use super::intern::{Interned, Memo};

/// A participant of any domain, with its rules whole or one of them broken.
pub trait Participate {
    /// A group of one request, or of none: evaluated, collected, applied, synced; what it answers.
    fn group(&mut self, store: &mut MemoryStore, now: &Now, body: Option<RequestBody>) -> Option<ReplyBody>;

    /// When something may next be forgotten.
    fn next_due_ms(&self) -> Option<u64>;

    /// How many records are not settled, and how many are.
    fn counts(&self) -> (usize, usize);

    /// Another of the same.
    fn another(&self) -> Box<dyn Participate>;
}

/// Opens a participant on a store.
pub type Open = Box<dyn Fn(&mut MemoryStore, &Now) -> Box<dyn Participate>>;

impl<D: Domain + Clone> Participate for Participant<D> {
    fn group(&mut self, store: &mut MemoryStore, now: &Now, body: Option<RequestBody>) -> Option<ReplyBody> {
        let moment = Moment { now: *now, storage_low: false };
        let reply = evaluate(self, store, &moment, &moment, body);
        store.sync().expect("memory can be synced");
        reply
    }

    fn next_due_ms(&self) -> Option<u64> {
        Participant::next_due_ms(self)
    }

    fn counts(&self) -> (usize, usize) {
        (self.unsettled(), self.collectable())
    }

    fn another(&self) -> Box<dyn Participate> {
        Box::new(self.clone())
    }
}

/// What the daemon's writer does with a group, up to the sync: `daemon/src/commit/writer.rs`, `Writer::group`.
pub fn evaluate<D: Domain>(
    participant: &mut Participant<D>,
    store: &mut MemoryStore,
    evaluated_at: &Moment,
    collected_at: &Moment,
    body: Option<RequestBody>,
) -> Option<ReplyBody> {
    let mut tx = Tx::new(store);
    let alone = body.is_none();
    let reply =
        body.map(|body| participant.evaluate(&mut tx, evaluated_at, body).expect("memory can be read"));
    if alone || !tx.is_empty() {
        participant.end_group(&mut tx, collected_at).expect("memory can be read");
    }
    store.apply(tx.into_batch()).expect("memory can be written");
    reply
}

/// What can be seen of a service from outside.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Seen {
    /// The operation records that are not settled.
    pub unsettled: Vec<UnsettledStep>,
    /// How many records are not settled, and how many are.
    pub records: (usize, usize),
    /// What it answers to the queries by which its domain is looked at.
    pub answers: Vec<ReplyBody>,
}

struct Standing {
    store: MemoryStore,
    participant: Box<dyn Participate>,
    seen: Seen,
}

/// One service.
pub struct Service {
    open: Open,
    /// Whether the participant's memory is compared with its rows: not when a broken rule has changed those.
    compares: bool,
    queries: Vec<RequestBody>,
    standings: Interned<MemoryStore, Standing>,
    arrivals: Memo<(u32, u16, u16), (u32, u32)>,
    collections: Memo<(u32, u16), Option<u32>>,
    reboots: Memo<(u32, u16), u32>,
}

impl Service {
    /// A service that has been asked `history` before anything else.
    pub fn new(
        open: Open,
        compares: bool,
        queries: Vec<RequestBody>,
        now: &Now,
        history: Vec<RequestBody>,
    ) -> (Self, u32) {
        let mut service = Self {
            open,
            compares,
            queries,
            standings: Interned::default(),
            arrivals: Memo::default(),
            collections: Memo::default(),
            reboots: Memo::default(),
        };
        let mut store = MemoryStore::default();
        let mut participant = (service.open)(&mut store, now);
        for body in history {
            participant.group(&mut store, now, Some(body));
        }
        store.sync().expect("memory can be synced");
        let first = service.standing(store, participant, now);
        (service, first)
    }

    /// How many different standings it has been in.
    pub fn standings(&self) -> usize {
        self.standings.len()
    }

    /// What can be seen of it.
    pub fn seen(&self, standing: u32) -> &Seen {
        &self.standings.get(standing).seen
    }

    /// When it may next forget something, in milliseconds of its boot's clock.
    pub fn next_due_ms(&self, standing: u32) -> Option<u64> {
        self.standings.get(standing).participant.next_due_ms()
    }

    /// A request arrives: what is stored afterwards, and what is answered.
    pub fn arrive(
        &mut self,
        standing: u32,
        now: (u16, &Now),
        request: (u16, &RequestBody),
        replies: &mut Interned<Vec<u8>, ReplyBody>,
    ) -> (u32, u32) {
        let asked = (standing, request.0, now.0);
        if let Some(known) = self.arrivals.get(&asked) {
            return *known;
        }
        let (after, reply) = self.group(standing, now.1, Some(request.1.clone()));
        let reply = reply.expect("a request has a reply");
        let bytes = codec::encode(&reply).expect("a reply can be encoded").0.into_vec();
        let known = (after, replies.number(bytes, || reply));
        self.arrivals.insert(asked, known);
        known
    }

    /// A daemon with nothing to do forgets what may be forgotten; what is stored afterwards, if anything may.
    pub fn collect(&mut self, standing: u32, now: (u16, &Now)) -> Option<u32> {
        if let Some(known) = self.collections.get(&(standing, now.0)) {
            return *known;
        }
        let due = self.next_due_ms(standing).is_some_and(|due_ms| due_ms <= now.1.at_ms);
        let after = due.then(|| self.group(standing, now.1, None).0);
        self.collections.insert((standing, now.0), after);
        after
    }

    /// The power is lost, and the next boot begins.
    pub fn reboot(&mut self, standing: u32, now: (u16, &Now)) -> u32 {
        if let Some(known) = self.reboots.get(&(standing, now.0)) {
            return *known;
        }
        let mut store = self.standings.get(standing).store.clone();
        store.lose_power();
        let participant = (self.open)(&mut store, now.1);
        let after = self.standing(store, participant, now.1);
        self.reboots.insert((standing, now.0), after);
        after
    }

    /// What a query is answered.
    pub fn ask(&self, standing: u32, now: &Now, query: RequestBody) -> ReplyBody {
        let Standing { store, participant, .. } = self.standings.get(standing);
        answer(participant.as_ref(), store, now, query)
    }

    fn group(&mut self, standing: u32, now: &Now, body: Option<RequestBody>) -> (u32, Option<ReplyBody>) {
        let before = self.standings.get(standing);
        let (mut store, mut participant) = (before.store.clone(), before.participant.another());
        let reply = participant.group(&mut store, now, body.clone());
        if self.compares {
            let mut rows = before.store.clone();
            let mut anew = (self.open)(&mut rows, now);
            assert_eq!(anew.group(&mut rows, now, body), reply, "a restart changes no answer");
            let seen = |participant: &dyn Participate, store| look(participant, store, now, &self.queries);
            assert_eq!(
                seen(anew.as_ref(), &rows),
                seen(participant.as_ref(), &store),
                "a restart changes nothing"
            );
        }
        (self.standing(store, participant, now), reply)
    }

    fn standing(&mut self, store: MemoryStore, participant: Box<dyn Participate>, now: &Now) -> u32 {
        let seen = look(participant.as_ref(), &store, now, &self.queries);
        if let Some(known) = self.standings.known(&store) {
            assert_eq!(
                self.standings.get(known).seen,
                seen,
                "the same rows are seen the same, however they came about"
            );
            return known;
        }
        self.standings.number(store.clone(), || Standing { store, participant, seen })
    }
}

/// What a participant answers to a query, which changes nothing.
fn answer(participant: &dyn Participate, store: &MemoryStore, now: &Now, query: RequestBody) -> ReplyBody {
    let mut after = store.clone();
    let reply = participant.another().group(&mut after, now, Some(query));
    assert!(after.rows().eq(store.rows()), "a query changes nothing");
    reply.expect("a query has a reply")
}

fn look(participant: &dyn Participate, store: &MemoryStore, now: &Now, queries: &[RequestBody]) -> Seen {
    let all = RequestBody::Unsettled { after: None::<StepId>, limit: u32::MAX };
    let unsettled = match answer(participant, store, now, all) {
        ReplyBody::Unsettled(steps) => steps,
        other => panic!("no list of unsettled steps: {other:?}"),
    };
    let answers = queries.iter().map(|query| answer(participant, store, now, query.clone()));
    Seen { unsettled, records: participant.counts(), answers: answers.collect() }
}

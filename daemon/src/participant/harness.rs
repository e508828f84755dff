//! A participant on a store in memory, for unit tests.

use std::time::Duration;

use like_protocol::codec;
use like_protocol::ids::{BootId, SagaId, StepId};
use like_protocol::message::{Direction, Ending, Payload, Settlement, StepReply, StepRequest, UnsettledStep};
use serde::Serialize;

use super::*;
use crate::store::{Key, KeyRange, MemoryStore};

/// The saga with this number.
pub(crate) fn saga(number: u8) -> SagaId {
    SagaId::from_bytes([number; 16])
}

/// The only step that the saga with this number has here.
pub(crate) fn step(number: u8) -> StepId {
    StepId { saga: saga(number), step: 1 }
}

pub(crate) fn payload<T: Serialize>(value: &T) -> Payload {
    codec::encode(value).unwrap()
}

pub(crate) fn done<T: Serialize>(reply: &T) -> ReplyBody {
    ReplyBody::Step(StepReply::Done(payload(reply)))
}

pub(crate) fn rejected<T: Serialize>(rejection: &T) -> ReplyBody {
    ReplyBody::Step(StepReply::Rejected(payload(rejection)))
}

pub(crate) fn locked(by: u8) -> ReplyBody {
    ReplyBody::Step(StepReply::Locked { by: saga(by) })
}

/// A participant, its store, and a clock that stands still until it is told otherwise.
///
/// After every request it compares what the participant keeps in memory with what a restart would rebuild.
pub(crate) struct Harness<D: Domain + Copy> {
    domain: D,
    pub(crate) store: MemoryStore,
    pub(crate) participant: Participant<D>,
    pub(crate) now: Now,
    pub(crate) storage_low: bool,
}

impl<D: Domain + Copy> Harness<D> {
    pub(crate) fn new(domain: D) -> Self {
        let now = Now { boot: BootId::from_bytes([1; 16]), at_ms: 100_000 };
        Self::of(domain, MemoryStore::default(), now)
    }

    /// On a store that is there already.
    pub(crate) fn of(domain: D, mut store: MemoryStore, now: Now) -> Self {
        let participant = Participant::open(domain, &mut store, &now).unwrap();
        Self { domain, store, participant, now, storage_low: false }
    }

    /// One group of one request.
    pub(crate) fn ask(&mut self, body: RequestBody) -> ReplyBody {
        self.group(vec![body]).remove(0)
    }

    /// One group.
    pub(crate) fn group(&mut self, bodies: Vec<RequestBody>) -> Vec<ReplyBody> {
        let moment = Moment { now: self.now, storage_low: self.storage_low };
        let mut tx = Tx::new(&self.store);
        let evaluate = |body| self.participant.evaluate(&mut tx, &moment, body).unwrap();
        let replies = bodies.into_iter().map(evaluate).collect();
        self.participant.end_group(&mut tx, &moment).unwrap();
        self.store.apply(tx.into_batch()).unwrap();
        self.store.sync().unwrap();
        self.assert_memory_is_what_a_restart_rebuilds();
        replies
    }

    /// Damage that was found since the start is known only once the start after it has looked at the rows.
    fn assert_memory_is_what_a_restart_rebuilds(&self) {
        if !self.participant.damaged.steps.is_empty() {
            return;
        }
        let rebuilt = Participant::open(self.domain, &mut self.store.clone(), &self.now).unwrap();
        assert_eq!(self.participant.holds, rebuilt.holds);
        assert_eq!(self.participant.unsettled, rebuilt.unsettled);
        assert_eq!(self.participant.boots, rebuilt.boots);
        assert_eq!(self.participant.due.steps(), rebuilt.due.steps());
    }

    pub(crate) fn restart(&mut self) {
        self.participant = Participant::open(self.domain, &mut self.store, &self.now).unwrap();
    }

    /// Power loss, and the next boot.
    pub(crate) fn reboot(&mut self, boot: u8) {
        self.store.lose_power();
        self.now = Now { boot: BootId::from_bytes([boot; 16]), at_ms: 5 };
        self.restart();
    }

    pub(crate) fn wait(&mut self, ms: u64) {
        self.now.at_ms += ms;
    }

    /// The deadline this many milliseconds ahead.
    pub(crate) fn within(&self, ms: u64) -> Deadline {
        self.now.deadline_in(Duration::from_millis(ms))
    }

    fn step(
        &mut self,
        number: u8,
        direction: Direction,
        operation: &Payload,
        deadline: Deadline,
    ) -> ReplyBody {
        let operation = operation.clone();
        self.ask(RequestBody::Step(StepRequest { id: step(number), direction, deadline, operation }))
    }

    /// An action with a deadline of its own.
    pub(crate) fn act_by<O: Serialize>(
        &mut self,
        number: u8,
        operation: &O,
        deadline: Deadline,
    ) -> ReplyBody {
        self.step(number, Direction::Action, &payload(operation), deadline)
    }

    /// An action with ten seconds left.
    pub(crate) fn act<O: Serialize>(&mut self, number: u8, operation: &O) -> ReplyBody {
        self.act_by(number, operation, self.within(10_000))
    }

    /// A compensation with a deadline of its own.
    pub(crate) fn undo_by<O: Serialize>(
        &mut self,
        number: u8,
        operation: &O,
        deadline: Deadline,
    ) -> ReplyBody {
        self.step(number, Direction::Compensation, &payload(operation), deadline)
    }

    /// A compensation with ten seconds left.
    pub(crate) fn undo<O: Serialize>(&mut self, number: u8, operation: &O) -> ReplyBody {
        self.undo_by(number, operation, self.within(10_000))
    }

    pub(crate) fn settlement(&self, number: u8, ending: Ending) -> Settlement {
        Settlement { id: step(number), deadline: self.within(10_000), ending, note: None }
    }

    /// A natural end with ten seconds left.
    pub(crate) fn settle(&mut self, number: u8) {
        let settlement = self.settlement(number, Ending::Natural);
        assert_eq!(self.ask(RequestBody::Settle(vec![settlement])), ReplyBody::Settled);
    }

    pub(crate) fn query<Q: Serialize>(&mut self, query: &Q) -> ReplyBody {
        self.ask(RequestBody::Query(payload(query)))
    }

    pub(crate) fn command<C: Serialize>(&mut self, command: &C) -> ReplyBody {
        self.ask(RequestBody::Command(payload(command)))
    }

    pub(crate) fn unsettled(&mut self) -> Vec<UnsettledStep> {
        match self.ask(RequestBody::Unsettled { after: None, limit: u32::MAX }) {
            ReplyBody::Unsettled(steps) => steps,
            other => panic!("{other:?}"),
        }
    }

    /// The domain's rows, without their checksums.
    pub(crate) fn domain_rows(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let all = KeyRange { from: vec![crate::store::DOMAIN_TAG_FIRST], to: vec![u8::MAX] };
        let rows = Tx::new(&self.store).scan(&all, usize::MAX).unwrap();
        rows.into_iter().map(|row| (row.key.to_vec(), row.value.unwrap())).collect()
    }

    /// Puts a row behind the participant's back, as a whole one.
    pub(crate) fn put_row(&mut self, key: Key, value: Vec<u8>) {
        let sealed = crate::store::seal::seal(&key, value);
        self.store_row(key, sealed);
    }

    /// Puts a row behind the participant's back, as these very bytes.
    pub(crate) fn store_row(&mut self, key: Key, bytes: Vec<u8>) {
        self.store.apply([(key, Some(bytes))].into()).unwrap();
        self.store.sync().unwrap();
    }

    /// The number of operation records in the store.
    pub(crate) fn records(&self) -> usize {
        self.store.rows().filter(|(key, _)| key[0] == 1).count()
    }
}

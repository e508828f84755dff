//! The participant: the rules a daemon keeps for every saga step.
//!
//! One request after the other, evaluated against a store and what the group has written so far: seen? undone? late?
//! locked? else the domain. No thread, socket, file or clock is touched here, so that a model checker or a simulator
//! can drive exactly this code.
//!
//! * [`barrier`]: the rule as a pure function; start here.
//! * [`record`]: what is remembered of a step, and how it is stored.
//! * [`holds`]: what unsettled steps lock.
//! * [`collect`]: when a record may be forgotten.
//! * `damage`: rows that are not what was written, and what follows from it.
//! * [`domain`]: what a domain brings.
//! * [`boots`], [`running`]: the two clocks of a store: boots for deadlines, running time for things kept for a while.

pub mod barrier;
pub mod boots;
pub mod collect;
mod damage;
pub mod domain;
pub mod holds;
pub mod record;
pub mod running;
mod settle;
mod step;

use std::collections::BTreeSet;
use std::ops::Bound;

use like_protocol::codec;
use like_protocol::ids::StepId;
use like_protocol::message::{
    PAGE_ROWS_MAX, PAYLOAD_BYTES_MAX, Payload, ReplyBody, RequestBody, RetryReason, UnsettledState,
    UnsettledStep,
};
use like_protocol::time::{Deadline, Now};
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::barrier::State;
use self::boots::Boots;
use self::collect::Due;
use self::damage::Damaged;
use self::domain::{Context, Domain, Stop};
use self::holds::{Hold, Holds};
use self::record::OperationRecord;
use self::running::RunningTime;
use crate::store::fields::Malformed;
use crate::store::{Store, StoreError, Tx};

/// How many records one group forgets at most: more than it can settle by single requests, so that forgetting keeps
/// up with making, and few enough (a few milliseconds) that nobody waits for it.
pub const COLLECTED_PER_GROUP_MAX: usize = 2048;

/// How many rows are read at once while the records are looked through at the start.
const PAGE_ROWS: usize = 1024;

/// What holds for a whole group: read once, so that all rules decide by the same.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The clock.
    pub now: Now,
    /// Whether so little disk space is free that nothing new is begun.
    pub storage_low: bool,
}

/// The participant of one store. A clone goes on with a copy of that store.
#[derive(Clone)]
pub struct Participant<D: Domain> {
    domain: D,
    boots: Boots,
    running: RunningTime,
    holds: Holds,
    /// The steps whose records are not settled, or not known to be.
    unsettled: BTreeSet<StepId>,
    /// The steps whose records are, by when they may be forgotten.
    due: Due,
    /// What was found damaged.
    damaged: Damaged,
    /// The latest step that has a record, or was looked for: none behind it has one.
    latest: Option<StepId>,
}

type Record<D> = OperationRecord<<D as Domain>::Operation, <D as Domain>::Reply>;

impl<D: Domain> Participant<D> {
    /// Takes up a store: reads all operation records, rebuilds what is derived from them, and makes this boot known
    /// to the store, durably. A store that opens but can't be written or synced is found out here. What is damaged is
    /// named in the log and served around.
    ///
    /// # Errors
    /// The store can't be read, written or synced, or something is damaged that stands for the whole store.
    pub fn open(domain: D, store: &mut dyn Store, now: &Now) -> Result<Self, StoreError> {
        let mut tx = Tx::new(store);
        let (mut boots, damaged_boots) = Boots::load(&tx)?;
        let (mut running, damaged_running) = RunningTime::load(&tx, now)?;
        boots.enter(now.boot, &mut tx);
        running.save(now, &mut tx);
        tx.keep();
        let (holds, unsettled, due, damaged, latest) = Default::default();
        let mut participant = Self { domain, boots, running, holds, unsettled, due, damaged, latest };
        for damage in damaged_boots.into_iter().chain(damaged_running) {
            participant.note_damage(&damage);
        }
        participant.forget_replaced(&tx);
        store.apply(tx.into_batch())?;
        store.sync()?;
        participant.rebuild(&Tx::new(store), now)?;
        Ok(participant)
    }

    fn rebuild(&mut self, tx: &Tx<'_>, now: &Now) -> Result<(), StoreError> {
        let mut range = record::all();
        loop {
            let rows = tx.scan(&range, PAGE_ROWS)?;
            let Some(last) = rows.last() else { return Ok(()) };
            range = range.after(&last.key);
            for row in rows {
                let id = record::id_of(&row.key);
                self.latest = self.latest.max(id.as_ref().ok().copied());
                let read = id.and_then(|id| Ok((id, Record::<D>::of(&row, &self.boots)?)));
                match read.and_then(|(id, record)| self.index_once(id, &record, now)) {
                    Ok(()) => {}
                    Err(StoreError::Damaged(damage)) => drop(self.note_damage(&damage)),
                    Err(failed) => return Err(failed),
                }
            }
        }
    }

    /// Notes a record that was read. Two that hold the same can't both be what was written.
    fn index_once(&mut self, id: StepId, record: &Record<D>, now: &Now) -> Result<(), StoreError> {
        let held = record.operation().filter(|_| !record.settled).map(|held| self.domain.holds(held));
        if self.holds.conflict(id.saga, &held.unwrap_or_default()).is_some() {
            let why = Malformed("it holds what another saga holds");
            return Err(StoreError::damaged(&record::key_of(&id), why));
        }
        self.index(id, record, now);
        Ok(())
    }

    /// Notes a record that was not there before.
    fn index(&mut self, id: StepId, record: &Record<D>, now: &Now) {
        if record.settled {
            self.due.note(id, &record.deadline, now);
            return;
        }
        let held = record.operation().map(|operation| self.domain.holds(operation));
        self.index_unsettled(id, held.unwrap_or_default());
    }

    /// Notes a record that was not there before, is not settled, and holds this.
    fn index_unsettled(&mut self, id: StepId, held: Vec<Hold>) {
        self.unsettled.insert(id);
        self.holds.take(id.saga, held);
    }

    /// Evaluates one request as the next one of a group. What it writes is in `tx` afterwards; the reply may be told
    /// only when that is durable.
    ///
    /// [`RequestBody::Status`] is for the caller to answer, who alone knows most of it; here it is `Invalid`.
    ///
    /// # Errors
    /// The store failed. Neither the participant nor the group can be used any further.
    pub fn evaluate(
        &mut self,
        tx: &mut Tx<'_>,
        moment: &Moment,
        request: RequestBody,
    ) -> Result<ReplyBody, StoreError> {
        let reply = match request {
            RequestBody::Step(step) => self.step(tx, moment, &step),
            RequestBody::Settle(settlements) => self.settle(tx, moment, &settlements),
            RequestBody::Query(query) => self.query(tx, moment, &query),
            RequestBody::Command(_) if moment.storage_low => Ok(ReplyBody::Retry(RetryReason::Storage)),
            RequestBody::Command(command) => self.command(tx, moment, &command),
            RequestBody::Unsettled { after, limit } => self.list_unsettled(tx, after, limit),
            RequestBody::Status => Ok(ReplyBody::Invalid("a participant alone has no status".to_owned())),
        };
        // Whatever was not kept on the way belongs to a request that came to nothing.
        tx.forget();
        for damage in tx.take_noticed() {
            self.note_damage(&damage);
        }
        match reply {
            Err(StoreError::Damaged(damage)) => Ok(ReplyBody::Damaged(self.note_damage(&damage).into())),
            other => other,
        }
    }

    /// Ends a group: forgets what may be forgotten, up to a bound.
    ///
    /// # Errors
    /// As [`Participant::evaluate`].
    pub fn end_group(&mut self, tx: &mut Tx<'_>, moment: &Moment) -> Result<(), StoreError> {
        for _ in 0..COLLECTED_PER_GROUP_MAX {
            let Some(id) = self.due.pop(&moment.now) else { break };
            let record = match self.read(&id, tx) {
                Ok(Some(record)) => record,
                Ok(None) => continue,
                Err(StoreError::Damaged(damage)) => {
                    self.note_damage(&damage);
                    continue;
                }
                Err(failed) => return Err(failed),
            };
            if record.settled && record.deadline.passed(&moment.now) {
                tx.delete(record::key_of(&id));
                tx.keep();
            } else {
                self.due.note(id, &record.deadline, &moment.now);
            }
        }
        if !tx.is_empty() && self.running.is_stale(&moment.now) {
            self.running.save(&moment.now, tx);
            tx.keep();
        }
        self.forget_replaced(tx);
        Ok(())
    }

    /// When [`Participant::end_group`] will next have something to forget, in milliseconds of this boot's clock.
    pub fn next_due_ms(&self) -> Option<u64> {
        self.due.next_ms()
    }

    /// How many operation records are not settled, damaged ones included.
    pub fn unsettled(&self) -> usize {
        self.unsettled.len()
    }

    /// How many are settled and wait for their deadline.
    pub fn collectable(&self) -> usize {
        self.due.len()
    }

    /// What a domain sees.
    fn context<'t, 's>(&'t self, tx: &'t mut Tx<'s>, moment: &Moment) -> Context<'t, 's> {
        Context::new(tx, &self.holds, self.running.at_ms(&moment.now), self.damaged.steps.len())
    }

    fn query(&mut self, tx: &mut Tx<'_>, moment: &Moment, query: &Payload) -> Result<ReplyBody, StoreError> {
        let query = match decode(query, "query") {
            Ok(query) => query,
            Err(invalid) => return Ok(invalid.into()),
        };
        let context = self.context(tx, moment);
        answer::<D>(self.domain.query(&context, query))
    }

    fn command(
        &mut self,
        tx: &mut Tx<'_>,
        moment: &Moment,
        command: &Payload,
    ) -> Result<ReplyBody, StoreError> {
        let command = match decode(command, "command") {
            Ok(command) => command,
            Err(invalid) => return Ok(invalid.into()),
        };
        let mut context = self.context(tx, moment);
        let reply = answer::<D>(self.domain.command(&mut context, command))?;
        if matches!(reply, ReplyBody::Answer(_)) {
            tx.keep();
        }
        Ok(reply)
    }

    fn list_unsettled(
        &self,
        tx: &Tx<'_>,
        after: Option<StepId>,
        limit: u32,
    ) -> Result<ReplyBody, StoreError> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut list = Vec::new();
        for id in self.unsettled.range((from, Bound::Unbounded)).take(limit.min(PAGE_ROWS_MAX) as usize) {
            let (deadline, state) = match self.read(id, tx) {
                Ok(None) => continue,
                Ok(Some(record)) => {
                    let state = match record.standing().state {
                        State::Applied => UnsettledState::Applied,
                        State::Undone => UnsettledState::Undone,
                        State::Cancelled => UnsettledState::Cancelled,
                    };
                    (Some(record.deadline), state)
                }
                Err(StoreError::Damaged(_)) => (None, UnsettledState::Damaged),
                Err(failed) => return Err(failed),
            };
            list.push(UnsettledStep { id: *id, deadline, state });
        }
        Ok(ReplyBody::Unsettled(list))
    }
}

fn answer<D: Domain>(result: Result<D::Answer, Stop<D::Rejection>>) -> Result<ReplyBody, StoreError> {
    match result {
        Ok(answer) => Ok(encode(&answer).map_or_else(ReplyBody::from, ReplyBody::Answer)),
        Err(Stop::Rejected(rejection)) => {
            Ok(encode(&rejection).map_or_else(ReplyBody::from, ReplyBody::Rejected))
        }
        Err(Stop::Failed(failed)) => Err(failed),
    }
}

/// A request that makes no sense, and why: its caller has a bug.
struct Invalid(String);

impl From<Invalid> for ReplyBody {
    fn from(Invalid(why): Invalid) -> Self {
        Self::Invalid(why)
    }
}

/// Encodes what a domain says.
fn encode<T: Serialize>(value: &T) -> Result<Payload, Invalid> {
    codec::encode(value).map_err(|e| Invalid(format!("the answer can't be sent: {e}")))
}

/// Decodes what is meant for a domain.
fn decode<T: DeserializeOwned>(payload: &Payload, what: &str) -> Result<T, Invalid> {
    if payload.0.len() > PAYLOAD_BYTES_MAX {
        return Err(Invalid(format!("the {what} is longer than {PAYLOAD_BYTES_MAX} bytes")));
    }
    codec::decode(&payload.0).map_err(|e| Invalid(format!("the {what} makes no sense here: {e}")))
}

/// No request may ask to be remembered for more than an hour.
fn check_deadline(deadline: &Deadline, now: &Now) -> Result<(), Invalid> {
    if deadline.too_far_ahead(now) {
        return Err(Invalid("the deadline is more than an hour ahead".to_owned()));
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod harness;
#[cfg(test)]
mod tests;

//! Evaluates settlements: a saga has ended, and its end is durable in the saga log.
//!
//! Only now what a step held goes, and only now its record may be forgotten one day. Settling is idempotent, since
//! whoever can't prove that a settlement arrived sends it again; and it is never refused for its deadline's sake.
//!
//! Each settlement stands for itself: one that damage stands in the way of is named in the reply, the others are settled.

use like_protocol::ids::StepId;
use like_protocol::message::{Ending, ReplyBody, SETTLEMENTS_MAX, Settlement, Unsettleable};
use like_protocol::time::DEADLINE_AHEAD_MAX;
use tracing::{debug, warn};

use super::domain::Domain;
use super::holds::Holds;
use super::record::{History, OperationRecord};
use super::{Invalid, Moment, Participant, Record, check_deadline, decode};
use crate::store::{Damage, StoreError, Tx};

impl<D: Domain> Participant<D> {
    /// Settles all of them that no damage stands in the way of; or finds one that makes no sense and settles none.
    pub(super) fn settle(
        &mut self,
        tx: &mut Tx<'_>,
        moment: &Moment,
        settlements: &[Settlement],
    ) -> Result<ReplyBody, StoreError> {
        let notes = match checked_notes::<D>(moment, settlements) {
            Ok(notes) => notes,
            Err(invalid) => return Ok(invalid.into()),
        };
        let mut unsettleable = Vec::new();
        for (settlement, note) in settlements.iter().zip(notes) {
            match self.settle_one(tx, moment, settlement, note) {
                Ok(()) => tx.keep(),
                Err(StoreError::Damaged(damage)) => {
                    tx.forget();
                    let (id, damaged) = (settlement.id, self.note_damage(&damage));
                    // Once, or a short request could ask for a long answer.
                    if !unsettleable.iter().any(|named: &Unsettleable| named.id == id) {
                        unsettleable.push(Unsettleable { id, damaged });
                    }
                }
                Err(failed) => return Err(failed),
            }
        }
        Ok(if unsettleable.is_empty() { ReplyBody::Settled } else { ReplyBody::SettledBut(unsettleable) })
    }

    fn settle_one(
        &mut self,
        tx: &mut Tx<'_>,
        moment: &Moment,
        settlement: &Settlement,
        note: Option<D::Note>,
    ) -> Result<(), StoreError> {
        let Settlement { id, deadline, ending, .. } = *settlement;
        debug!(saga_id = %id.saga, step = id.step, ?ending, "settle");
        let record = match self.find(&id, tx) {
            Err(StoreError::Damaged(_)) if ending == Ending::Forced => return self.replace(tx, moment, id),
            read => read?,
        };
        let settled = match record {
            Some(record) => {
                let later = record.deadline.later(deadline, &moment.now);
                if record.settled && later == record.deadline {
                    return Ok(());
                }
                Record::<D> { deadline: later, ..self.end(tx, moment, settlement, record, note)? }
            }
            // A step that never came here needs nothing, unless an operator ended the saga while a copy of its action
            // may be on its way; a passed deadline keeps that copy out as well.
            None if ending == Ending::Natural || deadline.passed(&moment.now) => return Ok(()),
            None => {
                self.due.note(id, &deadline, &moment.now);
                OperationRecord { history: History::Cancelled, settled: true, deadline }
            }
        };
        settled.write(&id, tx, &self.boots)
    }

    /// Puts a tombstone in the place of a damaged record whose saga an operator has ended. Nobody knows the latest
    /// deadline that it had seen, but none lies further ahead than any may.
    fn replace(&mut self, tx: &mut Tx<'_>, moment: &Moment, id: StepId) -> Result<(), StoreError> {
        warn!(saga_id = %id.saga, step = id.step, "an operator has ended the saga: its damaged record is replaced");
        let deadline = moment.now.deadline_in(DEADLINE_AHEAD_MAX);
        let sealed = Record::<D> { history: History::Cancelled, settled: true, deadline };
        // What it held, if that was known before it was damaged, goes; what all others hold follows from their records. All that can
        // fail comes first, so that a request that comes to nothing changes nothing.
        let (holds, damages) = self.held_by_others(tx, id)?;
        sealed.write(&id, tx, &self.boots)?;
        self.holds = holds;
        self.damaged.steps.remove(&id);
        self.unsettled.remove(&id);
        self.due.forget(&id);
        self.due.note(id, &deadline, &moment.now);
        for damage in damages {
            self.note_damage(&damage);
        }
        Ok(())
    }

    /// What all unsettled steps but this one hold, by their records; and the damage of those that turn out to be damaged, which hold
    /// nothing, as after a restart.
    fn held_by_others(&self, tx: &Tx<'_>, id: StepId) -> Result<(Holds, Vec<Damage>), StoreError> {
        let (mut holds, mut damages) = (Holds::default(), Vec::new());
        for other in self.unsettled.difference(&self.damaged.steps).filter(|other| **other != id) {
            let record = match self.read(other, tx) {
                Err(StoreError::Damaged(damage)) => {
                    damages.push(damage);
                    continue;
                }
                read => read?,
            };
            if let Some(operation) = record.as_ref().and_then(OperationRecord::operation) {
                holds.take(other.saga, self.domain.holds(operation));
            }
        }
        Ok((holds, damages))
    }

    /// Makes a record that may not be settled yet a settled one, and lets go what its step held.
    fn end(
        &mut self,
        tx: &mut Tx<'_>,
        moment: &Moment,
        settlement: &Settlement,
        record: Record<D>,
        note: Option<D::Note>,
    ) -> Result<Record<D>, StoreError> {
        if record.settled {
            return Ok(record);
        }
        let id = settlement.id;
        if let History::Applied { operation, .. } = &record.history {
            let mut context = self.context(tx, moment);
            match self.domain.settle(&mut context, id.saga, operation, note) {
                // An operator's word ends the saga all the same.
                Err(StoreError::Damaged(damage)) if settlement.ending == Ending::Forced => {
                    tx.forget();
                    self.note_damage(&damage);
                }
                settled => settled?,
            }
        }
        if let Some(operation) = record.operation() {
            self.holds.release(id.saga, &self.domain.holds(operation));
        }
        self.unsettled.remove(&id);
        self.due.note(id, &record.deadline.later(settlement.deadline, &moment.now), &moment.now);
        let history = match record.history {
            applied @ History::Applied { .. } => applied,
            History::Undone { .. } | History::Cancelled => History::Cancelled,
        };
        Ok(OperationRecord { history, settled: true, deadline: record.deadline })
    }
}

/// The notes of a whole request, if all of it makes sense.
fn checked_notes<D: Domain>(
    moment: &Moment,
    settlements: &[Settlement],
) -> Result<Vec<Option<D::Note>>, Invalid> {
    if settlements.len() > SETTLEMENTS_MAX {
        return Err(Invalid(format!("more than {SETTLEMENTS_MAX} settlements in one request")));
    }
    let check = |settlement: &Settlement| {
        check_deadline(&settlement.deadline, &moment.now)?;
        settlement.note.as_ref().map(|note| decode(note, "note")).transpose()
    };
    settlements.iter().map(check).collect()
}

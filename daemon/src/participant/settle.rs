//! Evaluates settlements: a saga has ended, and its end is durable in the saga log.
//!
//! Only now what a step held goes, and only now its record may be forgotten one day. Settling is idempotent, since
//! whoever can't prove that a settlement arrived sends it again; and it is never refused for its deadline's sake.

use like_protocol::message::{Ending, ReplyBody, SETTLEMENTS_MAX, Settlement};
use tracing::debug;

use super::domain::{Context, Domain};
use super::record::{History, OperationRecord};
use super::{Invalid, Moment, Participant, Record, check_deadline, decode};
use crate::store::{StoreError, Tx};

impl<D: Domain> Participant<D> {
    /// Settles all of them, or finds one that makes no sense and settles none.
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
        for (settlement, note) in settlements.iter().zip(notes) {
            self.settle_one(tx, moment, settlement, note)?;
        }
        tx.keep();
        Ok(ReplyBody::Settled)
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
        let settled = match Record::<D>::read(&id, tx, &self.boots)? {
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
            let mut context = Context::new(tx, &self.holds, self.running.at_ms(&moment.now));
            self.domain.settle(&mut context, id.saga, operation, note)?;
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

//! Evaluates saga steps: asks the barrier, and does what it says.

use like_protocol::message::{Direction, ReplyBody, RetryReason, StepReply, StepRequest};
use tracing::debug;

use super::barrier::{Verdict, verdict};
use super::domain::{Domain, Stop};
use super::record::{History, OperationRecord, STORED_BYTES_MAX};
use super::{Moment, Participant, Record, check_deadline, decode, encode};
use crate::store::{StoreError, Tx};

impl<D: Domain> Participant<D> {
    pub(super) fn step(
        &mut self,
        tx: &mut Tx<'_>,
        moment: &Moment,
        request: &StepRequest,
    ) -> Result<ReplyBody, StoreError> {
        if let Err(invalid) = check_deadline(&request.deadline, &moment.now) {
            return Ok(invalid.into());
        }
        let mut record = self.find(&request.id, tx)?;
        // A compensation is carried out from the record. One whose operation is not known any more, because a power loss
        // took the reply that it follows from, or can't be read by this version must still be able to end its step.
        let operation = match (decode::<D::Operation>(&request.operation, "operation"), request.direction) {
            (Ok(operation), _) => Some(operation),
            (Err(invalid), Direction::Action) => return Ok(invalid.into()),
            (Err(_), Direction::Compensation) => None,
        };
        if let Some(operation) = &operation
            && let Some(known) = record.as_ref().and_then(OperationRecord::operation)
            && known != operation
        {
            return Ok(ReplyBody::Invalid("the step ran with another operation".to_owned()));
        }

        let standing = record.as_ref().map(OperationRecord::standing);
        let verdict = verdict(standing, request.direction, &request.deadline, &moment.now);
        let (saga_id, step) = (request.id.saga, request.id.step);
        debug!(%saga_id, step, direction = ?request.direction, ?verdict, "step");
        if let (Verdict::Repeat | Verdict::UndoneAlready | Verdict::Refuse(_), Some(record)) =
            (verdict, &mut record)
        {
            self.extend(tx, moment, request, record)?;
        }
        let reply = match (verdict, record) {
            (Verdict::Run, _) => match operation {
                Some(operation) => return self.run(tx, moment, request, operation),
                None => unreachable!("an action's operation was decoded"),
            },
            (Verdict::Undo, Some(record)) => return self.undo(tx, moment, request, record),
            (Verdict::Cancel, _) => return self.cancel(tx, moment, request),
            (Verdict::Repeat, Some(record)) => match &record.history {
                History::Applied { reply, .. } => match encode(reply) {
                    Ok(reply) => StepReply::Done(reply),
                    Err(invalid) => return Ok(invalid.into()),
                },
                _ => unreachable!("only an applied step is repeated"),
            },
            (Verdict::UndoneAlready, _) => StepReply::Undone,
            (Verdict::Refuse(refusal), _) => StepReply::Refused(refusal),
            (Verdict::Undo | Verdict::Repeat, None) => unreachable!("decided from a record"),
        };
        Ok(ReplyBody::Step(reply))
    }

    /// Runs an action that has not run before and whose deadline lies ahead.
    fn run(
        &mut self,
        tx: &mut Tx<'_>,
        moment: &Moment,
        request: &StepRequest,
        operation: D::Operation,
    ) -> Result<ReplyBody, StoreError> {
        if moment.storage_low {
            return Ok(ReplyBody::Retry(RetryReason::Storage));
        }
        let id = request.id;
        let held = self.domain.holds(&operation);
        if let Some(by) = self.holds.conflict(id.saga, &held) {
            debug!(saga_id = %id.saga, step = id.step, %by, "locked");
            return Ok(ReplyBody::Step(StepReply::Locked { by }));
        }
        let mut context = self.context(tx, moment);
        let reply = match self.domain.act(&mut context, id.saga, &operation) {
            Ok(reply) => reply,
            Err(Stop::Failed(failed)) => return Err(failed),
            Err(Stop::Rejected(rejection)) => {
                return Ok(encode(&rejection)
                    .map_or_else(ReplyBody::from, |why| ReplyBody::Step(StepReply::Rejected(why))));
            }
        };
        let told = match encode(&reply) {
            Ok(told) => told,
            Err(invalid) => return Ok(invalid.into()),
        };
        let history = History::Applied { operation, reply };
        let record = OperationRecord { history, settled: false, deadline: request.deadline };
        if !record.write_if_short(&id, tx, &self.boots)? {
            let why = format!("the operation and its reply take more than {STORED_BYTES_MAX} bytes");
            return Ok(ReplyBody::Invalid(why));
        }
        tx.keep();
        self.index_unsettled(id, held);
        Ok(ReplyBody::Step(StepReply::Done(told)))
    }

    /// Undoes an action that has run. What it holds it goes on holding until the step is settled: given back sooner,
    /// another saga could build on what this one is known to have left, before its end is known everywhere.
    fn undo(
        &mut self,
        tx: &mut Tx<'_>,
        moment: &Moment,
        request: &StepRequest,
        record: Record<D>,
    ) -> Result<ReplyBody, StoreError> {
        let History::Applied { operation, reply } = record.history else {
            unreachable!("only an applied step is undone");
        };
        let mut context = self.context(tx, moment);
        self.domain.undo(&mut context, request.id.saga, &operation, &reply)?;
        let deadline = record.deadline.later(request.deadline, &moment.now);
        let undone = Record::<D> { history: History::Undone { operation }, settled: false, deadline };
        undone.write(&request.id, tx, &self.boots)?;
        tx.keep();
        Ok(ReplyBody::Step(StepReply::Undone))
    }

    /// Leaves a tombstone where the action has not arrived, and can still.
    fn cancel(
        &mut self,
        tx: &mut Tx<'_>,
        moment: &Moment,
        request: &StepRequest,
    ) -> Result<ReplyBody, StoreError> {
        let record = Record::<D> { history: History::Cancelled, settled: false, deadline: request.deadline };
        record.write(&request.id, tx, &self.boots)?;
        tx.keep();
        self.index(request.id, &record, &moment.now);
        Ok(ReplyBody::Step(StepReply::Undone))
    }

    /// Makes a record keep the latest deadline seen: a copy of the request that names it may still be on its way.
    fn extend(
        &mut self,
        tx: &mut Tx<'_>,
        moment: &Moment,
        request: &StepRequest,
        record: &mut Record<D>,
    ) -> Result<(), StoreError> {
        let deadline = record.deadline.later(request.deadline, &moment.now);
        if deadline != record.deadline {
            record.deadline = deadline;
            record.write(&request.id, tx, &self.boots)?;
            tx.keep();
        }
        Ok(())
    }
}

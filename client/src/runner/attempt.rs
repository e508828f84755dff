//! One attempt at one step: what is written before it leaves, and what its answer means.

use std::time::Duration;

use like_protocol::failpoint::{Failpoint, reach};
use like_protocol::ids::{SagaId, StepId};
use like_protocol::message::{
    Direction, PAYLOAD_BYTES_MAX, Payload, Refusal, ReplyBody, RequestBody, RetryReason, StepReply,
    StepRequest,
};
use like_protocol::time::Deadline;

use super::context::Context;
use crate::log::{LogEnded, SagaLog};
use crate::rpc::Connection;
use crate::saga::event::{Failure, FailureKind};
use crate::saga::{Event, ParticipantAt};

/// The longest text of a failure that is kept: texts come from other programs.
const DETAIL_CHARS_MAX: usize = 300;

/// What is to be sent.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub saga: SagaId,
    /// The step's position in the saga.
    pub step: u8,
    /// The step's number towards its participant.
    pub number: u8,
    pub direction: Direction,
    /// The how-manieth attempt, counted from 1.
    pub attempt: u32,
    pub deadline: Deadline,
    pub operation: Payload,
    pub participant: ParticipantAt,
    /// How long it waits for a connection, and then for its answer.
    pub within: Duration,
}

/// What came of an attempt.
#[derive(Debug)]
pub(super) struct Tried {
    /// What was written before the request left, if it left.
    pub sent: Option<Event>,
    pub answer: Answer,
}

/// What the answer means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    /// The action has run.
    Done(Payload),
    /// The step is undone, or will never be done.
    Undone,
    /// A business rule forbids the action.
    Rejected(Payload),
    /// The step's history forbids the action.
    Refused(crate::saga::Refusal),
    /// It came to nothing, or nothing is known.
    Failed { failure: Failure, locked_by: Option<SagaId> },
}

impl Attempt {
    /// Sends it once. `Sent` is written before the first byte leaves; a step whose participant never said hello was
    /// certainly not sent, and nothing is written.
    pub(super) async fn send(self, context: &Context, log: &SagaLog) -> Result<Tried, LogEnded> {
        let connection = match self.connection(context).await {
            Ok(connection) => connection,
            Err(answer) => return Ok(Tried { sent: None, answer }),
        };
        let sent = self.sent_event();
        log.append(self.saga, [sent.clone()])?;
        reach(match self.direction {
            Direction::Action => Failpoint::ActionSentWritten,
            Direction::Compensation => Failpoint::CompensationSentWritten,
        });
        let direction = self.direction;
        let within = self.within;
        let answer = match connection.call(RequestBody::Step(self.request()), within).await {
            Ok(reply) => meaning(direction, reply),
            Err(lost) => failed(FailureKind::Unknown, lost.to_string()),
        };
        reach(match direction {
            Direction::Action => Failpoint::ActionReplied,
            Direction::Compensation => Failpoint::CompensationReplied,
        });
        Ok(Tried { sent: Some(sent), answer })
    }

    /// A connection to the very store that the saga began with.
    async fn connection(&self, context: &Context) -> Result<Connection, Answer> {
        let role = &self.participant.role;
        let Some(remote) = context.participants.find(role) else {
            return Err(failed(FailureKind::NotSent, format!("no {role} service is known here")));
        };
        let connection =
            remote.connect(self.within).await.map_err(|e| failed(FailureKind::NotSent, e.to_string()))?;
        let found = connection.welcome().store;
        match self.participant.store {
            Some(expected) if expected != found => {
                let detail = format!("the {role} service has store {found}, the saga began with {expected}");
                Err(failed(FailureKind::OtherStore, detail))
            }
            _ => Ok(connection),
        }
    }

    fn sent_event(&self) -> Event {
        let (step, attempt) = (self.step, self.attempt);
        match self.direction {
            Direction::Action => Event::ActionSent { step, attempt },
            Direction::Compensation => Event::CompensationSent { step, attempt },
        }
    }

    fn request(self) -> StepRequest {
        StepRequest {
            id: StepId { saga: self.saga, step: self.number },
            direction: self.direction,
            deadline: self.deadline,
            operation: self.operation,
        }
    }
}

/// A reply is kept in the log, where it must have room.
fn is_too_long(reply: &ReplyBody) -> bool {
    match reply {
        ReplyBody::Step(StepReply::Done(payload) | StepReply::Rejected(payload)) => {
            payload.0.len() > PAYLOAD_BYTES_MAX
        }
        _ => false,
    }
}

/// What a reply means for a step that was sent in this direction.
fn meaning(direction: Direction, reply: ReplyBody) -> Answer {
    match (direction, reply) {
        (_, reply) if is_too_long(&reply) => {
            failed(FailureKind::Invalid, format!("an answer of more than {PAYLOAD_BYTES_MAX} bytes"))
        }
        (Direction::Action, ReplyBody::Step(StepReply::Done(reply))) => Answer::Done(reply),
        (Direction::Action, ReplyBody::Step(StepReply::Rejected(rejection))) => Answer::Rejected(rejection),
        (Direction::Action, ReplyBody::Step(StepReply::Refused(refusal))) => Answer::Refused(refusal.into()),
        (Direction::Compensation, ReplyBody::Step(StepReply::Undone)) => Answer::Undone,
        (Direction::Compensation, ReplyBody::Step(StepReply::Refused(Refusal::Final))) => failed(
            FailureKind::Final,
            "the participant holds the step for final: its saga was ended before".into(),
        ),
        (_, ReplyBody::Step(StepReply::Locked { by })) => Answer::Failed {
            failure: Failure { kind: FailureKind::Locked, detail: format!("locked by saga {by}") },
            locked_by: Some(by),
        },
        (_, ReplyBody::Retry(RetryReason::Busy)) => {
            failed(FailureKind::Busy, "the daemon's queue is full".into())
        }
        (_, ReplyBody::Retry(RetryReason::Draining)) => {
            failed(FailureKind::Busy, "the daemon is shutting down".into())
        }
        (_, ReplyBody::Retry(RetryReason::Storage)) => {
            failed(FailureKind::Storage, "the daemon is short of disk space".into())
        }
        (_, ReplyBody::Damaged(row)) => failed(FailureKind::Damaged, row.to_string()),
        (_, ReplyBody::Invalid(why)) => failed(FailureKind::Invalid, why),
        (_, other) => failed(FailureKind::Invalid, format!("an answer that makes no sense: {other:?}")),
    }
}

fn failed(kind: FailureKind, mut detail: String) -> Answer {
    if let Some((cut, _)) = detail.char_indices().nth(DETAIL_CHARS_MAX) {
        detail.truncate(cut);
    }
    Answer::Failed { failure: Failure { kind, detail }, locked_by: None }
}

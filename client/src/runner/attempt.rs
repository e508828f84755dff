//! One attempt at one step: written, sent, answered. What is asked and what an answer means is decided in
//! [`crate::saga::attempt`].

use std::time::Duration;

use like_protocol::failpoint::{Failpoint, reach};
use like_protocol::ids::SagaId;
use like_protocol::message::{Direction, RequestBody, StepRequest};

use super::context::Context;
use crate::log::{LogEnded, SagaLog};
use crate::rpc::Connection;
use crate::saga::attempt::{Answer, failed, meaning};
use crate::saga::event::FailureKind;
use crate::saga::{Event, ParticipantAt};

/// What is to be sent.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub saga: SagaId,
    /// The step's position in the saga.
    pub step: u8,
    /// What is written before the request leaves.
    pub sent: Event,
    pub request: StepRequest,
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

impl Attempt {
    /// Sends it once. `Sent` is written before the first byte leaves; a step whose participant never said hello was
    /// certainly not sent, and nothing is written.
    pub(super) async fn send(self, context: &Context, log: &SagaLog) -> Result<Tried, LogEnded> {
        let connection = match self.connection(context).await {
            Ok(connection) => connection,
            Err(answer) => return Ok(Tried { sent: None, answer }),
        };
        log.written(log.append(self.saga, [self.sent.clone()])?).await?;
        let direction = self.request.direction;
        reach(match direction {
            Direction::Action => Failpoint::ActionSentWritten,
            Direction::Compensation => Failpoint::CompensationSentWritten,
        });
        let answer = match connection.call(RequestBody::Step(self.request), self.within).await {
            Ok(reply) => meaning(self.step, direction, reply),
            Err(lost) => failed(FailureKind::Unknown, lost.to_string()),
        };
        reach(match direction {
            Direction::Action => Failpoint::ActionReplied,
            Direction::Compensation => Failpoint::CompensationReplied,
        });
        Ok(Tried { sent: Some(self.sent), answer })
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
}

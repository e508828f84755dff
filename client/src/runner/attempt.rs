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
    /// Sends it once. `Sent` is written before the first byte leaves, together with what others are about to send. A step
    /// whose participant never said hello was certainly not sent, and nothing is written.
    pub(super) async fn send(self, context: &Context, log: &SagaLog) -> Result<Tried, LogEnded> {
        let connection = match self.connection(context, log).await? {
            Ok(connection) => connection,
            Err(answer) => return Ok(Tried { sent: None, answer }),
        };
        let to_write = log.to_write(log.append(self.saga, [self.sent.clone()])?);
        let direction = self.request.direction;
        let is_written = Box::new(move || {
            if to_write.write().is_err() {
                return false;
            }
            reach(match direction {
                Direction::Action => Failpoint::ActionSentWritten,
                Direction::Compensation => Failpoint::CompensationSentWritten,
            });
            true
        });
        let answer = match connection.call_on(is_written, RequestBody::Step(self.request), self.within).await
        {
            Ok(reply) => meaning(self.step, direction, reply),
            Err(lost) => match log.ended() {
                Some(ended) => return Err(ended),
                None => failed(FailureKind::Unknown, lost.to_string()),
            },
        };
        reach(match direction {
            Direction::Action => Failpoint::ActionReplied,
            Direction::Compensation => Failpoint::CompensationReplied,
        });
        Ok(Tried { sent: Some(self.sent), answer })
    }

    /// A connection to the very store that the saga began with. Dialling may take long: what was noted by then is written
    /// first.
    async fn connection(
        &self,
        context: &Context,
        log: &SagaLog,
    ) -> Result<Result<Connection, Answer>, LogEnded> {
        let role = &self.participant.role;
        let Some(remote) = context.participants.find(role) else {
            return Ok(Err(failed(FailureKind::NotSent, format!("no {role} service is known here"))));
        };
        let connection = match remote.open() {
            Some(open) => open,
            None => {
                log.written(log.appended()).await?;
                match remote.connect(self.within).await {
                    Ok(connected) => connected,
                    Err(e) => return Ok(Err(failed(FailureKind::NotSent, e.to_string()))),
                }
            }
        };
        let found = connection.welcome().store;
        Ok(match self.participant.store {
            Some(expected) if expected != found => {
                let detail = format!("the {role} service has store {found}, the saga began with {expected}");
                Err(failed(FailureKind::OtherStore, detail))
            }
            _ => Ok(connection),
        })
    }
}

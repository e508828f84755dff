//! One attempt at one step: written, sent, answered. What is asked and what an answer means is decided in
//! [`crate::saga::attempt`].

use std::time::Duration;

use futures::FutureExt;
use like_protocol::failpoint::{Failpoint, reach};
use like_protocol::message::{Direction, ReplyBody, RequestBody, StepRequest};
use like_protocol::time::Now;

use super::context::Context;
use crate::log::{LogEnded, Position, SagaLog};
use crate::rpc::{Connection, Grounds, Lost};
use crate::saga::attempt::{Answer, failed, meaning};
use crate::saga::event::FailureKind;
use crate::saga::{ParticipantAt, SagaState};

/// Even an attempt that leaves just before the deadline is given this long for its answer.
const LAST_ATTEMPT: Duration = Duration::from_millis(50);

/// What is to be sent.
#[derive(Debug)]
pub(super) struct Attempt {
    /// The step's position in the saga.
    pub step: u8,
    pub request: StepRequest,
    /// Where the log says that it is sent: written before the request leaves.
    pub sent: Position,
    /// How long it waits for its answer.
    pub within: Duration,
}

impl Attempt {
    /// Sends it once; what is returned waits for its answer, and keeps nothing of it. `Sent` is written before the first byte
    /// leaves, together with what others are about to send.
    pub(super) fn send(
        self,
        connection: &Connection,
        log: &SagaLog,
    ) -> impl Future<Output = Result<Answer, LogEnded>> {
        let Self { step, request, sent, within } = self;
        let direction = request.direction;
        connection
            .call_on(is_written(log, sent, direction), RequestBody::Step(request), within)
            .map(move |came| heard(log, step, direction, came))
    }
}

/// How long until a saga may be given up; for ever if a runner has died on it.
pub(super) fn until_given_up(state: &SagaState, now: &Now) -> Duration {
    if state.taken_over_forward { Duration::MAX } else { state.deadline.remaining(now) }
}

/// How long an attempt waits for a connection, and then for its answer: no longer than `limit`.
pub(super) fn within(state: &SagaState, direction: Direction, now: &Now, limit: Duration) -> Duration {
    match direction {
        Direction::Action => limit.min(until_given_up(state, now).max(LAST_ATTEMPT)),
        Direction::Compensation => limit,
    }
}

/// What came of an attempt: nothing for whoever has lost its log.
pub(super) fn heard(
    log: &SagaLog,
    step: u8,
    direction: Direction,
    came: Result<ReplyBody, Lost>,
) -> Result<Answer, LogEnded> {
    let answer = match came {
        Ok(reply) => meaning(step, direction, reply),
        Err(lost) => match log.ended() {
            Some(ended) => return Err(ended),
            None => failed(FailureKind::Unknown, lost.to_string()),
        },
    };
    reach(match direction {
        Direction::Action => Failpoint::ActionReplied,
        Direction::Compensation => Failpoint::CompensationReplied,
    });
    Ok(answer)
}

/// The grounds on which attempts leave: that they are sent is written, up to this position.
pub(super) fn is_written(log: &SagaLog, sent: Position, direction: Direction) -> Grounds {
    let to_write = log.to_write(sent);
    Box::new(move || {
        if to_write.write().is_err() {
            return false;
        }
        reach(match direction {
            Direction::Action => Failpoint::ActionSentWritten,
            Direction::Compensation => Failpoint::CompensationSentWritten,
        });
        true
    })
}

/// A connection to the very store that the saga began with, or what comes of an attempt without one: a step whose participant
/// never said hello is certainly not sent. Dialling may take long: what was noted by then is written first.
pub(super) async fn connection_to(
    participant: &ParticipantAt,
    within: Duration,
    context: &Context,
    log: &SagaLog,
) -> Result<Result<Connection, Answer>, LogEnded> {
    let role = &participant.role;
    let Some(remote) = context.participants.find(role) else {
        return Ok(Err(failed(FailureKind::NotSent, format!("no {role} service is known here"))));
    };
    let connection = match remote.open() {
        Some(open) => open,
        None => {
            log.written(log.appended()).await?;
            match remote.connect(within).await {
                Ok(connected) => connected,
                Err(e) => return Ok(Err(failed(FailureKind::NotSent, e.to_string()))),
            }
        }
    };
    let found = connection.welcome().store;
    Ok(match participant.store {
        Some(expected) if expected != found => {
            let detail = format!("the {role} service has store {found}, the saga began with {expected}");
            Err(failed(FailureKind::OtherStore, detail))
        }
        _ => Ok(connection),
    })
}

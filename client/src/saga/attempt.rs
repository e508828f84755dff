//! An attempt at a step: what is asked of its participant, what is written before it leaves, and what its answer means.
//! Pure.

use like_protocol::ids::{SagaId, StepId};
use like_protocol::message::{
    self, Direction, PAYLOAD_BYTES_MAX, Payload, ReplyBody, RetryReason, StepReply, StepRequest,
};

use super::definition::{Definition, DefinitionError, side_by_side};
use super::event::{Event, Failure, FailureKind};
use super::state::SagaState;

/// The longest text of a failure that is kept: texts come from other programs.
const DETAIL_CHARS_MAX: usize = 300;

/// Why a step can't be asked of its participant.
#[derive(Debug, thiserror::Error)]
pub enum Unaskable {
    /// The saga's parameters or replies can't be read.
    #[error(transparent)]
    Unreadable(#[from] DefinitionError),
    /// A reply that the step needs is not on record, or there is no such step.
    #[error("a reply that a step needs is missing")]
    ReplyMissing,
}

/// What the answer to an attempt means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It is certain what came of the step: this is to be recorded.
    Decided(Event),
    /// It came to nothing, or nothing is known.
    Failed {
        /// Why.
        failure: Failure,
        /// The saga that holds what the step needs, if that is why.
        locked_by: Option<SagaId>,
    },
}

impl SagaState {
    /// The request of a step in one direction: the same in every attempt, but for a new deadline.
    ///
    /// # Errors
    /// See [`Unaskable`].
    pub fn request(
        &self,
        saga: SagaId,
        definition: &dyn Definition,
        step: usize,
        direction: Direction,
    ) -> Result<StepRequest, Unaskable> {
        let planned = self.begun.steps.get(step).ok_or(Unaskable::ReplyMissing)?;
        let id = StepId { saga, step: planned.number };
        let operation = self.operation(definition, step)?;
        Ok(StepRequest { id, direction, deadline: self.deadline, operation })
    }

    /// The step's operation: from the replies before it and before those that it goes beside, which stand in the log before
    /// it was ever sent. A step that is not known to have been sent, which only an operator has compensated, may lack them:
    /// a power loss may have taken them. Its participant then goes by what ran there, if anything did.
    fn operation(&self, definition: &dyn Definition, step: usize) -> Result<Payload, Unaskable> {
        let never_sent = self.steps.get(step).is_some_and(|step| step.action_attempts == 0);
        match self.replies_before(side_by_side(definition.steps(), step).start) {
            Some(replies) => Ok(definition.operation(&self.begun.params, step, &replies)?),
            None if never_sent => Ok(Payload::default()),
            None => Err(Unaskable::ReplyMissing),
        }
    }

    /// What is written before the next attempt at a step leaves.
    pub fn sent(&self, step: usize, direction: Direction) -> Event {
        let attempts = |of: fn(&super::StepState) -> u32| self.steps.get(step).map_or(0, of) + 1;
        let number = step as u8;
        match direction {
            Direction::Action => {
                Event::ActionSent { step: number, attempt: attempts(|step| step.action_attempts) }
            }
            Direction::Compensation => {
                Event::CompensationSent { step: number, attempt: attempts(|step| step.compensation_attempts) }
            }
        }
    }
}

/// What a reply means for a step that was sent in this direction.
pub fn meaning(step: u8, direction: Direction, reply: ReplyBody) -> Answer {
    use Direction::{Action, Compensation};
    let decided = match (direction, reply) {
        (_, reply) if is_too_long(&reply) => {
            return failed(FailureKind::Invalid, format!("an answer of more than {PAYLOAD_BYTES_MAX} bytes"));
        }
        (Action, ReplyBody::Step(StepReply::Done(reply))) => Event::ActionDone { step, reply },
        (Action, ReplyBody::Step(StepReply::Rejected(rejection))) => {
            Event::ActionRejected { step, rejection }
        }
        (Action, ReplyBody::Step(StepReply::Refused(refusal))) => {
            Event::ActionRefused { step, refusal: refusal.into() }
        }
        (Compensation, ReplyBody::Step(StepReply::Undone)) => Event::CompensationDone { step },
        (_, reply) => return not_decided(reply),
    };
    Answer::Decided(decided)
}

fn not_decided(reply: ReplyBody) -> Answer {
    match reply {
        // A refused action is decided.
        ReplyBody::Step(StepReply::Refused(message::Refusal::Final)) => {
            let detail = "the participant holds the step for final: its saga was ended before";
            failed(FailureKind::Final, detail.into())
        }
        ReplyBody::Step(StepReply::Locked { by }) => Answer::Failed {
            failure: Failure { kind: FailureKind::Locked, detail: format!("locked by saga {by}") },
            locked_by: Some(by),
        },
        ReplyBody::Retry(RetryReason::Busy) => failed(FailureKind::Busy, "the daemon's queue is full".into()),
        ReplyBody::Retry(RetryReason::Draining) => {
            failed(FailureKind::Busy, "the daemon is shutting down".into())
        }
        ReplyBody::Retry(RetryReason::Storage) => {
            failed(FailureKind::Storage, "the daemon's disk space is short, or can't be told".into())
        }
        ReplyBody::Damaged(row) => failed(FailureKind::Damaged, row.to_string()),
        ReplyBody::Invalid(why) => failed(FailureKind::Invalid, why),
        other => failed(FailureKind::Invalid, format!("an answer that makes no sense: {other:?}")),
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

/// An attempt that came to nothing, or of which nothing is known.
pub fn failed(kind: FailureKind, detail: String) -> Answer {
    Answer::Failed { failure: Failure { kind, detail: cut(detail) }, locked_by: None }
}

impl Failure {
    /// The same, told in other words.
    pub fn in_words(self, detail: String) -> Self {
        Self { detail: cut(detail), ..self }
    }
}

/// No more than is kept of a text.
fn cut(mut detail: String) -> String {
    if let Some((cut, _)) = detail.char_indices().nth(DETAIL_CHARS_MAX) {
        detail.truncate(cut);
    }
    detail
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::saga::StepPlan;
    use crate::saga::tests::{begun, done, sent};

    /// Two steps, of which the second asks for what the first has replied, and notes of so many bytes.
    pub(in crate::saga) struct Passes {
        pub note_bytes: usize,
    }

    impl Definition for Passes {
        fn kind(&self) -> &'static str {
            "transfer"
        }

        fn version(&self) -> u16 {
            1
        }

        fn steps(&self) -> &'static [StepPlan] {
            const TAKE: StepPlan = StepPlan { name: "take", role: "debit", beside: false };
            &[TAKE, StepPlan { name: "give", role: "credit", ..TAKE }]
        }

        fn operation(
            &self,
            params: &Payload,
            _: usize,
            replies: &[Payload],
        ) -> Result<Payload, DefinitionError> {
            Ok(replies.last().unwrap_or(params).clone())
        }

        fn note(
            &self,
            _: &Payload,
            _: usize,
            _: &[Option<Payload>],
        ) -> Result<Option<Payload>, DefinitionError> {
            Ok(Some(Payload::from(vec![0; self.note_bytes])))
        }

        fn subject(&self, _: &Payload) -> Result<Vec<(&'static str, u64)>, DefinitionError> {
            Ok(Vec::new())
        }

        fn explain_rejection(&self, _: usize, _: &Payload) -> String {
            String::new()
        }
    }

    #[test]
    fn a_step_that_was_sent_is_never_asked_for_without_the_replies_before_it() {
        let operation = |events: &[Event], step| {
            let mut state = SagaState::begin(begun().into());
            events.iter().for_each(|event| state.apply(event).unwrap());
            let request =
                state.request(SagaId::generate(), &Passes { note_bytes: 0 }, step, Direction::Compensation);
            request.map(|request| request.operation)
        };
        assert_eq!(operation(&[], 0).unwrap(), begun().params);
        assert_eq!(operation(&[sent(0, 1), done(0)], 1).unwrap(), Payload::from(vec![0; 4]));
        assert!(matches!(operation(&[sent(0, 1), sent(1, 1)], 1), Err(Unaskable::ReplyMissing)));
        assert_eq!(operation(&[sent(0, 1)], 1).unwrap(), Payload::default(), "one that was not");
        assert!(matches!(operation(&[], 2), Err(Unaskable::ReplyMissing)));
    }

    #[test]
    fn an_answer_that_has_just_room_in_the_log_counts() {
        let answer = |bytes| {
            let reply = StepReply::Done(Payload::from(vec![0; bytes]));
            meaning(0, Direction::Action, ReplyBody::Step(reply))
        };
        assert!(matches!(answer(PAYLOAD_BYTES_MAX), Answer::Decided(_)));
        assert!(matches!(answer(PAYLOAD_BYTES_MAX + 1), Answer::Failed { .. }));
    }

    #[test]
    fn no_more_is_kept_of_a_text_than_a_record_can_hold_whoever_wrote_it() {
        let long = "é".repeat(100_000);
        let Answer::Failed { failure, .. } = failed(FailureKind::Locked, long.clone()) else { panic!() };
        assert_eq!(failure.detail.chars().count(), DETAIL_CHARS_MAX);
        assert_eq!(failure.in_words(long).detail.chars().count(), DETAIL_CHARS_MAX);
    }

    #[test]
    fn an_answer_that_decides_nothing_says_what_is_known() {
        use Direction::{Action, Compensation};
        let (by, payload) = (SagaId::from_bytes([7; 16]), Payload::from(vec![1]));
        let step = ReplyBody::Step;
        for (direction, reply, kind) in [
            (Action, step(StepReply::Locked { by }), FailureKind::Locked),
            (Action, ReplyBody::Retry(RetryReason::Busy), FailureKind::Busy),
            (Action, ReplyBody::Retry(RetryReason::Draining), FailureKind::Busy),
            (Action, ReplyBody::Retry(RetryReason::Storage), FailureKind::Storage),
            (Action, ReplyBody::Invalid("nonsense".into()), FailureKind::Invalid),
            (Action, step(StepReply::Undone), FailureKind::Invalid),
            (Compensation, step(StepReply::Done(payload.clone())), FailureKind::Invalid),
            (Compensation, step(StepReply::Refused(message::Refusal::Final)), FailureKind::Final),
            (Compensation, step(StepReply::Refused(message::Refusal::Expired)), FailureKind::Invalid),
        ] {
            let Answer::Failed { failure, locked_by } = meaning(0, direction, reply.clone()) else {
                panic!("{reply:?} decided a step")
            };
            assert_eq!(failure.kind, kind, "{reply:?}");
            assert_eq!(locked_by.is_some(), kind == FailureKind::Locked);
        }
        let told = meaning(0, Action, ReplyBody::Invalid("nonsense".into()));
        assert_eq!(told, failed(FailureKind::Invalid, "nonsense".into()), "in the daemon's words");
    }
}

//! What participants are told of a saga's end. Pure.

use like_protocol::ids::{SagaId, StepId};
use like_protocol::message::{Ending, NOTE_BYTES_MAX, Payload, Settlement};

use super::definition::Definition;
use super::event::{End, ParticipantAt};
use super::state::SagaState;

/// What each participant is told of a saga's end. Without the definition of its kind it goes without notes.
pub fn settlements(
    saga: SagaId,
    state: &SagaState,
    definition: Option<&dyn Definition>,
) -> Vec<(ParticipantAt, Settlement)> {
    let completed = state.ended() == Some(End::Completed);
    let replies = state.replies();
    let part = |step: usize| {
        let planned = state.begun.steps.get(step)?;
        let mut participant = state.begun.participants.get(usize::from(planned.participant))?.clone();
        if state.forced() {
            // The operator ended it knowing what the stores are.
            participant.store = None;
        }
        let note = definition
            .filter(|_| completed)
            .and_then(|definition| note(definition, saga, (&state.begun.params, &replies), step));
        let id = StepId { saga, step: planned.number };
        let ending = if state.forced() { Ending::Forced } else { Ending::Natural };
        Some((participant, Settlement { id, deadline: state.deadline, ending, note }))
    };
    (0..state.steps.len()).filter(|step| state.owes_settlement(*step)).filter_map(part).collect()
}

/// What a participant keeps with a step. A definition that fails at that, or goes beyond the bound, has a bug, for which no saga
/// is to stay unsettled.
fn note(
    definition: &dyn Definition,
    saga: SagaId,
    (params, replies): (&Payload, &[Option<Payload>]),
    step: usize,
) -> Option<Payload> {
    let why = match definition.note(params, step, replies) {
        Ok(Some(note)) if note.0.len() > NOTE_BYTES_MAX => format!("it has {} bytes", note.0.len()),
        Ok(note) => return note,
        Err(e) => e.to_string(),
    };
    tracing::error!(saga_id = %saga, step, "settled without its note: {why}");
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::saga::attempt::tests::Passes;
    use crate::saga::event::Event;
    use crate::saga::tests::{begun, done, sent};

    #[test]
    fn a_note_beyond_the_bound_is_left_out_and_the_step_is_settled_all_the_same() {
        let mut state = SagaState::begin(begun().into());
        let events = [sent(0, 1), done(0), sent(1, 1), done(1), Event::Ended(End::Completed)];
        events.iter().for_each(|event| state.apply(event).unwrap());
        let notes = |bytes| {
            let told = settlements(SagaId::generate(), &state, Some(&Passes { note_bytes: bytes }));
            told.into_iter().map(|(_, told)| told.note.map(|note| note.0.len())).collect::<Vec<_>>()
        };
        assert_eq!(notes(NOTE_BYTES_MAX), [Some(NOTE_BYTES_MAX); 2]);
        assert_eq!(notes(NOTE_BYTES_MAX + 1), [None, None]);
    }
}

//! What participants are told of a saga's end. Pure.

use like_protocol::ids::{SagaId, StepId};
use like_protocol::message::{Ending, Settlement};

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
        let note = match definition {
            Some(definition) if completed => {
                definition.note(&state.begun.params, step, &replies).unwrap_or_else(|e| {
                    tracing::error!(saga_id = %saga, "settled without its note: {e}");
                    None
                })
            }
            _ => None,
        };
        let id = StepId { saga, step: planned.number };
        let ending = if state.forced() { Ending::Forced } else { Ending::Natural };
        Some((participant, Settlement { id, deadline: state.deadline, ending, note }))
    };
    (0..state.steps.len()).filter(|step| state.owes_settlement(*step)).filter_map(part).collect()
}

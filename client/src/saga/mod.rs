//! What a saga is (Garcia-Molina and Salem, "Sagas", 1987): steps, each an action with a compensation, started in order;
//! and, if one can't be done, undone.
//!
//! Everything here is pure: [`definition`] says what the steps are, [`event`] what can happen to a saga, [`state`] what
//! a saga's events add up to, [`next`] what is to be done about it, [`attempt`] and [`settlement`] what participants are
//! asked and told, and what their answers mean. Nothing here waits, sends or writes.

pub mod attempt;
pub mod definition;
pub mod event;
pub mod next;
pub mod settlement;
pub mod state;

pub use definition::{Definition, DefinitionError, Definitions, StepPlan};
pub use event::{Begun, End, Event, ParticipantAt, PlannedStep, Refusal, TurnBack};
pub use next::Next;
pub use state::{Action, Phase, SagaState, StepState};

#[cfg(test)]
pub(crate) mod tests;

//! What a kind of saga is: its steps as a pure function of its parameters.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use like_protocol::message::Payload;

/// A kind of saga.
///
/// Everything is a pure function of the parameters and of earlier steps' recorded replies, so that any process which
/// knows the kind can take a saga over and asks for exactly what the first runner asked for.
pub trait Definition: Send + Sync {
    /// The name under which the saga log keeps sagas of this kind.
    fn kind(&self) -> &'static str;

    /// Raised when steps, operations or parameters change in a way that matters to sagas already begun: a runner
    /// does not drive a saga of a version it doesn't know.
    fn version(&self) -> u16;

    /// The steps, in the order in which their actions start. A step's position is its number towards the participants.
    fn steps(&self) -> &'static [StepPlan];

    /// The operation that a step asks of its participant, the same for its action and its compensation. `replies` are
    /// the recorded replies of the steps before it, without those that it goes beside.
    ///
    /// # Errors
    /// The parameters or replies are not what this kind and version wrote.
    fn operation(
        &self,
        params: &Payload,
        step: usize,
        replies: &[Payload],
    ) -> Result<Payload, DefinitionError>;

    /// What a participant keeps with a step when its saga has completed. `replies` are those of the steps that have
    /// been done (all of them, unless the end was forced). A note of more than [`NOTE_BYTES_MAX`] is not sent: many sagas are
    /// settled by one request.
    ///
    /// [`NOTE_BYTES_MAX`]: like_protocol::message::NOTE_BYTES_MAX
    ///
    /// # Errors
    /// As for [`Definition::operation`].
    fn note(
        &self,
        params: &Payload,
        step: usize,
        replies: &[Option<Payload>],
    ) -> Result<Option<Payload>, DefinitionError>;

    /// What people and JSON are shown of the parameters: names and numbers (`article_id`, `user_id`).
    ///
    /// # Errors
    /// As for [`Definition::operation`].
    fn subject(&self, params: &Payload) -> Result<Vec<(&'static str, u64)>, DefinitionError>;

    /// What a rejection by a step's participant says, in words.
    fn explain_rejection(&self, step: usize, rejection: &Payload) -> String;
}

/// One step of a kind of saga.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StepPlan {
    /// What the step does, for people: `add like`.
    pub name: &'static str,
    /// The role of the participant that it is asked of.
    pub role: &'static str,
    /// Whether its action goes beside that of the step before it: both may be under way at once, so it is not given the
    /// other's reply. For steps of which either may be done without the other until the saga has ended: the parallel
    /// sagas of Garcia-Molina and Salem.
    pub beside: bool,
}

/// The steps whose actions go side by side with that of `step`, itself included.
pub fn side_by_side(plan: &[StepPlan], step: usize) -> Range<usize> {
    let starts = |step: &StepPlan| !step.beside;
    let behind = (step + 1).min(plan.len());
    let first = plan[..behind].iter().rposition(starts).unwrap_or_default();
    let end = plan[behind..].iter().position(starts).map_or(plan.len(), |more| behind + more);
    first..end
}

/// Parameters or replies that are not what a definition wrote.
#[derive(Debug, thiserror::Error)]
#[error("a saga of kind {kind} can't be read: {detail}")]
pub struct DefinitionError {
    /// The kind.
    pub kind: &'static str,
    /// What is wrong.
    pub detail: String,
}

/// The kinds of saga that a runner can drive.
#[derive(Clone, Default)]
pub struct Definitions {
    by_kind: BTreeMap<&'static str, Arc<dyn Definition>>,
}

impl Definitions {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// One kind more.
    pub fn with(mut self, definition: impl Definition + 'static) -> Self {
        self.by_kind.insert(definition.kind(), Arc::new(definition));
        self
    }

    /// The definition by which new sagas of a kind are begun.
    pub fn newest(&self, kind: &str) -> Option<&Arc<dyn Definition>> {
        self.by_kind.get(kind)
    }

    /// How many steps the longest kind of saga has: no step number of a saga of unknown kind is higher.
    pub fn steps_max(&self) -> usize {
        self.by_kind.values().map(|definition| definition.steps().len()).max().unwrap_or_default()
    }

    /// The definition of a kind, if it is known here in that version.
    pub fn find(&self, kind: &str, version: u16) -> Option<&Arc<dyn Definition>> {
        self.by_kind.get(kind).filter(|definition| definition.version() == version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_go_side_by_side_from_one_that_waits_up_to_the_next_that_does() {
        let plan = [false, true, true, false, false, true].map(|beside| StepPlan {
            name: "step",
            role: "role",
            beside,
        });
        let groups = (0..plan.len()).map(|step| side_by_side(&plan, step));
        assert_eq!(groups.collect::<Vec<_>>(), [0..3, 0..3, 0..3, 3..4, 4..6, 4..6]);
    }
}

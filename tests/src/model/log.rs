//! A saga's log as a power loss sees it: its records, and how many of them are durable.
//!
//! Every saga has a log of its own here. In a slot that several sagas share they lose power, and are taken over, together:
//! that is one of the combinations which separate logs allow. What the bytes of a log may look like after a crash is
//! checked elsewhere; here a log is whole records.

use like_client::log::{SagaRecord, Story};
use like_client::saga::next::Milestone;
use like_client::saga::{Action, Event, SagaState, StepState};
use like_protocol::codec::{self, CodecError};
use like_protocol::ids::SagaId;
use like_protocol::message::Payload;

/// A saga's log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Log {
    /// What it tells, as the shipped code reads it; `None` while it is empty.
    pub story: Option<Story>,
    /// How many records a power loss can't take.
    pub durable: usize,
    /// How many its runner takes for durable. The same, unless a rule is off.
    pub trusted: usize,
}

/// The process id under which all takeovers go.
const PID: u32 = 1;

impl Log {
    /// A log with nothing in it.
    pub const EMPTY: Self = Self { story: None, durable: 0, trusted: 0 };

    /// Where the saga stands.
    pub fn state(&self) -> Option<&SagaState> {
        self.story.as_ref().and_then(|story| story.state.as_ref())
    }

    /// Its records.
    pub fn records(&self) -> &[SagaRecord] {
        self.story.as_ref().map_or(&[], |story| &story.records)
    }

    /// A beginning is written.
    pub fn begin(saga: SagaId, begun: Event) -> Self {
        Self { story: Story::begin(saga, 0, begun), ..Self::EMPTY }
    }

    /// An event is written: `write(2)` has returned.
    ///
    /// # Errors
    /// It does not fit.
    pub fn append(&mut self, event: Event) -> Result<(), String> {
        let story = self.story.as_mut().expect("a saga begins first");
        story.add(0, event);
        match story.state.as_ref().and_then(|state| state.quarantined.clone()) {
            Some(illegal) => Err(illegal),
            None => Ok(()),
        }
    }

    /// `fdatasync(2)` has returned.
    pub fn sync(&mut self) {
        self.durable = self.records().len();
        self.trusted = self.durable;
    }

    /// Syncs, unless the milestone is taken for durable already.
    pub fn rest_on(&mut self, milestone: Milestone) {
        let place = self.records().iter().rposition(|record| record.event.milestone() == Some(milestone));
        if place.is_some_and(|place| place >= self.trusted) {
            self.sync();
        }
    }

    /// The log after another runner has taken it over, in the steps of `client/src/log/takeover.rs`: read, noted, condensed,
    /// carried over and synced. `None` if nothing in it is open.
    pub fn taken_over(&self, noted: bool) -> Option<Self> {
        let mut story = Story::of(self.records().to_vec())?;
        if !story.is_open() {
            return None;
        }
        if noted {
            story.taken_over(0, PID);
        }
        // What is read again from the new segment is what counts.
        let whole = story.state.clone();
        let story = Story::of(story.condensed().records)?;
        let prints = [&whole, &story.state].map(|state| state.as_ref().map(fingerprint));
        assert_eq!(prints[0], prints[1], "fewer words tell the same story");
        let mut log = Self { story: Some(story), ..Self::EMPTY };
        log.sync();
        Some(log)
    }

    /// What a power loss has left if it left so many records.
    pub fn cut(&self, left: usize) -> Self {
        Self { story: Story::of(self.records()[..left].to_vec()), durable: left, trusted: left }
    }

    /// Names it. Two logs of the same name differ in nothing that matters: what is durable of them adds up to the same
    /// state, and what a power loss can still take is the same, record by record.
    pub fn name(&self) -> Vec<u8> {
        let records = self.records();
        let durable = Story::of(records[..self.durable].to_vec()).and_then(|story| story.state);
        let mut name = vec![(self.trusted - self.durable) as u8];
        name.extend(self.story.iter().flat_map(|story| story.saga.as_bytes()));
        name.extend(durable.as_ref().map(fingerprint).unwrap_or_default());
        for record in &records[self.durable..] {
            name.extend(codec::encode(&record.event).expect("an event can be encoded").0);
        }
        name
    }
}

/// All of a saga's state that anything depends on. How often something was attempted is only shown to people; failures are
/// not written in the model.
fn fingerprint(state: &SagaState) -> Vec<u8> {
    let SagaState {
        begun,
        phase,
        steps,
        deadline,
        taken_over_forward,
        turned_back_after: _,
        settled,
        quarantined,
    } = state;
    let mut print = format!("{phase:?} {taken_over_forward} {settled} {quarantined:?} ").into_bytes();
    let mut add = |encoded: Result<Payload, CodecError>| print.extend(encoded.expect("it can be encoded").0);
    add(codec::encode(&(begun, deadline)));
    for step in steps {
        let StepState { action, action_attempts, compensated, compensation_attempts, .. } = step;
        let (kind, payload) = match action {
            Action::NotSent => (0u8, None),
            Action::InDoubt => (1, None),
            Action::Done(reply) => (2, Some(reply)),
            Action::Rejected(rejection) => (3, Some(rejection)),
            Action::Refused(refusal) => (4 + *refusal as u8, None),
        };
        let attempted = (*action_attempts > 0, *compensation_attempts > 0);
        add(codec::encode(&(kind, payload, attempted, compensated)));
    }
    print
}

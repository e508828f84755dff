//! A saga's story: its records, and the state they add up to. Pure.

use std::collections::{BTreeMap, HashMap, HashSet, btree_map};

use like_protocol::ids::SagaId;

use super::record::SagaRecord;
use super::scan::BadStretch;
use crate::saga::{Event, SagaState};

/// What the log tells of one saga.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Story {
    /// Which saga.
    pub saga: SagaId,
    /// Its records that can be read, in order.
    pub records: Vec<SagaRecord>,
    /// What they add up to; `None` if its `Begun` is lost, so that nothing is known of what it was to do.
    pub state: Option<SagaState>,
}

impl Story {
    /// The story of a saga that has just begun, or one whose beginning is lost.
    fn open(record: SagaRecord) -> Self {
        let state = match &record.event {
            Event::Begun(begun) if record.seq == 0 => Some(SagaState::begin(begun.clone())),
            _ => None,
        };
        Self { saga: record.saga, records: vec![record], state }
    }

    /// The story of a saga that has this beginning, written at this wall time; `None` if the event is no `Begun`.
    pub fn begin(saga: SagaId, at_ms: u64, begun: Event) -> Option<Self> {
        let story = Self::open(SagaRecord { saga, seq: 0, at_ms, event: begun });
        story.state.is_some().then_some(story)
    }

    /// The story that records of one saga tell, in their order; `None` if there are none.
    pub fn of(records: Vec<SagaRecord>) -> Option<Self> {
        let mut stories = Stories::new();
        for record in records {
            tell(&mut stories, record);
        }
        stories.into_values().next()
    }

    /// Goes on with the next record. A gap, or an event that does not fit, quarantines the saga; then only an
    /// operator's word counts.
    fn go_on(&mut self, record: SagaRecord) {
        let expected = self.next_seq();
        if let Some(state) = &mut self.state {
            if record.seq != expected {
                let lost = format!("events {expected} to {} are lost", record.seq.saturating_sub(1));
                state.quarantined.get_or_insert(lost);
            }
            if let Err(illegal) = state.apply_where_readable(&record.event) {
                state.quarantined.get_or_insert(illegal.to_string());
            }
        }
        self.records.push(record);
    }

    /// The number of the next event.
    pub fn next_seq(&self) -> u32 {
        self.records.last().map_or(0, |record| record.seq + 1)
    }

    /// When its last event was written, in milliseconds of wall time.
    pub fn last_at_ms(&self) -> u64 {
        self.records.last().map_or(0, |record| record.at_ms)
    }

    /// Whether something is left to be done about it: it has not ended, or not every participant is known to have
    /// been told. Such a saga is never dropped from the log.
    pub fn is_open(&self) -> bool {
        self.state.as_ref().is_none_or(|state| !state.settled)
    }

    /// Whether nobody may drive it: its beginning or some of its events are lost, and no operator has ended it.
    pub fn is_quarantined(&self) -> bool {
        self.state.as_ref().is_none_or(SagaState::quarantined_now)
    }

    /// One more event at this wall time, put behind the others.
    pub fn add(&mut self, at_ms: u64, event: Event) {
        self.go_on(SagaRecord { saga: self.saga, seq: self.next_seq(), at_ms, event });
    }

    /// Notes that another runner, with this process id, takes it over: a saga that nobody may drive, or that needs no
    /// driving, stays as it is.
    pub fn taken_over(&mut self, at_ms: u64, by_pid: u32) {
        let driven = self.state.as_ref().is_some_and(|s| s.ended().is_none() && s.quarantined.is_none());
        if driven {
            self.add(at_ms, Event::TakenOver { by_pid });
        }
    }

    /// The story with fewer words: of events that repeat (attempts and their failures, takeovers, new deadlines) only the first and
    /// the last of each sort stay, and the rest is numbered anew. A story with gaps keeps every word and number.
    pub fn condensed(self) -> Self {
        if self.state.as_ref().is_none_or(|state| state.quarantined.is_some()) {
            return self;
        }
        let mut last = HashMap::new();
        for (at, record) in self.records.iter().enumerate() {
            repeated_sort(&record.event).map(|sort| last.insert(sort, at));
        }
        let mut seen = HashSet::new();
        let mut kept = Vec::with_capacity(self.records.len());
        for (at, record) in self.records.into_iter().enumerate() {
            let sort = repeated_sort(&record.event);
            if sort.is_none_or(|sort| seen.insert(sort) || last.get(&sort) == Some(&at)) {
                kept.push(SagaRecord { seq: kept.len() as u32, ..record });
            }
        }
        Self { saga: self.saga, records: kept, state: self.state }
    }
}

/// Sorts of events of which a stuck saga writes many, by step.
fn repeated_sort(event: &Event) -> Option<(u8, u8)> {
    match event {
        Event::ActionSent { step, .. } => Some((0, *step)),
        Event::ActionFailed { step, .. } => Some((1, *step)),
        Event::CompensationSent { step, .. } => Some((2, *step)),
        Event::CompensationFailed { step, .. } => Some((3, *step)),
        Event::TakenOver { .. } => Some((4, 0)),
        Event::Resumed { .. } => Some((5, 0)),
        _ => None,
    }
}

/// The stories of a slot, in the order of their ids.
pub type Stories = BTreeMap<SagaId, Story>;

/// Adds a record to the stories told so far, and returns its saga's. A `Begun` starts its saga's story anew: a carry-over
/// tells every story in it from its beginning.
pub fn tell(stories: &mut Stories, record: SagaRecord) -> &mut Story {
    match stories.entry(record.saga) {
        btree_map::Entry::Occupied(told) if record.seq > 0 => {
            let story = told.into_mut();
            story.go_on(record);
            story
        }
        btree_map::Entry::Occupied(mut told) => {
            told.insert(Story::open(record));
            told.into_mut()
        }
        btree_map::Entry::Vacant(new) => new.insert(Story::open(record)),
    }
}

/// Finds the sagas that a damaged stretch may have hit, and quarantines those of them whose end is not on record.
///
/// The record behind the stretch names the saga if the stretch was one record; a saga of which nothing else is on record
/// is named by what is left of the stretch itself. If it was several records, a saga may have lost its last ones: every
/// saga that hasn't ended and has no record behind the stretch is suspected. A saga with records on both sides needs no
/// suspicion: a gap in its numbers tells.
pub fn quarantine_hit(
    stories: &mut Stories,
    stretch: &BadStretch,
    last_offset: &HashMap<SagaId, u64>,
) -> Vec<SagaId> {
    if stretch.is_of_no_saga() {
        return Vec::new();
    }
    if let Some(saga) = stretch.names() {
        stories.entry(saga).or_insert_with(|| Story::lost(saga));
    }
    let named: Vec<_> = stories.keys().copied().filter(|saga| stretch.is_of(*saga)).collect();
    let behind = |saga: &SagaId| last_offset.get(saga).is_some_and(|at| *at >= stretch.to);
    let unended = |story: &Story| story.state.as_ref().is_none_or(|state| state.ended().is_none());
    let hit = if named.is_empty() && stretch.claims_one {
        // One record of a saga whose name is lost with it, and of which nothing else is on record.
        Vec::new()
    } else if named.is_empty() {
        let suspected = stories.values().filter(|story| unended(story) && !behind(&story.saga));
        suspected.map(|story| story.saga).collect()
    } else {
        named
    };
    for saga in &hit {
        let Some(story) = stories.get_mut(saga).filter(|story| unended(story)) else { continue };
        let detail = format!("events behind number {} may be lost", story.next_seq().saturating_sub(1));
        story.quarantine(detail);
    }
    hit
}

impl Story {
    /// The story of a saga of which nothing is left but its name: it stands in the log until an operator ends it.
    fn lost(saga: SagaId) -> Self {
        let detail = "its only record is damaged".to_owned();
        Self::open(SagaRecord { saga, seq: 1, at_ms: 0, event: Event::Quarantined { detail } })
    }

    fn quarantine(&mut self, detail: String) {
        if let Some(state) = self.state.as_mut().filter(|state| state.quarantined.is_none()) {
            state.quarantined = Some(detail.clone());
            let (saga, seq, at_ms) = (self.saga, self.next_seq(), self.last_at_ms());
            self.records.push(SagaRecord { saga, seq, at_ms, event: Event::Quarantined { detail } });
        }
    }
}

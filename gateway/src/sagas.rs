//! The saga log, read for people and programs. Where a saga stands is derived from the log alone, at every reading. What
//! is remembered is the last look at what is open, and of segments that never change any more how old their sagas are: so
//! that those that can't hold what is asked for need not be read again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use like_client::log::{JournalError, Slot, Story, history, owner};
use like_client::runner::Context;
use like_client::view::{SagaDocument, SagaSummary, SagaView};
use like_protocol::ids::SagaId;
use tokio::sync::Semaphore;

/// Reads the saga log, one reader at a time: however many ask, and however long the log is, reading takes one thread and
/// the memory of what the head of one slot and one segment more tell. What is open is read by one more, which waits for
/// nobody who wants the whole log: on a bad day many do.
#[derive(Clone)]
pub struct SagaReader {
    context: Context,
    turn: Arc<Semaphore>,
    turn_of_recent: Arc<Semaphore>,
    closed: Arc<Mutex<Ages>>,
}

/// The oldest and the newest saga of segments that never change any more, by slot and segment. Of segments that are gone
/// nothing is kept.
#[derive(Default)]
struct Ages(HashMap<(u32, u64), (SagaId, SagaId)>);

impl Ages {
    /// Forgets all segments of a slot but these.
    fn keep_only(&mut self, slot: u32, there: &HashSet<u64>) {
        self.0.retain(|(of, segment), _| *of != slot || there.contains(segment));
    }
}

/// What is open, and what has ended lately.
pub struct Recent {
    /// Everything that is open, the oldest first.
    pub open: Vec<SagaSummary>,
    /// What has ended, the newest first.
    pub ended: Vec<SagaSummary>,
    /// What of the log can't be read, is damaged or has no room, in words: sagas may stand there that nobody sees or finishes.
    pub problems: Vec<String>,
    /// How long reading it took, without any wait for a turn.
    pub took: Duration,
}

/// What the slots that have been read have open, and the newest of what has ended there: whatever else they tell is
/// forgotten before the next one is read.
#[derive(Default)]
struct Lately {
    open: BTreeMap<SagaId, Story>,
    ended: BTreeMap<SagaId, Story>,
}

impl Lately {
    fn take(&mut self, story: Story, ended_max: usize) {
        if story.is_open() {
            self.open.insert(story.saga, story);
            return;
        }
        self.ended.insert(story.saga, story);
        if self.ended.len() > ended_max {
            self.ended.pop_first();
        }
    }
}

/// A page of sagas, newest first.
struct Page {
    sagas: BTreeMap<SagaId, SagaSummary>,
    limit: usize,
    before: Option<SagaId>,
}

impl SagaReader {
    /// Reads the journal of this context.
    pub fn new(context: Context) -> Self {
        let turn = || Arc::new(Semaphore::new(1));
        Self { context, turn: turn(), turn_of_recent: turn(), closed: Arc::default() }
    }

    /// What the heads of all slots tell: everything that is open, and at most so many of those that ended lately. Cheap however long the history is.
    ///
    /// # Errors
    /// The journal can't be read.
    pub async fn recent(&self, ended_max: usize) -> Result<Recent, JournalError> {
        self.read(&self.turn_of_recent, move |reader| {
            let began = Instant::now();
            let context = &reader.context;
            let mut lately = Lately::default();
            let mut problems: Vec<_> = context.journal.lacks_room().into_iter().collect();
            for slot in context.journal.slots()? {
                match history::newest_in(&slot, history::HEAD_ALONE) {
                    Ok(head) => {
                        head.stories.into_values().for_each(|story| lately.take(story, ended_max));
                        problems.extend(head.damage.iter().map(ToString::to_string));
                    }
                    Err(e) => problems.push(format!("slot {} can't be read: {e}", slot.number())),
                }
            }
            let tell = |story: &Story| reader.summary(story);
            let ended = lately.ended.values().rev().map(tell).collect();
            let open = lately.open.values().map(tell).collect();
            Ok(Recent { open, ended, problems, took: began.elapsed() })
        })
        .await
    }

    /// Everything on record that `wanted` wants, newest first, at most `limit`. Segments that can't hold any of it are not
    /// read.
    ///
    /// # Errors
    /// The journal can't be read.
    pub async fn all(
        &self,
        limit: usize,
        wanted: impl Fn(&SagaSummary) -> bool + Send + 'static,
        before: Option<SagaId>,
    ) -> Result<Vec<SagaSummary>, JournalError> {
        self.read(&self.turn, move |reader| {
            let mut page = Page { sagas: BTreeMap::new(), limit, before };
            for slot in reader.context.journal.slots()? {
                if let Err(e) = reader.add(&slot, &mut page, &wanted) {
                    tracing::warn!(slot = slot.number(), "slot skipped: {e}");
                }
            }
            Ok(page.sagas.into_values().rev().collect())
        })
        .await
    }

    /// Adds what a slot has for a page.
    fn add(
        &self,
        slot: &Slot,
        page: &mut Page,
        wanted: &dyn Fn(&SagaSummary) -> bool,
    ) -> Result<(), JournalError> {
        let mut there = HashSet::new();
        history::newest_first(slot, |segment, is_head, read| {
            there.insert(segment);
            let place = (slot.number(), segment);
            let known = self.ages().0.get(&place).copied();
            if known.is_some_and(|(oldest, newest)| !page.may_take(oldest, newest)) {
                return Ok(ControlFlow::Continue(()));
            }
            let mut stories = BTreeMap::new();
            read(&mut |story| drop(stories.insert(story.saga, story)))?;
            // The head goes on to change.
            if !is_head
                && let (Some((oldest, _)), Some((newest, _))) =
                    (stories.first_key_value(), stories.last_key_value())
            {
                self.ages().0.insert(place, (*oldest, *newest));
            }
            for (saga, story) in stories.into_iter().rev() {
                if !page.may_take(saga, saga) {
                    continue;
                }
                let summary = self.summary(&story);
                if wanted(&summary) {
                    page.take(saga, summary);
                }
            }
            Ok(ControlFlow::Continue(()))
        })?;
        self.ages().keep_only(slot.number(), &there);
        Ok(())
    }

    fn summary(&self, story: &Story) -> SagaSummary {
        SagaSummary::of(story, &self.context.definitions, self.context.options.attention_after)
    }

    fn ages(&self) -> std::sync::MutexGuard<'_, Ages> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One saga, with the live process that holds its slot, if one does.
    ///
    /// # Errors
    /// The journal can't be read.
    pub async fn one(&self, saga: SagaId) -> Result<Option<SagaDocument>, JournalError> {
        self.read(&self.turn, move |reader| {
            let Context { journal, definitions, options, .. } = &reader.context;
            let Some((slot, story)) = history::find(journal, saga)? else { return Ok(None) };
            let view = SagaView::of(&story, definitions, options.attention_after);
            Ok(Some(SagaDocument::new(view, slot.number(), owner::owner_of(&slot).as_ref())))
        })
        .await
    }

    async fn read<T: Send + 'static>(
        &self,
        turn: &Arc<Semaphore>,
        read: impl FnOnce(&Self) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, JournalError> {
        let turn = Arc::clone(turn).acquire_owned().await;
        let reader = self.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            read(&reader)
        });
        // A panic ends the process; what is cancelled is cancelled with the runtime.
        match reading.await {
            Ok(read) => read,
            Err(_) => std::future::pending().await,
        }
    }
}

impl Page {
    /// Whether any saga from `oldest` to `newest` may belong on it.
    fn may_take(&self, oldest: SagaId, newest: SagaId) -> bool {
        let last = self.sagas.first_key_value().filter(|_| self.sagas.len() == self.limit);
        self.before.is_none_or(|before| oldest < before) && last.is_none_or(|(last, _)| newest > *last)
    }

    fn take(&mut self, saga: SagaId, summary: SagaSummary) {
        // What was told first is newest.
        self.sagas.entry(saga).or_insert(summary);
        if self.sagas.len() > self.limit {
            self.sagas.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use like_client::saga::{Begun, Event};
    use like_protocol::ids::BootId;
    use like_protocol::message::Payload;
    use like_protocol::time::Deadline;

    use super::*;

    fn story(number: u8, settled: bool) -> Story {
        let (boot, saga) = (BootId::from_bytes([0; 16]), SagaId::from_bytes([number; 16]));
        let begun = Begun {
            kind: "like".into(),
            version: 1,
            params: Payload::default(),
            participants: Vec::new(),
            steps: Vec::new(),
            deadline: Deadline { boot, at_ms: 0 },
            by_uid: 0,
        };
        let mut story = Story::begin(saga, 0, Event::Begun(begun.into())).unwrap();
        story.state.as_mut().unwrap().settled = settled;
        story
    }

    #[test]
    fn all_that_is_open_is_kept_and_of_what_has_ended_no_more_than_is_told() {
        let mut lately = Lately::default();
        for number in [2, 9, 4, 7, 5] {
            lately.take(story(number, true), 2);
            assert!(lately.ended.len() <= 2);
            lately.take(story(10 + number, false), 2);
        }
        let first = |stories: &BTreeMap<SagaId, Story>| {
            stories.keys().map(|saga| saga.as_bytes()[0]).collect::<Vec<_>>()
        };
        assert_eq!(first(&lately.ended), [7, 9]);
        assert_eq!(first(&lately.open), [12, 14, 15, 17, 19]);
    }

    #[test]
    fn of_segments_that_are_gone_nothing_is_kept() {
        let (saga, mut ages) = (SagaId::from_bytes([1; 16]), Ages::default());
        for place in [(0, 1), (0, 2), (0, 3), (1, 1)] {
            ages.0.insert(place, (saga, saga));
        }
        ages.keep_only(0, &[3, 4].into());
        let mut kept: Vec<_> = ages.0.into_keys().collect();
        kept.sort_unstable();
        assert_eq!(kept, [(0, 3), (1, 1)]);
    }
}

//! Follows the journal: what is open in it, and what ended lately.
//!
//! Only the newest segment of a slot is read, and only if the slot has changed since it was read last: what a look costs
//! does not grow with the history.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use like_protocol::ids::SagaId;

use crate::cli::commands::saga::changes::Followed;
use crate::log::history::{HEAD_ALONE, Newest};
use crate::log::{Journal, JournalError, Owner, Slot, Story, owner};
use crate::view::{ended_ms, state_word};

/// For how long what has ended counts as lately.
pub const LATELY_MS: u64 = 60_000;

/// How many of those that ended lately are counted, the newest: more tell nothing more about latencies.
const LATELY_MAX: usize = 200_000;

/// How many of those that ended lately are shown.
pub const RECENT_MAX: usize = 20;

/// A saga that stands in the log, and whose it is.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The slot that it stands in.
    pub slot: u32,
    /// The live process that holds the slot, as far as that can be seen.
    pub owner: Option<Owner>,
    /// What the log tells of it.
    pub story: Arc<Story>,
}

/// That a saga ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ended {
    /// When, in milliseconds since the epoch.
    pub at_ms: u64,
    /// How long after it began.
    pub took_ms: u64,
    /// As what, in the documented words.
    pub state: &'static str,
}

/// What the journal tells of now.
#[derive(Clone, Default, Debug)]
pub struct Journaled {
    /// What is open, oldest first.
    pub open: Vec<Seen>,
    /// What ended last, newest first.
    pub recent: Vec<Seen>,
    /// What ended lately, in no order.
    pub lately: Vec<Ended>,
    /// What can't be read or written, or is damaged.
    pub problems: Vec<String>,
}

/// Follows a journal.
#[derive(Debug)]
pub struct Follower {
    journal: PathBuf,
    slots: BTreeMap<u32, Told>,
    recent: Vec<(Slot, Arc<Story>)>,
    lately: HashMap<SagaId, Ended>,
}

/// A slot, and what it told when it was read last.
#[derive(Debug)]
struct Told {
    slot: Followed,
    open: Vec<Arc<Story>>,
    problems: Vec<String>,
}

impl Follower {
    /// Follows the journal in this directory.
    pub fn new(journal: &Path) -> Self {
        Self {
            journal: journal.to_owned(),
            slots: BTreeMap::new(),
            recent: Vec::new(),
            lately: HashMap::new(),
        }
    }

    /// What the journal tells now.
    pub fn look(&mut self, now_ms: u64) -> Journaled {
        let opened = Journal::open_existing(&self.journal);
        let (slots, lacks_room) =
            match opened.and_then(|journal| Ok((journal.slots()?, journal.lacks_room()))) {
                Ok(seen) => seen,
                Err(JournalError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                    (Vec::new(), None)
                }
                Err(error) => return Journaled { problems: vec![error.to_string()], ..Journaled::default() },
            };
        slots.iter().for_each(|slot| self.read_on(slot));
        self.forget(now_ms);
        let mut seen = Journaled { lately: self.lately.values().copied().collect(), ..Journaled::default() };
        seen.problems.extend(lacks_room);
        for slot in &slots {
            let Some(told) = self.slots.get(&slot.number()) else { continue };
            let owner = if told.open.is_empty() { None } else { owner::owner_of(slot) };
            let story = |story: &Arc<Story>| Seen {
                slot: slot.number(),
                owner: owner.clone(),
                story: Arc::clone(story),
            };
            seen.open.extend(told.open.iter().map(story));
            seen.problems.extend(told.problems.iter().cloned());
        }
        seen.open.sort_by_key(|seen| seen.story.saga);
        let recent = self.recent.iter();
        seen.recent = recent
            .map(|(slot, story)| Seen { slot: slot.number(), owner: None, story: Arc::clone(story) })
            .collect();
        seen
    }

    /// Reads a slot if it has changed. What it was last time stays if it can't be read.
    fn read_on(&mut self, slot: &Slot) {
        let told = self.slots.entry(slot.number()).or_insert_with(|| Told {
            slot: Followed::from(HEAD_ALONE),
            open: Vec::new(),
            problems: Vec::new(),
        });
        let Newest { stories, damage, .. } = match told.slot.read(slot) {
            Ok(Some(read)) => read,
            Ok(None) => return,
            Err(error) => {
                told.problems = vec![format!("slot {} can't be read: {error}", slot.number())];
                return;
            }
        };
        told.problems = damage.iter().map(|damage| format!("the journal is damaged: {damage}")).collect();
        let stories = stories.into_values().map(Arc::new).collect::<Vec<_>>();
        for story in &stories {
            let Some(at_ms) = ended_ms(story) else { continue };
            let began_ms = story.records.first().map_or(at_ms, |record| record.at_ms);
            let state = state_word(story.state.as_ref());
            self.lately.insert(story.saga, Ended { at_ms, took_ms: at_ms.saturating_sub(began_ms), state });
            self.recent.push((slot.clone(), Arc::clone(story)));
        }
        told.open = stories.into_iter().filter(|story| story.is_open()).collect();
        // Of a saga that was told twice the last telling counts.
        self.recent.reverse();
        self.recent.sort_by_key(|(_, story)| std::cmp::Reverse((ended_ms(story), story.saga)));
        let mut once = HashSet::new();
        self.recent.retain(|(_, story)| once.insert(story.saga));
        self.recent.truncate(RECENT_MAX);
    }

    fn forget(&mut self, now_ms: u64) {
        let mut oldest_ms = now_ms.saturating_sub(LATELY_MS);
        self.lately.retain(|_, ended| ended.at_ms >= oldest_ms);
        if self.lately.len() > LATELY_MAX {
            let mut ends: Vec<_> = self.lately.values().map(|ended| ended.at_ms).collect();
            let too_many = ends.len() - LATELY_MAX;
            oldest_ms = *ends.select_nth_unstable(too_many).1;
            self.lately.retain(|_, ended| ended.at_ms >= oldest_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use futures::executor::block_on;
    use like_protocol::ids::SagaId;
    use like_protocol::message::Payload;

    use super::*;
    use crate::log::history;
    use crate::log::{Keeping, SagaLog, take_over, wall_ms};
    use crate::saga::tests::begun;
    use crate::saga::{Begun, End, Event};

    fn saga(number: u8) -> SagaId {
        SagaId::from_bytes([number; 16])
    }

    fn log(journal: &Path) -> SagaLog {
        let journal = Journal::open(journal).unwrap();
        take_over(journal.claim_free().unwrap(), Keeping::default()).unwrap().log
    }

    fn write(log: &SagaLog, number: u8, events: impl IntoIterator<Item = Event>) {
        let position = log.append(saga(number), events).unwrap();
        block_on(log.written(position)).unwrap();
    }

    fn begin(log: &SagaLog, number: u8) {
        let of_two = begun();
        // A few of these are more than a takeover tells again.
        let params = Payload::from(vec![0; 40_000]);
        let begun = Begun { params, steps: of_two.steps[..1].to_vec(), ..of_two };
        write(log, number, [Event::Begun(begun.into()), Event::ActionSent { step: 0, attempt: 1 }]);
    }

    fn end(log: &SagaLog, number: u8) {
        let done = Event::ActionDone { step: 0, reply: Payload::default() };
        write(log, number, [done, Event::Ended(End::Completed), Event::Settled]);
    }

    fn ids(seen: &[Seen]) -> Vec<SagaId> {
        seen.iter().map(|seen| seen.story.saga).collect()
    }

    #[test]
    fn what_ends_between_two_looks_is_seen_even_if_a_new_segment_was_begun_meanwhile() {
        let journal = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _within = runtime.enter();
        let mut follower = Follower::new(journal.path());
        assert!(follower.look(wall_ms()).open.is_empty());

        let first = log(journal.path());
        (1..=3).for_each(|number| begin(&first, number));
        let seen = follower.look(wall_ms());
        assert_eq!((ids(&seen.open), seen.lately.len()), (vec![saga(1), saga(2), saga(3)], 0));
        assert_eq!(seen.open[0].owner.as_ref().unwrap().pid, std::process::id());

        end(&first, 1);
        end(&first, 2);
        first.let_go();
        let second = log(journal.path());
        assert!(history::newest_in(second.slot(), u64::MAX).unwrap().head > 1);
        let seen = follower.look(wall_ms());
        assert_eq!((ids(&seen.open), ids(&seen.recent).len()), (vec![saga(3)], 2));
        assert_eq!(seen.lately.iter().map(|ended| ended.state).collect::<Vec<_>>(), ["completed"; 2]);

        end(&second, 3);
        let seen = follower.look(wall_ms());
        assert_eq!((seen.open.len(), seen.recent.len(), seen.lately.len()), (0, 3, 3));
        let later = follower.look(wall_ms() + LATELY_MS + 1_000);
        assert_eq!((later.recent.len(), later.lately.len()), (3, 0));
    }

    #[test]
    fn a_slot_that_has_not_changed_is_not_read_again() {
        let journal = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _within = runtime.enter();
        let log = log(journal.path());
        begin(&log, 1);
        let file = log.slot().path().join("00000001.log");
        let file = std::fs::File::options().write(true).open(file).unwrap();
        let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(60);
        file.set_modified(long_ago).unwrap();
        let mut follower = Follower::new(journal.path());
        assert_eq!(follower.look(wall_ms()).open.len(), 1);
        // Other bytes, at the same time: who reads them finds nothing.
        file.write_all_at(&vec![0; file.metadata().unwrap().len() as usize], 0).unwrap();
        file.set_modified(long_ago).unwrap();
        let seen = follower.look(wall_ms());
        assert_eq!((seen.open.len(), seen.problems), (1, Vec::new()));
        assert_eq!(Follower::new(journal.path()).look(wall_ms()).open.len(), 0);
    }

    #[test]
    fn a_slot_that_is_written_right_after_a_look_is_read_again() {
        let journal = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _within = runtime.enter();
        let log = log(journal.path());
        begin(&log, 1);
        let file = std::fs::File::options().write(true).open(log.slot().path().join("00000001.log")).unwrap();
        let before = file.metadata().unwrap().len();
        // As a clock that ticks rarely would have it: all of it in one moment, which is not over.
        let now = std::time::SystemTime::now() + std::time::Duration::from_secs(3600);
        let mut follower = Follower::new(journal.path());
        for attempt in 2..10 {
            file.set_modified(now).unwrap();
            follower.look(wall_ms());
            write(&log, 1, [Event::ActionSent { step: 0, attempt }]);
            file.set_modified(now).unwrap();
            let told = follower.look(wall_ms()).open[0].story.records.len();
            assert_eq!(told, attempt as usize + 1);
        }
        assert_eq!(file.metadata().unwrap().len(), before);
    }
}

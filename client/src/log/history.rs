//! Reads a journal without any lock: what `saga list`, `saga show` and `check` tell is derived from the log alone.
//!
//! Owners go on writing meanwhile. A record that is being written looks like a torn tail, and is simply not seen yet; a
//! segment that vanishes was replaced by a newer one, and the slot is read again.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::ops::ControlFlow;

use like_protocol::ids::SagaId;

use super::record::Place;
use super::scan::{Certain, Damage};
use super::segment::{self, Segment};
use super::slot::{Journal, JournalError, Slot};
use super::story::{Stories, Story};
use super::takeover::visit;
use crate::saga::Event;

/// How often a slot is read again because its owner replaced a segment just then.
const READ_AGAIN_MAX: u32 = 20;

/// What a journal tells.
#[derive(Debug, Default)]
pub struct History {
    /// Every saga on record with its slot, oldest first.
    pub sagas: Vec<(Slot, Story)>,
    /// What else there is, and can't be told.
    pub gaps: Gaps,
}

/// What of a journal can't be told: sagas may stand there that nobody sees.
#[derive(Debug, Default)]
pub struct Gaps {
    /// What is damaged.
    pub damage: Vec<Damage>,
    /// Slots that can't be read, and why.
    pub skipped: Vec<(Slot, JournalError)>,
}

impl Gaps {
    /// Whether all is told.
    pub fn are_none(&self) -> bool {
        self.damage.is_empty() && self.skipped.is_empty()
    }
}

/// Reads all slots of a journal.
///
/// # Errors
/// The journal's directory can't be read. A slot that can't be is reported in [`Gaps::skipped`].
pub fn read(journal: &Journal) -> Result<History, JournalError> {
    let mut sagas = Vec::new();
    let gaps = survey(journal, |slot, story| sagas.push((slot.clone(), story)))?;
    sagas.sort_by_key(|(_, story)| story.saga);
    Ok(History { sagas, gaps })
}

/// What the newest segments of a slot tell.
#[derive(Debug, Default)]
pub struct Newest {
    /// The sagas that they tell of.
    pub stories: Stories,
    /// What of them is damaged.
    pub damage: Vec<Damage>,
    /// The number of the newest one, the head.
    pub head: u64,
}

/// For [`newest_in`]: no segment is read but the head, which tells everything that is open.
pub const HEAD_ALONE: u64 = u64::MAX;

/// What the segments of one slot from this number on tell, and its head in any case: for who follows a log and has read
/// what is older. Costs the same however long the history is.
///
/// # Errors
/// A segment can't be read, or was written by a newer program.
pub fn newest_in(slot: &Slot, from: u64) -> Result<Newest, JournalError> {
    let mut newest = Newest::default();
    newest_first(slot, |segment, is_head, read| {
        if is_head {
            newest = Newest { head: segment, ..Newest::default() };
        } else if segment < from {
            return Ok(ControlFlow::Break(()));
        }
        let damaged = read(&mut |story| {
            newest.stories.entry(story.saga).or_insert(story);
        })?;
        newest.damage.splice(..0, damaged);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(newest)
}

fn read_again<T>(mut read: impl FnMut(bool) -> Result<T, JournalError>) -> Result<T, JournalError> {
    let mut tries = 0;
    loop {
        match read(tries == READ_AGAIN_MAX) {
            Err(e) if e.is_vanished() && tries < READ_AGAIN_MAX => tries += 1,
            other => return other,
        }
    }
}

/// The numbers of the segments before the head that count, or should be there.
fn older_than(head: &Segment, numbers: &[u64]) -> BTreeSet<u64> {
    let lowest = head.header.map_or(0, |header| header.lowest_live).min(head.place.segment);
    let named = head.scan.kept.iter().map(|kept| kept.segment);
    numbers
        .iter()
        .copied()
        .chain(named)
        .filter(|number| (lowest..head.place.segment).contains(number))
        .collect()
}

/// Shows what an older segment tells, and reports what of it is damaged. What is missing was replaced by something newer just
/// then; on the last try it is damage.
fn read_older(
    slot: &Slot,
    head: &Segment,
    number: u64,
    last_try: bool,
    each: &mut dyn FnMut(Story),
) -> Result<Vec<Damage>, JournalError> {
    if head.leaves_out(slot, number) {
        return Ok(Vec::new());
    }
    let kept = head.scan.kept.iter().find(|kept| kept.segment == number).copied();
    // It was the head once, so its carry-over was synced.
    let certain = kept.map_or(Certain::CarryOver { proven: false }, Certain::End);
    match segment::read(slot, number, certain) {
        Err(JournalError::Io { source, .. }) if source.kind() != io::ErrorKind::NotFound || last_try => {
            let (place, to) = (Place { segment: number, ..head.place }, kept.map_or(0, |kept| kept.end));
            let what = format!("can't be read: {source}").into();
            Ok(vec![Damage { place, from: 0, to, sagas: Vec::new(), what }])
        }
        read => Ok(visit(&mut read?, |story| closed(story).into_iter().for_each(&mut *each))),
    }
}

/// Reads a segment when its stories are wanted: shows each of them once, and returns what of it is damaged. Stories of which
/// nothing is left to be done come first.
pub type ReadSegment<'a> = Box<dyn FnOnce(&mut dyn FnMut(Story)) -> Result<Vec<Damage>, JournalError> + 'a>;

/// Goes through the segments of a slot, the newest first, until `each` breaks off. It is given a segment's number, whether
/// that is the head, and what reads it: so no more than one needs to be in memory at once, and what is not wanted is not
/// read.
///
/// All segments but the head never change any more. A saga may be told by several: the first one counts, and a later one
/// tells the same end of it. If the owner replaced a segment just then, all are named again.
///
/// # Errors
/// As for [`newest_in`], and whatever `each` fails with.
pub fn newest_first(
    slot: &Slot,
    mut each: impl FnMut(u64, bool, ReadSegment<'_>) -> Result<ControlFlow<()>, JournalError>,
) -> Result<(), JournalError> {
    read_again(|last_try| {
        let numbers = segment::numbers(slot)?;
        let (Some(mut head), _) = segment::head(slot, &numbers)? else { return Ok(()) };
        if each(head.place.segment, true, Box::new(|story| Ok(visit(&mut head, story))))?.is_break() {
            return Ok(());
        }
        for number in older_than(&head, &numbers).into_iter().rev() {
            let read: ReadSegment<'_> = Box::new(|story| read_older(slot, &head, number, last_try, story));
            if each(number, false, read)?.is_break() {
                break;
            }
        }
        Ok(())
    })
}

/// Shows every saga on record once, in no order, with no more than a segment in memory at a time.
///
/// # Errors
/// As for [`read`].
pub fn survey(journal: &Journal, mut each: impl FnMut(&Slot, Story)) -> Result<Gaps, JournalError> {
    let mut gaps = Gaps::default();
    for slot in journal.slots()? {
        let (mut seen, mut damage) = (HashSet::new(), BTreeMap::new());
        let surveyed = newest_first(&slot, |segment, _, read| {
            let damaged = read(&mut |story| {
                if seen.insert(story.saga) {
                    each(&slot, story);
                }
            })?;
            damage.insert(segment, damaged);
            Ok(ControlFlow::Continue(()))
        });
        gaps.damage.extend(damage.into_values().flatten());
        gaps.skipped.extend(surveyed.err().map(|error| (slot, error)));
    }
    Ok(gaps)
}

/// The slot and story of one saga. Of each slot no more is read than it takes to find it, the newest first.
///
/// It may stand in two slots: one was moved away, the saga got an end by force, and the slot was moved back. What has not ended
/// comes first then, and what not every participant knows of next. Either stands in the head of its slot, so no more is read once
/// it was found anywhere.
///
/// # Errors
/// The journal's directory can't be read; or the saga was not found, and there is a slot that can't be read: it may stand
/// there.
pub fn find(journal: &Journal, saga: SagaId) -> Result<Option<(Slot, Story)>, JournalError> {
    let (mut first, mut unread): (Option<(Slot, Story)>, _) = (None, None);
    for slot in journal.slots()? {
        let mut found = None;
        let searched = newest_first(&slot, |_, _, read| {
            read(&mut |story| {
                if story.saga == saga {
                    found = Some(story);
                }
            })?;
            let enough = found.is_some() || first.is_some();
            Ok(if enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        });
        unread = unread.or(searched.err());
        let Some(story) = found else { continue };
        if let Some((other, told)) = &first
            && told.is_open()
            && story.is_open()
        {
            let slots = [other, &slot].map(Slot::number);
            tracing::warn!(saga_id = %saga, ?slots, "open in two slots: each has to come to its end");
        }
        if first.as_ref().is_none_or(|(_, told)| what_is_left(told) < what_is_left(&story)) {
            first = Some((slot, story));
        }
    }
    match (first, unread) {
        (None, Some(unread)) => Err(unread),
        (found, _) => Ok(found),
    }
}

/// For comparing: how much is left to be done about a saga.
fn what_is_left(story: &Story) -> (bool, bool) {
    let unended = story.state.as_ref().is_none_or(|state| state.ended().is_none());
    (unended, story.is_open())
}

/// A story of an older segment as it stands unless a later one tells it too. What was open there is told again in the
/// next one; so an ended saga that isn't had been settled, and only the word that it was, for whose sync nobody waits,
/// was lost with the power. `None` if even its end is lost.
fn closed(mut story: Story) -> Option<Story> {
    let ended = story.state.as_ref().is_some_and(|state| state.ended().is_some());
    if story.is_open() && ended {
        story.add(story.last_at_ms(), Event::Settled);
    }
    (!story.is_open()).then_some(story)
}

/// What is open in one slot: unfinished, quarantined, or ended and not known to be settled. Only the head is read.
///
/// # Errors
/// As for [`newest_in`].
pub fn open_in(slot: &Slot) -> Result<Vec<Story>, JournalError> {
    let mut open = Vec::new();
    let (head, _) = read_again(|_| segment::head(slot, &segment::numbers(slot)?))?;
    head.map(|mut head| visit(&mut head, |story| open.extend(story.is_open().then_some(story))));
    open.sort_unstable_by_key(|story| story.saga);
    Ok(open)
}

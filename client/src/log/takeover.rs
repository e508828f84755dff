//! The one procedure for start, takeover and rotation.
//!
//! Under the slot's lock: read the head; write everything that is unfinished or not known to be settled into a new
//! segment that ends with a mark; sync it and both directories; and only then send, cut or delete anything. A crash
//! anywhere in between leaves the old head in force, and the procedure is simply run again.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use like_protocol::failpoint::{Failpoint, reach};
use like_protocol::ids::SagaId;

use super::record::{HEADER_BYTES, KeptSegment, Place};
use super::scan::{Certain, Damage};
use super::segment::{self, Fresh, Segment};
use super::slot::{JournalError, SlotLock};
use super::story::{Stories, Story, quarantine_hit, tell};
use super::writer::SagaLog;

/// How long what was recorded of ended sagas can be read, unless it is said otherwise.
pub const RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);

/// What a log keeps, and in how large pieces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Keeping {
    /// How long what was recorded of ended sagas can be read.
    pub retention: Duration,
    /// A segment that grows by more than this behind its carry-over is followed by a new one: so a takeover reads no
    /// more than this and what was open, and what is open is copied once for so many new bytes, however much it is.
    pub segment_bytes_max: u64,
    /// A head of at most this size is told again in the new segment as a whole, history included, and deleted: so a
    /// slot used by many short-lived runners does not fill with tiny segments. Syncing so much costs hardly more than a
    /// page. One that tells of open sagas alone is told again whatever its size, and deleted, too.
    pub merge_bytes_max: u64,
    /// How many of its own full segments a runner leaves behind it as history, besides the one it began with: the newest
    /// ones stay, however young the others are. What other runners left in the slot is none of its business.
    pub own_segments_max: usize,
}

impl Default for Keeping {
    fn default() -> Self {
        Self {
            retention: RETENTION,
            segment_bytes_max: 16 * 1024 * 1024,
            merge_bytes_max: 64 * 1024,
            own_segments_max: usize::MAX,
        }
    }
}

/// A slot that was taken over.
#[derive(Debug)]
pub struct TakenOver {
    /// Its log, open for appending.
    pub log: SagaLog,
    /// The sagas that are left to be driven, settled or looked at by an operator: what was driven last comes last.
    pub open: Vec<Story>,
    /// What was found damaged.
    pub damage: Vec<Damage>,
    /// What is left behind, because nothing says that it was ever durable.
    pub cut: Vec<Cut>,
    /// Where the log of the runner before ends, if that did not let go of its slot in good order: what it wrote behind
    /// that, if anything, is lost.
    pub unclosed: Option<(Place, u64)>,
}

/// A stretch that is left behind, because nothing says that it was ever durable: a power cut has torn it, or a takeover
/// was cut short before it counted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cut {
    /// Which slot and segment.
    pub place: Place,
    /// Its first byte.
    pub from: u64,
    /// The byte behind it.
    pub to: u64,
    /// The sagas that it tells of, as far as it can be read.
    pub sagas: Vec<SagaId>,
}

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { place: Place { slot, segment }, from, to, .. } = self;
        write!(f, "slot {slot} segment {segment}: bytes {from} to {to} were not durable and are left behind")
    }
}

impl Cut {
    fn of(segment: &Segment, from: u64) -> Self {
        let told = segment.scan.records.iter().filter(|(at, _)| *at >= from).map(|(_, record)| record.saga);
        let mut sagas: Vec<_> = told.chain(segment.scan.cut.iter().copied()).collect();
        sagas.sort_unstable();
        sagas.dedup();
        Self { place: segment.place, from, to: segment.scan.written, sagas }
    }
}

/// What stands in a slot that is locked and was read, and not taken over yet: nothing has been written.
#[derive(Debug)]
pub struct Found {
    lock: SlotLock,
    keeping: Keeping,
    numbers: Vec<u64>,
    head: Option<Segment>,
    unfinished: Vec<Segment>,
    damage: Vec<Damage>,
    /// Whether the head is told again as a whole.
    merges: bool,
    /// What is told again, in the order of its last words: so who takes over more than it comes to begins, next time, with what it
    /// has not come to.
    stories: Vec<Story>,
}

/// Reads a slot that is to be taken over, if something is open in it.
///
/// # Errors
/// It can't be read; the lock is let go.
pub fn find(lock: SlotLock, keeping: Keeping) -> Result<Found, JournalError> {
    let numbers = segment::numbers(lock.slot())?;
    let (mut head, unfinished) = segment::head(lock.slot(), &numbers)?;
    let is_small = head.as_ref().is_some_and(|head| head.scan.written <= keeping.merge_bytes_max);
    let told: Vec<_> =
        head.iter().flat_map(|head| head.scan.records.iter().map(|(_, record)| record.saga)).collect();
    let (mut stories, mut all_open) = (Stories::new(), true);
    let keep = |story: Story| {
        all_open &= story.is_open();
        if is_small || story.is_open() {
            stories.insert(story.saga, story);
        }
    };
    let damage = head.as_mut().map(|head| visit(head, keep)).unwrap_or_default();
    let is_whole = damage.is_empty() && head.as_ref().is_none_or(|head| !head.scan.torn);
    // What tells of nothing but open sagas is told again anyway, however large it is: were it kept as history, sagas that are
    // stuck would fill the disk, a copy of them with every takeover.
    let merges = is_whole && (is_small || all_open);
    let retention_ms = u64::try_from(keeping.retention.as_millis()).unwrap_or(u64::MAX);
    let oldest_ms = lock.slot().disk().wall_ms().saturating_sub(retention_ms);
    stories.retain(|_, story| story.is_open() || (merges && story.last_at_ms() >= oldest_ms));
    let last_words: HashMap<_, _> =
        told.into_iter().zip(0..).filter(|(saga, _)| stories.contains_key(saga)).collect();
    let mut stories: Vec<_> = stories.into_values().collect();
    stories.sort_by_key(|story| last_words.get(&story.saga));
    Ok(Found { lock, keeping, numbers, head, unfinished, damage, merges, stories })
}

/// Takes a slot over, as [`Found::take_over`] does.
///
/// # Errors
/// As there, and as for [`find`].
pub fn take_over(lock: SlotLock, keeping: Keeping) -> Result<TakenOver, JournalError> {
    find(lock, keeping)?.take_over()
}

impl Found {
    /// The sagas that are left to be driven, settled or looked at by an operator.
    pub fn open(&self) -> impl Iterator<Item = &Story> {
        self.stories.iter().filter(|story| story.is_open())
    }

    /// The number of the newest segment; 0 if there is none.
    pub fn newest_segment(&self) -> u64 {
        self.numbers.last().copied().unwrap_or(0)
    }

    /// Takes the slot over. On return the new segment is durable and nothing has been sent.
    ///
    /// Every unfinished saga gets a `TakenOver` event: its runner is gone, or left it behind.
    ///
    /// # Errors
    /// Something can't be read, written or synced; the old head stays in force and the lock is let go.
    pub fn take_over(self) -> Result<TakenOver, JournalError> {
        reach(Failpoint::SlotLocked);
        let Self { lock, keeping, numbers, head, unfinished, damage, merges, mut stories } = self;
        let torn = head.as_ref().filter(|head| head.scan.torn).map(|head| Cut::of(head, head.scan.end));
        let cut: Vec<_> = unfinished.iter().map(|segment| Cut::of(segment, 0)).chain(torn).collect();
        let unclosed = head.as_ref().filter(|head| !head.scan.let_go).map(|head| (head.place, head.scan.end));
        let disk = lock.slot().disk();
        stories.iter_mut().for_each(|story| story.taken_over(disk.wall_ms(), disk.pid()));
        let carried: Vec<_> = stories.into_iter().map(Story::condensed).collect();

        if unclosed.is_some() || !unfinished.is_empty() {
            // Whoever died may not have come to it. Were one of these names lost in a power cut and the next one kept, it
            // would look as if what it stood for had been deleted.
            lock.sync_directories()?;
        }
        let kept = Kept::of(&lock, &numbers, head.as_ref(), merges, keeping.retention);
        if let Some((place, _)) = unclosed
            && kept.stays.contains(&place.segment)
        {
            // It may be the segment of a takeover that died before its sync, and stands alone for what is told in older ones.
            segment::sync(&lock, place.segment)?;
        }
        let fresh = segment::create(&lock, kept.new, kept.lowest_live(), kept.ends.clone(), carried.iter())?;
        kept.delete_rest(&lock, &numbers);
        reach(Failpoint::CarryDone);

        let open: Vec<_> = carried.into_iter().filter(Story::is_open).collect();
        let log = SagaLog::start(lock, fresh, &open, keeping)?;
        Ok(TakenOver { log, open, damage, cut, unclosed })
    }
}

/// Rotation: the same procedure for a log whose stories are known already. The old head becomes history.
///
/// # Errors
/// As for [`take_over`].
pub(super) fn rotate(
    lock: &SlotLock,
    old: &Fresh,
    open: &[Story],
    keeping: &Keeping,
) -> Result<Fresh, JournalError> {
    if !lock.is_in_place()? {
        // What stands there now is locked by nobody, or by somebody else: the new segment would stand for theirs.
        let elsewhere = io::Error::other("its directory was exchanged or moved away");
        return Err(JournalError::io("go on in", lock.slot().path(), elsewhere));
    }
    let numbers = segment::numbers(lock.slot())?;
    let kept = Kept::beside(lock, &numbers, old, keeping);
    let fresh = segment::create(lock, kept.new, kept.lowest_live(), kept.ends.clone(), open.iter())?;
    kept.delete_rest(lock, &numbers);
    Ok(Fresh { since: old.since, ..fresh })
}

/// Shows the stories that a segment tells, those hit by damage quarantined, and reports the damage. Its records go into them.
///
/// Where nothing is damaged, a story is shown as soon as nothing is left to be done about it: so no more than what is open
/// need be in memory at once.
pub(super) fn visit(segment: &mut Segment, mut each: impl FnMut(Story)) -> Vec<Damage> {
    let records = std::mem::take(&mut segment.scan.records);
    let mut stories = Stories::new();
    let damage = match header_damage(segment) {
        None if segment.scan.damage.is_empty() => {
            for (_, record) in records {
                let saga = record.saga;
                if !tell(&mut stories, record).is_open() {
                    stories.remove(&saga).into_iter().for_each(&mut each);
                }
            }
            Vec::new()
        }
        header => {
            let last_offset = records.iter().map(|(offset, record)| (record.saga, *offset)).collect();
            for (_, record) in records {
                tell(&mut stories, record);
            }
            let hit = segment.scan.damage.iter().map(|stretch| Damage {
                place: segment.place,
                from: stretch.from,
                to: stretch.to,
                sagas: quarantine_hit(&mut stories, stretch, &last_offset),
                what: "are damaged".into(),
            });
            header.into_iter().chain(hit.collect::<Vec<_>>()).collect()
        }
    };
    stories.into_values().for_each(each);
    damage
}

/// A header that can't be read is damaged, unless nothing says that it was ever durable: then a power loss took it, with
/// nothing behind it that counts.
fn header_damage(segment: &Segment) -> Option<Damage> {
    let to = HEADER_BYTES as u64;
    let damaged = segment.header.is_none() && segment.scan.complete && segment.scan.durable_to > to;
    let what = "are damaged (the header)".into();
    damaged.then(|| Damage { place: segment.place, from: 0, to, sagas: Vec::new(), what })
}

fn next_number(numbers: &[u64]) -> u64 {
    numbers.last().map_or(segment::FIRST, |newest| newest + 1)
}

/// Which of a slot's older segments stay, as history.
struct Kept {
    stays: Vec<u64>,
    /// Where they end, as far as that is known.
    ends: Vec<KeptSegment>,
    new: u64,
}

impl Kept {
    /// What stays when `head` is taken over: what counted so far, and itself unless it is told again as a whole.
    fn of(
        lock: &SlotLock,
        numbers: &[u64],
        head: Option<&Segment>,
        merges: bool,
        retention: Duration,
    ) -> Self {
        let mut kept = Self { stays: Vec::new(), ends: Vec::new(), new: next_number(numbers) };
        let Some(head) = head else { return kept };
        let newest = head.place.segment;
        let lowest = head.header.map_or(0, |header| header.lowest_live);
        for number in numbers.iter().copied().filter(|number| (lowest..=newest).contains(number)) {
            if (number == newest && merges) || expired(lock, number, retention) {
                continue;
            }
            if number != newest && head.leaves_out(lock.slot(), number) {
                continue;
            }
            kept.stays.push(number);
            kept.ends.extend(if number == newest { Some(end_of(head)) } else { end_in(lock, head, number) });
        }
        kept
    }

    /// What stays when a log that is open goes on in a new segment.
    fn beside(lock: &SlotLock, numbers: &[u64], old: &Fresh, keeping: &Keeping) -> Self {
        // It was synced as a whole before.
        let (segment, end) = (old.place.segment, old.bytes);
        let own = numbers.iter().copied().filter(|number| *number > old.since);
        let too_many: Vec<_> = own.rev().skip(keeping.own_segments_max).collect();
        let tells_nothing_more = |number: u64| {
            if number == segment {
                old.all_open
            } else {
                segment::is_leftover(lock.slot(), &old.kept, number)
            }
        };
        let counts = |number: u64| {
            !expired(lock, number, keeping.retention)
                && !too_many.contains(&number)
                && !tells_nothing_more(number)
        };
        let stays: Vec<_> = numbers.iter().copied().filter(|number| counts(*number)).collect();
        let old_head = KeptSegment { segment, end, durable: end, tag: old.tag };
        let ends = old.kept.iter().copied().chain([old_head]);
        let ends = ends.filter(|kept| stays.contains(&kept.segment)).collect();
        Self { stays, ends, new: next_number(numbers) }
    }

    fn lowest_live(&self) -> u64 {
        self.stays.first().copied().unwrap_or(self.new)
    }

    /// Deletes what doesn't stay. A file that can't be deleted is only in the way: the next takeover tries again.
    fn delete_rest(&self, lock: &SlotLock, numbers: &[u64]) {
        for number in numbers.iter().filter(|number| !self.stays.contains(number)) {
            let path = segment::path(lock.slot().path(), *number);
            if let Err(e) = lock.slot().disk().remove(&path) {
                tracing::warn!("can't delete {}: {e}", path.display());
            }
        }
    }
}

/// Where a segment ends.
fn end_of(segment: &Segment) -> KeptSegment {
    let Segment { place, scan, .. } = segment;
    let durable = scan.durable_to.min(scan.end);
    KeptSegment { segment: place.segment, end: scan.end, durable, tag: scan.tag }
}

/// Where an older segment ends, as the head says; if its word is lost, as it is found.
fn end_in(lock: &SlotLock, head: &Segment, number: u64) -> Option<KeptSegment> {
    let stated = head.scan.kept.iter().find(|kept| kept.segment == number);
    let found = || {
        segment::read(lock.slot(), number, Certain::CarryOver { proven: false })
            .ok()
            .map(|older| end_of(&older))
    };
    stated.copied().or_else(found)
}

/// Whether a segment was last written longer ago than the retention time. What was open in it has been carried over.
fn expired(lock: &SlotLock, number: u64, retention: Duration) -> bool {
    let path = segment::path(lock.slot().path(), number);
    lock.slot().disk().age(&path).is_ok_and(|age| age > retention)
}

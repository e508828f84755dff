//! Segment files of a slot: their names, reading them, and writing a new one that stands for all older ones.
//!
//! A segment is written from its front, and never changed. Space is allotted ahead of what is written, as zeros: most syncs
//! then change nothing but bytes that have their place on the disk already. The zeros come with the write that needs
//! the space, so they stand behind the last record, and first behind the mark that ends a carry-over.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use like_protocol::failpoint::{Failpoint, reach};

use super::disk::{Disk, LogFile};
use super::record::{self, BadHeader, Entry, FIRST_TAG, HEADER_BYTES, Header, KeptSegment, Place};
use super::scan::{self, Certain, Scan};
use super::slot::{JournalError, Slot, SlotLock};
use super::story::Story;

/// The number of a slot's very first segment.
pub(super) const FIRST: u64 = 1;

/// The numbers of the segments in a slot's directory, in order.
///
/// # Errors
/// The directory can't be read.
pub fn list(disk: &dyn Disk, slot: &Path) -> io::Result<Vec<u64>> {
    let number = |name: &String| -> Option<u64> {
        // What is not named as segments are named is none of ours; nor is what no other could follow.
        let number = name.strip_suffix(".log")?.parse().ok()?;
        (number < u64::MAX && *name == file_name(number)).then_some(number)
    };
    let mut numbers: Vec<_> = disk.list(slot)?.iter().filter_map(number).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// As [`list`], for a slot on its disk.
pub(super) fn numbers(slot: &Slot) -> Result<Vec<u64>, JournalError> {
    list(&**slot.disk(), slot.path()).map_err(|e| JournalError::io("read", slot.path(), e))
}

/// The path of a segment.
pub fn path(slot: &Path, segment: u64) -> PathBuf {
    slot.join(file_name(segment))
}

fn file_name(segment: u64) -> String {
    format!("{segment:08}.log")
}

/// Makes durable what stands in a segment.
///
/// # Errors
/// The sync failed.
pub(super) fn sync(lock: &SlotLock, segment: u64) -> Result<(), JournalError> {
    let path = path(lock.slot().path(), segment);
    lock.slot().disk().sync_file(&path).map_err(|e| JournalError::io("sync", &path, e))
}

/// A segment that was read.
#[derive(Debug)]
pub struct Segment {
    /// Which one.
    pub place: Place,
    /// Its header, unless that is unreadable.
    pub header: Option<Header>,
    /// What it holds.
    pub scan: Scan,
}

/// Reads a segment. A header that is unreadable costs nothing but itself: the records prove their place by themselves.
/// `certain` is for [`scan::scan`]; one that was written in the present boot is more certain than that.
///
/// Its owner may be writing meanwhile, and what is read first may lack what stands before something that is read later. So
/// damage counts only if it is there at a second look, at no more than the first one has reached: all of that had been
/// written by then.
///
/// # Errors
/// The file can't be read, or a newer program wrote it.
pub fn read(slot: &Slot, segment: u64, certain: Certain) -> Result<Segment, JournalError> {
    let (path, place) = (path(slot.path(), segment), Place { slot: slot.number(), segment });
    let bytes = slot.disk().read(&path, None).map_err(|e| JournalError::io("read", &path, e))?;
    let header = match Header::decode(&bytes, place) {
        Ok(header) => Some(header),
        Err(BadHeader::Unreadable) => None,
        Err(BadHeader::Newer(format)) => return Err(JournalError::NewerFormat { path, format }),
    };
    let boot = header.and_then(|header| header.boot);
    let no_power_cut_since = boot.is_some() && boot == slot.disk().boot();
    let certain = match certain {
        Certain::End(kept) if no_power_cut_since => Certain::End(KeptSegment { durable: kept.end, ..kept }),
        Certain::Stated if no_power_cut_since => Certain::Written { carry_over: false },
        Certain::CarryOver { proven } if no_power_cut_since => Certain::Written { carry_over: proven },
        certain => certain,
    };
    let mut scan = scan::scan(place, &bytes, certain);
    if !scan.damage.is_empty() {
        let seen = usize::try_from(scan.written).unwrap_or(usize::MAX);
        let bytes = slot.disk().read(&path, Some(seen)).map_err(|e| JournalError::io("read", &path, e))?;
        scan = scan::scan(place, &bytes, certain);
    }
    Ok(Segment { place, header, scan })
}

/// Refuses a slot whose newest segment a newer program wrote, by its header alone.
///
/// # Errors
/// It did, or the segment can't be read.
pub fn refuse_newer(slot: &Slot) -> Result<(), JournalError> {
    let Some(segment) = numbers(slot)?.last().copied() else { return Ok(()) };
    let path = path(slot.path(), segment);
    let head = slot.disk().read(&path, Some(HEADER_BYTES)).map_err(|e| JournalError::io("read", &path, e))?;
    match Header::decode(&head, Place { slot: slot.number(), segment }) {
        Err(BadHeader::Newer(format)) => Err(JournalError::NewerFormat { path, format }),
        _ => Ok(()),
    }
}

/// The head of a slot: the newest segment whose carry-over is complete. `None` for a slot that has none yet. And the
/// newer ones, whose carry-over is not: a takeover that was cut short left them.
///
/// A segment gets the number behind the newest one, and what is older is deleted only once it is durable. So if the one
/// before it is gone it was complete, and whatever is missing from its carry-over is damage; if the mark at its end is
/// missing too, nobody knows what was open. If the one before it is there, nothing has been written behind a carry-over
/// that can't be read, and the one before says the same.
///
/// # Errors
/// As for [`read`], and [`JournalError::HeadLost`].
pub fn head(slot: &Slot, numbers: &[u64]) -> Result<(Option<Segment>, Vec<Segment>), JournalError> {
    let mut unfinished = Vec::new();
    for (at, number) in numbers.iter().enumerate().rev() {
        let carried = at == 0 || numbers[at - 1] + 1 != *number;
        let certain = if carried { Certain::CarryOver { proven: true } } else { Certain::Stated };
        let segment = read(slot, *number, certain)?;
        // The very first may have been cut short like any other, with nothing before it.
        if segment.scan.complete || *number == FIRST {
            return Ok((Some(segment), unfinished));
        }
        if carried {
            return Err(JournalError::HeadLost { path: path(slot.path(), *number) });
        }
        unfinished.push(segment);
    }
    Ok((None, unfinished))
}

impl Segment {
    /// Whether an older segment of the slot that this is the head of never counted: see [`is_leftover`]. Of a damaged head
    /// it can't be said, since the name may be what is damaged.
    pub(super) fn leaves_out(&self, slot: &Slot, number: u64) -> bool {
        self.scan.damage.is_empty() && is_leftover(slot, &self.scan.kept, number)
    }
}

/// Whether an older segment never counted: the head doesn't name it, and its carry-over is not complete. A takeover that
/// was cut short left it, and the next one has deleted it; but a power loss may bring it back.
pub(super) fn is_leftover(slot: &Slot, named: &[KeptSegment], number: u64) -> bool {
    !named.iter().any(|kept| kept.segment == number)
        && read(slot, number, Certain::Stated).is_ok_and(|segment| !segment.scan.complete)
}

/// How many older segments one record names.
const KEPT_PER_RECORD_MAX: usize = 1024;

/// How much space a small segment is allotted at least: one page, which a disk writes as a whole anyway. Who likes one
/// article and exits needs no more.
const ALLOTTED_BYTES_MIN: u64 = 4 * 1024;

/// How much space is allotted at once at most: some seconds of ordinary load, and nothing that a small disk would miss.
const ALLOTTED_BYTES_MAX: u64 = 256 * 1024;

/// Up to where space is allotted for what ends at `end`: a segment grows to the double until it is large.
fn allotted_for(end: u64) -> u64 {
    end.next_multiple_of(end.next_power_of_two().clamp(ALLOTTED_BYTES_MIN, ALLOTTED_BYTES_MAX))
}

/// A new segment, open for writing.
#[derive(Debug)]
pub struct Fresh {
    /// The file.
    pub file: Arc<dyn LogFile>,
    /// Where it stands.
    pub place: Place,
    /// How many bytes of it are records and header, with those that are encoded and not yet written.
    pub bytes: u64,
    /// How many bytes the file has, with the zeros.
    pub allotted: u64,
    /// The tag of its last record.
    pub tag: u32,
    /// Which older segments it says are kept.
    pub kept: Vec<KeptSegment>,
    /// The segment that its runner began with.
    pub since: u64,
    /// Whether it tells of nothing but open sagas: then the one that follows it tells all of it again.
    pub all_open: bool,
}

impl Fresh {
    /// Encodes what comes next; the segment's end and tag are those behind it.
    ///
    /// # Errors
    /// The entry is too large for a record.
    pub fn encode(&mut self, entry: &Entry, out: &mut Vec<u8>) -> io::Result<()> {
        let before = out.len();
        self.tag = record::encode(self.place, self.bytes, self.tag, entry, out).map_err(io::Error::other)?;
        self.bytes += (out.len() - before) as u64;
        Ok(())
    }

    /// Writes what was encoded since the last write, by one write, and with it the zeros of more space if it needs some.
    ///
    /// # Errors
    /// The write failed, or was short: what would follow it could not be told from damage.
    pub fn write(&mut self, unwritten: &mut Vec<u8>) -> io::Result<()> {
        let at = self.bytes - unwritten.len() as u64;
        if self.bytes > self.allotted {
            self.allotted = allotted_for(self.bytes);
            unwritten.resize((self.allotted - at) as usize, 0);
        }
        let written = self.file.write_at(unwritten, at)?;
        if written < unwritten.len() {
            let short = format!("only {written} of {} bytes", unwritten.len());
            return Err(io::Error::new(io::ErrorKind::WriteZero, short));
        }
        unwritten.clear();
        Ok(())
    }
}

/// Writes a new segment that tells these stories from their beginning and ends with the mark, and makes it durable,
/// its name in the slot and the slot's name in the journal included.
///
/// On return, and no sooner, the segment stands for all older ones.
///
/// # Errors
/// Something could not be written or synced. What was written is removed again, so that a full disk is not filled with
/// attempts; nothing older has been touched.
pub fn create<'a>(
    lock: &SlotLock,
    segment: u64,
    lowest_live: u64,
    kept: Vec<KeptSegment>,
    stories: impl Iterator<Item = &'a Story>,
) -> Result<Fresh, JournalError> {
    let place = Place { slot: lock.slot().number(), segment };
    let path = path(lock.slot().path(), segment);
    // One that stands there already is somebody else's, and stays.
    let file = lock.slot().disk().create(&path).map_err(|e| JournalError::io("create", &path, e))?;
    let written = write(lock, (place, lowest_live), &path, file, kept, stories);
    if written.is_err()
        && let Err(e) = lock.slot().disk().remove(&path)
    {
        tracing::warn!("can't remove the unfinished {}: {e}", path.display());
    }
    written
}

fn write<'a>(
    lock: &SlotLock,
    (place, lowest_live): (Place, u64),
    path: &Path,
    file: Arc<dyn LogFile>,
    kept: Vec<KeptSegment>,
    stories: impl Iterator<Item = &'a Story>,
) -> Result<Fresh, JournalError> {
    let boot = lock.slot().disk().boot();
    let mut bytes = Header { place, lowest_live, boot }.encode().to_vec();
    let mut tag = FIRST_TAG;
    let history = kept.chunks(KEPT_PER_RECORD_MAX).map(|kept| Entry::Kept(kept.to_vec()));
    let mut all_open = true;
    let stories = stories.inspect(|story| all_open &= story.is_open());
    let told = stories.flat_map(|story| &story.records).map(|record| Entry::Saga(record.clone()));
    for entry in history.chain(told) {
        tag = record::encode(place, bytes.len() as u64, tag, &entry, &mut bytes)
            .map_err(|e| JournalError::io("write", path, io::Error::other(e)))?;
    }
    let io_error = |what| move |e| JournalError::io(what, path, e);
    // A header goes with what follows it: a power loss that took it alone would look like damage.
    let carried = if bytes.len() > HEADER_BYTES { bytes.len() } else { 0 };
    write_all(&*file, &bytes[..carried], 0).map_err(io_error("write"))?;
    reach(Failpoint::CarryWritten);
    tag = record::encode(place, bytes.len() as u64, tag, &Entry::CarriedOver, &mut bytes)
        .map_err(|e| JournalError::io("write", path, io::Error::other(e)))?;
    let end = bytes.len() as u64;
    let allotted = allotted_for(end);
    bytes.resize(allotted as usize, 0);
    write_all(&*file, &bytes[carried..], carried as u64).map_err(io_error("write"))?;
    file.sync_all().map_err(io_error("sync"))?;
    lock.sync_directories()?;
    reach(Failpoint::CarrySynced);
    Ok(Fresh { file, place, bytes: end, allotted, tag, kept, since: place.segment, all_open })
}

/// As many writes as it takes.
fn write_all(file: &dyn LogFile, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(bytes, at)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => (bytes, at) = (&bytes[written..], at + written as u64),
        }
    }
    Ok(())
}

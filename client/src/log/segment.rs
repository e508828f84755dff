//! Segment files of a slot: their names, reading them, and writing a new one that stands for all older ones.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use like_protocol::failpoint::{Failpoint, reach};

use super::record::{self, BadHeader, Entry, FIRST_TAG, HEADER_BYTES, Header, Place};
use super::scan::{self, Scan};
use super::slot::{JournalError, Slot, SlotLock};
use super::story::Story;

/// Segments are group-writable whatever the umask is: whoever may use the journal may finish what stands in it.
const SEGMENT_MODE: u32 = 0o660;

/// The numbers of the segments in a slot's directory, in order.
///
/// # Errors
/// The directory can't be read.
pub fn list(slot: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(slot)? {
        let name = entry?.file_name();
        let number =
            name.to_str().and_then(|name| name.strip_suffix(".log")).and_then(|n| n.parse::<u64>().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// The path of a segment.
pub fn path(slot: &Path, segment: u64) -> PathBuf {
    slot.join(format!("{segment:08}.log"))
}

/// A segment that was read.
#[derive(Debug)]
pub struct Segment {
    /// Which one.
    pub place: Place,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its header, unless that is unreadable.
    pub header: Option<Header>,
    /// What it holds.
    pub scan: Scan,
}

/// Reads a segment. A header that is unreadable costs nothing but itself: the records prove their place by themselves.
///
/// # Errors
/// The file can't be read, or a newer program wrote it.
pub fn read(slot: &Path, place: Place) -> Result<Segment, JournalError> {
    let path = path(slot, place.segment);
    let bytes = fs::read(&path).map_err(|e| JournalError::io("read", &path, e))?;
    let header = match Header::decode(&bytes, place) {
        Ok(header) => Some(header),
        Err(BadHeader::Unreadable) => None,
        Err(BadHeader::Newer(format)) => return Err(JournalError::NewerFormat { path, format }),
    };
    Ok(Segment { place, bytes: bytes.len() as u64, header, scan: scan::scan(place, &bytes) })
}

/// Refuses a slot whose newest segment a newer program wrote, by its header alone.
///
/// # Errors
/// It did, or the segment can't be read.
pub fn refuse_newer(slot: &Slot) -> Result<(), JournalError> {
    let numbers = list(slot.path()).map_err(|e| JournalError::io("read", slot.path(), e))?;
    let Some(segment) = numbers.last().copied() else { return Ok(()) };
    let path = path(slot.path(), segment);
    let mut head = Vec::with_capacity(HEADER_BYTES);
    let file = File::open(&path).map_err(|e| JournalError::io("open", &path, e))?;
    file.take(HEADER_BYTES as u64).read_to_end(&mut head).map_err(|e| JournalError::io("read", &path, e))?;
    match Header::decode(&head, Place { slot: slot.number(), segment }) {
        Err(BadHeader::Newer(format)) => Err(JournalError::NewerFormat { path, format }),
        _ => Ok(()),
    }
}

/// The head of a slot: the newest segment whose carry-over is complete. `None` for a slot that has none yet.
///
/// If none is complete, the newest one is all there is: its mark can be missing only because of damage.
///
/// # Errors
/// As for [`read`].
pub fn head(slot_path: &Path, slot: u32, numbers: &[u64]) -> Result<Option<Segment>, JournalError> {
    let mut newest = None;
    for number in numbers.iter().rev() {
        let segment = read(slot_path, Place { slot, segment: *number })?;
        if segment.scan.complete {
            return Ok(Some(segment));
        }
        newest.get_or_insert(segment);
    }
    Ok(newest)
}

/// A new segment, open for appending.
#[derive(Debug)]
pub struct Fresh {
    /// The file, at its end.
    pub file: File,
    /// Where it stands.
    pub place: Place,
    /// How many bytes it has.
    pub bytes: u64,
    /// The tag of its last record.
    pub tag: u32,
}

/// Writes a new segment that tells these stories from their beginning and ends with the mark, and makes it durable,
/// its name in the slot and the slot's name in the journal included.
///
/// On return, and no sooner, the segment stands for all older ones.
///
/// # Errors
/// Something could not be written or synced. What was written is left: without a durable mark nobody believes it.
pub fn create<'a>(
    lock: &SlotLock,
    segment: u64,
    lowest_live: u64,
    stories: impl Iterator<Item = &'a Story>,
) -> Result<Fresh, JournalError> {
    let place = Place { slot: lock.slot().number(), segment };
    let path = path(lock.slot().path(), segment);
    let mut bytes = Header { place, lowest_live }.encode().to_vec();
    let mut tag = FIRST_TAG;
    for record in stories.flat_map(|story| &story.records) {
        let entry = Entry::Saga(record.clone());
        tag = record::encode(place, bytes.len() as u64, tag, &entry, &mut bytes)
            .map_err(|e| JournalError::io("write", &path, io::Error::other(e)))?;
    }
    let io_error = |what| {
        let path = path.clone();
        move |e| JournalError::io(what, &path, e)
    };
    let mut file = OpenOptions::new()
        .append(true)
        .create_new(true)
        .mode(SEGMENT_MODE)
        .open(&path)
        .map_err(io_error("create"))?;
    file.set_permissions(fs::Permissions::from_mode(SEGMENT_MODE)).map_err(io_error("set the mode of"))?;
    file.write_all(&bytes).map_err(io_error("write"))?;
    reach(Failpoint::CarryWritten);
    let carried = bytes.len();
    tag = record::encode(place, carried as u64, tag, &Entry::CarriedOver, &mut bytes)
        .map_err(|e| JournalError::io("write", &path, io::Error::other(e)))?;
    file.write_all(&bytes[carried..]).map_err(io_error("write"))?;
    file.sync_all().map_err(io_error("sync"))?;
    lock.sync_directories()?;
    reach(Failpoint::CarrySynced);
    Ok(Fresh { file, place, bytes: bytes.len() as u64, tag })
}

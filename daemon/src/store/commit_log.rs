//! The commit log: every group of changes as one record, durable before anything else of it is.
//!
//! ```text
//! <data>/log.N        segments, N counting up; each is written from its front, never changed, and removed as a whole
//!
//! segment -> "likelog1", N(8), number of its first record(8), CRC32C(4) of these; then records; then zeros
//! record  -> length of its rows(4), how many rows(4), its number(8), CRC32C(4) of its rows,
//!            CRC32C(4) of N and all of that; then rows as in [`super::rows`]
//! ```
//!
//! Records are numbered without a gap over all segments. A segment is durable before it has its name. Space is allotted ahead, as zeros: most syncs then change
//! nothing but bytes that have their place on the disk already.
//!
//! What ends a log is decided by four things: a record that is not whole, whether another one stands behind it, the next segment, and
//! how far the log is known to have been durable ([`super::mark`]). Each record is written when all before it are durable. So a
//! record that is not whole, that is the last one, and that nobody was told of, is a torn end and goes; any other is damage, and is
//! never passed over.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tracing::{info, warn};

use super::Batch;
use super::disk::{self, Disk, DiskFile};
use super::fields::Malformed;
use super::rows::{self, HEAD_BYTES};

/// What the names of segments begin with.
pub const SEGMENT: &str = "log.";

const NEW: &str = "log.new";

const MAGIC: &[u8; 8] = b"likelog1";
const RECORD_HEADER_BYTES: usize = 24;

/// How much space is allotted at once, at most: some seconds of ordinary load, and nothing that a small disk would miss.
const ALLOTTED_BYTES_MAX: u64 = 256 * 1024;

/// How much at least.
const ALLOTTED_BYTES_MIN: u64 = 512;

const NO_HEADER: Malformed = Malformed("it has no header");

/// The log, open for writing. Every error is final.
#[derive(Debug)]
pub struct CommitLog {
    disk: Arc<dyn Disk>,
    /// All segments that hold what is in no checkpoint yet; the last one is written to.
    segments: Vec<u64>,
    file: Arc<dyn DiskFile>,
    /// Where the next record goes.
    end: u64,
    /// How large the file is.
    allotted: u64,
    /// How much space is allotted at once.
    allots: u64,
    /// The number of the last record.
    last: u64,
    /// Whether that one is durable, as all before it are.
    is_durable: bool,
    /// How many bytes of records all the segments hold.
    bytes: u64,
    buffer: Vec<u8>,
}

/// What a log holds.
#[derive(Default, Debug)]
pub struct Found {
    /// The number of the last record.
    pub last: u64,
    /// What the records after those of the last checkpoint say, the latest word on every key.
    pub rows: Batch,
    /// Its segments that hold any of these.
    pub segments: Vec<u64>,
    /// Those that do not, and that nobody needs once the log goes on.
    pub needless: Vec<u64>,
    /// How many bytes of records they hold.
    pub bytes: u64,
    /// The last record, if nobody knows whether it is durable.
    unsure: Option<Batch>,
}

impl Found {
    /// The number of the first record of the segment in which the log goes on: of the one that is given anew, or else of the next one.
    fn next_first(&self) -> u64 {
        self.last + u64::from(self.unsure.is_none())
    }
}

/// Why a log can't be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Something that was durable is not what was written.
    #[error("{path} is damaged at byte {at}: {why}")]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Where in it.
        at: usize,
        /// What is wrong.
        why: Malformed,
    },
    /// Records are missing.
    #[error("it ends with number {found}")]
    Short {
        /// The last number before what is missing.
        found: u64,
    },
}

impl CommitLog {
    /// Goes on behind what was found, in a new segment, which is durable on return, as is everything before it. Not much
    /// more than `bytes_max` are expected in it.
    ///
    /// A last record that may not be durable is written anew, under the same number, and is read there from then on. It would
    /// not do to sync the segment that it was found in: if its last sync has failed, the kernel still shows what will
    /// never be on the disk, and another sync would say nothing of it.
    ///
    /// Segments that nobody needs any more are removed then: a daemon that is started over and over, and dies each time, would fill
    /// its disk with them.
    ///
    /// # Errors
    /// The file system refused.
    pub fn go_on(disk: Arc<dyn Disk>, found: &Found, bytes_max: u64) -> io::Result<Self> {
        let segment = found.segments.iter().chain(&found.needless).max().map_or(1, |newest| newest + 1);
        let allots = bytes_max.clamp(ALLOTTED_BYTES_MIN, ALLOTTED_BYTES_MAX);
        let Begun { file, end, allotted } =
            begin(&*disk, segment, found.next_first(), found.unsure.as_ref(), allots)?;
        remove(&*disk, &found.needless)?;
        let segments = found.segments.iter().copied().chain([segment]).collect();
        let (last, is_durable, bytes, buffer) = (found.last, true, found.bytes, Vec::new());
        Ok(Self { disk, segments, file, end, allotted, allots, last, is_durable, bytes, buffer })
    }

    /// Writes a record when the one before it is durable, and with it the zeros of more space if it needs some. It will be found
    /// after a crash of the process, and after a power loss once [`CommitLog::sync`] has returned.
    ///
    /// # Errors
    /// The file system refused.
    pub fn append(&mut self, changes: &Batch) -> io::Result<()> {
        self.sync()?;
        self.is_durable = false;
        self.buffer.clear();
        let (segment, number) = (self.segment(), self.last + 1);
        put_record(&mut self.buffer, segment, number, changes)?;
        let record_bytes = self.buffer.len() as u64;
        let end = self.end + record_bytes;
        if end > self.allotted {
            let allotted = end.next_multiple_of(self.allots);
            self.buffer.resize((allotted - self.end) as usize, 0);
            self.allotted = allotted;
        }
        self.file.write_at(&self.buffer, self.end)?;
        self.buffer.shrink_to(ALLOTTED_BYTES_MAX as usize);
        self.end = end;
        self.last = number;
        self.bytes += record_bytes;
        Ok(())
    }

    /// Returns when every record is durable.
    ///
    /// # Errors
    /// The file system refused: the kernel may have dropped what it could not write.
    pub fn sync(&mut self) -> io::Result<()> {
        if !self.is_durable {
            self.file.sync()?;
            self.is_durable = true;
        }
        Ok(())
    }

    /// Goes on in a new segment when every record is durable. The segments up to the new one are
    /// handed out: who has put what they hold elsewhere removes them.
    ///
    /// # Errors
    /// The file system refused.
    pub fn roll(&mut self) -> io::Result<Vec<u64>> {
        self.sync()?;
        let next = self.segment() + 1;
        let Begun { file, end, allotted } = begin(&*self.disk, next, self.last + 1, None, self.allots)?;
        (self.file, self.end, self.allotted, self.bytes) = (file, end, allotted, 0);
        Ok(std::mem::replace(&mut self.segments, vec![next]))
    }

    /// The number of the last record.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// How many bytes of records are in no checkpoint yet.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many segments hold what is in no checkpoint yet.
    pub fn segments(&self) -> usize {
        self.segments.len()
    }

    fn segment(&self) -> u64 {
        self.segments.last().copied().unwrap_or_default()
    }
}

/// Appends a record of a segment to what is to be written.
fn put_record(out: &mut Vec<u8>, segment: u64, number: u64, changes: &Batch) -> io::Result<()> {
    let begin = out.len();
    out.resize(begin + RECORD_HEADER_BYTES, 0);
    for (key, value) in changes {
        rows::put(out, key, value.as_deref());
    }
    let too_large = |_| io::Error::other("a group of changes is larger than a record can be");
    let (header, payload) = out[begin..].split_at_mut(RECORD_HEADER_BYTES);
    header[..4].copy_from_slice(&u32::try_from(payload.len()).map_err(too_large)?.to_le_bytes());
    header[4..8].copy_from_slice(&u32::try_from(changes.len()).map_err(too_large)?.to_le_bytes());
    header[8..16].copy_from_slice(&number.to_le_bytes());
    header[16..20].copy_from_slice(&crc32c::crc32c(payload).to_le_bytes());
    let checksum = header_checksum(segment, &header[..20]);
    header[20..].copy_from_slice(&checksum.to_le_bytes());
    Ok(())
}

/// Removes segments. A power loss may bring them back, and then they are passed over: a checkpoint has what they hold.
///
/// # Errors
/// The file system refused.
pub fn remove(disk: &dyn Disk, segments: &[u64]) -> io::Result<()> {
    segments.iter().try_for_each(|segment| disk.remove(&name_of(*segment)))
}

/// Reads the log behind record number `checkpoint`. `durable` is a number that is known to have been durable, if one is.
///
/// # Errors
/// Something that was durable is missing or damaged, or can't be read.
pub fn read(disk: &dyn Disk, checkpoint: u64, durable: Option<u64>) -> Result<Found, LogError> {
    let mut found = Found { last: checkpoint, ..Found::default() };
    let durable = durable.unwrap_or(0);
    let damaged = |segment, at, why| LogError::Damaged { path: disk.path().join(name_of(segment)), at, why };
    let mut heads = Vec::new();
    for number in segments_on(disk)? {
        heads.push((number, first_record(disk, number)?));
    }
    // What the ones before it hold is in the checkpoint. A power loss has brought them back, whatever has become of them.
    let begins_by = |first: &Option<u64>| first.is_some_and(|first| first <= checkpoint + 1);
    let needed_from = heads.iter().rposition(|(_, first)| begins_by(first)).unwrap_or(0);
    let (passed_over, heads) = heads.split_at(needed_from);
    found.needless.extend(passed_over.iter().map(|(number, _)| *number));
    let with_first = |&(number, first): &(u64, Option<u64>)| {
        first.map(|first| (number, first)).ok_or_else(|| damaged(number, 0, NO_HEADER))
    };
    let segments = heads.iter().map(with_first).collect::<Result<Vec<_>, _>>()?;
    for (place, &(number, first)) in segments.iter().enumerate() {
        if first > found.last + 1 {
            return Err(LogError::Short { found: found.last });
        }
        // A segment is begun when all before its first record is durable; what the one before has beyond that is given anew.
        let through = segments.get(place + 1).map(|(_, next)| next - 1);
        let segment = Segment { number, first, through, durable: through.unwrap_or(durable) };
        segment
            .read(&disk.read(&name_of(number), None)?, &mut found)
            .map_err(|(at, why)| damaged(number, at, why))?;
    }
    if found.last < durable {
        return Err(LogError::Short { found: found.last });
    }
    let behind = segments.iter().skip(1).map(|(_, first)| *first).chain([found.next_first()]);
    for (&(number, first), behind) in segments.iter().zip(behind) {
        let is_needed = behind > first.max(checkpoint + 1);
        if is_needed { found.segments.push(number) } else { found.needless.push(number) }
    }
    Ok(found)
}

struct Segment {
    number: u64,
    /// The number of its first record, and of the last one that counts if there is another segment.
    first: u64,
    through: Option<u64>,
    /// Up to which record it is known to have been durable.
    durable: u64,
}

impl Segment {
    /// Adds what it holds to what was found. Where it is not what was written is told with why, unless that is a torn end.
    fn read(&self, bytes: &[u8], found: &mut Found) -> Result<(), (usize, Malformed)> {
        let (segment, mut at) = (self.number, HEAD_BYTES);
        for number in self.first..=self.through.unwrap_or(u64::MAX) {
            let is_followed = || is_followed(&bytes[at..], segment, number);
            let was_durable = || number <= self.durable || is_followed();
            let record = match record_at(&bytes[at..], segment, number) {
                Ok(None) if is_followed() => return Err((at, Malformed("a record is missing"))),
                Ok(None) => break,
                Ok(Some(record)) if record.is_whole || was_durable() => record,
                Err(why) if was_durable() => return Err((at, why)),
                Ok(Some(_)) | Err(_) => {
                    info!(segment, at, "the log has a torn end, which nobody was told of");
                    break;
                }
            };
            if !record.is_whole {
                warn!(segment, at, "a value in the log is damaged");
            }
            at += record.bytes;
            found.bytes += record.bytes as u64;
            if number <= found.last {
                continue;
            }
            found.unsure = (number > self.durable).then(|| record.rows.clone());
            found.rows.extend(record.rows);
            found.last = number;
        }
        Ok(())
    }
}

struct Record {
    bytes: usize,
    rows: Batch,
    /// Whether all of it is what was written; else some of its values are not.
    is_whole: bool,
}

/// The record at the front of `bytes`, which must have this number. Nothing if there are zeros, or nothing at all.
fn record_at(bytes: &[u8], segment: u64, number: u64) -> Result<Option<Record>, Malformed> {
    let Some((header, rest)) = bytes.split_first_chunk::<RECORD_HEADER_BYTES>() else {
        let nothing = bytes.iter().all(|byte| *byte == 0);
        return if nothing { Ok(None) } else { Err(Malformed("a record is cut short")) };
    };
    if *header == [0; RECORD_HEADER_BYTES] {
        return Ok(None);
    }
    if !is_header(segment, header) {
        return Err(Malformed("a record's checksum does not match"));
    }
    if le_u64(&header[8..]) != number {
        return Err(Malformed("a record has another number than its place"));
    }
    let length = le_u32(header) as usize;
    let payload = rest.get(..length).ok_or(Malformed("a record is cut short"))?;
    let rows = rows::read_all(payload, u64::from(le_u32(&header[4..])))?;
    let is_whole = crc32c::crc32c(payload) == le_u32(&header[16..]);
    Ok(Some(Record { bytes: RECORD_HEADER_BYTES + length, rows, is_whole }))
}

/// Whether a record with a higher number stands anywhere behind the one at this place of a segment: then all before that one was
/// durable. What an intact header says to be its record is passed over, since a value may have been made to look like a record. Where
/// the header is not intact such a value is believed: nothing says then that a torn end is one, and not damage.
fn is_followed(bytes: &[u8], segment: u64, number: u64) -> bool {
    let most = number.saturating_add((bytes.len() / RECORD_HEADER_BYTES) as u64);
    let own = bytes.first_chunk::<RECORD_HEADER_BYTES>();
    let own = own.filter(|header| le_u64(&header[8..]) == number && is_header(segment, *header));
    let behind = own.map_or(0, |header| RECORD_HEADER_BYTES + le_u32(header) as usize);
    bytes.get(behind..).unwrap_or_default().windows(RECORD_HEADER_BYTES).any(|header| {
        (number < le_u64(&header[8..]) && le_u64(&header[8..]) <= most) && is_header(segment, header)
    })
}

/// The number of a segment's first record, if its head is what was written.
fn first_record(disk: &dyn Disk, segment: u64) -> io::Result<Option<u64>> {
    let head = disk.read(&name_of(segment), Some(HEAD_BYTES))?;
    Ok(rows::behind_head(&head, MAGIC, segment).map(|(first, _)| first))
}

/// Whether these bytes are a record's header in this segment.
fn is_header(segment: u64, header: &[u8]) -> bool {
    le_u32(&header[20..]) == header_checksum(segment, &header[..20])
}

fn header_checksum(segment: u64, header: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&segment.to_le_bytes()), header)
}

/// A segment that was begun.
struct Begun {
    file: Arc<dyn DiskFile>,
    end: u64,
    allotted: u64,
}

/// Begins a segment whose first record has number `first`, with this one if there is one. It is there as a whole or not at all, and
/// durable on return.
fn begin(
    disk: &dyn Disk,
    segment: u64,
    first: u64,
    record: Option<&Batch>,
    allots: u64,
) -> io::Result<Begun> {
    let mut bytes = rows::head(MAGIC, segment, first).to_vec();
    if let Some(changes) = record {
        put_record(&mut bytes, segment, first, changes)?;
    }
    let end = bytes.len() as u64;
    let allotted = end.next_multiple_of(allots);
    bytes.resize(allotted as usize, 0);
    disk::replace(disk, NEW, &name_of(segment), &bytes)?;
    Ok(Begun { file: disk.open(&name_of(segment))?, end, allotted })
}

/// The segments that are there, in their order.
fn segments_on(disk: &dyn Disk) -> io::Result<Vec<u64>> {
    let number_of = |name: String| name.strip_prefix(SEGMENT)?.parse::<u64>().ok();
    let mut numbers: Vec<_> = disk.list()?.into_iter().filter_map(number_of).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

fn name_of(segment: u64) -> String {
    format!("{SEGMENT}{segment}")
}

/// The first four bytes as a number; the caller has made sure of them.
fn le_u32(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// The first eight bytes as a number; the caller has made sure of them.
fn le_u64(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
#[path = "commit_log_tests.rs"]
mod tests;

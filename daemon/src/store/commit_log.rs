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
//! Records are numbered without a gap over all segments. Space is allotted ahead, as zeros: most syncs then change
//! nothing but bytes that have their place on the disk already.
//!
//! What ends a log is decided by three things: a record that is not whole, the next segment, and how far the log is
//! known to have been durable ([`super::mark`]). A record that is not whole, and that nobody was told of, is a torn end
//! and goes; one that was durable is damage, and is never passed over.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use tracing::{info, warn};

use super::Batch;
use super::fields::Malformed;
use super::rows::{self, HEAD_BYTES};

/// What the names of segments begin with.
pub const SEGMENT: &str = "log.";

const MAGIC: &[u8; 8] = b"likelog1";
const RECORD_HEADER_BYTES: usize = 24;

/// How much space is allotted at once: some seconds of ordinary load, and nothing that a small disk would miss.
const ALLOTTED_BYTES: u64 = 256 * 1024;

const MODE: u32 = 0o600;

const NO_HEADER: Malformed = Malformed("it has no header");

/// The log, open for writing. Every error is final.
#[derive(Debug)]
pub struct CommitLog {
    dir: PathBuf,
    /// All segments that hold what is in no checkpoint yet; the last one is written to.
    segments: Vec<u64>,
    file: File,
    /// Where the next record goes.
    end: u64,
    /// How large the file is.
    allotted: u64,
    /// The number of the last record.
    last: u64,
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
    /// Its segments.
    pub segments: Vec<u64>,
    /// How many bytes of records they hold.
    pub bytes: u64,
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
    /// Goes on behind what was found, in a new segment, which is durable on return, as is everything before it.
    ///
    /// # Errors
    /// The file system refused.
    pub fn go_on(dir: &Path, found: &Found) -> io::Result<Self> {
        for segment in &found.segments {
            File::open(path_of(dir, *segment))?.sync_all()?;
        }
        let segment = found.segments.last().map_or(1, |last| last + 1);
        let file = create(dir, segment, found.last + 1)?;
        let segments = found.segments.iter().copied().chain([segment]).collect();
        let (dir, buffer) = (dir.to_owned(), Vec::new());
        let end = HEAD_BYTES as u64;
        let (last, bytes) = (found.last, found.bytes);
        Ok(Self { dir, segments, file, end, allotted: ALLOTTED_BYTES, last, bytes, buffer })
    }

    /// Writes a record, and with it the zeros of more space if it needs some. It will be found after a crash of the
    /// process, and after a power loss once [`CommitLog::sync`] has returned.
    ///
    /// # Errors
    /// The file system refused.
    pub fn append(&mut self, changes: &Batch) -> io::Result<()> {
        self.buffer.clear();
        self.buffer.resize(RECORD_HEADER_BYTES, 0);
        for (key, value) in changes {
            rows::put(&mut self.buffer, key, value.as_deref());
        }
        let number = self.last + 1;
        let segment = self.segment();
        put_header(&mut self.buffer, segment, changes.len(), number)?;
        let record_bytes = self.buffer.len() as u64;
        let end = self.end + record_bytes;
        if end > self.allotted {
            let allotted = end.next_multiple_of(ALLOTTED_BYTES);
            self.buffer.resize((allotted - self.end) as usize, 0);
            self.allotted = allotted;
        }
        self.file.write_all_at(&self.buffer, self.end)?;
        self.end = end;
        self.last = number;
        self.bytes += record_bytes;
        Ok(())
    }

    /// Returns when every record is durable.
    ///
    /// # Errors
    /// The file system refused: the kernel may have dropped what it could not write.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Goes on in a new segment. All that was written before must be durable. The segments up to the new one are
    /// handed out: who has put what they hold elsewhere removes them.
    ///
    /// # Errors
    /// The file system refused.
    pub fn roll(&mut self) -> io::Result<Vec<u64>> {
        let next = self.segment() + 1;
        self.file = create(&self.dir, next, self.last + 1)?;
        (self.end, self.allotted, self.bytes) = (HEAD_BYTES as u64, ALLOTTED_BYTES, 0);
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

/// Fills in the header of a record whose rows stand behind it.
fn put_header(record: &mut [u8], segment: u64, count: usize, number: u64) -> io::Result<()> {
    let (header, payload) = record.split_at_mut(RECORD_HEADER_BYTES);
    let too_large = |_| io::Error::other("a group of changes is larger than a record can be");
    header[..4].copy_from_slice(&u32::try_from(payload.len()).map_err(too_large)?.to_le_bytes());
    header[4..8].copy_from_slice(&u32::try_from(count).map_err(too_large)?.to_le_bytes());
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
pub fn remove(dir: &Path, segments: &[u64]) -> io::Result<()> {
    segments.iter().try_for_each(|segment| fs::remove_file(path_of(dir, *segment)))
}

/// Reads the log behind record number `checkpoint`. `durable` is a number that is known to have been durable, if one is.
///
/// # Errors
/// Something that was durable is missing or damaged, or can't be read.
pub fn read(dir: &Path, checkpoint: u64, durable: Option<u64>) -> Result<Found, LogError> {
    let mut found = Found { last: checkpoint, ..Found::default() };
    let durable = durable.unwrap_or(0);
    let (mut segments, mut unbegun) = (Vec::new(), None);
    let numbers = segments_in(dir)?;
    for &number in &numbers {
        let path = path_of(dir, number);
        match first_record(&path, number)? {
            Some(first) => segments.push((number, first, path)),
            // The last one may have been cut short while it was made: then nothing was ever written to it.
            None if Some(&number) == numbers.last() => unbegun = Some(path),
            None => return Err(LogError::Damaged { path, at: 0, why: NO_HEADER }),
        }
    }
    for (place, (number, first, path)) in segments.iter().enumerate() {
        if *first > found.last + 1 {
            return Err(LogError::Short { found: found.last });
        }
        // Before a segment is begun, all that can be read of those before it is made durable: what can't be is gone for good,
        // and its numbers are given anew.
        let next = segments.get(place + 1).map(|(_, first, ..)| *first);
        if next.is_some_and(|next| next <= checkpoint + 1) {
            // A power loss has brought it back. What it holds is in the checkpoint, whatever has become of it.
            found.segments.push(*number);
            continue;
        }
        let durable = next.map_or(durable, |next| next - 1);
        read_segment(&fs::read(path)?, *number, *first, durable, &mut found)
            .map_err(|(at, why)| LogError::Damaged { path: path.clone(), at, why })?;
        found.segments.push(*number);
    }
    match unbegun {
        Some(path) if found.last < durable => Err(LogError::Damaged { path, at: 0, why: NO_HEADER }),
        None if found.last < durable => Err(LogError::Short { found: found.last }),
        Some(path) => Ok(fs::remove_file(&path).map(|()| found)?),
        None => Ok(found),
    }
}

/// Adds what one segment holds to what was found. Where it is not what was written is told with why, unless that is a
/// torn end.
fn read_segment(
    bytes: &[u8],
    segment: u64,
    first: u64,
    durable: u64,
    found: &mut Found,
) -> Result<(), (usize, Malformed)> {
    let mut at = HEAD_BYTES;
    for number in first.. {
        let record = match record_at(&bytes[at..], segment, number) {
            Ok(None) => break,
            Ok(Some(record)) if record.is_whole || number <= durable => record,
            Err(why) if number <= durable => return Err((at, why)),
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
        if number > found.last {
            found.rows.extend(record.rows);
            found.last = number;
        }
    }
    Ok(())
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
    if le_u32(&header[20..]) != header_checksum(segment, &header[..20]) {
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

/// The number of a segment's first record, if its head is what was written.
fn first_record(path: &Path, segment: u64) -> io::Result<Option<u64>> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    File::open(path)?.take(HEAD_BYTES as u64).read_to_end(&mut head)?;
    Ok(rows::behind_head(&head, MAGIC, segment).map(|(first, _)| first))
}

fn header_checksum(segment: u64, header: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&segment.to_le_bytes()), header)
}

fn create(dir: &Path, segment: u64, first: u64) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(path_of(dir, segment))?;
    let mut bytes = vec![0; ALLOTTED_BYTES as usize];
    bytes[..HEAD_BYTES].copy_from_slice(&rows::head(MAGIC, segment, first));
    file.write_all_at(&bytes, 0)?;
    file.sync_all()?;
    File::open(dir)?.sync_all()?;
    Ok(file)
}

/// The segments in a directory, in their order.
fn segments_in(dir: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.strip_prefix(SEGMENT)?.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn path_of(dir: &Path, segment: u64) -> PathBuf {
    dir.join(format!("{SEGMENT}{segment}"))
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

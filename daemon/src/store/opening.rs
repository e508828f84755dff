//! Keeps what opening a store may destroy, until what replaces it is durable.
//!
//! While it opens a store, sled writes a snapshot, renames it into place, removes the one before, and then overwrites
//! every segment of its log that holds nothing any more. It syncs no name. Among those segments can be the very one at
//! which it would have to begin reading had the snapshot's name been lost: it looks for the end of its log from the
//! segment that the newest header calls stable on, and without that segment finds an empty log. A power loss around
//! a restart could so cost the whole store.
//!
//! So before sled opens the store, the end of its log and its snapshots are copied into a file of our own, durably. If that
//! file is found at a start, the opening before was cut short, and everything is put back first: the store is then what
//! it was before that opening. The file goes, durably, when the store is open, its snapshot's name is durable, and
//! nothing has been written to it yet.
//!
//! ```text
//! <data>/opening      CRC32C(4) of all that follows; parts: kind(1: 0 log, 1 snapshot), place(8: offset, or the
//!                     snapshot's number), length(8), bytes
//! ```

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::disk::{self, RealDisk};

/// Its name in the data directory, and while it is written.
pub const OPENING: &str = "opening";
const OPENING_NEW: &str = "opening.new";

/// sled's log.
pub const LOG: &str = "db";

const SNAPSHOT: &str = "snap.";
const SNAPSHOT_NEW: &str = "snapshot.new";

/// What the log is allotted in.
const SEGMENT_BYTES: u64 = 512 * 1024;
const SEGMENT_HEADER_BYTES: usize = 20;

const CHECKSUM_BYTES: usize = 4;
const PART_HEADER_BYTES: usize = 17;

/// An opening that is under way.
#[derive(Debug)]
pub struct Opening {
    dir: PathBuf,
}

/// A piece of what is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Part {
    /// Bytes of the log, from an offset on.
    Log(u64, Vec<u8>),
    /// A snapshot, by its number.
    Snapshot(u64, Vec<u8>),
}

impl Opening {
    /// Puts back what an opening cut short may have destroyed, if there was one, and keeps what this one may destroy.
    /// All of it is durable on return, and so is everything else that stands in the log.
    ///
    /// # Errors
    /// The file system refused.
    pub fn begin(dir: &Path) -> io::Result<Self> {
        let opening = Self { dir: dir.to_owned() };
        match fs::read(dir.join(OPENING)) {
            Ok(kept) => opening.put_back(&kept)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => opening.keep()?,
            Err(e) => return Err(e),
        }
        Ok(opening)
    }

    /// Makes durable what the opening has done, and then lets go of what was kept. To be called before anything is
    /// written to the store.
    ///
    /// # Errors
    /// The file system refused.
    pub fn done(self) -> io::Result<()> {
        File::open(self.dir.join(LOG))?.sync_all()?;
        let names = File::open(&self.dir)?;
        names.sync_all()?;
        match fs::remove_file(self.dir.join(OPENING)) {
            // There was nothing to keep.
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.and_then(|()| names.sync_all()),
        }
    }

    fn keep(&self) -> io::Result<()> {
        let log = match File::open(self.dir.join(LOG)) {
            // A log that is gone is made anew, and then lacks its first row.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened?,
        };
        log.sync_all()?;
        let mut parts = Vec::new();
        for offset in end_of(&headers(&log)?) {
            let mut bytes = vec![0; SEGMENT_BYTES as usize];
            let read = read_up_to(&log, &mut bytes, offset)?;
            bytes.truncate(read);
            parts.push(Part::Log(offset, bytes));
        }
        for (number, path) in self.snapshots()? {
            parts.push(Part::Snapshot(number, fs::read(path)?));
        }
        if parts.is_empty() {
            return Ok(());
        }
        disk::replace(&RealDisk::open(&self.dir)?, OPENING_NEW, OPENING, &Part::encode_all(&parts))
    }

    fn put_back(&self, kept: &[u8]) -> io::Result<()> {
        let parts = Part::decode_all(kept).ok_or_else(|| self.damaged())?;
        let log = File::options().write(true).create(true).truncate(false).open(self.dir.join(LOG))?;
        for part in parts {
            match part {
                Part::Log(offset, bytes) => log.write_all_at(&bytes, offset)?,
                Part::Snapshot(number, bytes) => {
                    disk::replace(&RealDisk::open(&self.dir)?, SNAPSHOT_NEW, &snapshot_name(number), &bytes)?
                }
            }
        }
        log.sync_all()
    }

    fn damaged(&self) -> io::Error {
        let path = self.dir.join(OPENING);
        io::Error::other(format!(
            "{} is damaged: restore the data directory from a backup, then start once with --restored",
            path.display()
        ))
    }

    fn snapshots(&self) -> io::Result<Vec<(u64, PathBuf)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let number =
                name.to_str().and_then(|name| u64::from_str_radix(name.strip_prefix(SNAPSHOT)?, 16).ok());
            found.extend(number.map(|number| (number, entry.path())));
        }
        Ok(found)
    }
}

fn snapshot_name(number: u64) -> String {
    format!("{SNAPSHOT}{number:016X}")
}

/// A segment that says of itself what it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Header {
    /// Where it stands in the file.
    offset: u64,
    /// Where it begins in the log.
    lsn: u64,
    /// Up to where the log was stable when it was begun.
    stable: u64,
}

impl Header {
    fn decode(bytes: &[u8; SEGMENT_HEADER_BYTES], offset: u64) -> Option<Self> {
        let number = |at: usize| {
            let mut number = [0; 8];
            number.copy_from_slice(&bytes[at..at + 8]);
            // What is not stable yet is told as -1.
            i64::try_from(u64::from_le_bytes(number) ^ i64::MAX as u64).map_or(0, |number| number as u64)
        };
        let mut checksum = [0; 4];
        checksum.copy_from_slice(&bytes[..4]);
        // CRC-32 as in IEEE 802.3, with every bit turned over.
        let holds = u32::from_le_bytes(checksum) ^ u32::MAX == crc32fast::hash(&bytes[4..]);
        holds.then(|| Self { offset, lsn: number(4), stable: number(12) })
    }
}

fn headers(log: &File) -> io::Result<Vec<Header>> {
    let segments = log.metadata()?.len().div_ceil(SEGMENT_BYTES);
    let mut headers = Vec::new();
    for offset in (0..segments).map(|segment| segment * SEGMENT_BYTES) {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        if read_up_to(log, &mut bytes, offset)? == bytes.len() {
            headers.extend(Header::decode(&bytes, offset));
        }
    }
    Ok(headers)
}

/// The offsets of the segments among which the end of the log is looked for: none if there is only one segment, which
/// can't be overwritten.
fn end_of(headers: &[Header]) -> Vec<u64> {
    let stable = headers.iter().map(|header| header.stable).max().unwrap_or(0);
    let from = stable / SEGMENT_BYTES * SEGMENT_BYTES;
    if headers.len() < 2 {
        return Vec::new();
    }
    headers.iter().filter(|header| header.lsn >= from).map(|header| header.offset).collect()
}

fn read_up_to(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < bytes.len() {
        match file.read_at(&mut bytes[read..], offset + read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(read)
}

impl Part {
    fn encode_all(parts: &[Self]) -> Vec<u8> {
        let mut out = vec![0; CHECKSUM_BYTES];
        for part in parts {
            let (kind, place, bytes) = match part {
                Self::Log(offset, bytes) => (0, offset, bytes),
                Self::Snapshot(number, bytes) => (1, number, bytes),
            };
            out.push(kind);
            out.extend(place.to_le_bytes());
            out.extend((bytes.len() as u64).to_le_bytes());
            out.extend(bytes);
        }
        let checksum = crc32c::crc32c(&out[CHECKSUM_BYTES..]);
        out[..CHECKSUM_BYTES].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    fn decode_all(kept: &[u8]) -> Option<Vec<Self>> {
        let (checksum, mut bytes) = kept.split_first_chunk::<CHECKSUM_BYTES>()?;
        if u32::from_le_bytes(*checksum) != crc32c::crc32c(bytes) {
            return None;
        }
        let mut parts = Vec::new();
        while !bytes.is_empty() {
            let (header, rest) = bytes.split_at_checked(PART_HEADER_BYTES)?;
            let number = |at: usize| Some(u64::from_le_bytes(header[at..at + 8].try_into().ok()?));
            let (content, rest) = rest.split_at_checked(usize::try_from(number(9)?).ok()?)?;
            parts.push(match header[0] {
                0 => Self::Log(number(1)?, content.to_vec()),
                1 => Self::Snapshot(number(1)?, content.to_vec()),
                _ => return None,
            });
            bytes = rest;
        }
        Some(parts)
    }
}

#[cfg(test)]
#[path = "opening_tests.rs"]
mod tests;

//! The format of a segment: its header and its records. Pure: bytes in, bytes out.
//!
//! ```text
//! header   magic 8 | format u16 | zero u16 | slot u32 | segment u64 | lowest live segment u64 | boot 16 | crc u32
//! record   body length u32 | crc u32 | tag of the record before u32 | body
//! ```
//!
//! Behind the last record stand zeros, if anything: space that was allotted ahead.
//!
//! All integers are little-endian; a body is one encoded [`Entry`]. A record's CRC32C covers its segment, slot, offset
//! and format too, so a record that turns up anywhere but where it was written is not one. Its *tag* (of saga id and
//! length) is repeated in the record behind it: if a record is damaged, its successor still says whose it was.

use serde::{Deserialize, Serialize};

use like_protocol::checksum::crc32c_of;
use like_protocol::codec;
use like_protocol::ids::{BootId, SagaId};

use crate::saga::Event;

/// The version of everything in this file and of the stored [`Event`]s. A program refuses a newer one and leaves it
/// untouched.
pub const FORMAT_VERSION: u16 = 1;

/// The first bytes of a segment.
const MAGIC: [u8; 8] = *b"sagalog\n";

/// How many bytes a header takes.
pub const HEADER_BYTES: usize = 52;

/// How many bytes stand before a record's body.
pub const RECORD_HEAD_BYTES: usize = 12;

/// The largest body. Parameters and replies are bounded by the wire's `PAYLOAD_BYTES_MAX`, texts are cut by the runner;
/// a longer claim in a record's head is not believed.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// Stands in the header of a segment whose boot is not known.
const NO_BOOT: BootId = BootId::from_bytes([0; 16]);

/// The tag that stands in a segment's first record, which has none before it.
pub const FIRST_TAG: u32 = 0;

/// How the encoding of [`Entry::Saga`] begins.
const SAGA_VARIANT: u8 = 0;

/// Which segment of which slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// The slot's number.
    pub slot: u32,
    /// The segment's number in its slot, counted from 1.
    pub segment: u64,
}

/// What a record says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Entry {
    /// Something happened to a saga.
    Saga(SagaRecord),
    /// Everything in this segment before this offset was durable when this record was written.
    DurableTo(u64),
    /// The carry-over ends here: the segment stands for all older ones.
    CarriedOver,
    /// Older segments that are kept as history, and where each of them ends: what is missing there is damage.
    Kept(Vec<KeptSegment>),
    /// The runner has let go of its slot in good order, and nothing follows. Everything before this offset was durable.
    LetGo(u64),
}

impl Entry {
    /// Whether it stands behind a whole carry-over only: an offset is called durable after the carry-over was.
    pub fn proves_carry_over(&self) -> bool {
        matches!(self, Self::CarriedOver | Self::DurableTo(_) | Self::LetGo(_))
    }
}

/// An older segment that is kept as history.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeptSegment {
    /// Which one.
    pub segment: u64,
    /// Where its valid part ends.
    pub end: u64,
    /// Up to where it is known to be durable. What its runner wrote last, and nobody synced, a power cut may still take.
    pub durable: u64,
    /// The tag of its last record.
    pub tag: u32,
}

/// One event of one saga.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SagaRecord {
    /// Which saga.
    pub saga: SagaId,
    /// The event's place in its saga, counted from 0 (its `Begun`) without gaps: a gap shows that a record is lost.
    pub seq: u32,
    /// Wall time in milliseconds since the Unix epoch, for people.
    pub at_ms: u64,
    /// What happened.
    pub event: Event,
}

/// A segment's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Where it was written.
    pub place: Place,
    /// The lowest segment of the slot that counts; older ones that reappear (their deletion was not synced) don't.
    pub lowest_live: u64,
    /// The boot of the host in which it is written: as long as that goes on, nothing of it is lost to a power cut.
    pub boot: Option<BootId>,
}

/// Why bytes are no header that this program can use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadHeader {
    /// Too short, damaged, or of another place: the segment may be an unfinished one.
    Unreadable,
    /// Written by a newer program.
    Newer(u16),
}

impl Header {
    /// Its bytes.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.place.slot.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.place.segment.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.lowest_live.to_le_bytes());
        bytes[32..48].copy_from_slice(self.boot.unwrap_or(NO_BOOT).as_bytes());
        let crc = crc32c::crc32c(&bytes[..48]);
        bytes[48..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the header of the segment that should stand at `place`.
    ///
    /// # Errors
    /// See [`BadHeader`]. A newer format is told from damage by its intact checksum.
    pub fn decode(bytes: &[u8], place: Place) -> Result<Self, BadHeader> {
        let Some(bytes) = bytes.get(..HEADER_BYTES) else { return Err(BadHeader::Unreadable) };
        let intact = bytes[..8] == MAGIC && u32_at(bytes, 48) == crc32c::crc32c(&bytes[..48]);
        if !intact {
            return Err(BadHeader::Unreadable);
        }
        let format = u16::from_le_bytes([bytes[8], bytes[9]]);
        if format > FORMAT_VERSION {
            return Err(BadHeader::Newer(format));
        }
        let header = Self {
            place: Place { slot: u32_at(bytes, 12), segment: u64_at(bytes, 16) },
            lowest_live: u64_at(bytes, 24),
            boot: bytes[32..48].try_into().ok().map(BootId::from_bytes).filter(|boot| *boot != NO_BOOT),
        };
        if header.place == place { Ok(header) } else { Err(BadHeader::Unreadable) }
    }
}

/// A record that was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decoded {
    /// What it says.
    pub entry: Entry,
    /// How many bytes it takes, head included.
    pub bytes: usize,
    /// Its own tag.
    pub tag: u32,
    /// The tag of the record before it, as it was when this one was written.
    pub tag_before: u32,
}

/// An entry that is too large to be a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a log record is over the limit of {BODY_BYTES_MAX} bytes")]
pub struct TooLarge;

/// Appends an entry's record to `out`, whose end stands at `offset` in the segment, and returns the record's tag.
///
/// # Errors
/// The entry is larger than [`BODY_BYTES_MAX`]; `out` is as it was.
pub fn encode(
    place: Place,
    offset: u64,
    tag_before: u32,
    entry: &Entry,
    out: &mut Vec<u8>,
) -> Result<u32, TooLarge> {
    let start = out.len();
    out.extend_from_slice(&[0; RECORD_HEAD_BYTES]);
    let encoded = encode_body(entry, out);
    let bytes = out.len() - start - RECORD_HEAD_BYTES;
    if encoded.is_err() || bytes > BODY_BYTES_MAX {
        out.truncate(start);
        return Err(TooLarge);
    }
    let (head, body) = out[start..].split_at_mut(RECORD_HEAD_BYTES);
    head[..4].copy_from_slice(&(bytes as u32).to_le_bytes());
    head[4..8].copy_from_slice(&checksum(place, offset, tag_before, body).to_le_bytes());
    head[8..].copy_from_slice(&tag_before.to_le_bytes());
    Ok(tag_of(entry, RECORD_HEAD_BYTES + bytes))
}

/// The front of a saga's record is nearly always the same, and is encoded as it would be with the rest: all the quicker.
fn encode_body(entry: &Entry, out: &mut Vec<u8>) -> Result<(), codec::CodecError> {
    let Entry::Saga(SagaRecord { saga, seq, at_ms, event }) = entry else {
        return codec::encode_onto(entry, out);
    };
    out.push(SAGA_VARIANT);
    out.extend_from_slice(saga.as_bytes());
    codec::encode_onto(&(seq, at_ms, event), out)
}

/// Reads the record at `offset` of a segment; `None` if there is no intact one.
pub fn decode(place: Place, segment: &[u8], offset: usize) -> Option<Decoded> {
    let head = segment.get(offset..offset + RECORD_HEAD_BYTES)?;
    let length = u32_at(head, 0) as usize;
    if length > BODY_BYTES_MAX {
        return None;
    }
    let start = offset + RECORD_HEAD_BYTES;
    let body = segment.get(start..start + length)?;
    let tag_before = u32_at(head, 8);
    if u32_at(head, 4) != checksum(place, offset as u64, tag_before, body) {
        return None;
    }
    let entry: Entry = codec::decode(body).ok()?;
    let bytes = RECORD_HEAD_BYTES + length;
    Some(Decoded { tag: tag_of(&entry, bytes), entry, bytes, tag_before })
}

/// How many bytes the record at the start of `bytes`, damaged or not, says it takes, head included.
pub(super) fn claimed_bytes(bytes: &[u8]) -> Option<usize> {
    bytes.get(..RECORD_HEAD_BYTES).map(|head| RECORD_HEAD_BYTES + u32_at(head, 0) as usize)
}

/// The saga whose record the one at the start of `bytes`, damaged or not, says it is: the id stands first in the body.
pub(super) fn claimed_saga(bytes: &[u8]) -> Option<SagaId> {
    let id = bytes.get(RECORD_HEAD_BYTES + 1..RECORD_HEAD_BYTES + 17)?;
    id.try_into().ok().map(SagaId::from_bytes)
}

/// The tag of a saga's record that takes so many bytes, head included.
pub fn saga_tag(saga: SagaId, bytes: usize) -> u32 {
    tag(saga.as_bytes(), bytes)
}

/// The tag of a record that belongs to no saga.
pub fn no_saga_tag(bytes: usize) -> u32 {
    tag(&[0; 16], bytes)
}

fn tag_of(entry: &Entry, bytes: usize) -> u32 {
    match entry {
        Entry::Saga(record) => saga_tag(record.saga, bytes),
        Entry::DurableTo(_) | Entry::CarriedOver | Entry::Kept(_) | Entry::LetGo(_) => no_saga_tag(bytes),
    }
}

fn tag(name: &[u8; 16], bytes: usize) -> u32 {
    crc32c_of([name, &(bytes as u64).to_le_bytes()])
}

fn checksum(place: Place, offset: u64, tag_before: u32, body: &[u8]) -> u32 {
    let mut head = [0; 30];
    head[..2].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    head[2..6].copy_from_slice(&place.slot.to_le_bytes());
    head[6..14].copy_from_slice(&place.segment.to_le_bytes());
    head[14..22].copy_from_slice(&offset.to_le_bytes());
    head[22..26].copy_from_slice(&(body.len() as u32).to_le_bytes());
    head[26..].copy_from_slice(&tag_before.to_le_bytes());
    crc32c_of([&head, body])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

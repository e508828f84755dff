//! Reads a segment's bytes: its records, where its valid part ends, and what of it is damaged. Pure.

use like_protocol::ids::SagaId;

use super::record::{self, Decoded, Entry, HEADER_BYTES, Place, SagaRecord};

/// What a segment's bytes hold.
#[derive(Debug, Default)]
pub struct Scan {
    /// The records of sagas with their offsets, in order, the torn tail left out.
    pub records: Vec<(u64, SagaRecord)>,
    /// Whether the carry-over is complete, so that the segment stands for all older ones.
    pub complete: bool,
    /// Where the valid part ends: what follows is a torn tail, or nothing.
    pub end: u64,
    /// Whether anything follows.
    pub torn: bool,
    /// What should be there and isn't.
    pub damage: Vec<BadStretch>,
}

/// A stretch of a segment, below an offset that was durable, that is no intact record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadStretch {
    /// Its first byte.
    pub from: u64,
    /// The first byte of the intact record behind it.
    pub to: u64,
    /// The tag that the record behind it gives for the one before it.
    pub tag: u32,
    /// The saga whose record the stretch still says to be; believed only if the tag agrees.
    pub claims: Option<SagaId>,
    /// Whether it still says to be exactly one record.
    pub claims_one: bool,
}

impl BadStretch {
    /// What the stretch at `from..to` says of itself, and what the record behind it says of it.
    fn found(bytes: &[u8], from: usize, to: usize, tag: u32) -> Self {
        let stretch = &bytes[from..to];
        Self {
            from: from as u64,
            to: to as u64,
            tag,
            claims: record::claimed_saga(stretch),
            claims_one: record::claimed_bytes(stretch) == Some(stretch.len()),
        }
    }

    /// The saga whose record the stretch certainly was, if that can still be read from it.
    pub fn names(&self) -> Option<SagaId> {
        self.claims.filter(|saga| self.is_of(*saga))
    }

    /// Whether the stretch is exactly one record, and that of this saga.
    pub fn is_of(&self, saga: SagaId) -> bool {
        record::saga_tag(saga, self.bytes()) == self.tag
    }

    /// Whether the stretch is exactly one record, and that of no saga.
    pub fn is_of_no_saga(&self) -> bool {
        record::no_saga_tag(self.bytes()) == self.tag
    }

    fn bytes(&self) -> usize {
        (self.to - self.from) as usize
    }
}

/// A damaged stretch as it is reported.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    /// Which slot and segment.
    pub place: Place,
    /// Its first byte.
    pub from: u64,
    /// The byte behind it.
    pub to: u64,
    /// The sagas that it may have hit.
    pub sagas: Vec<SagaId>,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { place, from, to, .. } = self;
        write!(f, "slot {} segment {}: bytes {from} to {to} are damaged", place.slot, place.segment)
    }
}

/// Scans a segment.
///
/// A bad record below the highest offset that the segment itself states to have been durable is damage; at or above it
/// begins the torn tail, and nothing behind that counts.
///
/// `carried` says that the carry-over is known to have been synced as a whole: then what is bad in it is damage too.
pub fn scan(place: Place, bytes: &[u8], carried: bool) -> Scan {
    let mut found = Vec::new();
    let mut stretches = Vec::new();
    let mut durable_to = 0;
    let mut offset = HEADER_BYTES.min(bytes.len());
    while offset < bytes.len() {
        let Some((at, decoded)) = next_intact(place, bytes, offset) else { break };
        if at > offset {
            stretches.push(BadStretch::found(bytes, offset, at, decoded.tag_before));
        }
        match decoded.entry {
            Entry::DurableTo(to) => durable_to = durable_to.max(to),
            Entry::CarriedOver if carried => durable_to = durable_to.max(at as u64),
            Entry::CarriedOver | Entry::Saga(_) => {}
        }
        offset = at + decoded.bytes;
        found.push((at as u64, decoded));
    }
    let end = stretches.iter().map(|s| s.from).find(|from| *from >= durable_to).unwrap_or(offset as u64);
    let mut scan = Scan { end, torn: end < bytes.len() as u64, ..Scan::default() };
    scan.damage = stretches.into_iter().filter(|stretch| stretch.from < durable_to).collect();
    scan.keep(found);
    scan
}

impl Scan {
    fn keep(&mut self, found: Vec<(u64, Decoded)>) {
        for (at, decoded) in found.into_iter().filter(|(at, _)| *at < self.end) {
            match decoded.entry {
                Entry::Saga(record) => self.records.push((at, record)),
                // An offset is called durable only after the carry-over was: either entry proves it complete.
                Entry::DurableTo(_) | Entry::CarriedOver => self.complete = true,
            }
        }
    }
}

/// The first intact record at or behind `from`. Tried at every byte, since a damaged length says nothing.
fn next_intact(place: Place, bytes: &[u8], from: usize) -> Option<(usize, Decoded)> {
    (from..bytes.len()).find_map(|at| record::decode(place, bytes, at).map(|decoded| (at, decoded)))
}

//! Reads a segment's bytes: its records, where its valid part ends, and what of it is damaged. Pure.
//!
//! Zeros behind the last record are space that was allotted and not used yet. No record is all zeros, though one may end in
//! some: so what was written reaches at least to the last byte that is none.

use std::borrow::Cow;
use std::ops::Range;

use like_protocol::ids::SagaId;

use super::record::{self, Decoded, Entry, FIRST_TAG, HEADER_BYTES, KeptSegment, Place, SagaRecord};

/// What is certain of a segment besides what it says itself: up to where whatever is bad is damage, and no torn tail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Certain {
    /// Nothing.
    Stated,
    /// Its carry-over was synced as a whole.
    CarryOver {
        /// Whether that is known though no power cut has come since. One whose takeover was killed before it synced counts
        /// like any other until then.
        proven: bool,
    },
    /// No power cut has come since it was written. One bad record among intact ones was changed later then; what looks
    /// torn all the same is taken for torn.
    Written {
        /// Whether its carry-over was synced as a whole, besides.
        carry_over: bool,
    },
    /// Where it ends, since it is history.
    End(KeptSegment),
}

impl Certain {
    fn has_carry_over(self) -> bool {
        matches!(self, Self::CarryOver { .. } | Self::Written { carry_over: true })
    }
}

/// What a segment's bytes hold.
#[derive(Debug, Default)]
pub struct Scan {
    /// The records of sagas with their offsets, in order, the torn tail left out.
    pub records: Vec<(u64, SagaRecord)>,
    /// Whether the carry-over is complete, so that the segment stands for all older ones.
    pub complete: bool,
    /// Where the valid part ends: what follows is a torn tail, or nothing but space.
    pub end: u64,
    /// Where what was written ends, a torn tail included.
    pub written: u64,
    /// Whether there is a torn tail.
    pub torn: bool,
    /// What should be there and isn't.
    pub damage: Vec<BadStretch>,
    /// The saga of each record of the torn tail, as far as it can be read.
    pub cut: Vec<SagaId>,
    /// Up to where it is known to be durable.
    pub durable_to: u64,
    /// The tag of the last record of the valid part.
    pub tag: u32,
    /// Which older segments it says are kept.
    pub kept: Vec<KeptSegment>,
    /// Whether its runner has let go in good order.
    pub let_go: bool,
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
        // One that ends beyond the segment's end was cut off.
        let stretch = &bytes[from..to.min(bytes.len())];
        Self {
            from: from as u64,
            to: to as u64,
            tag,
            claims: record::claimed_saga(stretch),
            claims_one: record::claimed_bytes(stretch) == Some(stretch.len()),
        }
    }

    /// The saga whose record the stretch certainly was, if that can still be read from it: it may have lost one byte of
    /// its name.
    pub fn names(&self) -> Option<SagaId> {
        let claimed = self.claims?;
        let changed = (0..16).flat_map(|at| {
            (1..=u8::MAX).map(move |change| {
                let mut name = *claimed.as_bytes();
                name[at] ^= change;
                SagaId::from_bytes(name)
            })
        });
        std::iter::once(claimed).chain(changed).find(|saga| self.is_of(*saga))
    }

    /// Whether the stretch is exactly one record, and that of this saga.
    pub fn is_of(&self, saga: SagaId) -> bool {
        record::saga_tag(saga, self.bytes()) == self.tag
    }

    /// Whether the stretch is exactly one record, as far as that is certain.
    fn is_one_record(&self) -> bool {
        self.is_of_no_saga() || self.names().is_some()
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
    /// What is the matter with them: `are damaged`.
    pub what: Cow<'static, str>,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { place, from, to, what, .. } = self;
        write!(f, "slot {} segment {}: bytes {from} to {to} {what}", place.slot, place.segment)
    }
}

/// Scans a segment.
///
/// A bad record below the highest offset that is known to have been durable is damage, whether the segment states that
/// offset itself or it is certain otherwise; at or above it begins the torn tail, and nothing behind that counts. Zeros are
/// no intact record, so in front of one, or below where a segment is known to end, they are bad like anything else.
pub fn scan(place: Place, bytes: &[u8], certain: Certain) -> Scan {
    let end_of = |kept: &KeptSegment| usize::try_from(kept.end).unwrap_or(usize::MAX);
    let bytes = match &certain {
        // Behind its end stands what was a torn tail when it was the head.
        Certain::End(kept) => &bytes[..bytes.len().min(end_of(kept))],
        _ => bytes,
    };
    let mut scan = Scan { tag: FIRST_TAG, ..Scan::default() };
    let (mut words, mut stretches) = (Vec::new(), Vec::new());
    let mut offset = HEADER_BYTES.min(bytes.len());
    let zeros_from = zeros_from(bytes);
    while offset < zeros_from {
        let Some((at, decoded)) = next_intact(place, bytes, offset..zeros_from) else { break };
        if at > offset {
            stretches.push((BadStretch::found(bytes, offset, at, decoded.tag_before), scan.tag));
        }
        match decoded.entry {
            Entry::DurableTo(to) | Entry::LetGo(to) => scan.durable_to = scan.durable_to.max(to),
            Entry::CarriedOver if certain.has_carry_over() => {
                scan.durable_to = scan.durable_to.max(at as u64)
            }
            _ => {}
        }
        match decoded.entry {
            Entry::Saga(record) => scan.records.push((at as u64, record)),
            word => words.push((at as u64, word)),
        }
        (offset, scan.tag) = (at + decoded.bytes, decoded.tag);
    }
    if let Certain::End(kept) = certain {
        scan.durable_to = scan.durable_to.max(kept.durable);
        if (offset as u64) < kept.durable {
            stretches.push((BadStretch::found(bytes, offset, end_of(&kept), kept.tag), scan.tag));
            offset = bytes.len();
        }
    }
    let carried = words.iter().find(|(_, word)| word.proves_carry_over()).map(|(at, _)| *at);
    let is_damage = |stretch: &BadStretch| {
        let changed =
            matches!(certain, Certain::Written { .. }) && carried.is_some_and(|at| at < stretch.from);
        stretch.from < scan.durable_to || (changed && stretch.is_one_record())
    };
    let torn_from = stretches.iter().position(|(stretch, _)| !is_damage(stretch));
    let torn = stretches.split_off(torn_from.unwrap_or(stretches.len()));
    scan.damage = stretches.into_iter().map(|(stretch, _)| stretch).collect();
    scan.end = offset as u64;
    if let Some((stretch, tag_before)) = torn.first() {
        (scan.end, scan.tag) = (stretch.from, *tag_before);
    }
    scan.cut = torn.iter().filter_map(|(stretch, _)| stretch.names()).collect();
    scan.cut_off(words);
    // Space is first allotted together with the mark, so zeros in its place are none.
    scan.written = if scan.complete { offset.max(zeros_from) } else { bytes.len() } as u64;
    scan.torn = scan.end < scan.written;
    scan
}

/// Behind which byte there is nothing but zeros. Read in blocks, which is fast: there may be a lot of them.
fn zeros_from(bytes: &[u8]) -> usize {
    const BLOCK_BYTES: usize = 1024;
    let is_zero = |block: &[u8]| block.iter().fold(0, |all, byte| all | byte) == 0;
    let zero = bytes.rchunks(BLOCK_BYTES).take_while(|block| is_zero(block)).map(<[u8]>::len).sum::<usize>();
    let rest = &bytes[..bytes.len() - zero];
    rest.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

impl Scan {
    /// Leaves out what stands behind the end, and takes in what the rest of the words say that belong to no saga.
    fn cut_off(&mut self, words: Vec<(u64, Entry)>) {
        let behind = self.records.split_off(self.records.partition_point(|(at, _)| *at < self.end));
        self.cut.extend(behind.into_iter().map(|(_, record)| record.saga));
        for (_, word) in words.into_iter().filter(|(at, _)| *at < self.end) {
            self.complete |= word.proves_carry_over();
            match word {
                Entry::Kept(kept) => self.kept.extend(kept),
                Entry::LetGo(_) => self.let_go = true,
                Entry::Saga(_) | Entry::DurableTo(_) | Entry::CarriedOver => {}
            }
        }
    }
}

/// The first intact record that begins in a range. Tried at every byte, since a damaged length says nothing.
fn next_intact(place: Place, bytes: &[u8], mut range: Range<usize>) -> Option<(usize, Decoded)> {
    range.find_map(|at| record::decode(place, bytes, at).map(|decoded| (at, decoded)))
}

//! A slot of a saga log: any bytes as segments, and any entries as whole records.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use like_client::log::record::{Entry, FIRST_TAG, HEADER_BYTES, Header, Place, decode, encode};
use like_client::log::{Disk, Journal, Keeping, history, take_over};
use like_protocol::codec;
use like_protocol::ids::{BootId, SagaId};

use super::ram::{Files, RamDisk};

const BOOT: BootId = BootId::from_bytes([2; 16]);

/// How much space stands behind some segments that are made of entries.
const SPACE_BYTES: usize = 200;

/// Each piece of input is a segment. Its first byte says how it is made of the rest: as it is; or of pieces that are
/// entries, written as a log writes them; or so with one byte changed; and whether space follows. No saga is told that no
/// record names.
pub fn log(data: &[u8]) {
    let mut files = Files::new();
    let mut named = BTreeSet::new();
    for (segment, piece) in (1..).zip(super::pieces(data).into_iter().take(3)) {
        let place = Place { slot: 0, segment };
        let bytes = segment_of(place, piece);
        named.extend((0..bytes.len()).filter_map(|at| match decode(place, &bytes, at)?.entry {
            Entry::Saga(record) => Some(record.saga),
            _ => None,
        }));
        // What is left of a damaged record may still name its saga.
        named.extend(bytes.windows(16).filter_map(|name| Some(SagaId::from_bytes(name.try_into().ok()?))));
        files.insert(Path::new("/journal/0").join(format!("{segment:08}.log")), bytes);
    }
    if files.is_empty() {
        return;
    }
    let disk = RamDisk::of(files, Some(BOOT), 1_000_000);
    let journal = Journal::open_on(Arc::new(disk.clone()), Path::new("/journal")).expect("a journal");
    let before = history::read(&journal).expect("a journal");
    let near = |saga: &SagaId| {
        let differs =
            |name: &SagaId| name.as_bytes().iter().zip(saga.as_bytes()).filter(|(a, b)| a != b).count();
        named.iter().any(|name| differs(name) <= 1)
    };
    assert!(before.sagas.iter().all(|(_, story)| near(&story.saga)), "a saga was invented");
    let slot = journal.slots().expect("slots").remove(0);
    // A newer program's slot is left alone.
    let Ok(Some(lock)) = journal.claim(&slot) else { return };
    let Ok(taken) = take_over(lock, Keeping::default()) else { return };
    assert!(taken.open.iter().all(|story| near(&story.saga)), "a saga was invented");
    let open: BTreeSet<_> = taken.open.iter().map(|story| story.saga).collect();
    taken.log.let_go();
    disk.sync();
    assert!(before.gaps.skipped.is_empty());
    let unfinished = before.sagas.iter().filter(|(_, story)| story.is_open()).map(|(_, story)| story.saga);
    assert!(unfinished.collect::<BTreeSet<_>>().is_subset(&open), "a saga was forgotten");
    let after = history::open_in(&slot).expect("a whole slot");
    assert_eq!(after.iter().map(|story| story.saga).collect::<BTreeSet<_>>(), open);
    assert_eq!(disk.boot(), Some(BOOT));
}

fn segment_of(place: Place, piece: &[u8]) -> Vec<u8> {
    let Some((how, rest)) = piece.split_first() else { return Vec::new() };
    if how % 3 == 0 {
        return rest.to_vec();
    }
    let boot = (how & 0x80 == 0).then_some(BOOT);
    let mut bytes = Header { place, lowest_live: 1, boot }.encode().to_vec();
    let mut tag = FIRST_TAG;
    for entry in super::pieces(rest) {
        if let Ok(entry) = codec::decode::<Entry>(entry) {
            tag = encode(place, bytes.len() as u64, tag, &entry, &mut bytes).unwrap_or(tag);
        }
    }
    if how % 3 == 2 {
        let at = HEADER_BYTES + usize::from(*how) * 31 % (bytes.len() - HEADER_BYTES).max(1);
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 0x11;
        }
    }
    if how & 0x40 != 0 {
        bytes.resize(bytes.len() + SPACE_BYTES, 0);
    }
    bytes
}

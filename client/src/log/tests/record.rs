//! Records and headers: what is written is read, and nothing else is believed.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::log::record::{
    BODY_BYTES_MAX, BadHeader, FORMAT_VERSION, HEADER_BYTES, RECORD_HEAD_BYTES, decode, saga_tag,
};
use like_protocol::message::Payload;

fn entry() -> Entry {
    Entry::Saga(SagaRecord { saga: saga(1), seq: 2, at_ms: 3, event: done(1) })
}

fn encoded(place: Place, offset: u64) -> Vec<u8> {
    let mut bytes = vec![0; offset as usize];
    encode(place, offset, 77, &entry(), &mut bytes).unwrap();
    bytes
}

#[test]
fn a_record_says_whose_the_one_before_it_was() {
    let bytes = encoded(PLACE, 36);
    let read = decode(PLACE, &bytes, 36).unwrap();
    assert_eq!((read.entry, read.tag_before), (entry(), 77));
    assert_eq!(read.bytes, bytes.len() - 36);
    assert_eq!(read.tag, saga_tag(saga(1), read.bytes));
}

#[test]
fn a_record_is_believed_only_where_it_was_written() {
    let bytes = encoded(PLACE, 36);
    let copy = |to: usize| [vec![0; to], bytes[36..].to_vec()].concat();
    assert!(decode(PLACE, &copy(36), 36).is_some());
    assert_eq!(decode(PLACE, &copy(37), 37), None);
    assert_eq!(decode(PLACE, &copy(4096), 4096), None);
    assert_eq!(decode(Place { segment: 6, ..PLACE }, &bytes, 36), None);
    assert_eq!(decode(Place { slot: 4, ..PLACE }, &bytes, 36), None);
}

#[test]
fn an_entry_that_is_too_large_is_refused_and_nothing_is_written() {
    let large = |bytes| Event::ActionDone { step: 0, reply: Payload::from(vec![0; bytes]) };
    let entry = |event| Entry::Saga(SagaRecord { saga: saga(1), seq: 0, at_ms: 0, event });
    let mut out = vec![1, 2, 3];
    encode(PLACE, 3, 0, &entry(large(BODY_BYTES_MAX - 64)), &mut out).unwrap();
    let largest = 2 * BODY_BYTES_MAX - 64 - (out.len() - 3 - RECORD_HEAD_BYTES);
    out.truncate(3);
    // Far more than that the codec refuses itself.
    for too_large in [largest + 1, 2 * 1024 * 1024] {
        let error = encode(PLACE, 3, 0, &entry(large(too_large)), &mut out).unwrap_err();
        assert_eq!(error.to_string(), "a log record is over the limit of 65536 bytes");
        assert_eq!(out, [1, 2, 3]);
    }
    encode(PLACE, 3, 0, &entry(large(largest)), &mut out).unwrap();
    assert_eq!(decode(PLACE, &out, 3).map(|read| read.bytes), Some(RECORD_HEAD_BYTES + BODY_BYTES_MAX));
}

#[test]
fn a_header_is_believed_only_where_it_was_written() {
    let header = Header { place: PLACE, lowest_live: 2, boot: None };
    assert_eq!(Header::decode(&header.encode(), PLACE), Ok(header));
    for elsewhere in [Place { slot: 4, ..PLACE }, Place { segment: 4, ..PLACE }] {
        assert_eq!(Header::decode(&header.encode(), elsewhere), Err(BadHeader::Unreadable));
    }
}

#[test]
fn a_header_with_any_byte_changed_or_missing_is_unreadable_and_never_a_newer_one() {
    let bytes = Header { place: PLACE, lowest_live: 2, boot: None }.encode();
    for at in 0..HEADER_BYTES {
        let mut changed = bytes;
        changed[at] ^= 0x41;
        assert_eq!(Header::decode(&changed, PLACE), Err(BadHeader::Unreadable), "byte {at}");
        assert_eq!(Header::decode(&bytes[..at], PLACE), Err(BadHeader::Unreadable), "cut at {at}");
    }
}

/// A header with these bytes in it, and a checksum that fits.
fn resealed(at: usize, changed: &[u8]) -> [u8; HEADER_BYTES] {
    let mut bytes = Header { place: PLACE, lowest_live: 2, boot: None }.encode();
    bytes[at..at + changed.len()].copy_from_slice(changed);
    let crc = crc32c::crc32c(&bytes[..48]);
    bytes[48..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

#[test]
fn a_newer_format_is_known_by_its_intact_header() {
    for newer in [FORMAT_VERSION + 1, 0x0100] {
        let bytes = resealed(8, &newer.to_le_bytes());
        assert_eq!(Header::decode(&bytes, PLACE), Err(BadHeader::Newer(newer)));
    }
}

#[test]
fn what_does_not_begin_as_segments_do_is_none_of_any_format() {
    let bytes = resealed(0, b"otherlog\x02");
    assert_eq!(Header::decode(&bytes, PLACE), Err(BadHeader::Unreadable));
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(
        fates in vec(any::<u8>(), 0..20), slot: u32, segment: u64, start in 0usize..5000, tag: u32, at_ms: u64,
    ) {
        let place = Place { slot, segment };
        for (seq, event) in (0..).zip(live(&fates, true)) {
            let entry = Entry::Saga(SagaRecord { saga: saga(9), seq, at_ms, event });
            let mut bytes = vec![0; start];
            let own_tag = encode(place, start as u64, tag, &entry, &mut bytes).unwrap();
            let read = decode(place, &bytes, start).unwrap();
            prop_assert_eq!(read.bytes, bytes.len() - start);
            prop_assert_eq!((read.entry, read.tag, read.tag_before), (entry, own_tag, tag));
        }
    }

    #[test]
    fn no_bytes_make_decoding_panic(bytes in vec(any::<u8>(), 0..200), offset in 0usize..220) {
        prop_assert_eq!(decode(PLACE, &bytes, offset), None);
        prop_assert_eq!(Header::decode(&bytes, PLACE), Err(BadHeader::Unreadable));
    }
}

//! The stored format, byte by byte. A change here strands every log that was ever written: it needs a new
//! `FORMAT_VERSION` and a program that still reads the old one, or it must not be made.

use std::collections::BTreeSet;

use super::*;
use crate::log::record::{FORMAT_VERSION, KeptSegment};
use crate::saga::event::{Failure, FailureKind};
use crate::saga::{ParticipantAt, PlannedStep, Refusal, TurnBack};
use like_protocol::codec;
use like_protocol::ids::{BootId, StoreId};
use like_protocol::message::Payload;
use like_protocol::time::Deadline;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_format_is_the_first() {
    assert_eq!(FORMAT_VERSION, 1);
}

#[test]
fn a_header_is_these_bytes() {
    let header = Header { place: PLACE, lowest_live: 2, boot: Some(BootId::from_bytes([0x77; 16])) };
    let golden = "736167616c6f670a010000000300000005000000000000000200000000000000";
    assert_eq!(hex(&header.encode()), format!("{golden}{}56751d3f", "77".repeat(16)));
    assert_eq!(Header::decode(&header.encode(), PLACE), Ok(header));
}

#[test]
fn a_record_is_these_bytes() {
    let mut bytes = Vec::new();
    let entry = Entry::Saga(SagaRecord { saga: saga(0xa1), seq: 300, at_ms: 1 << 40, event: Event::Settled });
    let tag = encode(PLACE, 36, 0x0102_0304, &entry, &mut bytes).unwrap();
    assert_eq!(
        hex(&bytes),
        "1e0000004d307b390403020100a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1fb2c01fd00000000000100000e"
    );
    assert_eq!(tag, 0x70bd9a3);
    // What belongs to no saga has a tag as well.
    let tags = [Entry::CarriedOver, Entry::DurableTo(70_000)]
        .map(|entry| encode(PLACE, 36, 0, &entry, &mut Vec::new()).unwrap());
    assert_eq!(tags, [0xaee1177e, 0x92f51f14]);
}

#[test]
fn entries_are_these_bytes() {
    assert_eq!(hex(&codec::encode(&Entry::DurableTo(70_000)).unwrap().0), "01fc70110100");
    assert_eq!(hex(&codec::encode(&Entry::CarriedOver).unwrap().0), "02");
    let kept = KeptSegment { segment: 4, end: 300, durable: 6, tag: 5 };
    assert_eq!(hex(&codec::encode(&Entry::Kept(vec![kept])).unwrap().0), "030104fb2c010605");
    assert_eq!(hex(&codec::encode(&Entry::LetGo(300)).unwrap().0), "04fb2c01");
}

fn failure(kind: FailureKind) -> Failure {
    Failure { kind, detail: "why".to_owned() }
}

fn failed(kind: FailureKind) -> Event {
    Event::ActionFailed { step: 1, failure: failure(kind) }
}

fn refused(refusal: Refusal) -> Event {
    Event::ActionRefused { step: 1, refusal }
}

/// Every event, with every value of every enum in it, and its bytes.
fn every_event() -> Vec<(Event, &'static str)> {
    let deadline = Deadline { boot: BootId::from_bytes([0xb0; 16]), at_ms: 70_000 };
    let begun = crate::saga::Begun {
        kind: "kind".into(),
        version: 2,
        params: Payload::from(vec![1, 2, 3]),
        participants: vec![
            ParticipantAt { role: "role".into(), store: Some(StoreId::from_bytes([0x5d; 16])) },
            ParticipantAt { role: "lost".into(), store: None },
        ],
        steps: vec![PlannedStep { name: "step".into(), participant: 1, number: 4 }],
        deadline,
        by_uid: 1000,
    };
    let forced = |end| Event::Forced {
        end,
        reason: "why".to_owned(),
        by_uid: 1000,
        leaves_broken: vec!["what".to_owned()],
    };
    vec![
        (
            Event::Begun(begun.into()),
            "00046b696e6402030102030204726f6c65015d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d046c6f7374000104737465700104b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0fc70110100fbe803",
        ),
        (Event::ActionSent { step: 1, attempt: 2 }, "010102"),
        (Event::ActionDone { step: 1, reply: Payload::from(vec![7, 8]) }, "0201020708"),
        (Event::ActionRejected { step: 1, rejection: Payload::from(vec![7, 8]) }, "0301020708"),
        (refused(Refusal::Compensated), "040100"),
        (refused(Refusal::Expired), "040101"),
        (refused(Refusal::Final), "040102"),
        (failed(FailureKind::NotSent), "05010003776879"),
        (failed(FailureKind::Unknown), "05010103776879"),
        (failed(FailureKind::Locked), "05010203776879"),
        (failed(FailureKind::Busy), "05010303776879"),
        (failed(FailureKind::Storage), "05010403776879"),
        (failed(FailureKind::OtherStore), "05010503776879"),
        (failed(FailureKind::Invalid), "05010603776879"),
        (failed(FailureKind::Final), "05010703776879"),
        (failed(FailureKind::Damaged), "05010803776879"),
        (Event::TurnedBack(TurnBack::Rejected { step: 1 }), "060001"),
        (Event::TurnedBack(TurnBack::Refused { step: 1 }), "060101"),
        (Event::TurnedBack(TurnBack::Deadline { step: 1 }), "060201"),
        (Event::TurnedBack(TurnBack::Operator { by_uid: 1000 }), "0603fbe803"),
        (Event::CompensationSent { step: 1, attempt: 2 }, "070102"),
        (Event::CompensationDone { step: 1 }, "0801"),
        (
            Event::CompensationFailed { step: 1, in_a_row: 2, failure: failure(FailureKind::Unknown) },
            "0901020103776879",
        ),
        (Event::Ended(End::Completed), "0a00"),
        (Event::Ended(End::Compensated), "0a01"),
        (forced(End::Completed), "0b0003776879fbe803010477686174"),
        (forced(End::Compensated), "0b0103776879fbe803010477686174"),
        (Event::TakenOver { by_pid: 70_000 }, "0cfc70110100"),
        (Event::Resumed { deadline, by_uid: 1000 }, "0db0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0fc70110100fbe803"),
        (Event::Settled, "0e"),
        (Event::Quarantined { detail: "where".to_owned() }, "0f057768657265"),
    ]
}

#[test]
fn every_event_is_these_bytes() {
    for (event, bytes) in every_event() {
        assert_eq!(hex(&codec::encode(&event).unwrap().0), bytes, "{event:?}");
        let bytes: Vec<_> =
            (0..bytes.len() / 2).map(|at| u8::from_str_radix(&bytes[2 * at..2 * at + 2], 16)).collect();
        let bytes: Vec<u8> = bytes.into_iter().map(Result::unwrap).collect();
        assert_eq!(codec::decode::<Event>(&bytes).unwrap(), event);
    }
}

/// The number that an event's bytes begin with. A new event does not compile before it has a number here, and does not
/// pass before it has bytes above.
fn number(event: &Event) -> u8 {
    match event {
        Event::Begun(_) => 0,
        Event::ActionSent { .. } => 1,
        Event::ActionDone { .. } => 2,
        Event::ActionRejected { .. } => 3,
        Event::ActionRefused { .. } => 4,
        Event::ActionFailed { .. } => 5,
        Event::TurnedBack(_) => 6,
        Event::CompensationSent { .. } => 7,
        Event::CompensationDone { .. } => 8,
        Event::CompensationFailed { .. } => 9,
        Event::Ended(_) => 10,
        Event::Forced { .. } => 11,
        Event::TakenOver { .. } => 12,
        Event::Resumed { .. } => 13,
        Event::Settled => 14,
        Event::Quarantined { .. } => 15,
    }
}

/// As [`number`], for what is known of a failure.
fn failure_number(kind: FailureKind) -> u8 {
    match kind {
        FailureKind::NotSent => 0,
        FailureKind::Unknown => 1,
        FailureKind::Locked => 2,
        FailureKind::Busy => 3,
        FailureKind::Storage => 4,
        FailureKind::OtherStore => 5,
        FailureKind::Invalid => 6,
        FailureKind::Final => 7,
        FailureKind::Damaged => 8,
    }
}

#[test]
fn no_event_and_no_failure_is_left_out() {
    let events = every_event();
    let numbers: BTreeSet<_> = events.iter().map(|(event, _)| number(event)).collect();
    assert_eq!(numbers, (0..=15).collect());
    for (event, _) in &events {
        assert_eq!(codec::encode(event).unwrap().0[0], number(event), "{event:?}");
    }
    let kinds = events.iter().filter_map(|(event, _)| match event {
        Event::ActionFailed { failure, .. } => Some(failure_number(failure.kind)),
        _ => None,
    });
    assert_eq!(kinds.collect::<BTreeSet<_>>(), (0..=8).collect());
}

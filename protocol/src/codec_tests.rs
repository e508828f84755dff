use futures::{SinkExt, StreamExt};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::ids::{BootId, SagaId, StepId, StoreId};
use crate::message::{
    ClientHello, DaemonStatus, DamagedRow, Direction, Ending, MAGIC, NOTE_BYTES_MAX, PROTOCOL_VERSION,
    Refusal, Reply, ReplyBody, Request, RequestBody, RetryReason, SETTLEMENTS_MAX, ServerHello, Settlement,
    StepReply, StepRequest, TurnedAway, Unsettleable, UnsettledState, UnsettledStep, Welcome,
};
use crate::time::{Deadline, Now};

fn hello() -> ToDaemon {
    ToDaemon::Hello(ClientHello { magic: MAGIC, protocol: PROTOCOL_VERSION, software: "test".to_owned() })
}

async fn read_all(bytes: &[u8]) -> Vec<io::Result<ToDaemon>> {
    let (read, _) = daemon_end(bytes, tokio::io::sink());
    read.collect().await
}

async fn frames_of(messages: Vec<ToDaemon>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (_, mut write) = client_end(tokio::io::empty(), &mut bytes);
    for message in messages {
        write.feed(message).await.unwrap();
    }
    write.flush().await.unwrap();
    drop(write);
    bytes
}

#[tokio::test]
async fn what_is_written_is_read() {
    let request = ToDaemon::Request(Request { id: 7, body: RequestBody::Status });
    let bytes = frames_of(vec![hello(), request.clone()]).await;
    let read = read_all(&bytes).await;
    assert!(matches!(&read[..], [Ok(first), Ok(second)] if *first == hello() && *second == request));
}

#[tokio::test]
async fn a_frame_cut_short_is_never_a_message() {
    let bytes = frames_of(vec![hello()]).await;
    for cut in 1..bytes.len() {
        let read = read_all(&bytes[..cut]).await;
        assert!(read.iter().all(Result::is_err), "cut at {cut}: {read:?}");
    }
}

#[tokio::test]
async fn a_frame_longer_than_the_limit_is_refused_before_it_is_read() {
    let mut bytes = u32::try_from(REQUEST_FRAME_BYTES_MAX + 1).unwrap().to_be_bytes().to_vec();
    bytes.extend([0; 16]);
    let read = read_all(&bytes).await;
    assert!(matches!(&read[..], [Err(_)]), "{read:?}");
}

#[tokio::test]
async fn a_full_batch_of_settlements_fits_into_a_frame_with_the_longest_notes() {
    let settlement = Settlement {
        id: StepId { saga: SagaId::generate(), step: u8::MAX },
        deadline: Deadline { boot: BootId::from_bytes([7; 16]), at_ms: u64::MAX },
        ending: Ending::Forced,
        note: Some(Payload::from(vec![0xff; NOTE_BYTES_MAX])),
    };
    let body = RequestBody::Settle(vec![settlement; SETTLEMENTS_MAX]);
    let batch = ToDaemon::Request(Request { id: u64::MAX, body });
    let read = read_all(&frames_of(vec![batch.clone()]).await).await;
    assert!(matches!(&read[..], [Ok(read)] if *read == batch));
}

#[test]
fn an_encoder_keeps_no_memory_of_a_long_message() {
    let mut encoder = Encoder::default();
    for bytes in [10, 100 * KEPT_BYTES_MAX] {
        Pin::new(&mut encoder).serialize(&Payload::from(vec![7; bytes])).unwrap();
        assert!(encoder.message.capacity() <= KEPT_BYTES_MAX, "{bytes} bytes");
    }
}

#[test]
fn what_is_longer_than_the_longest_frame_is_not_encoded_and_leaves_nothing() {
    // A length of this size takes five bytes.
    let longest = vec![0u8; REPLY_FRAME_BYTES_MAX - 5];
    let longer = vec![0u8; REPLY_FRAME_BYTES_MAX - 4];
    assert_eq!(encode(&longest).unwrap().0.len(), REPLY_FRAME_BYTES_MAX);
    assert!(encode(&longer).is_err());
    let mut out = b"before".to_vec();
    assert!(encode_onto(&longer, &mut out).is_err());
    assert_eq!(out, b"before");
    encode_onto(&longest, &mut out).unwrap();
    assert_eq!((&out[..6], out.len()), (&b"before"[..], 6 + REPLY_FRAME_BYTES_MAX));
}

#[tokio::test]
async fn trailing_bytes_and_unknown_variants_are_refused() {
    for frame in [&[1u8, 7, 5, 0][..], &[9, 0], &[1, 7, 99]] {
        let mut bytes = u32::try_from(frame.len()).unwrap().to_be_bytes().to_vec();
        bytes.extend(frame);
        let read = read_all(&bytes).await;
        assert!(matches!(&read[..], [Err(_)]), "{frame:?}: {read:?}");
    }
}

#[tokio::test]
async fn nothing_is_read_behind_what_is_no_message() {
    let whole = frames_of(vec![hello()]).await;
    let nonsense = [&[0, 0, 0, 2, 9, 0][..], &whole].concat();
    let read = read_all(&nonsense).await;
    assert!(matches!(&read[..], [Err(_)]), "{read:?}");
}

#[test]
fn a_claimed_length_is_not_believed() {
    // A payload that claims to hold 2^60 bytes, in a buffer of nine.
    let hostile = [253, 0, 0, 0, 0, 0, 0, 0, 16];
    assert!(decode::<Payload>(&hostile).is_err());
}

proptest! {
    #[test]
    fn no_bytes_make_decoding_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode::<ToDaemon>(&bytes);
        let _ = decode::<FromDaemon>(&bytes);
    }
}

/// A peer that hands over its bytes in pieces of these sizes, by turns.
struct Pieces<'a> {
    bytes: &'a [u8],
    sizes: std::iter::Cycle<std::slice::Iter<'a, usize>>,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        into: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let size = self.sizes.next().copied().unwrap_or(1).min(self.bytes.len()).min(into.remaining());
        let (piece, rest) = self.bytes.split_at(size);
        into.put_slice(piece);
        self.bytes = rest;
        Poll::Ready(Ok(()))
    }
}

fn wait_for<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn saga() -> impl Strategy<Value = SagaId> {
    any::<[u8; 16]>().prop_map(SagaId::from_bytes)
}

fn step() -> impl Strategy<Value = StepId> {
    (saga(), any::<u8>()).prop_map(|(saga, step)| StepId { saga, step })
}

fn deadline() -> impl Strategy<Value = Deadline> {
    (any::<[u8; 16]>(), any::<u64>())
        .prop_map(|(boot, at_ms)| Deadline { boot: BootId::from_bytes(boot), at_ms })
}

fn payload() -> impl Strategy<Value = Payload> {
    vec(any::<u8>(), 0..300).prop_map(Payload::from)
}

fn settlement() -> impl Strategy<Value = Settlement> {
    let ending = prop_oneof![Just(Ending::Natural), Just(Ending::Forced)];
    (step(), deadline(), ending, option::of(payload())).prop_map(|(id, deadline, ending, note)| Settlement {
        id,
        deadline,
        ending,
        note,
    })
}

fn to_daemon() -> impl Strategy<Value = ToDaemon> {
    let direction = prop_oneof![Just(Direction::Action), Just(Direction::Compensation)];
    let step_request = (step(), direction, deadline(), payload())
        .prop_map(|(id, direction, deadline, operation)| StepRequest { id, direction, deadline, operation });
    let body = prop_oneof![
        step_request.prop_map(RequestBody::Step),
        vec(settlement(), 0..5).prop_map(RequestBody::Settle),
        payload().prop_map(RequestBody::Query),
        payload().prop_map(RequestBody::Command),
        (option::of(step()), any::<u32>()).prop_map(|(after, limit)| RequestBody::Unsettled { after, limit }),
        Just(RequestBody::Status),
    ];
    let hello = (any::<[u8; 4]>(), any::<u16>(), any::<String>())
        .prop_map(|(magic, protocol, software)| ClientHello { magic, protocol, software });
    prop_oneof![
        1 => hello.prop_map(ToDaemon::Hello),
        6 => (any::<u64>(), body).prop_map(|(id, body)| ToDaemon::Request(Request { id, body })),
    ]
}

fn damaged_row() -> impl Strategy<Value = DamagedRow> {
    (any::<String>(), any::<String>(), option::of(step()), any::<String>())
        .prop_map(|(row, what, step, why)| DamagedRow { row, what, step, why })
}

fn step_reply() -> impl Strategy<Value = StepReply> {
    let refusals = [Refusal::Compensated, Refusal::Expired, Refusal::Final];
    prop_oneof![
        payload().prop_map(StepReply::Done),
        Just(StepReply::Undone),
        payload().prop_map(StepReply::Rejected),
        prop::sample::select(refusals.to_vec()).prop_map(StepReply::Refused),
        saga().prop_map(|by| StepReply::Locked { by }),
    ]
}

fn status() -> impl Strategy<Value = DaemonStatus> {
    (any::<(String, [u8; 16], u32, [u64; 9], bool)>(), vec(damaged_row(), 0..3)).prop_map(
        |((role, store, number, [a, b, c, d, e, f, g, h, i], storage_low), damaged_rows)| DaemonStatus {
            software: role.clone(),
            role,
            store: StoreId::from_bytes(store),
            pid: number,
            up_ms: a,
            connections: number,
            queued: number / 2,
            queue_limit: number / 3,
            unsettled: b,
            collectable: c,
            groups: d,
            committed: e,
            store_bytes: f,
            free_bytes: g,
            storage_low,
            damaged: h ^ i,
            damaged_rows,
        },
    )
}

fn reply_body() -> impl Strategy<Value = ReplyBody> {
    use UnsettledState::{Applied, Cancelled, Damaged, Undone};
    let states = prop::sample::select(vec![Applied, Undone, Cancelled, Damaged]);
    let unsettled = (step(), option::of(deadline()), states)
        .prop_map(|(id, deadline, state)| UnsettledStep { id, deadline, state });
    let reasons = prop::sample::select(vec![RetryReason::Busy, RetryReason::Storage, RetryReason::Draining]);
    let unsettleable = (step(), damaged_row()).prop_map(|(id, damaged)| Unsettleable { id, damaged });
    prop_oneof![
        step_reply().prop_map(ReplyBody::Step),
        Just(ReplyBody::Settled),
        payload().prop_map(ReplyBody::Answer),
        payload().prop_map(ReplyBody::Rejected),
        vec(unsettled, 0..4).prop_map(ReplyBody::Unsettled),
        status().prop_map(|status| ReplyBody::Status(status.into())),
        reasons.prop_map(ReplyBody::Retry),
        any::<String>().prop_map(ReplyBody::Invalid),
        damaged_row().prop_map(|row| ReplyBody::Damaged(row.into())),
        vec(unsettleable, 0..3).prop_map(ReplyBody::SettledBut),
    ]
}

fn from_daemon() -> impl Strategy<Value = FromDaemon> {
    let away = prop_oneof![Just(TurnedAway::TooManyConnections), Just(TurnedAway::NotAllowed)];
    let turned = (any::<[u8; 4]>(), away).prop_map(|(magic, away)| ServerHello::Turned { magic, away });
    let welcome = (any::<([u8; 4], u16, String, [u8; 16], u64)>(), deadline()).prop_map(
        |((magic, protocol, role, store, at_ms), deadline)| {
            let (store, software) = (StoreId::from_bytes(store), role.clone());
            let now = Now { boot: deadline.boot, at_ms };
            ServerHello::Welcome(Welcome { magic, protocol, role, store, now, software })
        },
    );
    prop_oneof![
        1 => prop_oneof![turned, welcome].prop_map(FromDaemon::Hello),
        6 => (any::<u64>(), reply_body()).prop_map(|(id, body)| FromDaemon::Reply(Reply { id, body })),
    ]
}

/// Asserts that these messages are read as they were written, however their bytes arrive, and that of cut ones only
/// whole messages are.
fn assert_read_as_written<Out, In>(
    messages: &[Out],
    (sizes, cut): (&[usize], usize),
    writer: impl Fn(&mut Vec<u8>) -> Writer<&mut Vec<u8>, Out>,
    reader: impl Fn(Pieces<'_>) -> Reader<Pieces<'_>, In>,
) where
    Out: Clone + Serialize + Unpin,
    In: DeserializeOwned + Unpin + PartialEq<Out> + std::fmt::Debug,
{
    let mut bytes = Vec::new();
    let mut ends = vec![0];
    for message in messages {
        let mut one = Vec::new();
        wait_for(writer(&mut one).send(message.clone())).unwrap();
        bytes.extend(one);
        ends.push(bytes.len());
    }
    let read = |bytes| wait_for(reader(Pieces { bytes, sizes: sizes.iter().cycle() }).collect::<Vec<_>>());
    let whole: Vec<_> = read(&bytes).into_iter().map(Result::unwrap).collect();
    assert!(whole.iter().eq(messages.iter()));
    let cut = cut % (bytes.len() + 1);
    let of_cut = read(&bytes[..cut]);
    let (found, failed): (Vec<_>, Vec<_>) = of_cut.into_iter().partition(Result::is_ok);
    let complete = ends.iter().filter(|end| **end <= cut).count() - 1;
    assert!(found.into_iter().map(Result::unwrap).eq(messages[..complete].iter().cloned()));
    assert!(failed.len() <= usize::from(!ends.contains(&cut)), "{failed:?}");
}

proptest! {
    #[test]
    fn requests_are_read_as_they_were_written_however_they_arrive(
        messages in vec(to_daemon(), 0..6), sizes in vec(1..60usize, 1..8), cut: usize,
    ) {
        let how = (&sizes[..], cut);
        assert_read_as_written(&messages, how, |w| client_end(tokio::io::empty(), w).1, |r| daemon_end(r, tokio::io::sink()).0);
    }

    #[test]
    fn replies_are_read_as_they_were_written_however_they_arrive(
        messages in vec(from_daemon(), 0..6), sizes in vec(1..60usize, 1..8), cut: usize,
    ) {
        let how = (&sizes[..], cut);
        assert_read_as_written(&messages, how, |w| daemon_end(tokio::io::empty(), w).1, |r| client_end(r, tokio::io::sink()).0);
    }

    #[test]
    fn any_change_of_a_byte_spoils_nothing_before_it_and_nothing_is_read_behind_an_error(
        messages in vec(to_daemon(), 1..5), at: prop::sample::Index, change in 1..=u8::MAX,
    ) {
        let whole = wait_for(frames_of(messages.clone()));
        let at = at.index(whole.len());
        let before = wait_for(read_all(&whole[..at])).into_iter().filter_map(Result::ok).collect::<Vec<_>>();
        let mut changed = whole;
        changed[at] ^= change;
        let read = wait_for(read_all(&changed));
        prop_assert!(read.iter().rev().skip(1).all(Result::is_ok));
        let found: Vec<_> = read.into_iter().filter_map(Result::ok).collect();
        prop_assert!(found.starts_with(&before) && messages.starts_with(&before));
    }
}

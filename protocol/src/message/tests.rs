//! Golden bytes: an upgrade that would misread an older peer's messages fails here.

use uuid::Uuid;

use super::*;
use crate::codec::{decode, encode};
use crate::ids::BootId;

fn step_id() -> StepId {
    StepId { saga: SagaId::from_bytes([0x11; 16]), step: 1 }
}

fn deadline() -> Deadline {
    Deadline { boot: BootId::from_bytes([0x22; 16]), at_ms: 300 }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[track_caller]
fn pinned<T>(value: &T, golden: &str)
where
    T: Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let bytes = encode(value).unwrap();
    assert_eq!(hex(&bytes.0), golden.replace('_', ""));
    assert_eq!(&decode::<T>(&bytes.0).unwrap(), value);
}

#[test]
fn hellos_are_pinned() {
    let now = Now { boot: BootId::from_bytes([0x22; 16]), at_ms: 7 };
    let welcome = Welcome {
        magic: MAGIC,
        protocol: PROTOCOL_VERSION,
        role: "user".to_owned(),
        store: StoreId::from_bytes([0x33; 16]),
        now,
        software: "1".to_owned(),
    };
    pinned(
        &FromDaemon::Hello(ServerHello::Welcome(welcome)),
        &format!("00_00_6c696b45_01_0475736572_{}_{}_07_0131", "33".repeat(16), "22".repeat(16)),
    );
    pinned(
        &FromDaemon::Hello(ServerHello::Turned { magic: MAGIC, away: TurnedAway::NotAllowed }),
        "00_01_6c696b45_01",
    );
    pinned(
        &ToDaemon::Hello(ClientHello { magic: MAGIC, protocol: PROTOCOL_VERSION, software: "x".to_owned() }),
        "00_6c696b45_01_0178",
    );
}

#[test]
fn requests_are_pinned() {
    let request = |body| ToDaemon::Request(Request { id: 5, body });
    let saga = "11".repeat(16);
    let boot = "22".repeat(16);
    let step = StepRequest {
        id: step_id(),
        direction: Direction::Compensation,
        deadline: deadline(),
        operation: Payload::from(vec![9, 8]),
    };
    pinned(&request(RequestBody::Step(step)), &format!("01_05_00_{saga}01_01_{boot}fb2c01_020908"));
    let settlement = Settlement {
        id: step_id(),
        deadline: deadline(),
        ending: Ending::Forced,
        note: Some(Payload::from(vec![7])),
    };
    pinned(
        &request(RequestBody::Settle(vec![settlement])),
        &format!("01_05_01_01_{saga}01_{boot}fb2c01_01_010107"),
    );
    pinned(&request(RequestBody::Query(Payload::from(vec![1]))), "01_05_02_0101");
    pinned(&request(RequestBody::Command(Payload::from(vec![1]))), "01_05_03_0101");
    pinned(
        &request(RequestBody::Unsettled { after: Some(step_id()), limit: 3 }),
        &format!("01_05_04_01{saga}01_03"),
    );
    pinned(&request(RequestBody::Status), "01_05_05");
}

#[test]
fn replies_are_pinned() {
    let reply = |body| FromDaemon::Reply(Reply { id: 6, body });
    let saga = "11".repeat(16);
    pinned(&reply(ReplyBody::Step(StepReply::Done(Payload::from(vec![1])))), "01_06_00_00_0101");
    pinned(&reply(ReplyBody::Step(StepReply::Undone)), "01_06_00_01");
    pinned(&reply(ReplyBody::Step(StepReply::Rejected(Payload::from(vec![])))), "01_06_00_02_00");
    pinned(&reply(ReplyBody::Step(StepReply::Refused(Refusal::Compensated))), "01_06_00_03_00");
    pinned(&reply(ReplyBody::Step(StepReply::Refused(Refusal::Expired))), "01_06_00_03_01");
    pinned(&reply(ReplyBody::Step(StepReply::Refused(Refusal::Final))), "01_06_00_03_02");
    pinned(&reply(ReplyBody::Step(StepReply::Locked { by: step_id().saga })), &format!("01_06_00_04_{saga}"));
    pinned(&reply(ReplyBody::Settled), "01_06_01");
    pinned(&reply(ReplyBody::Answer(Payload::from(vec![2]))), "01_06_02_0102");
    pinned(&reply(ReplyBody::Rejected(Payload::from(vec![2]))), "01_06_03_0102");
    let cancelled =
        UnsettledStep { id: step_id(), deadline: Some(deadline()), state: UnsettledState::Cancelled };
    let damaged = UnsettledStep { id: step_id(), deadline: None, state: UnsettledState::Damaged };
    pinned(
        &reply(ReplyBody::Unsettled(vec![cancelled, damaged])),
        &format!("01_06_04_02_{saga}01_01{}fb2c01_02_{saga}01_00_03", "22".repeat(16)),
    );
    pinned(&reply(ReplyBody::Retry(RetryReason::Busy)), "01_06_06_00");
    pinned(&reply(ReplyBody::Retry(RetryReason::Storage)), "01_06_06_01");
    pinned(&reply(ReplyBody::Retry(RetryReason::Draining)), "01_06_06_02");
    pinned(&reply(ReplyBody::Invalid("no".to_owned())), "01_06_07_026e6f");
    pinned(&reply(ReplyBody::Damaged(damaged_row().into())), &format!("01_06_08_{DAMAGED_ROW}"));
    let unsettleable = Unsettleable { id: step_id(), damaged: damaged_row() };
    pinned(&reply(ReplyBody::SettledBut(vec![unsettleable])), &format!("01_06_09_01_{saga}01_{DAMAGED_ROW}"));
}

const DAMAGED_ROW: &str = "023031_0161_00_0162";

fn damaged_row() -> DamagedRow {
    DamagedRow { row: "01".to_owned(), what: "a".to_owned(), step: None, why: "b".to_owned() }
}

#[test]
fn a_status_is_pinned() {
    let status = DaemonStatus {
        role: "user".to_owned(),
        store: StoreId::from_bytes([0x33; 16]),
        software: "1".to_owned(),
        pid: 1,
        up_ms: 2,
        connections: 3,
        queued: 4,
        queue_limit: 5,
        unsettled: 6,
        collectable: 7,
        groups: 8,
        committed: 9,
        store_bytes: 10,
        free_bytes: 11,
        storage_low: true,
        damaged: 12,
        damaged_rows: vec![damaged_row()],
    };
    pinned(
        &FromDaemon::Reply(Reply { id: 6, body: ReplyBody::Status(status.into()) }),
        &format!("01_06_05_0475736572_{}_0131_0102030405060708090a0b01_0c_01_{DAMAGED_ROW}", "33".repeat(16)),
    );
}

#[test]
fn like_messages_are_pinned() {
    use crate::likes::article::*;
    use crate::likes::user::*;
    use crate::likes::{ArticleId, UserId};

    pinned(&ArticleOperation::AddLike(ArticleId(1)), "00_01");
    pinned(&ArticleOperation::RemoveLike(ArticleId(300)), "01_fb2c01");
    pinned(&ArticleReply { likes: 5 }, "05");
    pinned(&ArticleRejection::NotFound(ArticleId(1)), "00_01");
    pinned(&ArticleRejection::NoLikes(ArticleId(1)), "02_01");
    pinned(&ArticleRejection::NoNextId, "06");

    let key = Some(CallerKey(Uuid::from_bytes([0x44; 16])));
    let target = LikeTarget { user: UserId(7), article: ArticleId(1), key };
    pinned(&UserOperation::CreateLike(target), &format!("00_07_01_01{}", "44".repeat(16)));
    pinned(&UserOperation::RemoveLike(LikeTarget { key: None, ..target }), "01_07_01_00");
    pinned(&UserReply { record: step_id().saga }, &"11".repeat(16));
    pinned(&UserNote { current_likes: Some(3) }, "01_03");
    pinned(&UserRejection::NotLiked, "01");
    let first = FirstUse {
        usage: KeyUse::Unlike,
        article: ArticleId(1),
        saga: step_id().saga,
        current_likes: Some(2),
    };
    pinned(&UserRejection::KeyUsed(first), &format!("02_01_01_{}_0102", "11".repeat(16)));
    let without_key = LikeTarget { key: None, ..target };
    pinned(&UserQuery::Standing(without_key), "00_070100");
    pinned(&UserQuery::Standings(vec![without_key; 2]), "05_02_070100_070100");
    let standing = Standing { record: Some(step_id().saga), locked_by: None, key: None };
    let standing_hex = format!("01{}_00_00", "11".repeat(16));
    pinned(&UserAnswer::Standing(standing), &format!("00_{standing_hex}"));
    pinned(&UserAnswer::Standings(vec![standing; 2]), &format!("04_02_{standing_hex}_{standing_hex}"));
}

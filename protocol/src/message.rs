//! The engine's vocabulary on the wire: hello, saga steps, settlements, queries.
//!
//! Nothing here knows what a step does. A domain's operations, replies and rejections travel as opaque
//! [`Payload`]s, encoded by [`crate::codec`] at both ends.
//!
//! These are wire types: a change to one that is not an appended variant changes bytes that other versions read,
//! and the golden tests at the end of this file fail. Stored types are others and live with their stores.

use std::fmt;

use serde::{Deserialize, Serialize};

pub use crate::payload::Payload;

use crate::ids::{SagaId, StepId, StoreId};
use crate::time::{Deadline, Now};

/// The first bytes of every hello: a peer that speaks something else is found out at once.
pub const MAGIC: [u8; 4] = *b"likE";

/// The protocol's version. It is raised when a message changes in a way that an older peer would misread.
pub const PROTOCOL_VERSION: u16 = 1;

/// How many settlements one request may carry. Bounds the work that one request puts on the writer.
pub const SETTLEMENTS_MAX: usize = 256;

/// How many bytes the note of a settlement may have: so a full batch of them fits into a request's frame.
pub const NOTE_BYTES_MAX: usize = 256;

/// How many rows one page of any list may have. Bounds how long one read may hold the writer: some
/// milliseconds where each row has to be looked for by itself.
pub const PAGE_ROWS_MAX: u32 = 256;

/// How many damaged rows a status names.
pub const DAMAGED_SHOWN_MAX: usize = 16;

/// How many bytes of a domain's data one message may carry in one place.
pub const PAYLOAD_BYTES_MAX: usize = 4096;

/// A message to a daemon: one hello, then requests.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ToDaemon {
    /// The first message, and only the first.
    Hello(ClientHello),
    /// Every other one.
    Request(Request),
}

/// A message from a daemon: one hello, then replies.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum FromDaemon {
    /// The first message, and only the first.
    Hello(ServerHello),
    /// Every other one.
    Reply(Reply),
}

/// What a daemon says first on every connection. A client sends nothing before it has read this, so a request that
/// was never preceded by a hello was certainly never sent.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ServerHello {
    /// The daemon serves this connection.
    Welcome(Welcome),
    /// The daemon will not serve this connection, and closes it.
    Turned {
        /// The magic, as in [`Welcome`].
        magic: [u8; 4],
        /// Why.
        away: TurnedAway,
    },
}

/// Who answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Welcome {
    /// [`MAGIC`].
    pub magic: [u8; 4],
    /// [`PROTOCOL_VERSION`] of the daemon.
    pub protocol: u16,
    /// Which service this is, as its store names it: `article`, `user`.
    pub role: String,
    /// Which store the daemon serves.
    pub store: StoreId,
    /// The daemon's boot clock as it accepted the connection.
    pub now: Now,
    /// The daemon's software version, for people.
    pub software: String,
}

/// Why a daemon won't serve a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum TurnedAway {
    /// As many connections as the daemon allows are open.
    TooManyConnections,
    /// Neither the peer's uid nor one of its groups is allowed.
    NotAllowed,
}

/// What a client answers to a [`Welcome`], once, before its first request.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ClientHello {
    /// [`MAGIC`].
    pub magic: [u8; 4],
    /// [`PROTOCOL_VERSION`] of the client.
    pub protocol: u16,
    /// The client's name and version, for the daemon's log.
    pub software: String,
}

/// One request. Many may be in flight on one connection; replies come in any order and are matched by `id`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the client, unique among its requests in flight on this connection.
    pub id: u64,
    /// What is asked.
    pub body: RequestBody,
}

/// What is asked of a daemon.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum RequestBody {
    /// Run or undo a saga step. Answered by [`ReplyBody::Step`].
    Step(StepRequest),
    /// Sagas have ended: their steps may be sealed and their locks go. At most [`SETTLEMENTS_MAX`].
    /// Answered by [`ReplyBody::Settled`] or [`ReplyBody::SettledBut`].
    Settle(Vec<Settlement>),
    /// Read domain data. Answered by [`ReplyBody::Answer`] or [`ReplyBody::Rejected`].
    Query(Payload),
    /// Change domain data outside any saga (create an article, repair a count).
    /// Answered by [`ReplyBody::Answer`] or [`ReplyBody::Rejected`].
    Command(Payload),
    /// List operation records that are not settled, in order of their step ids. Answered by
    /// [`ReplyBody::Unsettled`].
    Unsettled {
        /// Only those after this one.
        after: Option<StepId>,
        /// At most so many (and at most [`PAGE_ROWS_MAX`]).
        limit: u32,
    },
    /// How the daemon is. Answered by [`ReplyBody::Status`].
    Status,
}

/// Which way a saga step runs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Direction {
    /// Forward: do it.
    Action,
    /// Backward: undo it, or make sure that it will never be done.
    Compensation,
}

/// One attempt at one saga step. It may arrive any number of times, late, or after its opposite: the participant
/// answers every copy as DESIGN's operation records demand.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StepRequest {
    /// The saga and the position of the step: the idempotency key of this request.
    pub id: StepId,
    /// Action or compensation.
    pub direction: Direction,
    /// The latest deadline of the saga. An action is refused from then on unless it has run before; a compensation
    /// is never refused for it, but keeps its record until then.
    pub deadline: Deadline,
    /// The domain's operation, the same for action and compensation. A compensation without one undoes whatever ran.
    pub operation: Payload,
}

/// How a saga ended, told to its participants.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Ending {
    /// By itself: completed, or turned back and compensated. A step without an operation record needs nothing.
    Natural,
    /// By an operator's word. A step without an operation record is sealed by a tombstone, so that a copy of its
    /// action that is still on its way finds the end.
    Forced,
}

/// One step of a saga whose end is durable in the saga log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Settlement {
    /// The saga and step.
    pub id: StepId,
    /// The latest deadline of the saga.
    pub deadline: Deadline,
    /// How it ended.
    pub ending: Ending,
    /// What the domain keeps with a step that stands (the first answer to an idempotency key, say): at most
    /// [`NOTE_BYTES_MAX`].
    pub note: Option<Payload>,
}

/// One reply.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Reply {
    /// The request's id.
    pub id: u64,
    /// What came of it.
    pub body: ReplyBody,
}

/// What came of a request. Whatever is told here is on disk: no crash takes it back. What is large and rare stands apart, since each
/// reply is moved a dozen times on its way.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ReplyBody {
    /// To [`RequestBody::Step`].
    Step(StepReply),
    /// To [`RequestBody::Settle`]: every one of them is settled here.
    Settled,
    /// To [`RequestBody::Query`] and [`RequestBody::Command`]: the domain's answer.
    Answer(Payload),
    /// To [`RequestBody::Query`] and [`RequestBody::Command`]: refused by a rule of the domain; nothing changed.
    Rejected(Payload),
    /// To [`RequestBody::Unsettled`].
    Unsettled(Vec<UnsettledStep>),
    /// To [`RequestBody::Status`].
    Status(Box<DaemonStatus>),
    /// Nothing was done; the same request may be sent again.
    Retry(RetryReason),
    /// The request makes no sense (undecodable operation, deadline too far ahead, another operation under the same
    /// step id ...). The caller has a bug; nothing changed.
    Invalid(String),
    /// A row that the request needs is damaged: nothing changed, and the same request is answered so until a person
    /// has seen to the row. What the row said is not known: a step may have run before.
    Damaged(Box<DamagedRow>),
    /// To [`RequestBody::Settle`]: every one of them is settled here, but for these.
    SettledBut(Vec<Unsettleable>),
}

/// A row of a store whose bytes are not those that were written.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DamagedRow {
    /// Its key, in hexadecimal digits.
    pub row: String,
    /// What stands in it, for people: `the operation record of saga ..., step 1`.
    pub what: String,
    /// The saga and step whose record it is, if it is an operation record.
    pub step: Option<StepId>,
    /// What is wrong with it, for people.
    pub why: String,
}

impl fmt::Display for DamagedRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is damaged: {} (row {})", self.what, self.why, self.row)
    }
}

/// A settlement that a damaged row stands in the way of.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Unsettleable {
    /// The saga and step that is not settled.
    pub id: StepId,
    /// The row.
    pub damaged: DamagedRow,
}

/// What came of a saga step.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum StepReply {
    /// The action has run, now or before: the reply it gave when it ran.
    Done(Payload),
    /// The step is undone, now or before, or will never be done.
    Undone,
    /// A business rule forbids the action: final, nothing was recorded.
    Rejected(Payload),
    /// The step's own history forbids it: final.
    Refused(Refusal),
    /// Another saga that has not settled yet holds what the action needs: try again.
    Locked {
        /// The holder.
        by: SagaId,
    },
}

/// How a step's own history forbids it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Refusal {
    /// An action came after its compensation (the late action that would otherwise "hang").
    Compensated,
    /// An action came after its deadline and had never run.
    Expired,
    /// A compensation came after the step was settled as applied: its saga had ended.
    Final,
}

/// Why the same request may be sent again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum RetryReason {
    /// The commit queue is full.
    Busy,
    /// Less disk space is free than the reserve that compensations and settlements need.
    Storage,
    /// The daemon is shutting down.
    Draining,
}

/// One operation record that is not settled: for audits, and so that a lock can always be traced.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct UnsettledStep {
    /// The saga and step.
    pub id: StepId,
    /// The latest deadline that the record has seen; not known of a damaged one.
    pub deadline: Option<Deadline>,
    /// What the record says.
    pub state: UnsettledState,
}

/// The states that an unsettled operation record can be in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum UnsettledState {
    /// The action has run.
    Applied,
    /// It was undone.
    Undone,
    /// The compensation came first: a tombstone.
    Cancelled,
    /// The record is damaged: what it said, and whether it was settled, is not known.
    Damaged,
}

/// How a daemon is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DaemonStatus {
    /// Which service this is.
    pub role: String,
    /// Which store it serves.
    pub store: StoreId,
    /// Software version.
    pub software: String,
    /// Process id.
    pub pid: u32,
    /// Milliseconds since the daemon was ready.
    pub up_ms: u64,
    /// Open connections.
    pub connections: u32,
    /// Requests that wait in the commit queue.
    pub queued: u32,
    /// How many may wait there.
    pub queue_limit: u32,
    /// Operation records that are not settled, damaged ones included.
    pub unsettled: u64,
    /// Operation records that are settled and wait for their deadline.
    pub collectable: u64,
    /// Groups made durable since the start.
    pub groups: u64,
    /// Requests those groups held.
    pub committed: u64,
    /// Bytes the store takes on disk.
    pub store_bytes: u64,
    /// Bytes free on the store's file system.
    pub free_bytes: u64,
    /// Whether new actions are refused for want of disk space.
    pub storage_low: bool,
    /// How many rows of the store the daemon has found damaged.
    pub damaged: u64,
    /// The first [`DAMAGED_SHOWN_MAX`] of them.
    pub damaged_rows: Vec<DamagedRow>,
}

#[cfg(test)]
mod tests;

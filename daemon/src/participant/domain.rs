//! What a domain brings: the operations that saga steps run, and the rows they change.
//!
//! A domain decides by what it reads through its [`Context`] and by nothing else (no clock, no randomness, no state
//! of its own), so that the same requests in the same order always come to the same.

use std::fmt::Debug;

use like_protocol::ids::SagaId;
use like_protocol::message::PAGE_ROWS_MAX;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::holds::{Hold, Holds};
use crate::store::fields::Stored;
use crate::store::logged_store::{self, VALUE_BYTES_MAX};
use crate::store::seal::SEAL_BYTES;
use crate::store::{DOMAIN_TAG_FIRST, Damage, Found, Key, KeyRange, StoreError, Tx};

/// One service's data and the rules for it.
///
/// The engine calls it from one thread, one request after the other. What a call writes becomes part of the same
/// atomic batch as the operation record, and is forgotten if the call comes to nothing.
///
/// A row that turns out to be damaged is an error like a store that fails ([`StoreError::Damaged`]), and is passed on
/// like one: the engine answers the request with it. Where a call reads many rows, one of them must not keep the others
/// from being served: it says of that one what can be said, and tells [`Context::note_damage`].
///
/// What is stored is bounded. An operation and its reply have [`super::record::STORED_BYTES_MAX`] bytes together, as [`Stored`] has
/// them: a step for which they take more is answered `Invalid`, and nothing of it happens. A value that a domain puts itself is
/// for the domain to bound, and so is its key, by what it takes for a valid request: a store takes no more than [`ROW_BYTES_MAX`] and
/// [`KEY_BYTES_MAX`], and the daemon ends where it is given more.
pub trait Domain: Send + 'static {
    /// Which service this is. A store is made under a role and never opened under another.
    const ROLE: &'static str;

    /// What a saga step runs.
    type Operation: DeserializeOwned + Stored + PartialEq + Debug + Send;
    /// What its action answers.
    type Reply: Serialize + Stored + Debug + Send;
    /// Why a rule forbids something.
    type Rejection: Serialize;
    /// What may be told with a settlement.
    type Note: DeserializeOwned;
    /// What can be read.
    type Query: DeserializeOwned;
    /// What can be changed outside any saga.
    type Command: DeserializeOwned;
    /// What queries and commands answer.
    type Answer: Serialize;

    /// What stands in a row of the domain, for people: `the count of article 7`. `None` if the key is none of its own.
    fn name_of(&self, key: &[u8]) -> Option<String>;

    /// What `operation` holds from the moment it has run until its saga is settled. A pure function of the operation:
    /// it is asked again after every restart.
    fn holds(&self, operation: &Self::Operation) -> Vec<Hold>;

    /// Runs a step's action. It has not run before, and nothing it wants exclusively is held by another saga.
    ///
    /// # Errors
    /// A rule of the domain forbids it, or the store failed.
    fn act(
        &self,
        context: &mut Context<'_, '_>,
        saga: SagaId,
        operation: &Self::Operation,
    ) -> Result<Self::Reply, Stop<Self::Rejection>>;

    /// Undoes an action that has run and answered `reply`. It is called once, and can't be refused: what would be in
    /// its way is kept out by what the operation holds.
    ///
    /// # Errors
    /// The store failed.
    fn undo(
        &self,
        context: &mut Context<'_, '_>,
        saga: SagaId,
        operation: &Self::Operation,
        reply: &Self::Reply,
    ) -> Result<(), StoreError>;

    /// The saga has ended and the action stands. Called once, before its holds go.
    ///
    /// # Errors
    /// The store failed.
    fn settle(
        &self,
        context: &mut Context<'_, '_>,
        saga: SagaId,
        operation: &Self::Operation,
        note: Option<Self::Note>,
    ) -> Result<(), StoreError>;

    /// Answers a query. One call looks at [`PAGE_ROWS_MAX`] rows or a small multiple of them.
    ///
    /// # Errors
    /// A rule of the domain forbids it (there is no such thing, say), or the store failed.
    fn query(
        &self,
        context: &Context<'_, '_>,
        query: Self::Query,
    ) -> Result<Self::Answer, Stop<Self::Rejection>>;

    /// Runs a command. A command that is sent twice runs twice.
    ///
    /// # Errors
    /// A rule of the domain forbids it, or the store failed.
    fn command(
        &self,
        context: &mut Context<'_, '_>,
        command: Self::Command,
    ) -> Result<Self::Answer, Stop<Self::Rejection>>;
}

/// How long a key may be under which a domain puts something.
pub const KEY_BYTES_MAX: usize = logged_store::KEY_BYTES_MAX;

/// How long a value may be that a domain puts.
pub const ROW_BYTES_MAX: usize = VALUE_BYTES_MAX - SEAL_BYTES;

/// Why a domain did not do what it was asked.
#[derive(Debug)]
pub enum Stop<R> {
    /// A rule forbids it; nothing changes.
    Rejected(R),
    /// The store failed, and the daemon ends; or a row is damaged, and the request is answered so.
    Failed(StoreError),
}

impl<R> From<StoreError> for Stop<R> {
    fn from(failed: StoreError) -> Self {
        Self::Failed(failed)
    }
}

/// What a domain sees of the store and of the engine during one request.
pub struct Context<'t, 's> {
    tx: &'t mut Tx<'s>,
    holds: &'t Holds,
    running_ms: u64,
    unaccounted: usize,
}

impl<'t, 's> Context<'t, 's> {
    pub(super) fn new(tx: &'t mut Tx<'s>, holds: &'t Holds, running_ms: u64, unaccounted: usize) -> Self {
        Self { tx, holds, running_ms, unaccounted }
    }

    /// The value under `key`, with what this group has written so far.
    ///
    /// # Errors
    /// The store can't be read, or the row is damaged.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        own(key);
        self.tx.get(key)
    }

    /// The value under `key`, read as a `T`.
    ///
    /// # Errors
    /// The store can't be read, or the row is damaged or no `T`.
    pub fn load<T: Stored>(&self, key: &[u8]) -> Result<Option<T>, StoreError> {
        own(key);
        self.tx.load(key)
    }

    /// The first `limit` rows of a range, and never more than [`PAGE_ROWS_MAX`]. Damaged ones are among them.
    ///
    /// # Errors
    /// The store can't be read.
    pub fn page(&self, range: &KeyRange, limit: u32) -> Result<Vec<Found>, StoreError> {
        own(&range.from);
        self.tx.scan(range, limit.min(PAGE_ROWS_MAX) as usize)
    }

    /// The first row of each of the first `limit` groups of a range, and never more than [`PAGE_ROWS_MAX`]. The keys of a group begin
    /// with the same `shared` bytes, at least one; a shorter key is a group by itself. Damaged rows are among them.
    ///
    /// # Errors
    /// The store can't be read.
    pub fn firsts(&self, range: &KeyRange, shared: usize, limit: u32) -> Result<Vec<Found>, StoreError> {
        own(&range.from);
        self.tx.firsts(range, shared, limit.min(PAGE_ROWS_MAX) as usize)
    }

    /// The last key of a range, damaged or not.
    ///
    /// # Errors
    /// The store can't be read.
    pub fn last_key(&self, range: &KeyRange) -> Result<Option<Key>, StoreError> {
        own(&range.from);
        self.tx.last_key(range)
    }

    /// Puts a value of at most [`ROW_BYTES_MAX`] bytes under a key of at most [`KEY_BYTES_MAX`].
    pub fn put(&mut self, key: impl Into<Key>, value: Vec<u8>) {
        let key = key.into();
        own(&key);
        self.tx.put(key, value);
    }

    /// Deletes a key, whether or not it is there.
    pub fn delete(&mut self, key: impl Into<Key>) {
        let key = key.into();
        own(&key);
        self.tx.delete(key);
    }

    /// The unsettled saga that holds `resource` exclusively.
    pub fn holder(&self, resource: &[u8]) -> Option<SagaId> {
        self.holds.holder(resource)
    }

    /// How many unsettled steps hold `resource` in shared mode.
    pub fn touching(&self, resource: &[u8]) -> u32 {
        self.holds.touching(resource)
    }

    /// How many operation records are damaged: each may be that of one more unsettled step, which touches anything.
    pub fn unaccounted(&self) -> u32 {
        u32::try_from(self.unaccounted).unwrap_or(u32::MAX)
    }

    /// Tells the engine of a damaged row that the request at hand is answered without.
    pub fn note_damage(&self, damage: Damage) {
        self.tx.note_damage(damage);
    }

    /// How long the daemon has been running, all its lives added up, in milliseconds. See [`super::running`].
    pub fn running_ms(&self) -> u64 {
        self.running_ms
    }
}

#[track_caller]
fn own(key: &[u8]) {
    assert!(
        key.first().is_some_and(|tag| *tag >= DOMAIN_TAG_FIRST),
        "a domain keeps out of the engine's rows"
    );
}

//! Callers' idempotency keys.
//!
//! A key belongs to a user. Its first use writes a row in the same batch and under the same lock as the like record;
//! settling adds the answer that the first caller got; undoing removes the row. A row is kept for a day of the
//! daemon's running time, and later uses sweep out the rows that are over, so no timer is needed.
//!
//! `12 user key(16)` -> `usage(1) kept-until(number) article(number) saga(16) [current likes(number)]`, where `usage` is
//! 0 for a like and 1 for an unlike, and 2 more with current likes.
//!
//! How many keys a user has follows from the rows of the keys. If its own row is damaged, they are counted anew.

use like_protocol::ids::SagaId;
use like_protocol::likes::user::{
    CallerKey, FirstUse, KEY_KEPT_MS, KEYS_PER_USER_MAX, KeyUse, UserNote, UserRejection,
};
use like_protocol::likes::{ArticleId, UserId};
use like_protocol::message::PAGE_ROWS_MAX;
use tracing::warn;
use uuid::Uuid;

use super::{Stopped, one_number, two_numbers, whole};
use crate::participant::domain::{Context, Stop};
use crate::store::fields::{Fields, Malformed, Stored, put_number};
use crate::store::{Key, KeyRange, StoreError};

pub(super) const KEY: u8 = 0x12;
pub(super) const EXPIRY: u8 = 0x13;
pub(super) const HELD: u8 = 0x14;

/// Set in a row's usage if it says what the first caller was told.
const TOLD: u8 = 0x02;

/// How many rows that are over one use sweeps out: more than the one it adds, so that sweeping catches up.
const SWEPT_PER_USE: u32 = 8;

/// A key that was used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct KeyRow {
    kept_until_ms: u64,
    first: FirstUse,
}

/// The first use of a key, if it has been used and the row is not over.
pub(super) fn first_use(
    context: &Context<'_, '_>,
    user: UserId,
    key: CallerKey,
) -> Result<Option<FirstUse>, StoreError> {
    let row = context.load::<KeyRow>(&key_row(user, key))?;
    Ok(row.filter(|row| row.kept_until_ms > context.running_ms()).map(|row| row.first))
}

/// Lets a key pass that is new and that the user has room for.
pub(super) fn check(context: &Context<'_, '_>, user: UserId, key: CallerKey) -> Result<(), Stopped> {
    if let Some(first) = first_use(context, user, key)? {
        return Err(Stop::Rejected(UserRejection::KeyUsed(first)));
    }
    if is_full(context, user)? && own_over(context, user)?.is_empty() {
        return Err(Stop::Rejected(UserRejection::TooManyKeys));
    }
    Ok(())
}

/// Notes the first use of a key that [`check`] let pass, and sweeps.
pub(super) fn put(
    context: &mut Context<'_, '_>,
    user: UserId,
    key: CallerKey,
    usage: KeyUse,
    article: ArticleId,
    saga: SagaId,
) -> Result<(), StoreError> {
    sweep(context, user, key)?;
    let kept_until_ms = context.running_ms() + KEY_KEPT_MS;
    let first = FirstUse { usage, article, saga, current_likes: None };
    let held = held(context, user)? + 1;
    context.put(key_row(user, key), KeyRow { kept_until_ms, first }.stored());
    context.put(expiry_row(kept_until_ms, user, key), Vec::new());
    set_held(context, user, held);
    Ok(())
}

/// Frees a key that `saga` used.
pub(super) fn free(
    context: &mut Context<'_, '_>,
    user: UserId,
    key: CallerKey,
    saga: SagaId,
) -> Result<(), StoreError> {
    match context.load::<KeyRow>(&key_row(user, key))? {
        Some(row) if row.first.saga == saga => remove(context, user, key, row.kept_until_ms),
        _ => Ok(()),
    }
}

/// Adds what the caller was told to the key that `saga` used.
pub(super) fn note_answer(
    context: &mut Context<'_, '_>,
    user: UserId,
    key: CallerKey,
    saga: SagaId,
    note: UserNote,
) -> Result<(), StoreError> {
    let Some(mut row) = context.load::<KeyRow>(&key_row(user, key))? else { return Ok(()) };
    if row.first.saga == saga {
        row.first.current_likes = note.current_likes;
        context.put(key_row(user, key), row.stored());
    }
    Ok(())
}

/// Removes the oldest rows that are over, whoever they belong to; that of `key`, if there is one; and, if the user has
/// no room left, some that are over of the user's own. Damaged rows stay as they are.
fn sweep(context: &mut Context<'_, '_>, user: UserId, key: CallerKey) -> Result<(), StoreError> {
    for (until_ms, user, key) in all_over(context)? {
        remove(context, user, key, until_ms)?;
    }
    if let Some(row) = context.load::<KeyRow>(&key_row(user, key))? {
        remove(context, user, key, row.kept_until_ms)?;
    }
    if is_full(context, user)? {
        for (key, until_ms) in own_over(context, user)? {
            remove(context, user, key, until_ms)?;
        }
    }
    Ok(())
}

/// The oldest keys that are over, with the times until which they were kept.
fn all_over(context: &Context<'_, '_>) -> Result<Vec<(u64, UserId, CallerKey)>, StoreError> {
    let mut over = Vec::new();
    let mut range =
        KeyRange { from: vec![EXPIRY], to: one_number(EXPIRY, context.running_ms() + 1).to_vec() };
    while over.len() < SWEPT_PER_USE as usize {
        // Where they can't be read they stay, and so do those behind them: every use of a key comes by here.
        let Some(rows) = whole(context, context.page(&range, SWEPT_PER_USE))? else { break };
        let Some(last) = rows.last() else { break };
        range = range.after(&last.key);
        for row in &rows {
            let parsed = row.load::<()>().and_then(|()| parse_expiry_row(&row.key));
            over.extend(whole(context, parsed)?);
        }
    }
    over.truncate(SWEPT_PER_USE as usize);
    Ok(over)
}

/// Some of a user's keys that are over, with the times until which they were kept. Looks at all keys of the user, of
/// which there are at most [`KEYS_PER_USER_MAX`], so it is asked only when there is no room left.
fn own_over(context: &Context<'_, '_>, user: UserId) -> Result<Vec<(CallerKey, u64)>, StoreError> {
    let mut over = Vec::new();
    let mut range = KeyRange::prefix(&one_number(KEY, user.0));
    while over.len() < SWEPT_PER_USE as usize {
        let rows = context.page(&range, PAGE_ROWS_MAX)?;
        let Some(last) = rows.last() else { break };
        range = range.after(&last.key);
        for row in &rows {
            let parsed = row.load::<KeyRow>().and_then(|value| Ok((parse_key_row(&row.key)?, value)));
            let parsed = whole(context, parsed)?.map(|(key, row)| (key, row.kept_until_ms));
            over.extend(parsed.filter(|(_, until_ms)| *until_ms <= context.running_ms()));
        }
    }
    over.truncate(SWEPT_PER_USE as usize);
    Ok(over)
}

fn remove(
    context: &mut Context<'_, '_>,
    user: UserId,
    key: CallerKey,
    kept_until_ms: u64,
) -> Result<(), StoreError> {
    let held = held(context, user)?.saturating_sub(1);
    context.delete(key_row(user, key));
    context.delete(expiry_row(kept_until_ms, user, key));
    set_held(context, user, held);
    Ok(())
}

fn is_full(context: &Context<'_, '_>, user: UserId) -> Result<bool, StoreError> {
    Ok(held(context, user)? >= KEYS_PER_USER_MAX as u64)
}

/// How many keys a user has, those that are over but not swept out yet included.
fn held(context: &Context<'_, '_>, user: UserId) -> Result<u64, StoreError> {
    match context.load::<HeldKeys>(&one_number(HELD, user.0)) {
        Ok(held) => Ok(held.map_or(0, |held| held.0)),
        Err(StoreError::Damaged(damage)) => {
            let counted = count(context, user)?;
            warn!(%user, counted, "{damage}: the user's keys are counted anew");
            context.note_damage(damage);
            Ok(counted)
        }
        Err(failed) => Err(failed),
    }
}

/// Counts a user's keys.
fn count(context: &Context<'_, '_>, user: UserId) -> Result<u64, StoreError> {
    let mut count = 0;
    let mut range = KeyRange::prefix(&one_number(KEY, user.0));
    loop {
        let rows = context.page(&range, PAGE_ROWS_MAX)?;
        let Some(last) = rows.last() else { return Ok(count) };
        range = range.after(&last.key);
        count += rows.len() as u64;
    }
}

fn set_held(context: &mut Context<'_, '_>, user: UserId, held: u64) {
    match held {
        0 => context.delete(one_number(HELD, user.0)),
        held => context.put(one_number(HELD, user.0), HeldKeys(held).stored()),
    }
}

fn key_row(user: UserId, key: CallerKey) -> Key {
    let mut row = one_number(KEY, user.0);
    row.extend_from_slice(key.0.as_bytes());
    row
}

fn parse_key_row(row: &[u8]) -> Result<CallerKey, StoreError> {
    let parse = || {
        let mut fields = Fields::of(row);
        let _tag_and_user = (fields.byte()?, fields.key_number()?);
        let key = CallerKey(Uuid::from_bytes(fields.array()?));
        fields.end()?;
        Ok(key)
    };
    parse().map_err(|e| StoreError::damaged(row, e))
}

fn expiry_row(kept_until_ms: u64, user: UserId, key: CallerKey) -> Key {
    let mut row = two_numbers(EXPIRY, kept_until_ms, user.0);
    row.extend_from_slice(key.0.as_bytes());
    row
}

fn parse_expiry_row(row: &[u8]) -> Result<(u64, UserId, CallerKey), StoreError> {
    let parse = || {
        let mut fields = Fields::of(row);
        let _tag = fields.byte()?;
        let (kept_until_ms, user) = (fields.key_number()?, UserId(fields.key_number()?));
        let key = CallerKey(Uuid::from_bytes(fields.array()?));
        fields.end()?;
        Ok((kept_until_ms, user, key))
    };
    parse().map_err(|e| StoreError::damaged(row, e))
}

impl Stored for KeyRow {
    fn store(&self, out: &mut Vec<u8>) {
        let usage = match self.first.usage {
            KeyUse::Like => 0,
            KeyUse::Unlike => 1,
        };
        out.push(if self.first.current_likes.is_some() { usage | TOLD } else { usage });
        put_number(out, self.kept_until_ms);
        put_number(out, self.first.article.0);
        out.extend(self.first.saga.as_bytes());
        if let Some(likes) = self.first.current_likes {
            put_number(out, likes);
        }
    }

    fn load(fields: &mut Fields<'_>) -> Result<Self, Malformed> {
        let kind = fields.byte()?;
        let usage = match kind & !TOLD {
            0 => KeyUse::Like,
            1 => KeyUse::Unlike,
            _ => return Err(Malformed("an unknown use of a key")),
        };
        let kept_until_ms = fields.number()?;
        let article = ArticleId(fields.number()?);
        let saga = SagaId::from_bytes(fields.array()?);
        let current_likes = if kind & TOLD == 0 { None } else { Some(fields.number()?) };
        Ok(Self { kept_until_ms, first: FirstUse { usage, article, saga, current_likes } })
    }
}

/// How many keys a user has.
struct HeldKeys(u64);

impl Stored for HeldKeys {
    fn store(&self, out: &mut Vec<u8>) {
        put_number(out, self.0);
    }

    fn load(fields: &mut Fields<'_>) -> Result<Self, Malformed> {
        fields.number().map(Self)
    }
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;

//! The user service: who likes what.
//!
//! Rows, with ids in eight bytes, highest first:
//!
//! ```text
//! 10 user article       -> record id (16): the saga that made the like record
//! 11 article user       -> nothing; the same records by article
//! 12 user key(16)       -> the first use of a caller's key, see [`keys`]
//! 13 kept-until user key -> nothing; keys by when they go
//! 14 user               -> how many keys the user has
//! ```
//!
//! A record that an unsettled saga made or removed is locked by that saga, and so is a key it used.

mod keys;
mod query;
mod stored;

use like_protocol::ids::SagaId;
use like_protocol::likes::user::{
    CallerKey, KeyUse, LikeTarget, UserAnswer, UserNote, UserOperation, UserQuery, UserRejection, UserReply,
};
use like_protocol::likes::{ArticleId, USER_ROLE, UserId};
use tracing::error;

use crate::participant::domain::{Context, Domain, Stop};
use crate::participant::holds::{Hold, Mode, Resource};
use crate::store::fields::{Fields, Malformed, Stored};
use crate::store::{Key, StoreError};

const LIKE: u8 = 0x10;
const LIKER: u8 = 0x11;

type Stopped = Stop<UserRejection>;

/// The user service's domain.
#[derive(Clone, Copy, Default, Debug)]
pub struct Users;

/// The id of a like record: the saga that made it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct RecordId(SagaId);

/// There is no command at the user service.
#[derive(Debug, serde::Deserialize)]
pub enum NoCommand {}

impl Domain for Users {
    const ROLE: &'static str = USER_ROLE;

    type Operation = UserOperation;
    type Reply = UserReply;
    type Rejection = UserRejection;
    type Note = UserNote;
    type Query = UserQuery;
    type Command = NoCommand;
    type Answer = UserAnswer;

    fn name_of(&self, key: &[u8]) -> Option<String> {
        let mut fields = Fields::of(key);
        let tag = fields.byte().ok()?;
        let first = fields.key_number().ok()?;
        let mut second = || fields.key_number().ok();
        match tag {
            LIKE => Some(format!("the like record of user {first} on article {}", second()?)),
            LIKER => Some(format!("the entry of user {} among the likers of article {first}", second()?)),
            keys::KEY => Some(format!("a key of user {first}")),
            keys::EXPIRY => Some(format!("the time until which a key of user {} is kept", second()?)),
            keys::HELD => Some(format!("the number of keys of user {first}")),
            _ => None,
        }
    }

    fn holds(&self, operation: &UserOperation) -> Vec<Hold> {
        let (_, target) = parts(operation);
        let exclusive = |resource| Hold { resource, mode: Mode::Exclusive };
        let like = exclusive(like_resource(target.user, target.article));
        let article = Hold { resource: article_resource(target.article), mode: Mode::Shared };
        match target.key {
            Some(key) => vec![like, exclusive(key_resource(target.user, key)), article],
            None => vec![like, article],
        }
    }

    /// A key is looked at before anything else: a retry gets the answer to its first try whatever has become of the
    /// like record since.
    fn act(
        &self,
        context: &mut Context<'_, '_>,
        saga: SagaId,
        operation: &UserOperation,
    ) -> Result<UserReply, Stopped> {
        let (usage, target) = parts(operation);
        if let Some(key) = target.key {
            keys::check(context, target.user, key)?;
        }
        let found = context.load::<RecordId>(&like_row(target.user, target.article))?;
        let record = match (usage, found) {
            (KeyUse::Like, None) => {
                put_like(context, target, saga);
                saga
            }
            (KeyUse::Like, Some(RecordId(record))) => {
                return Err(Stop::Rejected(UserRejection::AlreadyLiked { record }));
            }
            (KeyUse::Unlike, Some(RecordId(record))) => {
                delete_like(context, target);
                record
            }
            (KeyUse::Unlike, None) => return Err(Stop::Rejected(UserRejection::NotLiked)),
        };
        if let Some(key) = target.key {
            keys::put(context, target.user, key, usage, target.article, saga)?;
        }
        Ok(UserReply { record })
    }

    /// A first try that is undone frees its key.
    fn undo(
        &self,
        context: &mut Context<'_, '_>,
        saga: SagaId,
        operation: &UserOperation,
        reply: &UserReply,
    ) -> Result<(), StoreError> {
        let (usage, target) = parts(operation);
        let found = context.load::<RecordId>(&like_row(target.user, target.article))?;
        match (usage, found) {
            (KeyUse::Like, Some(RecordId(record))) if record == reply.record => delete_like(context, target),
            (KeyUse::Unlike, None) => put_like(context, target, reply.record),
            // The lock keeps everybody else away from the record.
            (_, found) => {
                let (user, article) = (target.user, target.article);
                error!(saga_id = %saga, %user, %article, ?found, "what is to be undone has changed: audit the article");
            }
        }
        match target.key {
            Some(key) => keys::free(context, target.user, key, saga),
            None => Ok(()),
        }
    }

    fn settle(
        &self,
        context: &mut Context<'_, '_>,
        saga: SagaId,
        operation: &UserOperation,
        note: Option<UserNote>,
    ) -> Result<(), StoreError> {
        let (_, target) = parts(operation);
        match (target.key, note) {
            (Some(key), Some(note)) => keys::note_answer(context, target.user, key, saga, note),
            _ => Ok(()),
        }
    }

    fn query(&self, context: &Context<'_, '_>, query: UserQuery) -> Result<UserAnswer, Stopped> {
        Ok(query::answer(context, query)?)
    }

    fn command(&self, _: &mut Context<'_, '_>, command: NoCommand) -> Result<UserAnswer, Stopped> {
        match command {}
    }
}

fn parts(operation: &UserOperation) -> (KeyUse, LikeTarget) {
    match operation {
        UserOperation::CreateLike(target) => (KeyUse::Like, *target),
        UserOperation::RemoveLike(target) => (KeyUse::Unlike, *target),
    }
}

fn put_like(context: &mut Context<'_, '_>, target: LikeTarget, record: SagaId) {
    context.put(like_row(target.user, target.article), RecordId(record).stored());
    context.put(liker_row(target.article, target.user), Vec::new());
}

fn delete_like(context: &mut Context<'_, '_>, target: LikeTarget) {
    context.delete(like_row(target.user, target.article));
    context.delete(liker_row(target.article, target.user));
}

fn like_row(user: UserId, article: ArticleId) -> Key {
    two_numbers(LIKE, user.0, article.0)
}

fn liker_row(article: ArticleId, user: UserId) -> Key {
    two_numbers(LIKER, article.0, user.0)
}

// Resources have tags of their own: they are no rows.
fn like_resource(user: UserId, article: ArticleId) -> Resource {
    two_numbers(b'l', user.0, article.0)
}

fn key_resource(user: UserId, key: CallerKey) -> Resource {
    let mut resource = one_number(b'k', user.0);
    resource.extend_from_slice(key.0.as_bytes());
    resource
}

fn article_resource(article: ArticleId) -> Resource {
    one_number(b'a', article.0)
}

fn one_number(tag: u8, number: u64) -> Key {
    let mut bytes = [tag; 9];
    bytes[1..].copy_from_slice(&number.to_be_bytes());
    Key::from_slice(&bytes)
}

fn two_numbers(tag: u8, first: u64, second: u64) -> Key {
    let mut bytes = [tag; 17];
    bytes[1..9].copy_from_slice(&first.to_be_bytes());
    bytes[9..].copy_from_slice(&second.to_be_bytes());
    Key::from_slice(&bytes)
}

/// What was read, or nothing if it is damaged, which is noted.
fn whole<T>(context: &Context<'_, '_>, read: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(StoreError::Damaged(damage)) => {
            context.note_damage(damage);
            Ok(None)
        }
        Err(failed) => Err(failed),
    }
}

/// The two numbers of a key that [`two_numbers`] made.
fn numbers_of(key: &[u8]) -> Result<(u64, u64), StoreError> {
    let parse = || -> Result<_, Malformed> {
        let mut fields = Fields::of(key);
        fields.byte()?;
        let numbers = (fields.key_number()?, fields.key_number()?);
        fields.end()?;
        Ok(numbers)
    };
    parse().map_err(|e| StoreError::damaged(key, e))
}

#[cfg(test)]
mod tests;

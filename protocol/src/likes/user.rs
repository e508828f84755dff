//! What the user service understands.
//!
//! An idempotency key is domain data here and never a saga id: (user, key) is kept with the kind, the article and the
//! saga that first used it, in the same batch and under the same lock as the like record. A retry that meets it gets
//! the first answer (the idea is RIFL's: the result is kept with the object that the request changed).

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{ArticleId, UserId};
use crate::ids::SagaId;

/// How long a key is kept, in milliseconds of the daemon's running time: one day.
pub const KEY_KEPT_MS: u64 = 24 * 3600 * 1000;

/// How many keys one user may have. Past it, new keys are refused until old ones have gone.
pub const KEYS_PER_USER_MAX: usize = 1024;

/// How many standings may be asked for at once: so many fit into a payload, all with keys and the longest of numbers.
pub const STANDINGS_MAX: usize = 100;

/// A caller's idempotency key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct CallerKey(#[serde(with = "uuid::serde::compact")] pub Uuid);

/// Which of the two sagas used a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum KeyUse {
    /// A like.
    Like,
    /// An unlike.
    Unlike,
}

/// A saga step at the user service.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum UserOperation {
    /// Make the like record; it is named by the saga's own id. Undone by removing it.
    CreateLike(LikeTarget),
    /// Remove the like record. Undone by putting back the very same one.
    RemoveLike(LikeTarget),
}

/// What a like or an unlike is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LikeTarget {
    /// Who.
    pub user: UserId,
    /// What.
    pub article: ArticleId,
    /// The caller's key, if it gave one.
    pub key: Option<CallerKey>,
}

/// What a saga step at the user service answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct UserReply {
    /// The id of the like record made or removed: the saga that made it.
    pub record: SagaId,
}

/// What is settled together with a step that used a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct UserNote {
    /// The article's likes as the caller was told them; unknown if the end was forced.
    pub current_likes: Option<u64>,
}

/// The first use of a key: what a retry is answered with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FirstUse {
    /// Like or unlike.
    pub usage: KeyUse,
    /// The article it was used on.
    pub article: ArticleId,
    /// The saga that used it.
    pub saga: SagaId,
    /// The article's likes as its caller was told them.
    pub current_likes: Option<u64>,
}

/// A rule of the user service that forbids what was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum UserRejection {
    /// The user likes the article already.
    AlreadyLiked {
        /// The record that says so.
        record: SagaId,
    },
    /// The user does not like the article.
    NotLiked,
    /// The key has been used: this is what came of it.
    KeyUsed(FirstUse),
    /// The user has [`KEYS_PER_USER_MAX`] keys that are not old enough to go.
    TooManyKeys,
}

/// What can be read at the user service.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum UserQuery {
    /// How a user stands to an article, and to a key; answered by [`UserAnswer::Standing`].
    Standing(LikeTarget),
    /// A user's like records by article; answered by [`UserAnswer::Records`].
    LikesOf {
        /// Whose.
        user: UserId,
        /// Only articles after this one.
        after: Option<ArticleId>,
        /// At most so many (and at most `PAGE_ROWS_MAX`).
        limit: u32,
    },
    /// An article's like records by user; answered by [`UserAnswer::Records`].
    LikersOf {
        /// Of which article.
        article: ArticleId,
        /// Only users after this one.
        after: Option<UserId>,
        /// At most so many (and at most `PAGE_ROWS_MAX`).
        limit: u32,
    },
    /// Counts an article's like records, one page at a time; answered by [`UserAnswer::Count`].
    CountLikers {
        /// Of which article.
        article: ArticleId,
        /// Only users after this one.
        after: Option<UserId>,
    },
    /// Articles that have like records at all, by id; answered by [`UserAnswer::Articles`]. An audit finds records
    /// of articles that do not exist with it.
    LikedArticles {
        /// Only articles after this one.
        after: Option<ArticleId>,
        /// At most so many (and at most `PAGE_ROWS_MAX`).
        limit: u32,
    },
    /// As [`UserQuery::Standing`], for several at once (and at most [`STANDINGS_MAX`]); answered by [`UserAnswer::Standings`].
    Standings(Vec<LikeTarget>),
}

/// What the user service answers to queries.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum UserAnswer {
    /// To [`UserQuery::Standing`].
    Standing(Standing),
    /// To [`UserQuery::LikesOf`] and [`UserQuery::LikersOf`].
    Records(Vec<LikeRecord>),
    /// To [`UserQuery::CountLikers`].
    Count(LikerCount),
    /// To [`UserQuery::LikedArticles`].
    Articles(Vec<ArticleId>),
    /// To [`UserQuery::Standings`], in their order.
    Standings(Vec<Standing>),
}

/// How a user stands to an article, and to a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Standing {
    /// The like record, if there is one.
    pub record: Option<SagaId>,
    /// The unsettled saga that holds the key; or the like record, unless a use of the key is final. While there is one, nothing
    /// else said here decides anything: the saga may still be undone.
    pub locked_by: Option<SagaId>,
    /// The first use of the key that was asked for, if it has been used.
    pub key: Option<FirstUse>,
}

/// A like record as it stands on disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LikeRecord {
    /// Its id: the saga that made it, which carries the time it began. `None`: a row of it is damaged, and only user
    /// and article are known.
    pub record: Option<SagaId>,
    /// Who likes.
    pub user: UserId,
    /// What is liked.
    pub article: ArticleId,
    /// Whether the saga that made it has not settled yet: it may still go. A record that an unsettled unlike has removed is
    /// in no list, or whoever was told of the unlike would find it there; it is back if the unlike is undone.
    pub pending: bool,
}

/// One page of a count of like records.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LikerCount {
    /// How many records the page had, without the damaged ones.
    pub records: u64,
    /// How many of the page's records are damaged.
    pub damaged: u64,
    /// The last user of the page if there may be more after it.
    pub more_after: Option<UserId>,
    /// How many sagas that have not settled here touch likes of the article.
    pub unsettled: u32,
    /// How many operation records are damaged here: each may be that of one more such saga.
    pub unaccounted: u32,
}

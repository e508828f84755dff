//! The unlike saga, the mirror of a like: the user's like record goes, then one like less on the article.

use like_protocol::codec;
use like_protocol::likes::article::{ArticleOperation, ArticleRejection, ArticleReply};
use like_protocol::likes::user::{CallerKey, LikeTarget, UserNote, UserOperation, UserRejection};
use like_protocol::likes::{ARTICLE_ROLE, ArticleId, USER_ROLE, UserId};
use like_protocol::message::Payload;
use serde::{Deserialize, Serialize};

use super::stored::{no_such_step, read, write};
use super::{articles, users};
use crate::saga::{Definition, DefinitionError, StepPlan};

// Parameters.

/// The name under which the saga log keeps unlikes.
pub const KIND: &str = "unlike";

/// Who likes what no longer. Stored in the saga log: its bytes are pinned below.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct UnlikeParams {
    /// Who.
    pub user: UserId,
    /// What.
    pub article: ArticleId,
    /// The caller's idempotency key, if it gave one.
    pub key: Option<CallerKey>,
}

impl UnlikeParams {
    /// As the saga log keeps them.
    ///
    /// # Errors
    /// None that a caller could cause; see [`codec::encode`].
    pub fn encode(&self) -> Result<Payload, DefinitionError> {
        write(KIND, self)
    }

    fn target(self) -> LikeTarget {
        LikeTarget { user: self.user, article: self.article, key: self.key }
    }
}

// Steps.

/// The record goes first, locked and restorable: so only a saga that holds the record ever lowers the count, and the
/// count can't go below zero.
pub const REMOVE_RECORD: usize = 0;
/// One like less.
pub const TAKE_LIKE: usize = 1;

const STEPS: &[StepPlan] = &[
    StepPlan { name: "remove like record", role: USER_ROLE, beside: false },
    StepPlan { name: "take like away", role: ARTICLE_ROLE, beside: false },
];

// Definition.

/// The unlike saga.
#[derive(Clone, Copy, Debug)]
pub struct Unlike;

impl Definition for Unlike {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn version(&self) -> u16 {
        1
    }

    fn steps(&self) -> &'static [StepPlan] {
        STEPS
    }

    fn operation(&self, params: &Payload, step: usize, _: &[Payload]) -> Result<Payload, DefinitionError> {
        let params: UnlikeParams = read(KIND, "parameters", params)?;
        match step {
            REMOVE_RECORD => write(KIND, &UserOperation::RemoveLike(params.target())),
            TAKE_LIKE => write(KIND, &ArticleOperation::RemoveLike(params.article)),
            _ => Err(no_such_step(KIND, step)),
        }
    }

    fn note(
        &self,
        params: &Payload,
        step: usize,
        replies: &[Option<Payload>],
    ) -> Result<Option<Payload>, DefinitionError> {
        let params: UnlikeParams = read(KIND, "parameters", params)?;
        if step != REMOVE_RECORD || params.key.is_none() {
            return Ok(None);
        }
        let current_likes = match replies.get(TAKE_LIKE).and_then(Option::as_ref) {
            Some(reply) => Some(read::<ArticleReply>(KIND, "the article service's reply", reply)?.likes),
            None => None,
        };
        write(KIND, &UserNote { current_likes }).map(Some)
    }

    fn subject(&self, params: &Payload) -> Result<Vec<(&'static str, u64)>, DefinitionError> {
        let params: UnlikeParams = read(KIND, "parameters", params)?;
        Ok(vec![("article_id", params.article.0), ("user_id", params.user.0)])
    }

    fn explain_rejection(&self, step: usize, rejection: &Payload) -> String {
        let explained = match step {
            REMOVE_RECORD => codec::decode::<UserRejection>(&rejection.0).map(|r| users::explain(&r)),
            _ => codec::decode::<ArticleRejection>(&rejection.0).map(|r| articles::explain(&r)),
        };
        explained.unwrap_or_else(|error| format!("a rejection that can't be read: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn params(key: Option<CallerKey>) -> UnlikeParams {
        UnlikeParams { user: UserId(7), article: ArticleId(300), key }
    }

    fn some_key() -> Option<CallerKey> {
        Some(CallerKey(Uuid::from_bytes([0x44; 16])))
    }

    #[test]
    fn stored_parameters_are_pinned() {
        assert_eq!(params(None).encode().unwrap().0[..], [7, 251, 44, 1, 0]);
        let with_key = params(some_key()).encode().unwrap().0;
        assert_eq!(with_key[..], [&[7, 251, 44, 1, 1][..], &[0x44; 16]].concat());
    }

    #[test]
    fn the_record_goes_before_the_count() {
        let stored = params(some_key()).encode().unwrap();
        let first = Unlike.operation(&stored, REMOVE_RECORD, &[]).unwrap();
        let target = LikeTarget { user: UserId(7), article: ArticleId(300), key: some_key() };
        assert_eq!(codec::decode::<UserOperation>(&first.0).unwrap(), UserOperation::RemoveLike(target));
        let second = Unlike.operation(&stored, TAKE_LIKE, &[]).unwrap();
        let operation = ArticleOperation::RemoveLike(ArticleId(300));
        assert_eq!(codec::decode::<ArticleOperation>(&second.0).unwrap(), operation);
        assert!(Unlike.operation(&stored, 2, &[]).is_err());
    }

    #[test]
    fn the_first_answer_is_noted_where_the_key_is_kept() {
        let stored = params(some_key()).encode().unwrap();
        let replies = [None, Some(codec::encode(&ArticleReply { likes: 11 }).unwrap())];
        let note = Unlike.note(&stored, REMOVE_RECORD, &replies).unwrap().unwrap();
        assert_eq!(codec::decode::<UserNote>(&note.0).unwrap(), UserNote { current_likes: Some(11) });
        assert_eq!(Unlike.note(&stored, TAKE_LIKE, &replies).unwrap(), None);
        let without_key = params(None).encode().unwrap();
        assert_eq!(Unlike.note(&without_key, REMOVE_RECORD, &replies).unwrap(), None);
    }

    #[test]
    fn rejections_are_told_in_words() {
        let not_liked = codec::encode(&UserRejection::NotLiked).unwrap();
        assert_eq!(Unlike.explain_rejection(REMOVE_RECORD, &not_liked), "the user does not like the article");
        let none = codec::encode(&ArticleRejection::NoLikes(ArticleId(300))).unwrap();
        assert_eq!(Unlike.explain_rejection(TAKE_LIKE, &none), "article 300 has no likes to take away");
    }
}

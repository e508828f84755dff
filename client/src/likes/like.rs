//! The like saga: one like more on the article and, beside that, the user's like record.

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

/// The name under which the saga log keeps likes.
pub const KIND: &str = "like";

/// Who likes what. Stored in the saga log: its bytes are pinned below.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LikeParams {
    /// Who.
    pub user: UserId,
    /// What.
    pub article: ArticleId,
    /// The caller's idempotency key, if it gave one.
    pub key: Option<CallerKey>,
}

impl LikeParams {
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

/// The article's count starts first: if its service can't be reached, nobody sees a record that goes again.
pub const ADD_LIKE: usize = 0;
/// The record is created beside it: neither needs the other's reply, and until the saga has settled, the record is held, so
/// that nobody takes back a like that is not yet counted. The record's rejection (liked already, key used) turns the saga
/// back.
pub const CREATE_RECORD: usize = 1;

const STEPS: &[StepPlan] = &[
    StepPlan { name: "add like", role: ARTICLE_ROLE, beside: false },
    StepPlan { name: "create like record", role: USER_ROLE, beside: true },
];

// Definition.

/// The like saga.
#[derive(Clone, Copy, Debug)]
pub struct Like;

impl Definition for Like {
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
        let params: LikeParams = read(KIND, "parameters", params)?;
        match step {
            ADD_LIKE => write(KIND, &ArticleOperation::AddLike(params.article)),
            CREATE_RECORD => write(KIND, &UserOperation::CreateLike(params.target())),
            _ => Err(no_such_step(KIND, step)),
        }
    }

    fn note(
        &self,
        params: &Payload,
        step: usize,
        replies: &[Option<Payload>],
    ) -> Result<Option<Payload>, DefinitionError> {
        let params: LikeParams = read(KIND, "parameters", params)?;
        if step != CREATE_RECORD || params.key.is_none() {
            return Ok(None);
        }
        let current_likes = match replies.get(ADD_LIKE).and_then(Option::as_ref) {
            Some(reply) => Some(read::<ArticleReply>(KIND, "the article service's reply", reply)?.likes),
            None => None,
        };
        write(KIND, &UserNote { current_likes }).map(Some)
    }

    fn subject(&self, params: &Payload) -> Result<Vec<(&'static str, u64)>, DefinitionError> {
        let params: LikeParams = read(KIND, "parameters", params)?;
        Ok(vec![("article_id", params.article.0), ("user_id", params.user.0)])
    }

    fn explain_rejection(&self, step: usize, rejection: &Payload) -> String {
        let explained = match step {
            ADD_LIKE => codec::decode::<ArticleRejection>(&rejection.0).map(|r| articles::explain(&r)),
            _ => codec::decode::<UserRejection>(&rejection.0).map(|r| users::explain(&r)),
        };
        explained.unwrap_or_else(|error| format!("a rejection that can't be read: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use like_protocol::ids::SagaId;
    use uuid::Uuid;

    use super::*;

    fn params(key: Option<CallerKey>) -> LikeParams {
        LikeParams { user: UserId(7), article: ArticleId(300), key }
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
    fn the_steps_ask_for_one_like_and_its_record() {
        let stored = params(some_key()).encode().unwrap();
        let first = Like.operation(&stored, ADD_LIKE, &[]).unwrap();
        assert_eq!(
            codec::decode::<ArticleOperation>(&first.0).unwrap(),
            ArticleOperation::AddLike(ArticleId(300))
        );
        let second = Like.operation(&stored, CREATE_RECORD, &[]).unwrap();
        let target = LikeTarget { user: UserId(7), article: ArticleId(300), key: some_key() };
        assert_eq!(codec::decode::<UserOperation>(&second.0).unwrap(), UserOperation::CreateLike(target));
        assert!(Like.operation(&stored, 2, &[]).is_err());
        assert_eq!(Like.subject(&stored).unwrap(), [("article_id", 300), ("user_id", 7)]);
    }

    #[test]
    fn the_first_answer_is_noted_where_the_key_is_kept() {
        let stored = params(some_key()).encode().unwrap();
        let replies = [Some(codec::encode(&ArticleReply { likes: 12 }).unwrap()), None];
        let note = Like.note(&stored, CREATE_RECORD, &replies).unwrap().unwrap();
        assert_eq!(codec::decode::<UserNote>(&note.0).unwrap(), UserNote { current_likes: Some(12) });
        assert_eq!(Like.note(&stored, ADD_LIKE, &replies).unwrap(), None);

        let forced = Like.note(&stored, CREATE_RECORD, &[None, None]).unwrap().unwrap();
        assert_eq!(codec::decode::<UserNote>(&forced.0).unwrap(), UserNote { current_likes: None });

        let without_key = params(None).encode().unwrap();
        assert_eq!(Like.note(&without_key, CREATE_RECORD, &replies).unwrap(), None);
    }

    #[test]
    fn parameters_of_something_else_are_an_error() {
        let garbage = Payload::from(vec![1, 2, 3, 4, 5, 6, 7]);
        assert!(Like.operation(&garbage, ADD_LIKE, &[]).is_err());
        assert!(Like.subject(&garbage).is_err());
    }

    #[test]
    fn rejections_are_told_in_words() {
        let missing = codec::encode(&ArticleRejection::NotFound(ArticleId(300))).unwrap();
        assert_eq!(Like.explain_rejection(ADD_LIKE, &missing), "there is no article 300");
        let record = SagaId::from_bytes([1; 16]);
        let liked = codec::encode(&UserRejection::AlreadyLiked { record }).unwrap();
        assert!(Like.explain_rejection(CREATE_RECORD, &liked).contains("likes the article already"));
        assert!(Like.explain_rejection(ADD_LIKE, &Payload::from(vec![99])).contains("can't be read"));
    }
}

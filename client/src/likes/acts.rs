//! The two sagas. A like: one like more on the article and, beside that, the user's like record. An unlike, its mirror: the
//! like record goes, then one like less on the article.

use like_protocol::codec;
use like_protocol::likes::article::{ArticleOperation, ArticleRejection, ArticleReply};
use like_protocol::likes::user::{CallerKey, KeyUse, LikeTarget, UserNote, UserOperation, UserRejection};
use like_protocol::likes::{ARTICLE_ROLE, ArticleId, USER_ROLE, UserId};
use like_protocol::message::Payload;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{articles, users};
use crate::saga::{Definition, DefinitionError, StepPlan};

/// The parameters of both, as the saga log keeps them: the bytes are pinned below, whatever becomes of messages.
#[derive(Serialize, Deserialize)]
struct Params {
    user: UserId,
    article: ArticleId,
    key: Option<CallerKey>,
}

/// A kind of saga that changes an article's count and a user's like record.
#[derive(Clone, Copy, Debug)]
pub struct Act {
    /// The name under which the saga log keeps it.
    pub kind: &'static str,
    /// Its steps.
    pub steps: &'static [StepPlan],
    /// Which of them changes the article's count.
    pub count_step: usize,
    /// How.
    pub count: fn(ArticleId) -> ArticleOperation,
    /// Which of them changes the like record.
    pub record_step: usize,
    /// How.
    pub record: fn(LikeTarget) -> UserOperation,
}

/// The like saga. The article's count starts first: if its service can't be reached, nobody sees a record that goes again.
/// The record is created beside it: neither needs the other's reply, and until the saga has settled, the record is held, so
/// that nobody takes back a like that is not yet counted. The record's rejection (liked already, key used) turns the saga
/// back.
pub const LIKE: Act = Act {
    kind: "like",
    steps: &[
        StepPlan { name: "add like", role: ARTICLE_ROLE, beside: false },
        StepPlan { name: "create like record", role: USER_ROLE, beside: true },
    ],
    count_step: 0,
    count: ArticleOperation::AddLike,
    record_step: 1,
    record: UserOperation::CreateLike,
};

/// The unlike saga. The record goes first, locked and restorable: so only a saga that holds the record ever lowers the
/// count, and the count can't go below zero.
pub const UNLIKE: Act = Act {
    kind: "unlike",
    steps: &[
        StepPlan { name: "remove like record", role: USER_ROLE, beside: false },
        StepPlan { name: "take like away", role: ARTICLE_ROLE, beside: false },
    ],
    count_step: 1,
    count: ArticleOperation::RemoveLike,
    record_step: 0,
    record: UserOperation::RemoveLike,
};

impl Act {
    /// The saga that does this.
    pub fn of(usage: KeyUse) -> Self {
        match usage {
            KeyUse::Like => LIKE,
            KeyUse::Unlike => UNLIKE,
        }
    }

    /// The parameters of a saga about `target`, as the saga log keeps them.
    ///
    /// # Errors
    /// None that a caller could cause; see [`codec::encode`].
    pub fn params(&self, target: &LikeTarget) -> Result<Payload, DefinitionError> {
        let LikeTarget { user, article, key } = *target;
        self.write(&Params { user, article, key })
    }

    fn target(&self, params: &Payload) -> Result<LikeTarget, DefinitionError> {
        let Params { user, article, key } = self.read("parameters", params)?;
        Ok(LikeTarget { user, article, key })
    }

    fn write<T: Serialize>(&self, value: &T) -> Result<Payload, DefinitionError> {
        codec::encode(value).map_err(|error| self.error(error.to_string()))
    }

    /// Decodes what was recorded as `what`.
    fn read<T: DeserializeOwned>(&self, what: &str, payload: &Payload) -> Result<T, DefinitionError> {
        codec::decode(&payload.0).map_err(|error| self.error(format!("{what}: {error}")))
    }

    fn error(&self, detail: String) -> DefinitionError {
        DefinitionError { kind: self.kind, detail }
    }
}

impl Definition for Act {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn version(&self) -> u16 {
        1
    }

    fn steps(&self) -> &'static [StepPlan] {
        self.steps
    }

    fn operation(&self, params: &Payload, step: usize, _: &[Payload]) -> Result<Payload, DefinitionError> {
        let target = self.target(params)?;
        if step == self.count_step {
            self.write(&(self.count)(target.article))
        } else if step == self.record_step {
            self.write(&(self.record)(target))
        } else {
            Err(self.error(format!("it has no step {step}")))
        }
    }

    fn note(
        &self,
        params: &Payload,
        step: usize,
        replies: &[Option<Payload>],
    ) -> Result<Option<Payload>, DefinitionError> {
        let target = self.target(params)?;
        if step != self.record_step || target.key.is_none() {
            return Ok(None);
        }
        let current_likes = match replies.get(self.count_step).and_then(Option::as_ref) {
            Some(reply) => Some(self.read::<ArticleReply>("the article service's reply", reply)?.likes),
            None => None,
        };
        self.write(&UserNote { current_likes }).map(Some)
    }

    fn subject(&self, params: &Payload) -> Result<Vec<(&'static str, u64)>, DefinitionError> {
        let target = self.target(params)?;
        Ok(vec![("article_id", target.article.0), ("user_id", target.user.0)])
    }

    fn explain_rejection(&self, step: usize, rejection: &Payload) -> String {
        let explained = if step == self.record_step {
            codec::decode::<UserRejection>(&rejection.0).map(|r| users::explain(&r))
        } else {
            codec::decode::<ArticleRejection>(&rejection.0).map(|r| articles::explain(&r))
        };
        explained.unwrap_or_else(|error| format!("a rejection that can't be read: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use like_protocol::ids::SagaId;
    use like_protocol::likes::UserId;
    use like_protocol::likes::user::CallerKey;
    use uuid::Uuid;

    use super::*;

    const ACTS: [Act; 2] = [LIKE, UNLIKE];

    const WITHOUT_KEY: LikeTarget = LikeTarget { user: UserId(7), article: ArticleId(300), key: None };
    const TARGET: LikeTarget =
        LikeTarget { key: Some(CallerKey(Uuid::from_bytes([0x44; 16]))), ..WITHOUT_KEY };

    #[test]
    fn stored_parameters_are_pinned() {
        for act in ACTS {
            assert_eq!(act.params(&WITHOUT_KEY).unwrap().0[..], [7, 251, 44, 1, 0]);
            let with_key = act.params(&TARGET).unwrap().0;
            assert_eq!(with_key[..], [&[7, 251, 44, 1, 1][..], &[0x44; 16]].concat());
        }
    }

    #[test]
    fn a_like_asks_for_one_like_and_its_record_and_an_unlike_takes_the_record_before_the_count() {
        let counts = [ArticleOperation::AddLike, ArticleOperation::RemoveLike].map(|op| op(ArticleId(300)));
        let records = [UserOperation::CreateLike, UserOperation::RemoveLike].map(|op| op(TARGET));
        for (act, [count_step, record_step], count, record) in
            [(LIKE, [0, 1], &counts[0], &records[0]), (UNLIKE, [1, 0], &counts[1], &records[1])]
        {
            let stored = act.params(&TARGET).unwrap();
            let asked = |step| act.operation(&stored, step, &[]).unwrap().0;
            assert_eq!(&codec::decode::<ArticleOperation>(&asked(count_step)).unwrap(), count);
            assert_eq!(&codec::decode::<UserOperation>(&asked(record_step)).unwrap(), record);
            assert!(act.operation(&stored, 2, &[]).is_err());
            assert_eq!(act.subject(&stored).unwrap(), [("article_id", 300), ("user_id", 7)]);
        }
    }

    #[test]
    fn the_first_answer_is_noted_where_the_key_is_kept() {
        for (act, count_step, record_step) in [(LIKE, 0, 1), (UNLIKE, 1, 0)] {
            let stored = act.params(&TARGET).unwrap();
            let mut replies = [None, None];
            let noted = |replies: &[Option<Payload>]| {
                let note = act.note(&stored, record_step, replies).unwrap().unwrap();
                codec::decode::<UserNote>(&note.0).unwrap().current_likes
            };
            assert_eq!(noted(&replies), None, "its end was forced");
            replies[count_step] = Some(codec::encode(&ArticleReply { likes: 12 }).unwrap());
            assert_eq!(noted(&replies), Some(12));
            assert_eq!(act.note(&stored, count_step, &replies).unwrap(), None);
            let without_key = act.params(&WITHOUT_KEY).unwrap();
            assert_eq!(act.note(&without_key, record_step, &replies).unwrap(), None);
        }
    }

    #[test]
    fn parameters_of_something_else_are_an_error() {
        let garbage = Payload::from(vec![1, 2, 3, 4, 5, 6, 7]);
        for act in ACTS {
            assert!(act.operation(&garbage, 0, &[]).is_err());
            assert!(act.subject(&garbage).is_err());
        }
    }

    #[test]
    fn rejections_are_told_in_words() {
        let missing = codec::encode(&ArticleRejection::NotFound(ArticleId(300))).unwrap();
        assert_eq!(LIKE.explain_rejection(0, &missing), "there is no article 300");
        let record = SagaId::from_bytes([1; 16]);
        let liked = codec::encode(&UserRejection::AlreadyLiked { record }).unwrap();
        assert!(LIKE.explain_rejection(1, &liked).contains("likes the article already"));
        assert!(LIKE.explain_rejection(0, &Payload::from(vec![99])).contains("can't be read"));
        let not_liked = codec::encode(&UserRejection::NotLiked).unwrap();
        assert_eq!(UNLIKE.explain_rejection(0, &not_liked), "the user does not like the article");
        let none = codec::encode(&ArticleRejection::NoLikes(ArticleId(300))).unwrap();
        assert_eq!(UNLIKE.explain_rejection(1, &none), "article 300 has no likes to take away");
    }
}

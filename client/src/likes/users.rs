//! What can be asked of the user service outside any saga.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use like_protocol::ids::SagaId;
use like_protocol::likes::user::{
    KEYS_PER_USER_MAX, LikeRecord, LikeTarget, LikerCount, Standing, UserAnswer, UserQuery, UserRejection,
};
use like_protocol::likes::{ArticleId, UserId};
use like_protocol::message::{DaemonStatus, PAGE_ROWS_MAX};

use super::ask::{AskError, Asker};
use super::standings::Standings;
use crate::rpc::Remote;

/// Why the user service has no answer.
pub type UserError = AskError<UserRejection>;

/// The user service.
#[derive(Clone)]
pub struct UserService {
    asker: Asker,
    standings: Standings,
}

impl UserService {
    /// The service behind `remote`; every question to it may take `within` in all.
    pub fn new(remote: Arc<Remote>, within: Duration) -> Self {
        Self::over(Asker::new(remote, within))
    }

    /// The same service, asked with another limit.
    pub fn within(&self, within: Duration) -> Self {
        Self::over(self.asker.within(within))
    }

    fn over(asker: Asker) -> Self {
        Self { standings: Standings::new(asker.clone()), asker }
    }

    /// How a user stands to an article, and to a key. What is asked in the same moment, of clones too, is asked together.
    ///
    /// # Errors
    /// No answer.
    pub async fn standing(&self, target: LikeTarget) -> Result<Standing, UserError> {
        self.standings.ask(target).await
    }

    /// One page of a user's like records by article, those after `after`; an empty page is the end.
    ///
    /// # Errors
    /// No answer.
    pub async fn likes_of(
        &self,
        user: UserId,
        after: Option<ArticleId>,
        limit: u32,
    ) -> Result<Vec<LikeRecord>, UserError> {
        let limit = limit.min(PAGE_ROWS_MAX);
        self.records(UserQuery::LikesOf { user, after, limit }).await
    }

    /// One page of an article's like records by user, those after `after`; an empty page is the end.
    ///
    /// # Errors
    /// No answer.
    pub async fn likers_of(
        &self,
        article: ArticleId,
        after: Option<UserId>,
        limit: u32,
    ) -> Result<Vec<LikeRecord>, UserError> {
        let limit = limit.min(PAGE_ROWS_MAX);
        self.records(UserQuery::LikersOf { article, after, limit }).await
    }

    /// One page of a count of an article's like records.
    ///
    /// # Errors
    /// No answer.
    pub async fn count_likers(
        &self,
        article: ArticleId,
        after: Option<UserId>,
    ) -> Result<LikerCount, UserError> {
        match self.asker.query(&UserQuery::CountLikers { article, after }).await? {
            UserAnswer::Count(count) => Ok(count),
            other => unexpected(&self.asker, &other),
        }
    }

    /// One page of articles that have like records, those after `after`; an empty page is the end.
    ///
    /// # Errors
    /// No answer.
    pub async fn liked_articles(
        &self,
        after: Option<ArticleId>,
        limit: u32,
    ) -> Result<Vec<ArticleId>, UserError> {
        let limit = limit.min(PAGE_ROWS_MAX);
        match self.asker.query(&UserQuery::LikedArticles { after, limit }).await? {
            UserAnswer::Articles(articles) => Ok(articles),
            other => unexpected(&self.asker, &other),
        }
    }

    /// How the daemon is.
    ///
    /// # Errors
    /// No answer.
    pub async fn status(&self) -> Result<DaemonStatus, UserError> {
        self.asker.status().await
    }

    /// The sagas that have unsettled steps here: what they touch is locked until their end is settled.
    ///
    /// # Errors
    /// No answer.
    pub async fn unsettled(&self) -> Result<BTreeSet<SagaId>, UserError> {
        self.asker.unsettled().await
    }

    async fn records(&self, query: UserQuery) -> Result<Vec<LikeRecord>, UserError> {
        match self.asker.query(&query).await? {
            UserAnswer::Records(records) => Ok(records),
            other => unexpected(&self.asker, &other),
        }
    }
}

/// An answer to another question than was asked.
pub(super) fn unexpected<T>(asker: &Asker, answer: &UserAnswer) -> Result<T, UserError> {
    Err(asker.misunderstood(format!("unexpected answer {answer:?}")))
}

/// What a rejection says, in words: a sentence without capital and full stop.
pub fn explain(rejection: &UserRejection) -> String {
    match rejection {
        UserRejection::AlreadyLiked { record } => {
            format!("the user likes the article already (record {record})")
        }
        UserRejection::NotLiked => "the user does not like the article".to_owned(),
        UserRejection::KeyUsed(first) => {
            format!("the key has been used before (by saga {} on article {})", first.saga, first.article)
        }
        UserRejection::TooManyKeys => {
            format!(
                "the user has {KEYS_PER_USER_MAX} keys that are not a day old; retry without a key, or later"
            )
        }
    }
}

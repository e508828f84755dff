//! Likes as a caller means them: checks first, then the saga, then an answer.
//!
//! The checks only spare a saga that is bound to fail; the participants decide. A check that meets a locked row, or that
//! gets no answer, decides nothing: the saga is started. One that meets a damaged row ends it there: the saga would.

use std::time::Duration;

use like_protocol::likes::user::{CallerKey, FirstUse, KeyUse, LikeTarget};
use like_protocol::likes::{ArticleId, UserId};

use super::acts::Act;
use super::answer::{ActError, LikeAnswer, UnlikeAnswer, before_saga};
use super::articles::ArticleService;
use super::users::UserService;
use crate::runner::{Outcome, Runner};

/// How long a check before a saga may take. A service that is slower decides nothing by it.
pub const CHECK_TIMEOUT: Duration = Duration::from_millis(500);

/// What users do with articles. Clones share everything.
#[derive(Clone)]
pub struct Likes {
    runner: Runner,
    articles: ArticleService,
    users: UserService,
}

impl Likes {
    /// Acts through `runner`, and asks these services beforehand.
    pub fn new(runner: Runner, articles: ArticleService, users: UserService) -> Self {
        let (articles, users) = (articles.within(CHECK_TIMEOUT), users.within(CHECK_TIMEOUT));
        Self { runner, articles, users }
    }

    /// The user likes the article. Once answered, the like and its record are on disk in both stores. A retry with the
    /// same key gets the first one's answer.
    ///
    /// # Errors
    /// See [`ActError`].
    pub async fn like(
        &self,
        user: UserId,
        article: ArticleId,
        key: Option<CallerKey>,
        timeout: Duration,
    ) -> Result<LikeAnswer, ActError> {
        let target = LikeTarget { user, article, key };
        if let Some(first) = self.check(&target, KeyUse::Like, timeout).await? {
            return Ok(LikeAnswer::of_first(&first));
        }
        let Outcome { saga, state } = self.run(&target, KeyUse::Like, timeout).await?;
        LikeAnswer::of_ended(saga, &state, &target)
    }

    /// The user likes the article no longer. Promises as [`Likes::like`] does.
    ///
    /// # Errors
    /// See [`ActError`].
    pub async fn unlike(
        &self,
        user: UserId,
        article: ArticleId,
        key: Option<CallerKey>,
        timeout: Duration,
    ) -> Result<UnlikeAnswer, ActError> {
        let target = LikeTarget { user, article, key };
        if let Some(first) = self.check(&target, KeyUse::Unlike, timeout).await? {
            return Ok(UnlikeAnswer::of_first(&first));
        }
        let Outcome { saga, state } = self.run(&target, KeyUse::Unlike, timeout).await?;
        UnlikeAnswer::of_ended(saga, &state, &target)
    }

    async fn run(&self, target: &LikeTarget, usage: KeyUse, timeout: Duration) -> Result<Outcome, ActError> {
        let act = Act::of(usage);
        let params = act.params(target).map_err(|e| ActError::Internal(e.to_string()))?;
        Ok(self.runner.run(act.kind, params, timeout).await?)
    }

    /// The checks before a saga; the first use of the key, if that answers everything.
    async fn check(
        &self,
        target: &LikeTarget,
        usage: KeyUse,
        timeout: Duration,
    ) -> Result<Option<FirstUse>, ActError> {
        let ask = async |articles: &ArticleService, users: &UserService| {
            futures::join!(articles.exists(target.article), users.standing(*target))
        };
        let (article, standing) = if timeout < CHECK_TIMEOUT {
            ask(&self.articles.within(timeout), &self.users.within(timeout)).await
        } else {
            ask(&self.articles, &self.users).await
        };
        before_saga(target, usage, article, standing)
    }
}

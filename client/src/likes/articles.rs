//! What can be asked of the article service outside any saga.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use like_protocol::ids::{SagaId, StoreId};
use like_protocol::likes::ArticleId;
use like_protocol::likes::article::{
    Article, ArticleAnswer, ArticleCommand, ArticleQuery, ArticleRejection, CHOSEN_ID_MAX, ListedArticle,
    TITLE_CHARS_MAX, is_title,
};
use like_protocol::message::{DaemonStatus, PAGE_ROWS_MAX};

use super::ask::{AskError, Asker};
use crate::rpc::Remote;

/// How many articles are remembered as seen; beyond that they are forgotten and asked for again.
const SEEN_MAX: usize = 65_536;

/// Why the article service has no answer.
pub type ArticleError = AskError<ArticleRejection>;

/// The article service.
#[derive(Clone)]
pub struct ArticleService {
    asker: Asker,
    seen: Arc<Mutex<Seen>>,
}

/// The articles that were seen in a store.
#[derive(Default)]
struct Seen {
    store: Option<StoreId>,
    articles: HashSet<ArticleId>,
}

impl ArticleService {
    /// The service behind `remote`; every question to it may take `within` in all.
    pub fn new(remote: Arc<Remote>, within: Duration) -> Self {
        Self { asker: Asker::new(remote, within), seen: Arc::default() }
    }

    /// The same service, asked with another limit.
    pub fn within(&self, within: Duration) -> Self {
        Self { asker: self.asker.within(within), seen: Arc::clone(&self.seen) }
    }

    /// Makes an article; the service chooses the next id if none is given. Durable once answered.
    ///
    /// # Errors
    /// [`AskError::Lost`]: it may have been made.
    pub async fn create(&self, id: Option<ArticleId>, title: String) -> Result<Article, ArticleError> {
        // A text that is no title may be longer than a command can be.
        if !is_title(&title) {
            return Err(ArticleError::Rejected(ArticleRejection::BadTitle));
        }
        self.one(self.asker.command(&ArticleCommand::Create { id, title }).await?)
    }

    /// One article.
    ///
    /// # Errors
    /// [`ArticleRejection::NotFound`], or no answer.
    pub async fn show(&self, id: ArticleId) -> Result<Article, ArticleError> {
        self.one(self.asker.query(&ArticleQuery::Show(id)).await?)
    }

    /// Makes sure that there is such an article. One that was seen before, in the store that answers now, is not asked for
    /// again: no article ever goes.
    ///
    /// # Errors
    /// As [`ArticleService::show`].
    pub async fn exists(&self, id: ArticleId) -> Result<(), ArticleError> {
        if self.has_seen(id) {
            return Ok(());
        }
        // Asking is rare, and its future large.
        Box::pin(self.show(id)).await?;
        let store = self.asker.store();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.store != store || seen.articles.len() >= SEEN_MAX {
            *seen = Seen { store, articles: HashSet::new() };
        }
        seen.articles.insert(id);
        Ok(())
    }

    fn has_seen(&self, id: ArticleId) -> bool {
        let Some(store) = self.asker.store() else { return false };
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.store == Some(store) && seen.articles.contains(&id)
    }

    /// One page of articles with ids after `after`, in order; an empty page is the end.
    ///
    /// # Errors
    /// No answer.
    pub async fn page(
        &self,
        after: Option<ArticleId>,
        limit: u32,
    ) -> Result<Vec<ListedArticle>, ArticleError> {
        let limit = limit.min(PAGE_ROWS_MAX);
        match self.asker.query(&ArticleQuery::List { after, limit }).await? {
            ArticleAnswer::Page(articles) => Ok(articles),
            other => Err(self.asker.misunderstood(format!("unexpected answer {other:?}"))),
        }
    }

    /// Sets an article's count to `likes` if the article has not changed since its change number was `if_change` and
    /// no saga touches it.
    ///
    /// # Errors
    /// [`ArticleRejection::Changed`]: it has changed, and nothing was done. [`AskError::Lost`]: it may be done.
    pub async fn repair(
        &self,
        article: ArticleId,
        likes: u64,
        if_change: u64,
    ) -> Result<Article, ArticleError> {
        self.one(self.asker.command(&ArticleCommand::Repair { article, likes, if_change }).await?)
    }

    /// How the daemon is.
    ///
    /// # Errors
    /// No answer.
    pub async fn status(&self) -> Result<DaemonStatus, ArticleError> {
        self.asker.status().await
    }

    /// The sagas that have unsettled steps here: what they touch is locked until their end is settled.
    ///
    /// # Errors
    /// No answer.
    pub async fn unsettled(&self) -> Result<BTreeSet<SagaId>, ArticleError> {
        self.asker.unsettled().await
    }

    fn one(&self, answer: ArticleAnswer) -> Result<Article, ArticleError> {
        match answer {
            ArticleAnswer::Article(article) => Ok(article),
            ArticleAnswer::Page(_) => {
                Err(self.asker.misunderstood("a page instead of an article".to_owned()))
            }
        }
    }
}

/// What a rejection says, in words: a sentence without capital and full stop.
pub fn explain(rejection: &ArticleRejection) -> String {
    match rejection {
        ArticleRejection::NotFound(id) => format!("there is no article {id}"),
        ArticleRejection::AlreadyExists(id) => format!("article {id} exists already"),
        ArticleRejection::NoLikes(id) => format!("article {id} has no likes to take away"),
        ArticleRejection::BadTitle => format!("a title has 1 to {TITLE_CHARS_MAX} characters"),
        ArticleRejection::Changed(id) => format!("article {id} has changed meanwhile"),
        ArticleRejection::Unaccounted(id) => format!(
            "the article service has a damaged operation record, which may touch article {id}: end its saga first"
        ),
        ArticleRejection::NoNextId => format!(
            "article {CHOSEN_ID_MAX} exists, the last id that the article service chooses: give this article an id"
        ),
    }
}

#[cfg(test)]
mod tests;

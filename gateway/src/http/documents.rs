//! The documents that are answered with. Their names are public, and the same as those of `likectl --json`.

use like_client::cli::moment;
use like_client::likes::{LikeAnswer, UnlikeAnswer};
use like_protocol::ids::SagaId;
use like_protocol::likes::article::{Article, ListedArticle};
use like_protocol::likes::user::LikeRecord;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::problem::Problem;
use super::take::rows;

/// What came of a like.
#[derive(Serialize, ToSchema)]
pub struct Liked {
    /// The article.
    article_id: u64,
    /// Its likes right after this one; null for the retry of a like whose end was forced.
    current_likes: Option<u64>,
    /// The like record.
    user_record_id: String,
    /// The saga that made it.
    saga_id: String,
}

impl From<&LikeAnswer> for Liked {
    fn from(answer: &LikeAnswer) -> Self {
        Self {
            article_id: answer.article.0,
            current_likes: answer.current_likes,
            user_record_id: answer.record.to_string(),
            saga_id: answer.saga.to_string(),
        }
    }
}

/// What came of an unlike.
#[derive(Serialize, ToSchema)]
pub struct Unliked {
    /// The article.
    article_id: u64,
    /// Its likes right after this one went; null for the retry of an unlike whose end was forced.
    current_likes: Option<u64>,
    /// The saga that took it.
    saga_id: String,
}

impl From<&UnlikeAnswer> for Unliked {
    fn from(answer: &UnlikeAnswer) -> Self {
        Self {
            article_id: answer.article.0,
            current_likes: answer.current_likes,
            saga_id: answer.saga.to_string(),
        }
    }
}

/// A like or unlike whose outcome is not known yet: it stands in the saga log, and is finished whatever happens.
#[derive(Serialize, ToSchema)]
pub struct Pending {
    /// The saga.
    saga_id: String,
    /// Where it can be looked at.
    saga: String,
    /// What to do meanwhile.
    hint: &'static str,
}

impl Pending {
    /// Of a saga.
    pub fn of(saga: SagaId) -> Self {
        Self {
            saga_id: saga.to_string(),
            saga: place_of(saga),
            hint: "look at the saga, or repeat the request with the same Idempotency-Key",
        }
    }
}

/// Where a saga can be looked at.
pub fn place_of(saga: SagaId) -> String {
    format!("/sagas/{saga}")
}

/// An article.
#[derive(Serialize, ToSchema)]
pub struct ArticleDocument {
    /// Its number.
    article_id: u64,
    /// Its title.
    title: String,
    /// Its likes, those of unfinished sagas included.
    likes: u64,
    /// How many unsettled sagas touch it: its likes may still change by as many.
    pending: u32,
}

impl From<&Article> for ArticleDocument {
    fn from(article: &Article) -> Self {
        let Article { id, title, likes, unsettled, .. } = article;
        Self { article_id: id.0, title: title.clone(), likes: *likes, pending: *unsettled }
    }
}

/// An article in a list.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub enum ListedArticleDocument {
    /// As it stands on disk.
    Whole(ArticleDocument),
    /// A row of it is damaged.
    Damaged {
        /// Which article.
        article_id: u64,
        /// What is damaged.
        damaged: String,
    },
}

impl From<&ListedArticle> for ListedArticleDocument {
    fn from(listed: &ListedArticle) -> Self {
        match listed {
            ListedArticle::Whole(article) => Self::Whole(article.into()),
            ListedArticle::Damaged { id, why } => Self::Damaged { article_id: id.0, damaged: why.clone() },
        }
    }
}

/// A like record.
#[derive(Serialize, ToSchema)]
pub struct RecordDocument {
    /// Its id: that of the saga that made it; null if a row of the record is damaged.
    user_record_id: Option<String>,
    /// Who likes.
    user_id: u64,
    /// What.
    article_id: u64,
    /// When the like began; null if a row of the record is damaged.
    #[schema(format = DateTime)]
    created_at: Option<String>,
    /// Whether an unsettled saga may still change it.
    pending: bool,
}

impl From<&LikeRecord> for RecordDocument {
    fn from(record: &LikeRecord) -> Self {
        Self {
            user_record_id: record.record.map(|id| id.to_string()),
            user_id: record.user.0,
            article_id: record.article.0,
            created_at: record.record.map(|id| moment::show(id.began_at())),
            pending: record.pending,
        }
    }
}

/// A new article.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewArticle {
    /// Its number; if left out, the one after the highest, numbers above 999999999999999 aside.
    pub article_id: Option<u64>,
    /// Its title: 1 to 255 characters.
    #[schema(min_length = 1, max_length = 255)]
    pub title: String,
}

/// A page of a list that is ordered by number.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Page {
    /// At most so many.
    #[serde(default = "Page::usual")]
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: u32,
    /// Only those after this number: the last one of the page before.
    pub after: Option<u64>,
}

impl Page {
    /// The longest page.
    pub const ROWS_MAX: u32 = 1000;

    fn usual() -> u32 {
        100
    }

    /// How many rows.
    ///
    /// # Errors
    /// None, or more than a page may have.
    pub fn rows(&self) -> Result<u32, Problem> {
        rows(self.limit, Self::ROWS_MAX)
    }
}

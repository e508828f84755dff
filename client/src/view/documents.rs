//! Articles, like records and answers as they are shown. The JSON forms are public.

use like_protocol::likes::article::{Article, ListedArticle};
use like_protocol::likes::user::LikeRecord;
use serde::Serialize;

use super::moment;
use crate::likes::{LikeAnswer, UnlikeAnswer};

/// An article.
#[derive(Serialize, Debug)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
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
#[derive(Serialize, Debug)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
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
#[derive(Serialize, Debug)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct RecordDocument {
    /// Its id: that of the saga that made it; null if a row of the record is damaged.
    user_record_id: Option<String>,
    /// Who likes.
    user_id: u64,
    /// What.
    article_id: u64,
    /// When the like began; null if a row of the record is damaged.
    #[cfg_attr(feature = "schema", schema(format = DateTime))]
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

/// What came of a like.
#[derive(Serialize, Debug)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
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
#[derive(Serialize, Debug)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
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

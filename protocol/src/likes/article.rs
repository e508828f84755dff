//! What the article service understands.

use serde::{Deserialize, Serialize};

use super::ArticleId;

/// The longest title, in characters (Unicode scalar values).
pub const TITLE_CHARS_MAX: usize = 255;

/// Whether an article can have this title: of 1 to [`TITLE_CHARS_MAX`] characters.
pub fn is_title(text: &str) -> bool {
    // However long the text is, no more of it is looked at.
    (1..=TITLE_CHARS_MAX).contains(&text.chars().take(TITLE_CHARS_MAX + 1).count())
}

/// The highest id that the article service chooses by itself. Any number can be given: the highest ones that types of
/// integers have lie above, so that one article under such an id doesn't take all ids that could follow. And whoever reads
/// numbers as floating-point ones keeps all 15 digits.
pub const CHOSEN_ID_MAX: ArticleId = ArticleId(999_999_999_999_999);

/// A saga step at the article service. A counter needs no lock: +1 and -1 commute.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ArticleOperation {
    /// One like more. Undone by one less.
    AddLike(ArticleId),
    /// One like less. Undone by one more.
    RemoveLike(ArticleId),
}

/// What a saga step at the article service answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ArticleReply {
    /// The article's likes right after the step.
    pub likes: u64,
}

/// A rule of the article service that forbids what was asked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ArticleRejection {
    /// There is no such article.
    NotFound(ArticleId),
    /// An article of this id exists.
    AlreadyExists(ArticleId),
    /// The article has no likes: none can be taken away.
    NoLikes(ArticleId),
    /// A title has 1 to [`TITLE_CHARS_MAX`] characters.
    BadTitle,
    /// The article changed since its count was compared, or has an unsettled step: look again before repairing it.
    Changed(ArticleId),
    /// An operation record is damaged, and may be that of an unsettled step of the article: a repair could spoil what
    /// its saga still does.
    Unaccounted(ArticleId),
    /// An article has the highest id that the service chooses, [`CHOSEN_ID_MAX`]: none follows, so one has to be given.
    NoNextId,
}

/// What can be read at the article service.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ArticleQuery {
    /// One article; answered by [`ArticleAnswer::Article`].
    Show(ArticleId),
    /// Articles by their ids; answered by [`ArticleAnswer::Page`].
    List {
        /// Only ids after this one.
        after: Option<ArticleId>,
        /// At most so many (and at most `PAGE_ROWS_MAX`).
        limit: u32,
    },
}

/// What can be changed at the article service outside any saga.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ArticleCommand {
    /// Make an article; answered by [`ArticleAnswer::Article`].
    Create {
        /// Its id. If none is given, the one after the highest that is not above [`CHOSEN_ID_MAX`].
        id: Option<ArticleId>,
        /// Its title.
        title: String,
    },
    /// Set an article's count to what an audit counted; answered by [`ArticleAnswer::Article`].
    Repair {
        /// Which article.
        article: ArticleId,
        /// The count to set.
        likes: u64,
        /// The change number that the audit saw: if it moved, nothing is done.
        if_change: u64,
    },
}

/// What the article service answers to queries and commands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ArticleAnswer {
    /// One article.
    Article(Article),
    /// Articles in order of their ids.
    Page(Vec<ListedArticle>),
}

/// An article in a list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ListedArticle {
    /// As it stands on disk.
    Whole(Article),
    /// A row of it is damaged: of the article only this can be told.
    Damaged {
        /// Its id.
        id: ArticleId,
        /// What is damaged, for people.
        why: String,
    },
}

impl ListedArticle {
    /// The article's id.
    pub fn id(&self) -> ArticleId {
        match self {
            Self::Whole(article) => article.id,
            Self::Damaged { id, .. } => *id,
        }
    }
}

/// An article as it stands on disk.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Article {
    /// Its id.
    pub id: ArticleId,
    /// Its title.
    pub title: String,
    /// Its number of likes, those of unfinished sagas included.
    pub likes: u64,
    /// Grows with every change of the count.
    pub change: u64,
    /// How many sagas that have not settled here touch it.
    pub unsettled: u32,
    /// How many operation records are damaged here: each may be that of one more such saga.
    pub unaccounted: u32,
}

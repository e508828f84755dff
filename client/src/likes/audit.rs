//! The audit: for every article, its likes against its like records. It never invents drift.
//!
//! Both services change while it looks. So it reads an article (count, change number, unsettled sagas), then counts its
//! records page by page, then reads the article again, and compares only if no saga was unsettled in any of these
//! looks and the change number did not move. Every like and unlike changes the count while it holds its record, so
//! whatever could have falsified the count of records shows in one of the looks. What moves is looked at again a few
//! times, and then reported as not compared.
//!
//! What is damaged is never compared either. An article is reported as damaged if a row of it or of one of its records
//! is. While an operation record is damaged nobody knows which article its saga touches, so an article that differs then
//! is reported as not compared; one that agrees has nothing in flight that matters.
//!
//! A repair sets an article's count to its records, and names the change number that was compared: if anything has
//! happened to the article since, the service refuses it.

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use like_protocol::ids::SagaId;
use like_protocol::likes::article::{Article, ArticleRejection, ListedArticle};
use like_protocol::likes::user::LikerCount;
use like_protocol::likes::{ArticleId, UserId};
use like_protocol::message::PAGE_ROWS_MAX;

use super::articles::{ArticleError, ArticleService};
use super::ask::AskError;
use super::users::{UserError, UserService};

/// How often an article is looked at while it keeps moving.
const LOOKS_MAX: u32 = 6;

/// The pause after the first look that saw something move; it doubles with every further one.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// How many articles are looked at at the same time: enough to keep both services busy, too few to crowd out likes.
const LOOKS_AT_ONCE: usize = 16;

/// What an audit reads and repairs. The two services behind it, or a test's.
pub trait Books {
    /// Why a look failed.
    type Error;

    /// An article, if it exists.
    fn article(&self, id: ArticleId) -> impl Future<Output = Result<Option<ListedArticle>, Self::Error>>;

    /// One page of the ids of articles, those after `after`; an empty page is the end.
    fn articles(&self, after: Option<ArticleId>)
    -> impl Future<Output = Result<Vec<ArticleId>, Self::Error>>;

    /// One page of a count of an article's like records.
    fn count(
        &self,
        article: ArticleId,
        after: Option<UserId>,
    ) -> impl Future<Output = Result<LikerCount, Self::Error>>;

    /// One page of articles that have like records, those after `after`; an empty page is the end.
    fn liked_articles(
        &self,
        after: Option<ArticleId>,
    ) -> impl Future<Output = Result<Vec<ArticleId>, Self::Error>>;

    /// Sets an article's count if its change number is still `if_change` and nothing is unsettled; whether it was set.
    fn repair(
        &self,
        article: ArticleId,
        likes: u64,
        if_change: u64,
    ) -> impl Future<Output = Result<bool, Self::Error>>;
}

/// What an audit found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Findings {
    /// How many articles were compared.
    pub articles_checked: u64,
    /// How many like records were counted on them.
    pub likes_checked: u64,
    /// Articles whose likes are not their like records, by id.
    pub drift: Vec<Drift>,
    /// Articles that kept moving or that unsettled sagas touch or may touch, by id: nothing is known of them.
    pub not_compared: Vec<ArticleId>,
    /// Articles of which a row, or a row of one of their records, is damaged, by id: nothing is known of them.
    pub damaged: Vec<DamagedArticle>,
}

/// An article that can't be compared for good.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DamagedArticle {
    /// Which article.
    pub article: ArticleId,
    /// What is damaged, for people.
    pub why: String,
}

/// An article whose likes are not its like records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Drift {
    /// Which article.
    pub article: ArticleId,
    /// What the article service says; `None` if it has no such article.
    pub count: Option<CountSeen>,
    /// How many like records the user service has.
    pub records: u64,
}

/// An article's count as it was compared.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct CountSeen {
    /// Its likes.
    pub likes: u64,
    /// Its change number.
    pub change: u64,
}

/// What one article looks like.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Look {
    /// Nothing moved.
    Still {
        /// Its count, if it exists.
        count: Option<CountSeen>,
        /// How many like records it has.
        records: u64,
    },
    /// Something moved, or is unsettled, or may be.
    Moving,
    /// Something is damaged.
    Damaged(String),
}

/// Compares every article's likes with its like records. `compared` is told of every article that is done with.
///
/// # Errors
/// One of the services stopped answering: nothing is known.
pub async fn audit<B: Books>(books: &B, mut compared: impl FnMut()) -> Result<Findings, B::Error> {
    let mut findings = Findings::default();
    let mut after = None;
    loop {
        let page = books.articles(after).await?;
        let Some(last) = page.last().copied() else { break };
        after = Some(last);
        for (article, look) in looks(books, page).await? {
            findings.add(article, look);
            compared();
        }
    }
    find_orphans(books, &mut findings).await?;
    findings.drift.sort_by_key(|drift| drift.article);
    findings.not_compared.sort();
    findings.damaged.sort_by_key(|damaged| damaged.article);
    Ok(findings)
}

/// Sets the count of an article that drifted to its number of records.
///
/// `false`: nothing was done, because the article does not exist or has changed since it was compared.
///
/// # Errors
/// The article service stopped answering: the repair may or may not be done.
pub async fn repair<B: Books>(books: &B, drift: &Drift) -> Result<bool, B::Error> {
    match drift.count {
        Some(seen) => books.repair(drift.article, drift.records, seen.change).await,
        None => Ok(false),
    }
}

/// Like records of articles that don't exist.
async fn find_orphans<B: Books>(books: &B, findings: &mut Findings) -> Result<(), B::Error> {
    let mut after = None;
    loop {
        let page = books.liked_articles(after).await?;
        let Some(last) = page.last().copied() else { return Ok(()) };
        after = Some(last);
        let looking = page.into_iter().map(|article| async move {
            let missing = books.article(article).await?.is_none();
            Ok(missing.then_some(article))
        });
        let looked = stream::iter(looking).buffer_unordered(LOOKS_AT_ONCE).collect::<Vec<_>>().await;
        let missing: Vec<Option<ArticleId>> = looked.into_iter().collect::<Result<_, B::Error>>()?;
        let missing = missing.into_iter().flatten().collect();
        for (article, look) in looks(books, missing).await? {
            match look {
                // An article that was made meanwhile is of a later time than this audit's list.
                Look::Still { count: Some(_), .. } | Look::Still { records: 0, .. } => {}
                look => findings.add(article, look),
            }
        }
    }
}

async fn looks<B: Books>(books: &B, articles: Vec<ArticleId>) -> Result<Vec<(ArticleId, Look)>, B::Error> {
    let looking =
        articles.into_iter().map(|article| async move { Ok((article, look_again(books, article).await?)) });
    stream::iter(looking).buffer_unordered(LOOKS_AT_ONCE).collect::<Vec<_>>().await.into_iter().collect()
}

async fn look_again<B: Books>(books: &B, article: ArticleId) -> Result<Look, B::Error> {
    let mut pause = FIRST_PAUSE;
    for _ in 1..LOOKS_MAX {
        let look = look(books, article).await?;
        if !matches!(look, Look::Moving) {
            return Ok(look);
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    look(books, article).await
}

async fn look<B: Books>(books: &B, article: ArticleId) -> Result<Look, B::Error> {
    let mut looks = match Looks::begin(books.article(article).await?) {
        Ok(looks) => looks,
        Err(look) => return Ok(look),
    };
    let mut after = None;
    loop {
        let page = books.count(article, after).await?;
        if let Some(look) = looks.count(&page) {
            return Ok(look);
        }
        match page.more_after {
            Some(last) => after = Some(last),
            None => break,
        }
    }
    Ok(looks.end(books.article(article).await?))
}

/// The looks at one article, one after the other: the rule by which they are compared, or not.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Looks {
    count: Option<CountSeen>,
    records: u64,
    damaged: u64,
    /// Whether an operation record is damaged, so that something may be in flight after all.
    unaccounted: bool,
}

impl Looks {
    /// The first look at the article.
    ///
    /// # Errors
    /// That settles it: something is in flight, or damaged.
    pub fn begin(article: Option<ListedArticle>) -> Result<Self, Look> {
        let (count, unaccounted) = match article {
            None => (None, false),
            Some(ListedArticle::Damaged { why, .. }) => return Err(Look::Damaged(why)),
            Some(ListedArticle::Whole(article)) if article.unsettled > 0 => return Err(Look::Moving),
            Some(ListedArticle::Whole(Article { likes, change, unaccounted, .. })) => {
                (Some(CountSeen { likes, change }), unaccounted > 0)
            }
        };
        Ok(Self { count, records: 0, damaged: 0, unaccounted })
    }

    /// A page of its records; what they look like, if that settles it.
    #[must_use]
    pub fn count(&mut self, page: &LikerCount) -> Option<Look> {
        self.records += page.records;
        self.damaged += page.damaged;
        self.unaccounted |= page.unaccounted > 0;
        (page.unsettled > 0).then_some(Look::Moving)
    }

    /// The second look at the article, when all pages have been counted: what they all come to.
    pub fn end(self, again: Option<ListedArticle>) -> Look {
        if self.damaged > 0 {
            return Look::Damaged(format!("{} of its like records", self.damaged));
        }
        let again = match Self::begin(again) {
            Ok(again) => again,
            Err(look) => return look,
        };
        let Self { count, records, .. } = self;
        let still = Look::Still { count, records };
        let unknown = still.differs() && (self.unaccounted || again.unaccounted);
        if again.count != count || unknown { Look::Moving } else { still }
    }
}

impl Look {
    /// Whether nothing moved, and the likes are not the records.
    fn differs(&self) -> bool {
        matches!(self, Self::Still { count, records } if count.is_none_or(|seen| seen.likes != *records))
    }

    /// What the looks at `article` found to differ, if nothing moved and something does.
    pub fn drift(&self, article: ArticleId) -> Option<Drift> {
        match *self {
            Self::Still { count, records } if self.differs() => Some(Drift { article, count, records }),
            _ => None,
        }
    }
}

impl Findings {
    fn add(&mut self, article: ArticleId, look: Look) {
        self.drift.extend(look.drift(article));
        match look {
            Look::Moving => self.not_compared.push(article),
            Look::Damaged(why) => self.damaged.push(DamagedArticle { article, why }),
            Look::Still { records, .. } => {
                self.articles_checked += 1;
                self.likes_checked += records;
            }
        }
    }
}

/// The two services, as an audit reads them.
#[derive(Clone)]
pub struct LiveBooks {
    /// The article service.
    pub articles: ArticleService,
    /// The user service.
    pub users: UserService,
}

/// Which of the two services did not answer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BooksError {
    /// The article service.
    #[error(transparent)]
    Articles(#[from] ArticleError),
    /// The user service.
    #[error(transparent)]
    Users(#[from] UserError),
}

impl LiveBooks {
    /// The sagas that have unsettled steps at either service.
    ///
    /// # Errors
    /// One of the services does not answer.
    pub async fn unsettled(&self) -> Result<BTreeSet<SagaId>, BooksError> {
        let mut sagas = self.articles.unsettled().await?;
        sagas.extend(self.users.unsettled().await?);
        Ok(sagas)
    }
}

impl Books for LiveBooks {
    type Error = BooksError;

    async fn article(&self, id: ArticleId) -> Result<Option<ListedArticle>, BooksError> {
        match self.articles.show(id).await {
            Ok(article) => Ok(Some(ListedArticle::Whole(article))),
            Err(AskError::Damaged { row, .. }) => {
                Ok(Some(ListedArticle::Damaged { id, why: row.to_string() }))
            }
            Err(AskError::Rejected(ArticleRejection::NotFound(_))) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn articles(&self, after: Option<ArticleId>) -> Result<Vec<ArticleId>, BooksError> {
        Ok(self.articles.page(after, PAGE_ROWS_MAX).await?.iter().map(ListedArticle::id).collect())
    }

    async fn count(&self, article: ArticleId, after: Option<UserId>) -> Result<LikerCount, BooksError> {
        Ok(self.users.count_likers(article, after).await?)
    }

    async fn liked_articles(&self, after: Option<ArticleId>) -> Result<Vec<ArticleId>, BooksError> {
        Ok(self.users.liked_articles(after, PAGE_ROWS_MAX).await?)
    }

    async fn repair(&self, article: ArticleId, likes: u64, if_change: u64) -> Result<bool, BooksError> {
        match self.articles.repair(article, likes, if_change).await {
            Ok(_) => Ok(true),
            Err(AskError::Rejected(
                ArticleRejection::Changed(_)
                | ArticleRejection::NotFound(_)
                | ArticleRejection::Unaccounted(_),
            )) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests;

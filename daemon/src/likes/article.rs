//! The article service: articles and their number of likes.
//!
//! Rows, with ids in eight bytes, highest first:
//!
//! ```text
//! 10 article   -> title (text)
//! 11 article   -> likes(number) change(number)
//! ```
//!
//! The count is a row of its own, so that a like writes a few bytes whatever the title. A count needs no lock: +1 and
//! -1 commute, and a compensation is the opposite step, never an old value written back.

use like_protocol::ids::SagaId;
use like_protocol::likes::article::{
    Article, ArticleAnswer, ArticleCommand, ArticleOperation, ArticleQuery, ArticleRejection, ArticleReply,
    CHOSEN_ID_MAX, ListedArticle, is_title,
};
use like_protocol::likes::{ARTICLE_ROLE, ArticleId};
use tracing::error;

use crate::participant::domain::{Context, Domain, Stop};
use crate::participant::holds::{Hold, Mode, Resource};
use crate::store::fields::{Fields, Malformed, Stored, put_number, put_text};
use crate::store::{Found, Key, KeyRange, StoreError};

const TITLE: u8 = 0x10;
const COUNT: u8 = 0x11;

type Stopped = Stop<ArticleRejection>;

/// The article service's domain.
#[derive(Clone, Copy, Default, Debug)]
pub struct Articles;

/// An article's title.
struct Title(String);

/// An article's likes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Count {
    likes: u64,
    /// Grows with every change of `likes`.
    change: u64,
}

impl Domain for Articles {
    const ROLE: &'static str = ARTICLE_ROLE;

    type Operation = ArticleOperation;
    type Reply = ArticleReply;
    type Rejection = ArticleRejection;
    type Note = ();
    type Query = ArticleQuery;
    type Command = ArticleCommand;
    type Answer = ArticleAnswer;

    fn name_of(&self, key: &[u8]) -> Option<String> {
        let row = match *key.first()? {
            TITLE => "title",
            COUNT => "count",
            _ => return None,
        };
        id_of(key).ok().map(|id| format!("the {row} of article {id}"))
    }

    fn holds(&self, operation: &ArticleOperation) -> Vec<Hold> {
        vec![Hold { resource: touched(article_of(operation)), mode: Mode::Shared }]
    }

    fn act(
        &self,
        context: &mut Context<'_, '_>,
        _: SagaId,
        operation: &ArticleOperation,
    ) -> Result<ArticleReply, Stopped> {
        let article = article_of(operation);
        let Some(count) = context.load::<Count>(&key(COUNT, article))? else {
            return Err(Stop::Rejected(ArticleRejection::NotFound(article)));
        };
        let likes = match operation {
            ArticleOperation::AddLike(_) => count.likes.saturating_add(1),
            ArticleOperation::RemoveLike(_) if count.likes == 0 => {
                return Err(Stop::Rejected(ArticleRejection::NoLikes(article)));
            }
            ArticleOperation::RemoveLike(_) => count.likes - 1,
        };
        set_likes(context, article, count, likes);
        Ok(ArticleReply { likes })
    }

    fn undo(
        &self,
        context: &mut Context<'_, '_>,
        saga: SagaId,
        operation: &ArticleOperation,
        _: &ArticleReply,
    ) -> Result<(), StoreError> {
        let article = article_of(operation);
        let count = context.load::<Count>(&key(COUNT, article))?;
        let undone = match (operation, count) {
            (ArticleOperation::AddLike(_), Some(count)) => {
                count.likes.checked_sub(1).map(|likes| (count, likes))
            }
            (ArticleOperation::RemoveLike(_), Some(count)) => Some((count, count.likes.saturating_add(1))),
            (_, None) => None,
        };
        match undone {
            Some((count, likes)) => set_likes(context, article, count, likes),
            // Only a count that was set to less than it should be gets here. The saga must end all the same; what is
            // wrong is the count, and an audit shows it.
            None => {
                error!(saga_id = %saga, %article, "a like can't be taken back from a count of 0: audit the article")
            }
        }
        Ok(())
    }

    fn settle(
        &self,
        _: &mut Context<'_, '_>,
        _: SagaId,
        _: &ArticleOperation,
        _: Option<()>,
    ) -> Result<(), StoreError> {
        Ok(())
    }

    fn query(&self, context: &Context<'_, '_>, query: ArticleQuery) -> Result<ArticleAnswer, Stopped> {
        match query {
            ArticleQuery::Show(id) => read(context, id).map(ArticleAnswer::Article),
            ArticleQuery::List { after, limit } => {
                let all = KeyRange::prefix(&[TITLE]);
                let range = match after {
                    Some(after) => all.after(&key(TITLE, after)),
                    None => all,
                };
                let rows = context.page(&range, limit)?;
                let listed = rows.iter().filter_map(|row| list(context, row).transpose());
                Ok(ArticleAnswer::Page(listed.collect::<Result<_, _>>()?))
            }
        }
    }

    fn command(
        &self,
        context: &mut Context<'_, '_>,
        command: ArticleCommand,
    ) -> Result<ArticleAnswer, Stopped> {
        let article = match command {
            ArticleCommand::Create { id, title } => create(context, id, &title)?,
            ArticleCommand::Repair { article, likes, if_change } => {
                repair(context, article, likes, if_change)?
            }
        };
        read(context, article).map(ArticleAnswer::Article)
    }
}

fn create(context: &mut Context<'_, '_>, id: Option<ArticleId>, title: &str) -> Result<ArticleId, Stopped> {
    if !is_title(title) {
        return Err(Stop::Rejected(ArticleRejection::BadTitle));
    }
    let article = match id {
        Some(id) if context.get(&key(TITLE, id))?.is_some() => {
            return Err(Stop::Rejected(ArticleRejection::AlreadyExists(id)));
        }
        Some(id) => id,
        None => next_chosen(context)?,
    };
    context.put(key(TITLE, article), Title(title.to_owned()).stored());
    context.put(key(COUNT, article), Count::default().stored());
    Ok(article)
}

/// The id after the highest one that could have been chosen here, counted from 1. It takes one look, whatever is taken:
/// articles stay for ever, and so would a search.
fn next_chosen(context: &Context<'_, '_>) -> Result<ArticleId, Stopped> {
    let range = KeyRange::prefix(&[TITLE]).before(&key(TITLE, ArticleId(CHOSEN_ID_MAX.0 + 1)));
    let highest = context.last_key(&range)?.map(|key| id_of(&key)).transpose()?;
    match highest {
        None => Ok(ArticleId(1)),
        Some(CHOSEN_ID_MAX) => Err(Stop::Rejected(ArticleRejection::NoNextId)),
        Some(highest) => Ok(ArticleId(highest.0 + 1)),
    }
}

/// Sets a count to what an audit counted, if nothing has moved since and nothing is under way.
fn repair(
    context: &mut Context<'_, '_>,
    article: ArticleId,
    likes: u64,
    if_change: u64,
) -> Result<ArticleId, Stopped> {
    let Some(count) = context.load::<Count>(&key(COUNT, article))? else {
        return Err(Stop::Rejected(ArticleRejection::NotFound(article)));
    };
    if context.unaccounted() > 0 {
        return Err(Stop::Rejected(ArticleRejection::Unaccounted(article)));
    }
    if count.change != if_change || context.touching(&touched(article)) > 0 {
        return Err(Stop::Rejected(ArticleRejection::Changed(article)));
    }
    set_likes(context, article, count, likes);
    Ok(article)
}

fn set_likes(context: &mut Context<'_, '_>, article: ArticleId, count: Count, likes: u64) {
    let change = count.change.saturating_add(1);
    context.put(key(COUNT, article), Count { likes, change }.stored());
}

fn read(context: &Context<'_, '_>, id: ArticleId) -> Result<Article, Stopped> {
    match context.load(&key(TITLE, id))? {
        Some(title) => Ok(entitled(context, id, title)?),
        None => Err(Stop::Rejected(ArticleRejection::NotFound(id))),
    }
}

/// The article with this title.
fn entitled(context: &Context<'_, '_>, id: ArticleId, Title(title): Title) -> Result<Article, StoreError> {
    let Some(Count { likes, change }) = context.load(&key(COUNT, id))? else {
        return Err(StoreError::damaged(&key(COUNT, id), Malformed("it is missing")));
    };
    let (unsettled, unaccounted) = (context.touching(&touched(id)), context.unaccounted());
    Ok(Article { id, title, likes, change, unsettled, unaccounted })
}

/// The article of a row, as far as it can be read. Nothing if the key is no article's.
fn list(context: &Context<'_, '_>, row: &Found) -> Result<Option<ListedArticle>, StoreError> {
    let article = |id| row.load().and_then(|title| entitled(context, id, title));
    let (id, damage) = match id_of(&row.key).map(|id| (id, article(id))) {
        Ok((_, Ok(article))) => return Ok(Some(ListedArticle::Whole(article))),
        Ok((id, Err(StoreError::Damaged(damage)))) => (Some(id), damage),
        Err(StoreError::Damaged(damage)) => (None, damage),
        Ok((_, Err(failed))) | Err(failed) => return Err(failed),
    };
    let why = damage.to_string();
    context.note_damage(damage);
    Ok(id.map(|id| ListedArticle::Damaged { id, why }))
}

fn article_of(operation: &ArticleOperation) -> ArticleId {
    let (ArticleOperation::AddLike(article) | ArticleOperation::RemoveLike(article)) = operation;
    *article
}

/// The resource by which unsettled steps of an article are counted.
fn touched(article: ArticleId) -> Resource {
    Resource::from_slice(&article.0.to_be_bytes())
}

fn key(tag: u8, article: ArticleId) -> Key {
    let mut key = [tag; 9];
    key[1..].copy_from_slice(&article.0.to_be_bytes());
    Key::from_slice(&key)
}

fn id_of(key: &[u8]) -> Result<ArticleId, StoreError> {
    let parse = || {
        let mut fields = Fields::of(key);
        fields.byte()?;
        let id = ArticleId(fields.key_number()?);
        fields.end()?;
        Ok(id)
    };
    parse().map_err(|e| StoreError::damaged(key, e))
}

/// A text.
impl Stored for Title {
    fn store(&self, out: &mut Vec<u8>) {
        put_text(out, &self.0);
    }

    fn load(fields: &mut Fields<'_>) -> Result<Self, Malformed> {
        Ok(Self(fields.text()?.to_owned()))
    }
}

impl Stored for Count {
    fn store(&self, out: &mut Vec<u8>) {
        put_number(out, self.likes);
        put_number(out, self.change);
    }

    fn load(fields: &mut Fields<'_>) -> Result<Self, Malformed> {
        Ok(Self { likes: fields.number()?, change: fields.number()? })
    }
}

/// `kind(1) article(number)`, where `kind` is 0 to add and 1 to remove.
impl Stored for ArticleOperation {
    fn store(&self, out: &mut Vec<u8>) {
        out.push(match self {
            Self::AddLike(_) => 0,
            Self::RemoveLike(_) => 1,
        });
        put_number(out, article_of(self).0);
    }

    fn load(fields: &mut Fields<'_>) -> Result<Self, Malformed> {
        let kind = fields.byte()?;
        let article = ArticleId(fields.number()?);
        match kind {
            0 => Ok(Self::AddLike(article)),
            1 => Ok(Self::RemoveLike(article)),
            _ => Err(Malformed("an unknown operation")),
        }
    }
}

/// `likes(number)`.
impl Stored for ArticleReply {
    fn store(&self, out: &mut Vec<u8>) {
        put_number(out, self.likes);
    }

    fn load(fields: &mut Fields<'_>) -> Result<Self, Malformed> {
        Ok(Self { likes: fields.number()? })
    }
}

#[cfg(test)]
#[path = "article_tests.rs"]
mod tests;

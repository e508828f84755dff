//! What can be read at the user service.

use like_protocol::likes::user::{
    LikeRecord, LikeTarget, LikerCount, STANDINGS_MAX, Standing, UserAnswer, UserQuery,
};
use like_protocol::likes::{ArticleId, UserId};
use like_protocol::message::PAGE_ROWS_MAX;

use super::{
    LIKE, LIKER, RecordId, article_resource, key_resource, keys, like_resource, like_row, liker_row,
    numbers_of, one_number, whole,
};
use crate::participant::domain::Context;
use crate::store::fields::Malformed;
use crate::store::{KeyRange, StoreError};

pub(super) fn answer(context: &Context<'_, '_>, query: UserQuery) -> Result<UserAnswer, StoreError> {
    Ok(match query {
        UserQuery::Standing(target) => UserAnswer::Standing(standing(context, target)?),
        UserQuery::LikesOf { user, after, limit } => {
            UserAnswer::Records(likes_of(context, user, after, limit)?)
        }
        UserQuery::LikersOf { article, after, limit } => {
            let Likers { page, .. } = likers(context, article, after, limit)?;
            UserAnswer::Records(
                page.into_iter().map(|(user, id)| record(context, user, article, id)).collect(),
            )
        }
        UserQuery::CountLikers { article, after } => {
            let Likers { page, is_full } = likers(context, article, after, PAGE_ROWS_MAX)?;
            let records = page.iter().filter(|(_, record)| record.is_some()).count();
            UserAnswer::Count(LikerCount {
                records: records as u64,
                damaged: (page.len() - records) as u64,
                more_after: page.last().map(|(user, _)| *user).filter(|_| is_full),
                unsettled: context.touching(&article_resource(article)),
                unaccounted: context.unaccounted(),
            })
        }
        UserQuery::LikedArticles { after, limit } => {
            UserAnswer::Articles(liked_articles(context, after, limit)?)
        }
        UserQuery::Standings(mut targets) => {
            targets.truncate(STANDINGS_MAX);
            let standings = targets.into_iter().map(|target| standing(context, target));
            UserAnswer::Standings(standings.collect::<Result<_, _>>()?)
        }
    })
}

fn standing(context: &Context<'_, '_>, target: LikeTarget) -> Result<Standing, StoreError> {
    let LikeTarget { user, article, key } = target;
    let record = context.load::<RecordId>(&like_row(user, article))?.map(|RecordId(record)| record);
    let by_key = key.and_then(|key| context.holder(&key_resource(user, key)));
    let key = match key {
        Some(key) => keys::first_use(context, user, key)?,
        None => None,
    };
    // What came of a key that nobody holds any more is final, whoever holds the record by now.
    let by_record = if key.is_none() { context.holder(&like_resource(user, article)) } else { None };
    Ok(Standing { record, locked_by: by_key.or(by_record), key })
}

fn likes_of(
    context: &Context<'_, '_>,
    user: UserId,
    after: Option<ArticleId>,
    limit: u32,
) -> Result<Vec<LikeRecord>, StoreError> {
    let mut range = KeyRange::prefix(&one_number(LIKE, user.0));
    if let Some(after) = after {
        range = range.after(&like_row(user, after));
    }
    let mut records = Vec::new();
    for row in context.page(&range, limit)? {
        let Some((_, article)) = whole(context, numbers_of(&row.key))? else { continue };
        let id = whole(context, row.load::<RecordId>())?;
        records.push(record(context, user, ArticleId(article), id));
    }
    Ok(records)
}

/// A page of the users who like an article.
struct Likers {
    /// They, with their records; without, where a row of theirs is damaged.
    page: Vec<(UserId, Option<RecordId>)>,
    /// Whether there may be more behind it: it may have had a row that is none.
    is_full: bool,
}

fn likers(
    context: &Context<'_, '_>,
    article: ArticleId,
    after: Option<UserId>,
    limit: u32,
) -> Result<Likers, StoreError> {
    let mut range = KeyRange::prefix(&one_number(LIKER, article.0));
    if let Some(after) = after {
        range = range.after(&liker_row(article, after));
    }
    let (mut page, rows) = (Vec::new(), context.page(&range, limit)?);
    let is_full = rows.len() >= limit.min(PAGE_ROWS_MAX) as usize;
    for entry in rows {
        let Some((_, user)) = whole(context, numbers_of(&entry.key))? else { continue };
        let row = like_row(UserId(user), article);
        let missing = || StoreError::damaged(&row, Malformed("it is missing"));
        let record = entry.load::<()>().and_then(|()| context.load::<RecordId>(&row)?.ok_or_else(missing));
        page.push((UserId(user), whole(context, record)?));
    }
    Ok(Likers { page, is_full })
}

/// Looks for the first row of each article and skips its others.
fn liked_articles(
    context: &Context<'_, '_>,
    after: Option<ArticleId>,
    limit: u32,
) -> Result<Vec<ArticleId>, StoreError> {
    let mut range = KeyRange::prefix(&[LIKER]);
    if let Some(article) = after {
        range.from = KeyRange::prefix(&one_number(LIKER, article.0)).to;
    }
    let (limit, shared) = (limit.min(PAGE_ROWS_MAX), one_number(LIKER, 0).len());
    let mut articles = Vec::new();
    loop {
        let mut damaged = None;
        for row in context.firsts(&range, shared, limit - articles.len() as u32)? {
            match whole(context, numbers_of(&row.key))? {
                Some((article, _)) => articles.push(ArticleId(article)),
                None => {
                    damaged = Some(row.key);
                    break;
                }
            }
        }
        // Behind a row that is none there may be others of the same article.
        let Some(key) = damaged else { return Ok(articles) };
        range = range.after(&key);
    }
}

/// A record is pending as long as the saga that made it holds it. (One that an unlike removed and put back is held
/// by that unlike, and stays.) Of a damaged one it is not known.
fn record(context: &Context<'_, '_>, user: UserId, article: ArticleId, id: Option<RecordId>) -> LikeRecord {
    let record = id.map(|RecordId(record)| record);
    let pending = record.is_some() && context.holder(&like_resource(user, article)) == record;
    LikeRecord { record, user, article, pending }
}

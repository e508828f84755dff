//! What can be read at the user service.

use like_protocol::ids::SagaId;
use like_protocol::likes::user::{LikeRecord, LikeTarget, LikerCount, Standing, UserAnswer, UserQuery};
use like_protocol::likes::{ArticleId, UserId};
use like_protocol::message::PAGE_ROWS_MAX;

use super::{
    LIKE, LIKER, RecordId, article_resource, key_resource, keys, like_resource, like_row, liker_row,
    numbers_of, one_number,
};
use crate::participant::domain::Context;
use crate::store::fields::{Malformed, Stored};
use crate::store::{KeyRange, StoreError};

pub(super) fn answer(context: &Context<'_, '_>, query: UserQuery) -> Result<UserAnswer, StoreError> {
    Ok(match query {
        UserQuery::Standing(target) => UserAnswer::Standing(standing(context, target)?),
        UserQuery::LikesOf { user, after, limit } => {
            UserAnswer::Records(likes_of(context, user, after, limit)?)
        }
        UserQuery::LikersOf { article, after, limit } => {
            let users = likers(context, article, after, limit)?;
            let records = users.into_iter().map(|user| {
                let row = like_row(user, article);
                let RecordId(record) = context.load(&row)?.ok_or_else(|| {
                    StoreError::damaged(&row, Malformed("a like stands in the index alone"))
                })?;
                Ok(like_record(context, user, article, record))
            });
            UserAnswer::Records(records.collect::<Result<_, StoreError>>()?)
        }
        UserQuery::CountLikers { article, after } => {
            let users = likers(context, article, after, PAGE_ROWS_MAX)?;
            UserAnswer::Count(LikerCount {
                records: users.len() as u64,
                more_after: users.last().copied().filter(|_| users.len() == PAGE_ROWS_MAX as usize),
                unsettled: context.touching(&article_resource(article)),
            })
        }
        UserQuery::LikedArticles { after, limit } => {
            UserAnswer::Articles(liked_articles(context, after, limit)?)
        }
    })
}

fn standing(context: &Context<'_, '_>, target: LikeTarget) -> Result<Standing, StoreError> {
    let LikeTarget { user, article, key } = target;
    let record = context.load::<RecordId>(&like_row(user, article))?.map(|RecordId(record)| record);
    let by_key = key.and_then(|key| context.holder(&key_resource(user, key)));
    let locked_by = by_key.or_else(|| context.holder(&like_resource(user, article)));
    let key = match key {
        Some(key) => keys::first_use(context, user, key)?,
        None => None,
    };
    Ok(Standing { record, locked_by, key })
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
    let rows = context.page(&range, limit)?;
    let records = rows.iter().map(|(key, value)| {
        let (_, article) = numbers_of(key)?;
        let RecordId(record) = RecordId::load_all(value).map_err(|e| StoreError::damaged(key, e))?;
        Ok(like_record(context, user, ArticleId(article), record))
    });
    records.collect()
}

/// A page of the users who like an article.
fn likers(
    context: &Context<'_, '_>,
    article: ArticleId,
    after: Option<UserId>,
    limit: u32,
) -> Result<Vec<UserId>, StoreError> {
    let mut range = KeyRange::prefix(&one_number(LIKER, article.0));
    if let Some(after) = after {
        range = range.after(&liker_row(article, after));
    }
    context.page(&range, limit)?.iter().map(|(key, _)| Ok(UserId(numbers_of(key)?.1))).collect()
}

/// Looks for the first row of each article and skips its others.
fn liked_articles(
    context: &Context<'_, '_>,
    after: Option<ArticleId>,
    limit: u32,
) -> Result<Vec<ArticleId>, StoreError> {
    let all = KeyRange::prefix(&[LIKER]);
    let beyond = |article: ArticleId| KeyRange::prefix(&one_number(LIKER, article.0)).to;
    let mut from = after.map_or_else(|| all.from.clone(), beyond);
    let mut articles = Vec::new();
    while articles.len() < limit.min(PAGE_ROWS_MAX) as usize && from < all.to {
        let rows = context.page(&KeyRange { from, to: all.to.clone() }, 1)?;
        let Some((key, _)) = rows.first() else { break };
        let article = ArticleId(numbers_of(key)?.0);
        from = beyond(article);
        articles.push(article);
    }
    Ok(articles)
}

/// A record is pending as long as the saga that made it holds it. (One that an unlike removed and put back is held
/// by that unlike, and stays.)
fn like_record(context: &Context<'_, '_>, user: UserId, article: ArticleId, record: SagaId) -> LikeRecord {
    let pending = context.holder(&like_resource(user, article)) == Some(record);
    LikeRecord { record, user, article, pending }
}

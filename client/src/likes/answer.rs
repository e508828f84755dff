//! What a caller is told of a like or an unlike. Pure: what the services said, and how the saga ended, in; an answer out.
//!
//! The checks before a saga only spare one that is bound to fail; the participants decide.

use std::sync::Arc;

use like_protocol::codec;
use like_protocol::ids::SagaId;
use like_protocol::likes::article::{ArticleRejection, ArticleReply};
use like_protocol::likes::user::{FirstUse, KeyUse, LikeTarget, Standing, UserRejection, UserReply};
use like_protocol::likes::{ArticleId, UserId};
use like_protocol::message::{DamagedRow, Payload};
use serde::de::DeserializeOwned;

use super::acts::{Act, LIKE, UNLIKE};
use super::articles::ArticleError;
use super::ask::AskError;
use super::users::UserError;
use crate::log::{LacksRoom, LogEnded};
use crate::rpc::Unreachable;
use crate::runner::RunError;
use crate::saga::event::{Failure, FailureKind};
use crate::saga::{Action, End, Refusal, SagaState};

/// What came of a like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LikeAnswer {
    /// The article.
    pub article: ArticleId,
    /// Its likes right after this one; unknown for the retry of a like whose end was forced.
    pub current_likes: Option<u64>,
    /// The like record's id.
    pub record: SagaId,
    /// The saga that made it.
    pub saga: SagaId,
}

/// What came of an unlike.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnlikeAnswer {
    /// The article.
    pub article: ArticleId,
    /// Its likes right after this one went; unknown for the retry of an unlike whose end was forced.
    pub current_likes: Option<u64>,
    /// The saga that took it.
    pub saga: SagaId,
}

/// Why a like or an unlike has no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ActError {
    /// A rule forbids it: nothing has changed.
    #[error("{rule}")]
    Forbidden {
        /// The rule.
        rule: Rule,
        /// The saga that met it, if one was begun. It is compensated.
        saga: Option<SagaId>,
    },
    /// The saga failed and was undone: nothing has changed.
    #[error("{detail}")]
    Compensated {
        /// The saga.
        saga: SagaId,
        /// What the last attempt before it turned back came to.
        last: Option<FailureKind>,
        /// Why, in words.
        detail: String,
    },
    /// The saga has not ended yet; it stands in the log, and recovery finishes it.
    #[error("saga {saga} has not ended in time; it stands in the log, and recovery will finish it")]
    Unfinished {
        /// The saga.
        saga: SagaId,
        /// Where it stood.
        state: Arc<SagaState>,
    },
    /// A row that it needs is damaged: no saga was started.
    #[error("the {role} service can't do it: {row}")]
    Damaged {
        /// Which service.
        role: &'static str,
        /// The row.
        row: DamagedRow,
    },
    /// A service can't be reached: no saga was started.
    #[error(transparent)]
    Unavailable(Unreachable),
    /// The journal's file system has too little left: no saga was started.
    #[error(transparent)]
    LacksRoom(LacksRoom),
    /// The log can't be written any more: whether a saga was begun stands in it, and recovery finishes it.
    #[error("the saga log can't be written: {source}")]
    LogEnded {
        /// The saga.
        saga: SagaId,
        /// Why.
        source: LogEnded,
    },
    /// A bug.
    #[error("{0}")]
    Internal(String),
}

/// A rule that forbids a like or an unlike.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Rule {
    /// There is no such article.
    #[error("there is no article {0}")]
    NoSuchArticle(ArticleId),
    /// The user likes the article already.
    #[error("user {user} likes article {article} already")]
    AlreadyLiked {
        /// Who.
        user: UserId,
        /// What.
        article: ArticleId,
    },
    /// The user doesn't like the article.
    #[error("user {user} does not like article {article}")]
    NotLiked {
        /// Who.
        user: UserId,
        /// What.
        article: ArticleId,
    },
    /// The key was used for something else.
    #[error("this key was used before, for {}", first_use(.0))]
    KeyOfAnother(FirstUse),
    /// Any other rule, in the service's words.
    #[error("{0}")]
    Other(String),
}

fn first_use(first: &FirstUse) -> String {
    let act = match first.usage {
        KeyUse::Like => "a like",
        KeyUse::Unlike => "an unlike",
    };
    format!("{act} of article {}", first.article)
}

/// How a saga of this domain ended.
enum Ended {
    /// The replies of its steps.
    Completed(Vec<Option<Payload>>),
    /// The key had been used for the same before: the first answer counts.
    First(FirstUse),
}

impl LikeAnswer {
    /// What the caller of a like saga is told when it has ended.
    ///
    /// # Errors
    /// It was compensated, and why.
    pub fn of_ended(saga: SagaId, state: &SagaState, target: &LikeTarget) -> Result<Self, ActError> {
        let article = target.article;
        match how_ended(saga, state, target, KeyUse::Like)? {
            Ended::First(first) => Ok(Self::of_first(&first)),
            Ended::Completed(replies) => {
                let counted: ArticleReply = reply(&replies, LIKE.count_step)?;
                let made: UserReply = reply(&replies, LIKE.record_step)?;
                Ok(Self { article, current_likes: Some(counted.likes), record: made.record, saga })
            }
        }
    }

    /// What the caller of a retry is told.
    pub fn of_first(first: &FirstUse) -> Self {
        let FirstUse { article, saga, current_likes, .. } = *first;
        Self { article, current_likes, record: saga, saga }
    }
}

impl UnlikeAnswer {
    /// What the caller of an unlike saga is told when it has ended.
    ///
    /// # Errors
    /// It was compensated, and why.
    pub fn of_ended(saga: SagaId, state: &SagaState, target: &LikeTarget) -> Result<Self, ActError> {
        let article = target.article;
        match how_ended(saga, state, target, KeyUse::Unlike)? {
            Ended::First(first) => Ok(Self::of_first(&first)),
            Ended::Completed(replies) => {
                let counted: ArticleReply = reply(&replies, UNLIKE.count_step)?;
                Ok(Self { article, current_likes: Some(counted.likes), saga })
            }
        }
    }

    /// What the caller of a retry is told.
    pub fn of_first(first: &FirstUse) -> Self {
        let FirstUse { article, saga, current_likes, .. } = *first;
        Self { article, current_likes, saga }
    }
}

impl From<RunError> for ActError {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Unavailable(unreachable) => Self::Unavailable(unreachable),
            RunError::LacksRoom(lacks_room) => Self::LacksRoom(lacks_room),
            RunError::Unfinished { saga, state } => Self::Unfinished { saga, state },
            RunError::LogEnded { saga, source } => Self::LogEnded { saga, source },
            RunError::Unknown(detail) => Self::Internal(detail),
        }
    }
}

/// What the checks before a saga decide: the first use of the key, if that answers everything, or nothing.
///
/// A locked row decides nothing, since what holds it may still be undone; nor does a check that got no answer. A damaged row
/// ends it here: the saga would end there.
///
/// # Errors
/// A rule forbids the act, or a row is damaged: no saga is started.
pub fn before_saga(
    target: &LikeTarget,
    usage: KeyUse,
    article: Result<(), ArticleError>,
    standing: Result<Standing, UserError>,
) -> Result<Option<FirstUse>, ActError> {
    let forbidden = |rule| Err(ActError::Forbidden { rule, saga: None });
    if let Err(AskError::Damaged { role, row }) = standing {
        return Err(ActError::Damaged { role, row });
    }
    let standing = standing.ok().filter(|standing| standing.locked_by.is_none());
    if let Some(first) = standing.and_then(|standing| standing.key) {
        return match_first_use(first, target, usage, None).map(Some);
    }
    if let Err(AskError::Rejected(ArticleRejection::NotFound(id))) = article {
        return forbidden(Rule::NoSuchArticle(id));
    }
    if let Err(AskError::Damaged { role, row }) = article {
        return Err(ActError::Damaged { role, row });
    }
    let Some(standing) = standing else { return Ok(None) };
    let LikeTarget { user, article, .. } = *target;
    match (usage, standing.record) {
        (KeyUse::Like, Some(_)) => forbidden(Rule::AlreadyLiked { user, article }),
        (KeyUse::Unlike, None) => forbidden(Rule::NotLiked { user, article }),
        _ => Ok(None),
    }
}

/// A key answers for the very act it was first used for, and for no other.
fn match_first_use(
    first: FirstUse,
    target: &LikeTarget,
    usage: KeyUse,
    saga: Option<SagaId>,
) -> Result<FirstUse, ActError> {
    if first.usage == usage && first.article == target.article {
        Ok(first)
    } else {
        Err(ActError::Forbidden { rule: Rule::KeyOfAnother(first), saga })
    }
}

fn how_ended(saga: SagaId, state: &SagaState, target: &LikeTarget, usage: KeyUse) -> Result<Ended, ActError> {
    match state.ended() {
        Some(End::Completed) => Ok(Ended::Completed(state.replies())),
        _ => why_compensated(saga, state, target, usage),
    }
}

/// What a compensated saga means to its caller.
fn why_compensated(
    saga: SagaId,
    state: &SagaState,
    target: &LikeTarget,
    usage: KeyUse,
) -> Result<Ended, ActError> {
    let failing = state.current_step();
    let name = failing.and_then(|step| state.begun.steps.get(step)).map_or("a step", |step| &*step.name);
    match failing.and_then(|step| state.steps.get(step)).map(|step| &step.action) {
        Some(Action::Rejected(rejection)) => {
            let at_user = failing == Some(Act::of(usage).record_step);
            rejected(saga, rejection, at_user, target, usage)
        }
        Some(Action::Refused(refusal)) if state.turned_back_after.is_none() => {
            let detail = match refusal {
                Refusal::Expired => format!("`{name}` came too late: the saga's deadline had passed"),
                Refusal::Compensated => format!("`{name}` was compensated before it ran"),
                Refusal::Final => format!("`{name}` was ended by an operator"),
            };
            Err(ActError::Compensated { saga, last: None, detail })
        }
        _ => {
            let Failure { kind, detail } = match &state.turned_back_after {
                Some(failure) => failure.clone(),
                None => return Err(deadline_passed(saga, name)),
            };
            let detail = format!("`{name}` could not be done in time: {detail}");
            Err(ActError::Compensated { saga, last: Some(kind), detail })
        }
    }
}

fn deadline_passed(saga: SagaId, name: &str) -> ActError {
    let detail = format!("the deadline passed before `{name}` was done");
    ActError::Compensated { saga, last: None, detail }
}

fn rejected(
    saga: SagaId,
    rejection: &Payload,
    at_user: bool,
    target: &LikeTarget,
    usage: KeyUse,
) -> Result<Ended, ActError> {
    let forbidden = |rule| Err(ActError::Forbidden { rule, saga: Some(saga) });
    if !at_user {
        return match read::<ArticleRejection>(rejection)? {
            ArticleRejection::NotFound(id) => forbidden(Rule::NoSuchArticle(id)),
            other => forbidden(Rule::Other(super::articles::explain(&other))),
        };
    }
    let LikeTarget { user, article, .. } = *target;
    match read::<UserRejection>(rejection)? {
        UserRejection::AlreadyLiked { .. } => forbidden(Rule::AlreadyLiked { user, article }),
        UserRejection::NotLiked => forbidden(Rule::NotLiked { user, article }),
        UserRejection::KeyUsed(first) => match_first_use(first, target, usage, Some(saga)).map(Ended::First),
        other => forbidden(Rule::Other(super::users::explain(&other))),
    }
}

fn reply<T: DeserializeOwned>(replies: &[Option<Payload>], step: usize) -> Result<T, ActError> {
    match replies.get(step) {
        Some(Some(payload)) => read(payload),
        _ => Err(ActError::Internal(format!("a completed saga has no reply of step {step}"))),
    }
}

fn read<T: DeserializeOwned>(payload: &Payload) -> Result<T, ActError> {
    codec::decode(&payload.0).map_err(|e| ActError::Internal(e.to_string()))
}

#[cfg(test)]
mod tests;

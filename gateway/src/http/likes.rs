//! Likes and unlikes.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use like_client::likes::ActError;
use like_client::likes::answer::Rule;
use like_client::saga::event::FailureKind;
use like_client::view::{Liked, Unliked};
use like_protocol::ids::SagaId;

use super::App;
use super::documents::{Pending, place_of};
use super::problem::{Kind, Problem};
use super::take::{ArticlePath, Key, Speaker};
use crate::host::HostError;

/// What may go wrong with a like or an unlike.
pub const KINDS: &[Kind] = &[
    Kind::NotFound,
    Kind::AlreadyLiked,
    Kind::NotLiked,
    Kind::Invalid,
    Kind::Compensated,
    Kind::Locked,
    Kind::Busy,
    Kind::Storage,
    Kind::Unavailable,
    Kind::PermissionDenied,
    Kind::Damaged,
    Kind::Incompatible,
    Kind::TimedOut,
];

/// Like an article
///
/// Answered once the like and its record are on disk in both services. A retry with the same `Idempotency-Key` gets the
/// first one's answer, across restarts too.
#[utoipa::path(
    post, path = "/articles/{article_id}/like", tag = "likes",
    params(
        ("article_id" = u64, Path, description = "Which article"),
        ("X-User-ID" = u64, Header, description = "Who likes it"),
        ("Idempotency-Key" = Option<uuid::Uuid>, Header, description = "The same for every retry of one like"),
    ),
    responses(
        (status = 200, description = "It is liked", body = Liked),
        (status = 202, description = "Its outcome stands in the saga log, and is not known yet", body = Pending,
         headers(("Location" = String, description = "The saga"))),
    ),
)]
pub async fn like(
    State(app): State<Arc<App>>,
    ArticlePath(article): ArticlePath,
    Speaker(user): Speaker,
    Key(key): Key,
) -> Result<Response, Problem> {
    match app.host.like(user, article, key, counting(&app, "like")).await {
        Ok(answer) => Ok(Json(Liked::from(&answer)).into_response()),
        Err(error) => unanswered(error),
    }
}

/// Like an article no longer
///
/// Promises as liking does.
#[utoipa::path(
    delete, path = "/articles/{article_id}/like", tag = "likes",
    params(
        ("article_id" = u64, Path, description = "Which article"),
        ("X-User-ID" = u64, Header, description = "Who likes it no longer"),
        ("Idempotency-Key" = Option<uuid::Uuid>, Header, description = "The same for every retry of one unlike"),
    ),
    responses(
        (status = 200, description = "It is liked no longer", body = Unliked),
        (status = 202, description = "Its outcome stands in the saga log, and is not known yet", body = Pending,
         headers(("Location" = String, description = "The saga"))),
    ),
)]
pub async fn unlike(
    State(app): State<Arc<App>>,
    ArticlePath(article): ArticlePath,
    Speaker(user): Speaker,
    Key(key): Key,
) -> Result<Response, Problem> {
    match app.host.unlike(user, article, key, counting(&app, "unlike")).await {
        Ok(answer) => Ok(Json(Unliked::from(&answer)).into_response()),
        Err(error) => unanswered(error),
    }
}

/// Counts what an act that begins now comes to, and how long that takes.
fn counting(app: &Arc<App>, kind: &'static str) -> impl FnOnce(Option<&HostError>) + Send + 'static {
    let (app, began) = (Arc::clone(app), Instant::now());
    move |error| app.metrics.act(kind, error.map_or("done", outcome), began.elapsed())
}

/// The word by which an act that was not done is counted.
fn outcome(error: &HostError) -> &'static str {
    match error {
        HostError::Busy => "busy",
        HostError::Act(error) => match error {
            ActError::Forbidden { .. } => "refused",
            ActError::Compensated { .. } => "compensated",
            ActError::Unfinished { .. } | ActError::LogEnded { .. } => "pending",
            ActError::Unavailable(_) => "unavailable",
            ActError::LacksRoom(_) => "storage",
            ActError::Damaged { .. } => "damaged",
            ActError::Internal(_) => "internal",
        },
    }
}

/// What is left of an act that was undone.
const AGAIN: &str = "the likes are as they were: it can be tried again";

fn unanswered(error: HostError) -> Result<Response, Problem> {
    let act = match error {
        HostError::Busy => return Err(Problem::new(Kind::Busy, error).hint("nothing was begun: try again")),
        HostError::Act(act) => act,
    };
    match act {
        ActError::Unfinished { saga, .. } | ActError::LogEnded { saga, .. } => Ok(pending(saga)),
        ActError::Forbidden { rule, saga } => Err(forbidden(&rule).saga(saga)),
        ActError::Compensated { saga, last, detail } => {
            let (kind, hint) = match last {
                Some(FailureKind::Locked) => (Kind::Locked, AGAIN),
                Some(FailureKind::Busy) => (Kind::Busy, AGAIN),
                Some(FailureKind::Storage) => (Kind::Storage, AGAIN),
                Some(FailureKind::Damaged) => (Kind::Damaged, "the likes are as they were"),
                _ => (Kind::Compensated, AGAIN),
            };
            Err(Problem::new(kind, detail).hint(hint).saga(Some(saga)))
        }
        ActError::Damaged { .. } => Err(Problem::new(Kind::Damaged, act)),
        ActError::Unavailable(unreachable) => Err((&unreachable).into()),
        ActError::LacksRoom(_) => {
            Err(Problem::new(Kind::Storage, act).hint("nothing was begun: it can be tried again"))
        }
        ActError::Internal(detail) => Err(Problem::new(Kind::Internal, detail)),
    }
}

fn pending(saga: SagaId) -> Response {
    let location = [(header::LOCATION, place_of(saga))];
    (StatusCode::ACCEPTED, location, Json(Pending::of(saga))).into_response()
}

fn forbidden(rule: &Rule) -> Problem {
    match rule {
        Rule::NoSuchArticle(_) => Problem::new(Kind::NotFound, rule),
        Rule::AlreadyLiked { .. } => Problem::new(Kind::AlreadyLiked, rule)
            .hint("a like counts once per user; a retry with the same Idempotency-Key gets the first answer"),
        Rule::NotLiked { .. } => Problem::new(Kind::NotLiked, rule),
        Rule::KeyOfAnother(_) => Problem::new(Kind::Invalid, rule).hint("draw a new key for every new act"),
        Rule::Other(_) => Problem::new(Kind::Invalid, rule),
    }
}

#[cfg(test)]
mod tests {
    use like_client::log::{LacksRoom, LogEnded};
    use like_protocol::message::DamagedRow;

    use super::*;

    #[test]
    fn what_came_of_an_act_that_was_not_done_is_told_and_described() {
        let saga = SagaId::from_bytes([1; 16]);
        let why = || "why".to_owned();
        let undone = |last| HostError::Act(ActError::Compensated { saga, last, detail: why() });
        let row = DamagedRow { row: why(), what: why(), step: None, why: why() };
        let cases = [
            (undone(None), Kind::Compensated, 500),
            (undone(Some(FailureKind::NotSent)), Kind::Compensated, 500),
            (undone(Some(FailureKind::Locked)), Kind::Locked, 500),
            (undone(Some(FailureKind::Damaged)), Kind::Damaged, 500),
            (undone(Some(FailureKind::Busy)), Kind::Busy, 503),
            (undone(Some(FailureKind::Storage)), Kind::Storage, 503),
            (HostError::Busy, Kind::Busy, 503),
            (ActError::LacksRoom(LacksRoom { why: why() }).into(), Kind::Storage, 503),
            (ActError::Damaged { role: "article", row }.into(), Kind::Damaged, 500),
        ];
        for (error, kind, status) in cases {
            let problem = unanswered(error).unwrap_err();
            let told = serde_json::to_value(&problem).unwrap();
            assert_eq!(told["kind"], serde_json::to_value(kind).unwrap());
            assert!(KINDS.contains(&kind), "{kind:?} is described");
            let answer = problem.into_response();
            assert_eq!(answer.status().as_u16(), status);
            assert_eq!(answer.headers().contains_key(header::RETRY_AFTER), status == 503);
        }
        // Whether it stands in the log nobody knows yet.
        let answer = unanswered(ActError::LogEnded { saga, source: LogEnded { why: why() } }.into()).unwrap();
        assert_eq!(answer.status(), StatusCode::ACCEPTED);
        assert_eq!(answer.headers()[header::LOCATION], place_of(saga).as_str());
    }
}

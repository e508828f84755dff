//! Errors as they are told: RFC 9457 problem documents, by the same words as `likectl --json`.

use std::collections::BTreeMap;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use like_client::likes::AskError;
use like_client::rpc::{Unreachable, UnreachableKind};
use like_protocol::ids::SagaId;
use like_protocol::message::RetryReason;
use serde::Serialize;
use utoipa::openapi::{self, ContentBuilder, RefOr, ResponseBuilder};
use utoipa::{PartialSchema, ToSchema};

/// The media type of a problem document.
const MEDIA_TYPE: &str = "application/problem+json";

/// What kind of problem it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// No such article or saga.
    NotFound,
    /// The user likes the article already.
    AlreadyLiked,
    /// The user does not like the article.
    NotLiked,
    /// An article of this id exists.
    AlreadyExists,
    /// A header, parameter or field is missing or makes no sense; or a rule forbids it.
    Invalid,
    /// The like failed and was undone: nothing has changed.
    Compensated,
    /// As `compensated`: another saga held what it needed.
    Locked,
    /// As `compensated`, or not begun at all: there was no room.
    Busy,
    /// A service is short of disk space: nothing has changed.
    Storage,
    /// A service can't be reached, or does not answer a question: nothing was begun.
    Unavailable,
    /// A command's answer was lost: it may have been carried out.
    Unknown,
    /// The gateway may not use a service or the journal.
    PermissionDenied,
    /// The gateway and a service do not understand each other.
    Incompatible,
    /// A row that it needs is damaged in a service's store: nothing has changed, and trying again is in vain.
    Damaged,
    /// A bug.
    Internal,
    /// There is nothing at this path.
    NoSuchPath,
    /// The path has no such method.
    MethodNotAllowed,
    /// The body is no JSON, or the head contradicts itself.
    Malformed,
    /// The body's type is not `application/json`.
    UnsupportedMediaType,
    /// The body is longer than anything that is understood here.
    TooLarge,
    /// The client was too slow with its body.
    TooSlow,
    /// No answer came in time; what was begun stands in the log.
    TimedOut,
    /// The request was for another host name.
    Misdirected,
    /// The request came from another web site.
    CrossSite,
    /// Only administrators may do that, and nothing was shown by which one could be recognised.
    Unauthorized,
    /// Nobody may do that here.
    Forbidden,
    /// The saga has ended: there is nothing left to do.
    Ended,
    /// A live process drives the saga.
    Owned,
    /// The saga's record is damaged: it can only be given an end by force.
    Quarantined,
}

impl Kind {
    /// The status that it is told with.
    pub fn status(self) -> StatusCode {
        match self {
            Self::NotFound | Self::NoSuchPath => StatusCode::NOT_FOUND,
            Self::AlreadyLiked
            | Self::NotLiked
            | Self::AlreadyExists
            | Self::Ended
            | Self::Owned
            | Self::Quarantined => StatusCode::CONFLICT,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Compensated | Self::Locked | Self::Damaged | Self::Internal => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
            Self::Busy | Self::Storage | Self::Unavailable | Self::PermissionDenied => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Unknown | Self::Incompatible => StatusCode::BAD_GATEWAY,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::TimedOut => StatusCode::GATEWAY_TIMEOUT,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::CrossSite | Self::Forbidden => StatusCode::FORBIDDEN,
        }
    }

    /// What it is, in a few words that do not change from one occurrence to the next.
    pub fn title(self) -> &'static str {
        match self {
            Self::NotFound => "No such thing",
            Self::AlreadyLiked => "Liked already",
            Self::NotLiked => "Not liked",
            Self::AlreadyExists => "Exists already",
            Self::Invalid => "Not a valid request",
            Self::Compensated => "Failed and undone",
            Self::Locked => "Failed and undone: another saga was in the way",
            Self::Busy => "No room right now",
            Self::Storage => "Short of disk space",
            Self::Unavailable => "A service can't be reached",
            Self::Unknown => "The answer was lost",
            Self::PermissionDenied => "The gateway lacks a permission",
            Self::Incompatible => "Programs that do not fit together",
            Self::Damaged => "A damaged row",
            Self::Internal => "A bug",
            Self::NoSuchPath => "No such path",
            Self::MethodNotAllowed => "No such method here",
            Self::Malformed => "Not well formed",
            Self::UnsupportedMediaType => "Not the type of a JSON document",
            Self::TooLarge => "Too long a body",
            Self::TooSlow => "Too slow a client",
            Self::TimedOut => "No answer in time",
            Self::Misdirected => "Another host's request",
            Self::CrossSite => "Another web site's request",
            Self::Unauthorized => "For administrators",
            Self::Forbidden => "For nobody here",
            Self::Ended => "Ended already",
            Self::Owned => "Driven by a live process",
            Self::Quarantined => "Damaged record",
        }
    }

    fn word(self) -> String {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::String(word)) => word,
            _ => "internal".to_owned(),
        }
    }
}

/// A problem document (RFC 9457).
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Problem {
    /// Names the kind of problem, for programs: `urn:like:problem:` and the kind.
    #[serde(rename = "type")]
    type_: String,
    /// The kind of problem, for programs.
    kind: Kind,
    /// The kind of problem, for people.
    title: &'static str,
    /// The status that the answer came with.
    status: u16,
    /// What happened this time, for people.
    detail: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    /// The saga that tells more.
    #[serde(skip_serializing_if = "Option::is_none")]
    saga_id: Option<String>,
}

impl Problem {
    /// A problem of a kind, and what happened.
    pub fn new(kind: Kind, detail: impl ToString) -> Self {
        Self {
            type_: format!("urn:like:problem:{}", kind.word()),
            kind,
            title: kind.title(),
            status: kind.status().as_u16(),
            detail: detail.to_string(),
            hint: None,
            saga_id: None,
        }
    }

    /// The same with what to do about it.
    pub fn hint(self, hint: impl ToString) -> Self {
        Self { hint: Some(hint.to_string()), ..self }
    }

    /// The same with the saga that tells more.
    pub fn saga(self, saga: Option<SagaId>) -> Self {
        Self { saga_id: saga.map(|saga| saga.to_string()), ..self }
    }

    /// A question that has no answer; `rejected` tells what the service's rules say.
    pub fn of_ask<R: std::fmt::Debug>(error: &AskError<R>, rejected: impl Fn(&R) -> Self) -> Self {
        match error {
            AskError::Unreachable(unreachable) => unreachable.into(),
            AskError::Lost(lost) => Self::new(Kind::Unavailable, &lost.message).hint("it can be asked again"),
            AskError::Retry { kind: RetryReason::Storage, .. } => Self::new(Kind::Storage, error),
            AskError::Retry { .. } => Self::new(Kind::Busy, error),
            AskError::Rejected(rejection) => rejected(rejection),
            AskError::Damaged { .. } => Self::new(Kind::Damaged, error),
            AskError::Misunderstood { .. } => Self::new(Kind::Incompatible, error),
        }
    }
}

impl From<&Unreachable> for Problem {
    fn from(unreachable: &Unreachable) -> Self {
        let kind = match unreachable.kind {
            UnreachableKind::PermissionDenied => Kind::PermissionDenied,
            UnreachableKind::WrongRole | UnreachableKind::Incompatible | UnreachableKind::ClockSkew => {
                Kind::Incompatible
            }
            _ => Kind::Unavailable,
        };
        Self::new(kind, &unreachable.message).hint("nothing was begun: it can be tried again")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (kind, status) = (self.kind, self.kind.status());
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if matches!(kind, Kind::Busy | Kind::Unavailable | Kind::Storage) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if kind == Kind::Unauthorized {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"like\""));
        }
        response
    }
}

/// How problems of these kinds are described in the API's document: by status.
pub fn described(kinds: &[Kind]) -> BTreeMap<String, RefOr<openapi::Response>> {
    let mut by_status: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for kind in kinds {
        let words = by_status.entry(kind.status().as_str().to_owned()).or_default();
        words.push(format!("`{}`: {}", kind.word(), kind.title()));
    }
    let content =
        || ContentBuilder::new().schema(Some(openapi::Ref::from_schema_name(Problem::name()))).build();
    let response = |words: Vec<String>| {
        ResponseBuilder::new().description(words.join("; ")).content(MEDIA_TYPE, content()).build()
    };
    by_status.into_iter().map(|(status, words)| (status, response(words).into())).collect()
}

/// The schema of a problem document, for the API's document.
pub fn schema() -> Vec<(String, RefOr<openapi::Schema>)> {
    let mut schemas = Vec::new();
    Problem::schemas(&mut schemas);
    schemas.push((Problem::name().into_owned(), Problem::schema()));
    schemas
}

#[cfg(test)]
mod tests {
    use like_client::rpc::{Lost, LostKind};

    use super::*;

    #[test]
    fn a_question_without_an_answer_is_told_by_what_can_be_done_about_it() {
        let unreachable = |kind| Unreachable { role: "article", kind, message: String::new() }.into();
        let refused = |kind| AskError::Retry { role: "article", reason: "why", kind };
        let cases: [(AskError<()>, Kind, bool); 8] = [
            (unreachable(UnreachableKind::NoSocket), Kind::Unavailable, true),
            (unreachable(UnreachableKind::PermissionDenied), Kind::PermissionDenied, false),
            (unreachable(UnreachableKind::WrongRole), Kind::Incompatible, false),
            (unreachable(UnreachableKind::ClockSkew), Kind::Incompatible, false),
            (refused(RetryReason::Busy), Kind::Busy, true),
            (refused(RetryReason::Draining), Kind::Busy, true),
            (refused(RetryReason::Storage), Kind::Storage, true),
            (
                Lost { role: "article", kind: LostKind::Timeout, message: String::new() }.into(),
                Kind::Unavailable,
                true,
            ),
        ];
        for (error, kind, later) in cases {
            let problem = Problem::of_ask(&error, |()| unreachable!("no rule"));
            assert_eq!(problem.kind, kind, "{error:?}");
            let answer = problem.into_response();
            assert_eq!(answer.headers().contains_key(header::RETRY_AFTER), later, "{error:?}");
        }
    }

    #[test]
    fn a_problem_names_its_kind_everywhere_alike() {
        let problem = Problem::new(Kind::AlreadyLiked, "so it is").hint("leave it");
        let told = serde_json::to_value(&problem).unwrap();
        assert_eq!(told["type"], "urn:like:problem:already_liked");
        assert_eq!((&told["kind"], &told["status"]), (&"already_liked".into(), &409.into()));
        assert_eq!(told.get("saga_id"), None);
    }
}

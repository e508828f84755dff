//! Sagas: what the log tells of them, and what an administrator may do to one.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use like_client::log::JournalError;
use like_client::runner::admin::AdminError;
use like_client::view::{STATE_WORDS, SagaDocument, SagaSummary};
use like_protocol::ids::SagaId;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::problem::{Kind, Problem};
use super::take::{Admin, Asked, Document, SagaPath, rows};
use crate::acts::{Act, ActOnError, REASON_CHARS_MAX};

/// What may go wrong when sagas are read.
pub const READING: &[Kind] = &[Kind::Invalid, Kind::PermissionDenied, Kind::Unavailable, Kind::TimedOut];

/// What may go wrong beyond that when one is acted on.
pub const ACTING: &[Kind] = &[
    Kind::Unauthorized,
    Kind::Forbidden,
    Kind::Ended,
    Kind::Owned,
    Kind::Quarantined,
    Kind::Malformed,
    Kind::UnsupportedMediaType,
];

/// Which sagas.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Wanted {
    /// Only in these states, with commas between them: running, compensating, completed, compensated,
    /// forced_completed, forced_compensated, quarantined.
    state: Option<String>,
    /// Only those that need an operator.
    #[serde(default)]
    #[param(default = false)]
    needs_attention: bool,
    /// Only of this kind: like, unlike.
    kind: Option<String>,
    /// Only about this article.
    article_id: Option<u64>,
    /// Only about this user.
    user_id: Option<u64>,
    /// At most so many.
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<u32>,
    /// Only those that began before this one: the last one of the page before.
    before: Option<uuid::Uuid>,
}

/// The longest page of sagas.
const ROWS_MAX: u32 = 500;
/// The usual one.
const ROWS_USUAL: u32 = 50;

impl Wanted {
    fn states(&self) -> Result<Vec<String>, Problem> {
        let states: Vec<_> =
            self.state.iter().flat_map(|states| states.split(',')).map(str::to_owned).collect();
        match states.iter().find(|state| !STATE_WORDS.contains(&state.as_str())) {
            Some(unknown) => Err(Problem::new(Kind::Invalid, format!("`{unknown}` is no state of a saga"))
                .hint(format!("states are {}", STATE_WORDS.join(", ")))),
            None => Ok(states),
        }
    }

    fn matches(&self, saga: &SagaSummary, states: &[String]) -> bool {
        let same = |wanted: Option<u64>, is: Option<u64>| wanted.is_none() || wanted == is;
        (states.is_empty() || states.iter().any(|state| state == saga.state))
            && (!self.needs_attention || saga.needs_attention)
            && (self.kind.is_none() || self.kind == saga.kind)
            && same(self.article_id, saga.article_id)
            && same(self.user_id, saga.user_id)
    }

    /// The page that follows the one that ends with `last`.
    fn next(&self, last: &str) -> String {
        let numbers = [("article_id", self.article_id), ("user_id", self.user_id)];
        let numbers = numbers.into_iter().filter_map(|(name, value)| Some((name, value?.to_string())));
        let texts = [("state", &self.state), ("kind", &self.kind)];
        let texts = texts.into_iter().filter_map(|(name, value)| Some((name, value.clone()?)));
        let attention = self.needs_attention.then(|| ("needs_attention", "true".to_owned()));
        let limit = self.limit.map(|limit| ("limit", limit.to_string()));
        let all = texts.chain(numbers).chain(attention).chain(limit).chain([("before", last.to_owned())]);
        let all = all.map(|(name, value)| format!("{name}={}", escaped(&value)));
        format!("/sagas?{}", all.collect::<Vec<_>>().join("&"))
    }
}

/// A value as it is written in a query. What has got here is words, numbers and commas, but for a kind that other programs
/// may have named.
fn escaped(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_,-".contains(&byte);
    let bytes = value.bytes();
    bytes
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// List sagas, newest first
///
/// If there may be more, the header `Link` names the next page. Reads the whole log: programs that want to know what is
/// going on ask `/overview`.
#[utoipa::path(
    get, path = "/sagas", tag = "sagas", params(Wanted),
    responses((status = 200, description = "A page", body = [SagaSummary],
               headers(("Link" = String, description = "The next page, as `rel=\"next\"`")))),
)]
pub async fn list(State(app): State<Arc<App>>, Asked(wanted): Asked<Wanted>) -> Result<Response, Problem> {
    let states = wanted.states()?;
    let rows = rows(wanted.limit.unwrap_or(ROWS_USUAL), ROWS_MAX)? as usize;
    let before = wanted.before.map(|before| SagaId::from_bytes(before.into_bytes()));
    let wanted = Arc::new(wanted);
    let filter = Arc::clone(&wanted);
    let found = app.sagas.all(rows, move |saga| filter.matches(saga, &states), before).await;
    let page = found.map_err(|e| journal_problem(&e))?;
    let next = page.last().filter(|_| page.len() == rows).map(|last| wanted.next(&last.saga_id));
    let mut response = Json(page).into_response();
    if let Some(link) = next.and_then(|next| HeaderValue::try_from(format!("<{next}>; rel=\"next\"")).ok()) {
        response.headers_mut().insert(header::LINK, link);
    }
    Ok(response)
}

/// One saga with its timeline, and what may be done next
#[utoipa::path(
    get, path = "/sagas/{saga_id}", tag = "sagas",
    params(("saga_id" = uuid::Uuid, Path, description = "Which saga")),
    responses((status = 200, description = "The saga", body = SagaDocument)),
)]
pub async fn read(
    State(app): State<Arc<App>>,
    SagaPath(saga): SagaPath,
) -> Result<Json<SagaDocument>, Problem> {
    document(&app, saga).await.map(Json)
}

async fn document(app: &App, saga: SagaId) -> Result<SagaDocument, Problem> {
    let found = app.sagas.one(saga).await.map_err(|e| journal_problem(&e))?;
    found.ok_or_else(|| no_such_saga(saga))
}

/// Why an administrator acts.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// Why: 1 to 800 characters. It stands in the gateway's log.
    #[schema(min_length = 1, max_length = 800)]
    reason: String,
}

/// How a saga is to end, and why.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ForcedEnd {
    /// As what it counts from now on.
    #[serde(rename = "as")]
    end: EndWord,
    /// Why: 1 to 800 characters. It stands in the saga log, with who did it.
    #[schema(min_length = 1, max_length = 800)]
    reason: String,
    /// Also if no saga of this id is known here, as after the journal was lost: whatever one may hold at the services is
    /// ended then.
    #[serde(default)]
    #[schema(default = false)]
    even_if_unknown: bool,
}

/// As what a saga counts.
#[derive(Deserialize, ToSchema, Clone, Copy)]
#[serde(rename_all = "snake_case")]
pub enum EndWord {
    /// As if every step had been done.
    Completed,
    /// As if every step had been undone.
    Compensated,
}

/// What an administrator's act came to.
#[derive(Serialize, ToSchema)]
pub struct Acted {
    /// The saga as it stands now.
    saga: SagaDocument,
    /// Of a forced end: what may be left broken.
    leaves_broken: Vec<String>,
}

/// Try a saga now
///
/// With a new deadline if it goes forward. Never does harm.
#[utoipa::path(
    post, path = "/sagas/{saga_id}/retry", tag = "administration", request_body = Reason,
    params(("saga_id" = uuid::Uuid, Path, description = "Which saga")),
    security(("token" = [])),
    responses((status = 200, description = "It was tried: where it stands now", body = Acted)),
)]
pub async fn retry(
    State(app): State<Arc<App>>,
    SagaPath(saga): SagaPath,
    Admin(who): Admin,
    Document(Reason { reason }): Document<Reason>,
) -> Result<Json<Acted>, Problem> {
    act(&app, saga, Act::Retry, who.to_string(), reason).await
}

/// Undo a saga
///
/// Every step of it. This can take back something that somebody was told had happened.
#[utoipa::path(
    post, path = "/sagas/{saga_id}/compensate", tag = "administration", request_body = Reason,
    params(("saga_id" = uuid::Uuid, Path, description = "Which saga")),
    security(("token" = [])),
    responses((status = 200, description = "It has turned back: where it stands now", body = Acted)),
)]
pub async fn compensate(
    State(app): State<Arc<App>>,
    SagaPath(saga): SagaPath,
    Admin(who): Admin,
    Document(Reason { reason }): Document<Reason>,
) -> Result<Json<Acted>, Problem> {
    act(&app, saga, Act::Compensate, who.to_string(), reason).await
}

/// End a saga by an administrator's word
///
/// Whatever its services say; with `even_if_unknown`, if nothing is known of it here too. What that leaves broken is answered, and recorded; an audit finds it.
#[utoipa::path(
    post, path = "/sagas/{saga_id}/force", tag = "administration", request_body = ForcedEnd,
    params(("saga_id" = uuid::Uuid, Path, description = "Which saga")),
    security(("token" = [])),
    responses((status = 200, description = "It has ended", body = Acted)),
)]
pub async fn force(
    State(app): State<Arc<App>>,
    SagaPath(saga): SagaPath,
    Admin(who): Admin,
    Document(ForcedEnd { end, reason, even_if_unknown }): Document<ForcedEnd>,
) -> Result<Json<Acted>, Problem> {
    let end = match end {
        EndWord::Completed => like_client::saga::End::Completed,
        EndWord::Compensated => like_client::saga::End::Compensated,
    };
    act(&app, saga, Act::Force { end, even_if_unknown }, who.to_string(), reason).await
}

async fn act(app: &App, saga: SagaId, act: Act, who: String, reason: String) -> Result<Json<Acted>, Problem> {
    if reason.trim().is_empty() || reason.chars().count() > REASON_CHARS_MAX {
        return Err(Problem::new(Kind::Invalid, format!("a reason has 1 to {REASON_CHARS_MAX} characters")));
    }
    let done = app.host.act_on(saga, act, &who, &reason).await.map_err(|e| act_problem(&e, saga))?;
    let saga = document(app, saga).await?;
    Ok(Json(Acted { saga, leaves_broken: done.leaves_broken }))
}

fn no_such_saga(saga: SagaId) -> Problem {
    Problem::new(Kind::NotFound, format!("no saga {saga} stands in the journal"))
}

fn journal_problem(error: &JournalError) -> Problem {
    let kind = if error.is_permission() { Kind::PermissionDenied } else { Kind::Unavailable };
    Problem::new(kind, error).hint("the saga log can't be read: check the disk of the journal")
}

fn act_problem(error: &ActOnError, saga: SagaId) -> Problem {
    let error = match error {
        ActOnError::Admin(error) => error,
        ActOnError::Busy => {
            return Problem::new(Kind::Busy, error).hint("nothing was done: try again").saga(Some(saga));
        }
        // The fresh runner comes before the old one lets go.
        ActOnError::Start(error) => {
            return Problem::new(Kind::Unavailable, error)
                .hint("nothing was done: check the disk of the journal")
                .saga(Some(saga));
        }
    };
    let problem = match error {
        AdminError::Journal(error) => return journal_problem(error),
        AdminError::NotFound(saga) => {
            return no_such_saga(*saga).hint(
                "only an end can be forced on it all the same, with even_if_unknown; check the id first",
            );
        }
        AdminError::BadReason => Problem::new(Kind::Invalid, error),
        AdminError::Owned { .. } => Problem::new(Kind::Owned, error)
            .hint("its runner drives it itself: wait for it, or end that process first"),
        AdminError::Ended { .. } => Problem::new(Kind::Ended, error),
        AdminError::Quarantined(_) => Problem::new(Kind::Quarantined, error),
        AdminError::LogEnded(_) => Problem::new(Kind::Unknown, error).hint(
            "the act may stand in the log or not: check the disk of the journal, then look at the saga",
        ),
    };
    problem.saga(Some(saga))
}

#[cfg(test)]
mod tests {
    use axum::extract::Query;

    use super::*;

    #[test]
    fn the_next_page_is_asked_for_as_this_one_was() {
        let asked =
            "/sagas?state=running,completed&kind=b%C3%BCro.%26+x&article_id=1&needs_attention=true&limit=2";
        let wanted = |asked: &str| Query::<Wanted>::try_from_uri(&asked.parse().unwrap()).unwrap().0;
        let (first, last) = (wanted(asked), "0198f000-0000-7000-8000-000000000000");
        let next = wanted(&first.next(last));
        assert_eq!(first.kind.as_deref(), Some("büro.& x"));
        let without_page = |wanted: Wanted| {
            let Wanted { state, needs_attention, kind, article_id, user_id, limit, before: _ } = wanted;
            (state, needs_attention, kind, article_id, user_id, limit)
        };
        assert_eq!(next.before.unwrap().to_string(), last);
        assert_eq!(without_page(next), without_page(first));
    }
}

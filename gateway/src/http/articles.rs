//! Articles and who likes them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use like_client::likes::AskError;
use like_client::likes::articles::{self, ArticleError};
use like_client::likes::pages;
use like_client::likes::users::{self, UserError};
use like_client::view::{ArticleDocument, ListedArticleDocument, RecordDocument};
use like_protocol::likes::article::{ArticleRejection, ListedArticle};
use like_protocol::likes::{ArticleId, UserId};

use super::App;
use super::documents::{NewArticle, Page};
use super::problem::{Kind, Problem};
use super::take::{ArticlePath, Asked, Document, UserPath};

/// What may go wrong with a question to a service.
pub const ASKING: &[Kind] = &[
    Kind::Invalid,
    Kind::Busy,
    Kind::Storage,
    Kind::Unavailable,
    Kind::PermissionDenied,
    Kind::Incompatible,
];

/// What may go wrong beyond that when an article is made.
pub const MAKING: &[Kind] =
    &[Kind::AlreadyExists, Kind::Unknown, Kind::Malformed, Kind::UnsupportedMediaType];

/// Make an article
///
/// Answered once it is on disk.
#[utoipa::path(
    post, path = "/articles", tag = "articles", request_body = NewArticle,
    responses((status = 201, description = "It is made", body = ArticleDocument,
               headers(("Location" = String, description = "The article")))),
)]
pub async fn create(
    State(app): State<Arc<App>>,
    Document(new): Document<NewArticle>,
) -> Result<Response, Problem> {
    let made = app.host.articles.create(new.article_id.map(ArticleId), new.title).await;
    let made = made.map_err(|e| match &e {
        // No question: it may have been made.
        AskError::Lost(lost) => {
            Problem::new(Kind::Unknown, &lost.message).hint("look whether it was done before you try again")
        }
        _ => article_problem(&e),
    })?;
    let location = [(header::LOCATION, format!("/articles/{}", made.id.0))];
    Ok((StatusCode::CREATED, location, Json(ArticleDocument::from(&made))).into_response())
}

/// List articles, by number
#[utoipa::path(
    get, path = "/articles", tag = "articles", params(Page),
    responses((status = 200, description = "A page; one with fewer rows than were asked for is the last", body = [ListedArticleDocument])),
)]
pub async fn list(
    State(app): State<Arc<App>>,
    Asked(page): Asked<Page>,
) -> Result<Json<Vec<ListedArticleDocument>>, Problem> {
    let fetch = |after, limit| app.host.articles.page(after, limit);
    let rows = pages::fetch(page.after.map(ArticleId), page.rows()?, fetch, ListedArticle::id).await;
    Ok(Json(rows.map_err(|e| article_problem(&e))?.iter().map(ListedArticleDocument::from).collect()))
}

/// Read an article
#[utoipa::path(
    get, path = "/articles/{article_id}", tag = "articles",
    params(("article_id" = u64, Path, description = "Which article")),
    responses((status = 200, description = "The article", body = ArticleDocument)),
)]
pub async fn read(
    State(app): State<Arc<App>>,
    ArticlePath(article): ArticlePath,
) -> Result<Json<ArticleDocument>, Problem> {
    let found = app.host.articles.show(article).await.map_err(|e| article_problem(&e))?;
    Ok(Json(ArticleDocument::from(&found)))
}

/// List who likes an article, by number of user
#[utoipa::path(
    get, path = "/articles/{article_id}/likes", tag = "articles",
    params(("article_id" = u64, Path, description = "Which article"), Page),
    responses((status = 200, description = "A page; one with fewer rows than were asked for is the last", body = [RecordDocument])),
)]
pub async fn likers(
    State(app): State<Arc<App>>,
    ArticlePath(article): ArticlePath,
    Asked(page): Asked<Page>,
) -> Result<Json<Vec<RecordDocument>>, Problem> {
    let fetch = |after, limit| app.host.users.likers_of(article, after, limit);
    let rows = pages::fetch(page.after.map(UserId), page.rows()?, fetch, |record| record.user).await;
    Ok(Json(rows.map_err(|e| user_problem(&e))?.iter().map(RecordDocument::from).collect()))
}

/// List what a user likes, by number of article
#[utoipa::path(
    get, path = "/users/{user_id}/likes", tag = "articles",
    params(("user_id" = u64, Path, description = "Which user"), Page),
    responses((status = 200, description = "A page; one with fewer rows than were asked for is the last", body = [RecordDocument])),
)]
pub async fn liked_by(
    State(app): State<Arc<App>>,
    UserPath(user): UserPath,
    Asked(page): Asked<Page>,
) -> Result<Json<Vec<RecordDocument>>, Problem> {
    let fetch = |after, limit| app.host.users.likes_of(user, after, limit);
    let rows = pages::fetch(page.after.map(ArticleId), page.rows()?, fetch, |record| record.article).await;
    Ok(Json(rows.map_err(|e| user_problem(&e))?.iter().map(RecordDocument::from).collect()))
}

fn article_problem(error: &ArticleError) -> Problem {
    Problem::of_ask(error, |rejection| {
        let kind = match rejection {
            ArticleRejection::NotFound(_) => Kind::NotFound,
            ArticleRejection::AlreadyExists(_) => Kind::AlreadyExists,
            _ => Kind::Invalid,
        };
        Problem::new(kind, articles::explain(rejection))
    })
}

fn user_problem(error: &UserError) -> Problem {
    Problem::of_ask(error, |rejection| Problem::new(Kind::Invalid, users::explain(rejection)))
}

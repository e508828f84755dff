//! The API's own description: an OpenAPI 3.1 document, made from the routes that are served.

use utoipa::openapi::path::{HttpMethod, Operation, PathItem};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Components, Info, License, OpenApi};

use super::problem::{self, Kind};
use super::{articles, likes, live, sagas};
use crate::VERSION;

/// What any request may be answered with. Bugs (`internal`) aside: nobody can say where those are.
const ANY: &[Kind] =
    &[Kind::Misdirected, Kind::MethodNotAllowed, Kind::Malformed, Kind::TooLarge, Kind::TooSlow, Kind::Busy];

const ABOUT: &str = "Articles, likes and the sagas that make them. Every error is a problem document (RFC 9457): go by \
its `kind`. A 500 of kind `internal` is a bug, and described nowhere else. A request speaks for the user in `X-User-ID`; whatever stands in front has to authenticate people.";

/// Completes what was collected from the routes: what the API is called, how administrators are recognised, and the errors
/// of every operation.
pub fn complete(mut document: OpenApi) -> OpenApi {
    let mut info = Info::new("likes", VERSION);
    info.description = Some(ABOUT.to_owned());
    info.license = Some(License::new("MIT OR Apache-2.0"));
    document.info = info;
    let components = document.components.get_or_insert_with(Components::new);
    components.schemas.extend(problem::schema());
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    components.security_schemes.insert("token".to_owned(), SecurityScheme::Http(bearer).into());
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in operations(item) {
            let described = problem::described(&kinds(path, &method));
            for (status, response) in described {
                operation.responses.responses.entry(status).or_insert(response);
            }
        }
    }
    document
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (HttpMethod, &mut Operation)> {
    let all = [
        (HttpMethod::Get, item.get.as_mut()),
        (HttpMethod::Post, item.post.as_mut()),
        (HttpMethod::Delete, item.delete.as_mut()),
    ];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation?)))
}

/// Every kind of problem that an operation may be answered with.
fn kinds(path: &str, method: &HttpMethod) -> Vec<Kind> {
    let changes = *method != HttpMethod::Get;
    let mut kinds = ANY.to_vec();
    kinds.extend(match path {
        "/articles/{article_id}/like" => likes::KINDS,
        _ if path.starts_with("/articles") || path.starts_with("/users") => articles::ASKING,
        _ if path.starts_with("/sagas") => sagas::READING,
        "/healthz" | "/metrics" => &[],
        _ => live::LOOKING,
    });
    if path == "/articles/{article_id}" || path.starts_with("/sagas/") {
        kinds.push(Kind::NotFound);
    }
    // In lists damaged rows are told in their places.
    if matches!((path, changes), ("/articles/{article_id}", _) | ("/articles", true)) {
        kinds.push(Kind::Damaged);
    }
    if path.ends_with("/force") {
        kinds.push(Kind::Unknown);
    }
    match (path, changes) {
        ("/articles", true) => kinds.extend(articles::MAKING),
        _ if changes && path.starts_with("/sagas") => kinds.extend(sagas::ACTING),
        _ => {}
    }
    if changes {
        kinds.push(Kind::CrossSite);
    }
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

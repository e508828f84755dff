//! What can be asked over HTTP, and what is answered.
//!
//! * `take`: what is taken from a request. [`documents`]: what is answered with. [`problem`]: how errors are told.
//! * `guard`: what stands before every handler.
//! * `likes`, `articles`: the handlers, thin.

pub mod articles;
pub mod documents;
mod guard;
pub mod likes;
pub mod problem;
mod take;

use std::sync::Arc;

use axum::{Router, middleware};
use tokio_util::sync::CancellationToken;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::host::Host;

/// What handlers work with.
pub struct App {
    host: Arc<Host>,
    /// Host names this gateway answers to besides localhost and addresses.
    hosts: Vec<String>,
}

impl App {
    /// Serves `host`'s runner and services, under these names.
    pub fn new(host: Arc<Host>, hosts: Vec<String>, _stopping: CancellationToken) -> Arc<Self> {
        Arc::new(Self { host, hosts })
    }
}

/// Everything that can be asked.
pub fn router(app: Arc<App>) -> Router {
    let (router, _document) = OpenApiRouter::new()
        .routes(routes!(articles::create, articles::list))
        .routes(routes!(articles::read))
        .routes(routes!(articles::likers))
        .routes(routes!(articles::liked_by))
        .routes(routes!(likes::like, likes::unlike))
        .with_state(Arc::clone(&app))
        .split_for_parts();
    router.layer(middleware::from_fn_with_state(app, guard::guard)).layer(middleware::from_fn(guard::dress))
}

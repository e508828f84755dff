//! What can be asked over HTTP, and what is answered.
//!
//! * `take`: what is taken from a request. [`documents`]: what is answered with. [`problem`]: how errors are told.
//! * `guard`: what stands before every handler.
//! * `likes`, `articles`, `sagas`, `live`: the handlers, thin. `document`: the API, described from its routes.
//! * `page`: the operator's page.

pub mod articles;
mod document;
pub mod documents;
mod guard;
pub mod likes;
pub mod live;
mod page;
pub mod problem;
pub mod sagas;
mod take;

use std::sync::Arc;

use axum::routing::get;
use axum::{Json, Router, middleware};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::admin::Administrators;
use crate::host::Host;
use crate::metrics::Metrics;
use crate::overview::Lookout;
use crate::sagas::SagaReader;

/// What handlers work with.
pub struct App {
    host: Arc<Host>,
    /// Host names this gateway answers to besides localhost and addresses.
    hosts: Vec<String>,
    administrators: Administrators,
    sagas: SagaReader,
    lookout: Lookout,
    metrics: Metrics,
    streams: Arc<Semaphore>,
    /// Cancelled when the gateway stops.
    stop: CancellationToken,
}

impl App {
    /// Serves `host`'s runner and services, under these names, to these administrators, until `stop`.
    pub fn new(
        host: Arc<Host>,
        hosts: Vec<String>,
        administrators: Administrators,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let sagas = SagaReader::new(host.context().clone());
        let lookout = Lookout::new(Arc::clone(&host), sagas.clone(), administrators.any());
        let (metrics, streams) = (Metrics::default(), Arc::new(Semaphore::new(live::STREAMS_MAX)));
        Arc::new(Self { host, hosts, administrators, sagas, lookout, metrics, streams, stop })
    }
}

/// Everything that can be asked.
pub fn router(app: Arc<App>) -> Router {
    let (router, document) = OpenApiRouter::new()
        .routes(routes!(articles::create, articles::list))
        .routes(routes!(articles::read))
        .routes(routes!(articles::likers))
        .routes(routes!(articles::liked_by))
        .routes(routes!(likes::like, likes::unlike))
        .routes(routes!(sagas::list))
        .routes(routes!(sagas::read))
        .routes(routes!(sagas::retry))
        .routes(routes!(sagas::compensate))
        .routes(routes!(sagas::force))
        .routes(routes!(live::overview))
        .routes(routes!(live::events))
        .routes(routes!(live::healthz))
        .routes(routes!(live::readyz))
        .routes(routes!(live::metrics))
        .with_state(Arc::clone(&app))
        .split_for_parts();
    let document = Arc::new(document::complete(document));
    router
        .route("/openapi.json", get(async move || Json(document.as_ref().clone())))
        .merge(page::router())
        .fallback(guard::no_such_path)
        .method_not_allowed_fallback(guard::method_not_allowed)
        .layer(middleware::from_fn_with_state(Arc::clone(&app), guard::guard))
        .layer(middleware::from_fn_with_state(app, guard::dress))
}

//! What is going on: once, as a stream, for probes and for Prometheus.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use utoipa::ToSchema;

use super::App;
use super::problem::{Kind, Problem};
use crate::overview::{LOOK_EVERY, Overview};

/// How many streams of live updates there may be at once.
pub const STREAMS_MAX: usize = 64;

/// After how many looks without news a stream shows that it is alive.
const QUIET_LOOKS_MAX: u32 = 15;

/// How long a stream waits for a look before it says that there is none: a disk of the saga log that hangs.
const LOOK_WITHIN: Duration = Duration::from_secs(10);

/// How long numbers and probes wait for a look: half as long as Prometheus waits for numbers by default.
const PROBED_WITHIN: Duration = Duration::from_secs(5);

/// What may go wrong when one looks at what is going on.
pub const LOOKING: &[Kind] = &[Kind::PermissionDenied, Kind::Unavailable, Kind::TimedOut];

/// What is going on
///
/// Services, counts, what of the saga log can't be read, what is open with what needs an operator first, what ended
/// lately. A second or so old, a few seconds where the log is long or the machine busy.
#[utoipa::path(
    get, path = "/overview", tag = "sagas",
    responses((status = 200, description = "What is going on", body = Overview)),
)]
pub async fn overview(State(app): State<Arc<App>>) -> Result<Json<Overview>, Problem> {
    Ok(Json(look(&app).await?.as_ref().clone()))
}

async fn look(app: &App) -> Result<Arc<Overview>, Problem> {
    let looked = app.lookout.look().await;
    looked.map_err(|e| {
        let kind = if e.is_permission() { Kind::PermissionDenied } else { Kind::Unavailable };
        Problem::new(kind, e)
    })
}

/// Follow what is going on
///
/// Server-sent events: an `overview` with the document of `/overview` now and whenever it has changed, and `unseen` with a
/// `detail` once that can't be seen any more. At most 64 at once.
#[utoipa::path(
    get, path = "/events", tag = "sagas",
    responses((status = 200, description = "A stream of events", body = String, content_type = "text/event-stream")),
)]
pub async fn events(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let place = Arc::clone(&app.streams).try_acquire_owned();
    let place = place.map_err(|_| Problem::new(Kind::Busy, "as many streams as allowed are open"))?;
    let first = look(&app).await?;
    let following = Following { app, told: None, next: Some(Ok(first)), quiet: 0, _place: place };
    let stream = futures::stream::unfold(following, |following| following.next());
    let head = [(header::CONTENT_TYPE, "text/event-stream")];
    Ok((head, Body::from_stream(stream)).into_response())
}

/// A stream of live updates.
struct Following {
    app: Arc<App>,
    told: Option<Seen>,
    next: Option<Seen>,
    quiet: u32,
    _place: OwnedSemaphorePermit,
}

/// What a look came to, or why none did.
type Seen = Result<Arc<Overview>, String>;

impl Following {
    /// The next piece of the stream; its end when the gateway stops.
    async fn next(mut self) -> Option<(Result<String, Infallible>, Self)> {
        loop {
            let seen = match self.next.take() {
                Some(first) => first,
                None => {
                    tokio::select! {
                        () = tokio::time::sleep(LOOK_EVERY) => {}
                        () = self.app.stop.cancelled() => return None,
                    }
                    self.look().await
                }
            };
            self.quiet += 1;
            if self.told.as_ref().is_none_or(|told| is_news(told, &seen)) {
                let event = event(&seen);
                self.told = Some(seen);
                self.quiet = 0;
                return Some((Ok(event), self));
            }
            if self.quiet >= QUIET_LOOKS_MAX {
                self.quiet = 0;
                return Some((Ok(": nothing new\n\n".to_owned()), self));
            }
        }
    }

    /// What can't be seen is told: whoever looks at the last picture must not take it for the present one.
    async fn look(&self) -> Seen {
        match tokio::time::timeout(LOOK_WITHIN, self.app.lookout.look()).await {
            Ok(looked) => looked.map_err(|e| e.to_string()),
            Err(_) => Err(format!("reading the saga log takes more than {} s", LOOK_WITHIN.as_secs())),
        }
    }
}

fn is_news(told: &Seen, seen: &Seen) -> bool {
    match (told, seen) {
        (Ok(told), Ok(seen)) => !told.same_as(seen),
        (Err(told), Err(why)) => told != why,
        _ => true,
    }
}

fn event(seen: &Seen) -> String {
    let (name, document) = match seen {
        Ok(overview) => ("overview", serde_json::to_string(overview.as_ref()).unwrap_or_default()),
        Err(why) => ("unseen", serde_json::json!({ "detail": why }).to_string()),
    };
    format!("event: {name}\ndata: {document}\n\n")
}

/// That all is well.
#[derive(Serialize, ToSchema)]
pub struct Well {
    /// ok.
    status: &'static str,
}

/// Whether the gateway lives
///
/// It does if it answers.
#[utoipa::path(
    get, path = "/healthz", tag = "operation",
    responses((status = 200, description = "It does", body = Well)),
)]
pub async fn healthz() -> Json<Well> {
    Json(Well { status: "ok" })
}

/// Whether the gateway can serve likes
///
/// It can if both services answer and the saga log can be read.
#[utoipa::path(
    get, path = "/readyz", tag = "operation",
    responses((status = 200, description = "It can", body = Well)),
)]
pub async fn readyz(State(app): State<Arc<App>>) -> Result<Json<Well>, Problem> {
    if app.stop.is_cancelled() {
        return Err(Problem::new(Kind::Unavailable, "the gateway is stopping"));
    }
    // Whoever probes gives up long before a disk that hangs comes to an end.
    let overview = tokio::time::timeout(PROBED_WITHIN, look(&app)).await.map_err(|_| {
        let within = PROBED_WITHIN.as_secs();
        Problem::new(Kind::TimedOut, format!("reading the saga log takes more than {within} s"))
    })??;
    let problem = overview.services.iter().find_map(|service| service.problem.as_ref());
    match problem {
        Some(problem) => Err(Problem::new(Kind::Unavailable, problem)),
        None => Ok(Json(Well { status: "ok" })),
    }
}

/// Numbers for Prometheus
#[utoipa::path(
    get, path = "/metrics", tag = "operation",
    responses((status = 200, description = "In the text format 0.0.4", body = String, content_type = "text/plain")),
)]
pub async fn metrics(State(app): State<Arc<App>>) -> Response {
    // Where the log can't be read, or its disk hangs, that is told too, before a scrape gives up.
    let overview = tokio::time::timeout(PROBED_WITHIN, app.lookout.look()).await;
    let overview = overview.ok().and_then(Result::ok);
    let head = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (head, app.metrics.told(overview.as_deref(), &app.host.syncs())).into_response()
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::admin::Administrators;
    use crate::host::tests::host;

    #[tokio::test(start_paused = true)]
    async fn a_stream_without_news_shows_that_it_is_alive_and_ends_when_the_gateway_stops() {
        let ((host, _silence), stop) = (host(), CancellationToken::new());
        let app = App::new(host, Vec::new(), Administrators::default(), stop.clone());
        let mut pieces = events(State(Arc::clone(&app))).await.ok().unwrap().into_body().into_data_stream();
        let mut next = async || {
            let next = tokio::time::timeout(10 * QUIET_LOOKS_MAX * LOOK_EVERY, pieces.next());
            let piece = next.await.expect("a sign of life")?.unwrap();
            Some(String::from_utf8_lossy(&piece).into_owned())
        };
        assert!(next().await.unwrap().starts_with("event: overview\ndata: {"));
        let began = tokio::time::Instant::now();
        assert_eq!(next().await.as_deref(), Some(": nothing new\n\n"));
        assert!(began.elapsed() >= QUIET_LOOKS_MAX * LOOK_EVERY);
        stop.cancel();
        assert_eq!(next().await, None);
        // Nobody is to send it anything more, whatever its services say.
        let told = serde_json::to_value(readyz(State(app)).await.err().unwrap()).unwrap();
        assert_eq!(told["detail"], "the gateway is stopping");
    }
}

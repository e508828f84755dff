//! What stands between a connection and every handler: whose request it is, how long it is, how long it takes, and what
//! every answer tells browsers.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, Uri, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::StreamExt;

use super::App;
use super::problem::{Kind, Problem};
use crate::serve::Peer;

/// The longest body, in bytes: a title or a reason and what belongs to it, with room.
pub const BODY_BYTES_MAX: usize = 16 * 1024;

/// How much of too long a body is thrown away before its client is told.
const PASSED_OVER_BYTES_MAX: usize = 1024 * 1024;

/// How long a client may take to send a body.
const BODY_WITHIN: Duration = Duration::from_secs(10);

/// What a handler may take beyond the longest act. Nothing takes so long but a disk that hangs, and then its client is told.
const HANDLER_SLACK: Duration = Duration::from_secs(15);

/// Refuses what is for another host or from another web site, takes the body in within bounds, and gives the handler
/// only so long.
pub async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let admitted = to_one_host(&request)
        .and_then(|()| addressed_here(&app, &request))
        .and_then(|()| from_here(&app, &request));
    if let Err(problem) = admitted {
        return problem.into_response();
    }
    let request = match whole(request).await {
        Ok(request) => request,
        Err(problem) => return problem.into_response(),
    };
    let within = 2 * app.host.patience() + HANDLER_SLACK;
    match tokio::time::timeout(within, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(Kind::TimedOut, format!("no answer came within {} s", within.as_secs()))
            .hint("what was begun stands in the saga log and goes on")
            .into_response(),
    }
}

/// Of a request for two hosts, what stands in front may have looked at one, and the gateway at the other; one for none is not
/// well formed, but for clients older than HTTP/1.1 (RFC 9112, 3.2) where no name leads here. One may stand in the first line, as
/// to a proxy.
fn to_one_host(request: &Request) -> Result<(), Problem> {
    let mut hosts = request.headers().get_all(header::HOST).iter().map(HeaderValue::as_bytes);
    let (host, another) = (hosts.next(), hosts.next());
    if host.is_none() && (request.version() > Version::HTTP_10 || came_by_tcp(request)) {
        return Err(Problem::new(Kind::Malformed, "it names no host"));
    }
    let host = host.unwrap_or_default();
    let target = request.uri().authority().map(|authority| authority.as_str().as_bytes());
    if another.is_none() && target.is_none_or(|target| target.eq_ignore_ascii_case(host)) {
        return Ok(());
    }
    Err(Problem::new(Kind::Malformed, "it names more than one host"))
}

/// A web page that the operator looks at could point a name of its own at this address, and then read and write here as
/// if it came from here. It can't do that with a name that it does not own.
fn addressed_here(app: &App, request: &Request) -> Result<(), Problem> {
    if !came_by_tcp(request) {
        return Ok(());
    }
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = without_port(host).to_lowercase();
    let is_address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
    if is_address || name == "localhost" || app.hosts.contains(&name) {
        return Ok(());
    }
    Err(Problem::new(Kind::Misdirected, format!("this gateway is not called `{name}`"))
        .hint("start it with --host NAME if it should answer to that name"))
}

/// Over a Unix socket nobody comes by a name.
fn came_by_tcp(request: &Request) -> bool {
    matches!(request.extensions().get(), Some(Peer::Tcp))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) && !name.ends_with(':') => {
            name
        }
        _ => host,
    }
}

/// Browsers say where a request comes from. What would change something must come from a page of this gateway, or from
/// no page at all.
fn from_here(app: &App, request: &Request) -> Result<(), Problem> {
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let is_here = match request.headers().get("sec-fetch-site").map(HeaderValue::as_bytes) {
        Some(site) => matches!(site, b"same-origin" | b"none"),
        None => has_origin_here(app, request.headers()),
    };
    if changes && !is_here {
        return Err(Problem::new(Kind::CrossSite, "pages of other web sites may change nothing here"));
    }
    Ok(())
}

/// Over plain HTTP to other than loopback addresses, and from old browsers, nothing but the page's origin comes along.
fn has_origin_here(app: &App, headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let Some((_, place)) = origin.to_str().ok().and_then(|origin| origin.split_once("://")) else {
        return false;
    };
    let place = place.to_lowercase();
    let asked = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    place == asked.to_lowercase() || app.hosts.iter().any(|host| host == without_port(&place))
}

async fn whole(request: Request) -> Result<Request, Problem> {
    let too_large =
        || Problem::new(Kind::TooLarge, format!("a body has at most {BODY_BYTES_MAX} bytes here"));
    let length = announced(request.headers());
    // Whoever asks before it sends need not send.
    let asks = request.headers().contains_key(header::EXPECT);
    if length > PASSED_OVER_BYTES_MAX as u64 || (asks && length > BODY_BYTES_MAX as u64) {
        return Err(too_large());
    }
    let (parts, body) = request.into_parts();
    match tokio::time::timeout(BODY_WITHIN, taken_in(body)).await {
        Ok(Ok(Some(bytes))) => Ok(Request::from_parts(parts, Body::from(bytes))),
        Ok(Ok(None)) => Err(too_large()),
        Ok(Err(e)) => Err(Problem::new(Kind::Malformed, format!("the body could not be read: {e}"))),
        Err(_) => {
            let within = BODY_WITHIN.as_secs();
            Err(Problem::new(Kind::TooSlow, format!("the body did not come within {within} s")))
        }
    }
}

/// A body to its end; none if it is too long. Of that the rest is taken too, and thrown away: a connection that is closed with
/// a part of it unread fails whoever still sends, and many look at no answer then.
async fn taken_in(body: Body) -> Result<Option<Vec<u8>>, axum::Error> {
    let (mut pieces, mut bytes, mut length) = (body.into_data_stream(), Vec::new(), 0);
    while length <= PASSED_OVER_BYTES_MAX
        && let Some(piece) = pieces.next().await
    {
        let piece = piece?;
        length += piece.len();
        if length <= BODY_BYTES_MAX {
            bytes.extend(piece);
        }
    }
    Ok((length <= BODY_BYTES_MAX).then_some(bytes))
}

fn announced(headers: &HeaderMap) -> u64 {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    length.and_then(|length| length.parse().ok()).unwrap_or_default()
}

/// Counts every answer, and gives it the headers that browsers need to be careful.
pub async fn dress(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map(|route| route.as_str().to_owned());
    let mut response = next.run(request).await;
    let careful = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    ];
    for (name, value) in careful {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    // Methods and paths that nobody has declared could be any: they share a label.
    let known = matches!(method.as_str(), "GET" | "HEAD" | "POST" | "DELETE");
    let method = if known { method.as_str() } else { "other" };
    app.metrics.request(method, route.as_deref().unwrap_or("none"), response.status().as_u16());
    response
}

/// What is answered where nothing is.
pub async fn no_such_path(uri: Uri) -> Problem {
    Problem::new(Kind::NoSuchPath, format!("there is nothing at {}", uri.path()))
}

/// What is answered where something is that does not know the method.
pub async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    Problem::new(Kind::MethodNotAllowed, format!("{} does not know {method}", uri.path()))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::http::StatusCode;

    use super::*;

    /// A body of so many pieces of a KiB, and how many of them have been taken.
    fn pieces(most: usize) -> (Body, Arc<AtomicUsize>) {
        let taken = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&taken);
        let piece = move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Infallible>([b'x'; 1024].to_vec())
        };
        (Body::from_stream(futures::stream::iter(0..most).map(piece)), taken)
    }

    #[tokio::test]
    async fn who_sends_too_long_a_body_can_send_it_and_is_told() {
        let refused = async |request: Request| match whole(request).await {
            Ok(_) => panic!("it was taken"),
            Err(problem) => assert_eq!(problem.into_response().status(), StatusCode::PAYLOAD_TOO_LARGE),
        };
        for announced in [None, Some(40 * 1024)] {
            let (body, taken) = pieces(40);
            let mut request = Request::new(body);
            announced.map(|length| request.headers_mut().insert(header::CONTENT_LENGTH, length.into()));
            refused(request).await;
            assert_eq!(taken.load(Ordering::Relaxed), 40, "{announced:?}");
        }
        // One byte more than is taken is too many, and none less.
        let (body, _) = pieces(BODY_BYTES_MAX / 1024);
        assert!(whole(Request::new(body)).await.is_ok());
        refused(Request::new(Body::from(vec![b'x'; BODY_BYTES_MAX + 1]))).await;
        // Not without end, and not where the client waits to hear whether it may.
        let (body, taken) = pieces(usize::MAX);
        refused(Request::new(body)).await;
        assert!(taken.load(Ordering::Relaxed) < 4096);
        let (body, taken) = pieces(40);
        let mut request = Request::new(body);
        request.headers_mut().insert(header::CONTENT_LENGTH, (40 * 1024).into());
        request.headers_mut().insert(header::EXPECT, HeaderValue::from_static("100-continue"));
        refused(request).await;
        assert_eq!(taken.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_port_is_no_part_of_a_name() {
        let pairs = [
            ("localhost:8080", "localhost"),
            ("localhost", "localhost"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("10.0.0.1:8080", "10.0.0.1"),
        ];
        for (host, name) in pairs {
            assert_eq!(without_port(host), name);
        }
    }
}

//! The operator's page and the API's, as they are built into the program. They ask nobody but this gateway.

use axum::Router;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

/// What the pages may do: load what stands beside them, and ask where they come from. No inline script or style, no
/// frame, no form that leaves.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// One file of the pages: where it is, what it is, what is in it.
type File = (&'static str, &'static str, &'static str);

const FILES: [File; 6] = [
    ("/", "text/html; charset=utf-8", include_str!("../../page/index.html")),
    ("/app.js", "text/javascript; charset=utf-8", include_str!("../../page/app.js")),
    ("/style.css", "text/css; charset=utf-8", include_str!("../../page/style.css")),
    ("/icon.svg", "image/svg+xml", include_str!("../../page/icon.svg")),
    ("/docs", "text/html; charset=utf-8", include_str!("../../page/docs.html")),
    ("/docs.js", "text/javascript; charset=utf-8", include_str!("../../page/docs.js")),
];

/// The pages.
pub fn router() -> Router {
    FILES.into_iter().fold(Router::new(), |router, file| router.route(file.0, get(async move || serve(file))))
}

fn serve((_, media, content): File) -> Response {
    let head = [
        (header::CONTENT_TYPE, media),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        // Asked for anew each time: it may be another version's.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (head, content).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_small_and_name_nobody_else() {
        let total: usize = FILES.iter().map(|(_, _, content)| content.len()).sum();
        assert!(total < 64 * 1024, "{total} bytes");
        for (path, _, content) in FILES {
            let foreign = content.replace("http://www.w3.org/2000/svg", "");
            assert!(!foreign.contains("://"), "{path} names another place");
            for unsafe_way in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "localStorage",
                " style=",
                "onclick=",
            ] {
                assert!(!content.contains(unsafe_way), "{path} has {unsafe_way}");
            }
        }
    }
}

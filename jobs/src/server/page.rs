//! The page for the browser, built into the program, so that it works offline.

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;

/// Nothing but what this server serves.
const POLICY: &str = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

const CSS: &str = "text/css; charset=utf-8";
const SVG: &str = "image/svg+xml";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// What the page is made of besides its HTML: paths, types and texts.
const PARTS: [(&str, &str, &str); 8] = [
    ("/icon.svg", SVG, include_str!("page/icon.svg")),
    ("/page.css", CSS, include_str!("page/page.css")),
    ("/page.js", SCRIPT, include_str!("page/page.js")),
    ("/api.js", SCRIPT, include_str!("page/api.js")),
    ("/charts.js", SCRIPT, include_str!("page/charts.js")),
    ("/elements.js", SCRIPT, include_str!("page/elements.js")),
    ("/jobs.js", SCRIPT, include_str!("page/jobs.js")),
    ("/twin.js", SCRIPT, include_str!("page/twin.js")),
];

/// The page and its parts.
pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    PARTS.into_iter().fold(Router::new().route("/", get(html)), |router, (path, content_type, text)| {
        router.route(path, get(async move || ([(header::CONTENT_TYPE, content_type)], text)))
    })
}

async fn html() -> impl IntoResponse {
    let headers =
        [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CONTENT_SECURITY_POLICY, POLICY)];
    (headers, include_str!("page/page.html"))
}

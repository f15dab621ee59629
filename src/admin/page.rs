//! The status page at `/`: one document for browsers, which reads everything that it shows from the API.
//!
//! Owns its parts (`page/`), how they become one document, and its Content-Security-Policy. Must not know the balancer.
//! Invariants: the document is the same for everyone and holds no data, so that it may be sent without the token; a browser
//! runs only its one script and applies only its one style, sends requests to this listener only, and never turns text into
//! markup.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    ACCEPT, CONTENT_SECURITY_POLICY, HeaderValue, REFERRER_POLICY, X_FRAME_OPTIONS,
};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};
use ring::digest::{SHA256, digest};

use super::response::typed;

const FRAME: &str = include_str!("page/index.html");
const STYLE: &str = concat!(
    include_str!("page/style.css"),
    include_str!("page/tables.css"),
);
/// One script; each part comes after those that it uses.
const SCRIPT: &str = concat!(
    include_str!("page/format.js"),
    include_str!("page/elements.js"),
    include_str!("page/chart.js"),
    include_str!("page/server.js"),
    include_str!("page/dialogs.js"),
    include_str!("page/overview.js"),
    include_str!("page/backend.js"),
    include_str!("page/pools.js"),
    include_str!("page/events.js"),
    include_str!("page/explain.js"),
    include_str!("page/main.js"),
);

/// The document, and the policy that allows what it does and nothing else (W3C Content Security Policy Level 3).
static PAGE: LazyLock<(Bytes, HeaderValue)> = LazyLock::new(|| {
    let html = FRAME.replace("{style}", STYLE).replace("{script}", SCRIPT);
    let policy = format!(
        "default-src 'none'; script-src '{}'; style-src '{}'; img-src data:; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
        hash_source(SCRIPT),
        hash_source(STYLE),
    );
    // It is ASCII.
    let policy =
        HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"));
    (html.into(), policy)
});

/// The page. The status tells whether its requests to the API will need a token first.
pub(super) fn page(status: StatusCode) -> Response<Full<Bytes>> {
    let (html, policy) = &*PAGE;
    let mut response = typed(status, "text/html; charset=utf-8", html.clone());
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, policy.clone());
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// Whether a browser requests the page: its `Accept` has `text/html`. Other programs get errors in JSON.
pub(super) fn is_requested_by(parts: &Parts) -> bool {
    let html = |value: &HeaderValue| {
        value
            .to_str()
            .is_ok_and(|types| types.contains("text/html"))
    };
    let get = matches!(parts.method, Method::GET | Method::HEAD);
    get && parts.uri.path() == "/" && parts.headers.get_all(ACCEPT).iter().any(html)
}

/// The hash of a script or a style, as a policy writes it.
fn hash_source(text: &str) -> String {
    let hash = digest(&SHA256, text.as_bytes());
    format!("sha256-{}", BASE64_STANDARD.encode(hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_base64_as_browsers_write_it() {
        // W3C Content Security Policy Level 2, "Hash usage for script elements".
        assert_eq!(
            hash_source("alert('Hello, world.');"),
            "sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng="
        );
    }

    #[test]
    fn the_document_is_complete_and_loads_nothing_from_elsewhere() {
        let html = std::str::from_utf8(&PAGE.0).unwrap();
        assert!(html.contains(STYLE) && html.contains(SCRIPT));
        // The name of a namespace, which is not loaded.
        let rest = html.replace("http://www.w3.org/2000/svg", "");
        for foreign in ["http:", "https:", "url(", "@import", "innerHTML", "onclick"] {
            assert!(!rest.contains(foreign), "{foreign}");
        }
    }
}

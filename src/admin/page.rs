//! The page at `/`: one document for browsers, which asks the API for everything that it shows.
//!
//! Owns its parts (`page/`), how they become one document, and what a browser may do with it. Knows nothing of the
//! balancer. Invariants: the document is the same for everybody and holds no data, so that it may be given to those who
//! have yet to show the token; a browser runs the one script and the one style that are in it, asks nobody but us, and
//! makes no markup out of text.

use std::sync::LazyLock;

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
/// One script, in the order in which its parts need each other.
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

/// The document, and the policy that lets it do what it does and nothing else (W3C Content Security Policy Level 3).
static PAGE: LazyLock<(Bytes, HeaderValue)> = LazyLock::new(|| {
    let html = FRAME.replace("{style}", STYLE).replace("{script}", SCRIPT);
    let policy = format!(
        "default-src 'none'; script-src '{}'; style-src '{}'; img-src data:; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
        source(SCRIPT),
        source(STYLE),
    );
    // Made of ASCII alone.
    let policy =
        HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"));
    (html.into(), policy)
});

/// The page, with a status that says whether its questions will be answered.
pub(super) fn page(status: StatusCode) -> Response<Full<Bytes>> {
    let (html, policy) = &*PAGE;
    let mut answer = typed(status, "text/html; charset=utf-8", html.clone());
    let headers = answer.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, policy.clone());
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    answer
}

/// Whether a browser asks for the page, which it does with `Accept: text/html` and more; programs want an error in JSON.
pub(super) fn is_wanted(parts: &Parts) -> bool {
    let html = |value: &HeaderValue| {
        value
            .to_str()
            .is_ok_and(|types| types.contains("text/html"))
    };
    let get = matches!(parts.method, Method::GET | Method::HEAD);
    get && parts.uri.path() == "/" && parts.headers.get_all(ACCEPT).iter().any(html)
}

/// What a policy calls the very text that stands in the document.
fn source(text: &str) -> String {
    format!(
        "sha256-{}",
        base64(digest(&SHA256, text.as_bytes()).as_ref())
    )
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let byte = |place: usize| u32::from(three.get(place).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let sixth = (bits >> (18 - 6 * place)) & 63;
            text.push(if place <= three.len() {
                char::from(ALPHABET[sixth as usize])
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of RFC 4648, section 10.
    #[test]
    fn base64_is_that_of_the_rfc() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xfb, 0xff]), "+/8=");
    }

    #[test]
    fn the_document_is_whole_and_refers_to_nothing_elsewhere() {
        let html = std::str::from_utf8(&PAGE.0).unwrap();
        assert!(html.contains(STYLE) && html.contains(SCRIPT));
        // The name of what is drawn, which nobody asks.
        let rest = html.replace("http://www.w3.org/2000/svg", "");
        for foreign in ["http:", "https:", "url(", "@import", "innerHTML", "onclick"] {
            assert!(!rest.contains(foreign), "{foreign}");
        }
    }
}

//! Helpers for HTTP requests and responses.
//!
//! Pure, except that [`discard`] reads a body. Must not know paths. Invariant: at most [`SMALL_BODY_MAX`] of a body is read.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Request, Response, StatusCode};

/// The maximum size of a request body whose content is ignored.
const SMALL_BODY_MAX: usize = 64 * 1024;

pub(super) type WebResponse = Response<BoxBody<Bytes, Infallible>>;

/// A query parameter, undecoded; names are matched without regard to case.
pub(super) fn parameter<'a>(request: &'a Request<Incoming>, name: &str) -> Option<&'a str> {
    let pairs = request
        .uri()
        .query()?
        .split('&')
        .filter_map(|pair| pair.split_once('='));
    pairs
        .into_iter()
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

/// Reads and ignores a body; false if it is too long or incomplete.
pub(super) async fn discard(body: Incoming) -> bool {
    Limited::new(body, SMALL_BODY_MAX).collect().await.is_ok()
}

pub(super) fn status(code: StatusCode) -> WebResponse {
    let mut response = Response::new(BoxBody::default());
    *response.status_mut() = code;
    response
}

pub(super) fn json_response(code: StatusCode, document: &serde_json::Value) -> WebResponse {
    respond(
        code,
        "application/json; charset=utf-8",
        document.to_string(),
    )
}

pub(super) fn respond(code: StatusCode, content_type: &'static str, text: String) -> WebResponse {
    let mut response = Response::new(BoxBody::new(Full::from(text)));
    *response.status_mut() = code;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

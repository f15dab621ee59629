//! The form of every answer of an admin listener.
//!
//! Owns how a body becomes an answer. Knows no endpoint. Invariant: each answer says of what kind its body is.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};

/// What is sent back.
pub(super) type ApiResponse = Response<Full<Bytes>>;

/// An answer of this status whose body is of this kind.
pub(super) fn typed(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> ApiResponse {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

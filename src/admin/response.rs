//! The responses of an admin listener.
//!
//! Owns how a body becomes a response. Must not know endpoints. Invariant: each response states the type of its body.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

/// The response to a request.
pub(super) type ApiResponse = Response<Full<Bytes>>;

/// A response with this status, whose body has this content type.
pub(super) fn typed(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> ApiResponse {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Plain text.
pub(super) fn text(text: &'static str) -> ApiResponse {
    typed(StatusCode::OK, "text/plain; charset=utf-8", text)
}

/// A value in JSON, on one line.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> ApiResponse {
    match serde_json::to_vec(value) {
        Ok(mut body) => {
            body.push(b'\n');
            typed(status, "application/json", body)
        }
        Err(error) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "could not serialize a response"
            );
            let body = "{\"error\":\"could not serialize the response\"}\n";
            typed(StatusCode::INTERNAL_SERVER_ERROR, "application/json", body)
        }
    }
}

//! The response to a rejected client.
//!
//! Owns the mapping from outcome and kind of listener to a response. Sends nothing itself. Invariant: no response
//! contains a byte that the client sent.

use crate::config::model::{self, Protocol};
use crate::protocol::http1::{self, Method};
use crate::protocol::tls::client_hello::Alert;
use crate::proxy::preread::{Hello, PrereadError};
use crate::snapshot::ActiveListener;
use crate::types::outcome::{Outcome, RejectionCase};

/// The response to a rejected client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RejectionResponse {
    /// These bytes, then an orderly close.
    Send(Vec<u8>),
    /// An orderly close.
    Close,
    /// A reset.
    Reset,
}

/// The outcome of a hello that could not be read.
#[must_use]
pub fn outcome_of(error: &PrereadError) -> Outcome {
    match error {
        PrereadError::Closed => Outcome::HelloClosed,
        PrereadError::Reset => Outcome::HelloReset,
        PrereadError::Silent => Outcome::HelloSilent,
        PrereadError::Timeout => Outcome::HelloTimeout,
        PrereadError::NotTls(_) => Outcome::NotTls,
        PrereadError::NotHttp(_) => Outcome::NotHttp,
        PrereadError::MalformedTls(_) | PrereadError::MalformedHttp(_) => Outcome::Malformed,
        PrereadError::TooLargeTls(_) | PrereadError::TooLargeHttp => Outcome::TooLarge,
    }
}

/// The response to a client whose connection ends with `outcome`; `received` is all that it sent, `hello` the parsed form.
#[must_use]
pub fn response(
    listener: &ActiveListener,
    outcome: Outcome,
    received: &[u8],
    hello: Option<&Hello>,
) -> RejectionResponse {
    match listener.config.protocol {
        Protocol::Tls => tls_response(listener.config.refusal, outcome, received, hello),
        Protocol::Http => http_response(outcome, hello),
        Protocol::Tcp => RejectionResponse::Reset,
    }
}

fn tls_response(
    mode: model::RejectionMode,
    outcome: Outcome,
    received: &[u8],
    hello: Option<&Hello>,
) -> RejectionResponse {
    let alert = match outcome.rejection_case() {
        RejectionCase::UnknownName => Alert::UnrecognizedName,
        RejectionCase::NoName => match hello {
            Some(Hello::Tls(hello)) => Alert::for_missing_name(hello),
            Some(Hello::Http(_) | Hello::Unread) | None => Alert::HandshakeFailure,
        },
        RejectionCase::Malformed => Alert::DecodeError,
        RejectionCase::TooLarge => Alert::RecordOverflow,
        RejectionCase::Late | RejectionCase::Silence => return RejectionResponse::Close,
        RejectionCase::Unserved | RejectionCase::Reset => return RejectionResponse::Reset,
    };
    match mode {
        model::RejectionMode::Alert => alert
            .record(received)
            .map_or(RejectionResponse::Close, |record| {
                RejectionResponse::Send(record.into())
            }),
        model::RejectionMode::Reset => RejectionResponse::Reset,
        model::RejectionMode::Close => RejectionResponse::Close,
    }
}

fn http_response(outcome: Outcome, hello: Option<&Hello>) -> RejectionResponse {
    let rejection = match outcome.rejection_case() {
        RejectionCase::UnknownName => http1::HttpRejection::UnknownName,
        RejectionCase::NoName => http1::HttpRejection::NoName,
        RejectionCase::Malformed => http1::HttpRejection::Malformed,
        RejectionCase::TooLarge => http1::HttpRejection::TooLarge,
        RejectionCase::Late => http1::HttpRejection::Timeout,
        RejectionCase::Unserved => http1::HttpRejection::Unavailable,
        RejectionCase::Silence => return RejectionResponse::Close,
        RejectionCase::Reset => return RejectionResponse::Reset,
    };
    let method = match hello {
        Some(Hello::Http(head)) => head.method,
        Some(Hello::Tls(_) | Hello::Unread) | None => Method::Other,
    };
    RejectionResponse::Send(rejection.response(method).to_vec())
}

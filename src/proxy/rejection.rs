//! How a client is told no.
//!
//! Owns what the kind of listener and the case come to. Sends nothing itself. Invariant: no answer
//! holds a byte that the client sent.

use crate::config::model::{self, Protocol};
use crate::protocol::http1::{self, Method};
use crate::protocol::tls::client_hello::Alert;
use crate::proxy::preread::{Hello, PrereadError};
use crate::snapshot::ActiveListener;
use crate::types::outcome::{Outcome, RejectionCase};

/// What a refused client gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RejectionAnswer {
    /// These bytes and an orderly close.
    Say(Vec<u8>),
    /// An orderly close.
    Close,
    /// A reset.
    Reset,
}

/// The outcome of a hello that never was.
#[must_use]
pub fn outcome_of(fault: &PrereadError) -> Outcome {
    match fault {
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

/// The answer to a client that ends with `outcome`; `received` is what it sent, `hello` what that was.
#[must_use]
pub fn answer(
    listener: &ActiveListener,
    outcome: Outcome,
    received: &[u8],
    hello: Option<&Hello>,
) -> RejectionAnswer {
    match listener.config.protocol {
        Protocol::Tls => answer_tls(listener.config.refusal, outcome, received, hello),
        Protocol::Http => answer_http(outcome, hello),
        Protocol::Tcp => RejectionAnswer::Reset,
    }
}

fn answer_tls(
    refusal: model::RejectionMode,
    outcome: Outcome,
    received: &[u8],
    hello: Option<&Hello>,
) -> RejectionAnswer {
    let alert = match outcome.rejection_case() {
        RejectionCase::UnknownName => Alert::UnrecognizedName,
        RejectionCase::NoName => match hello {
            Some(Hello::Tls(hello)) => Alert::for_missing_name(hello),
            Some(Hello::Http(_) | Hello::Unread) | None => Alert::HandshakeFailure,
        },
        RejectionCase::Malformed => Alert::DecodeError,
        RejectionCase::TooLarge => Alert::RecordOverflow,
        RejectionCase::Late | RejectionCase::Silence => return RejectionAnswer::Close,
        RejectionCase::Unserved | RejectionCase::Reset => return RejectionAnswer::Reset,
    };
    match refusal {
        model::RejectionMode::Alert => alert
            .record(received)
            .map_or(RejectionAnswer::Close, |record| {
                RejectionAnswer::Say(record.into())
            }),
        model::RejectionMode::Reset => RejectionAnswer::Reset,
        model::RejectionMode::Close => RejectionAnswer::Close,
    }
}

fn answer_http(outcome: Outcome, hello: Option<&Hello>) -> RejectionAnswer {
    let refusal = match outcome.rejection_case() {
        RejectionCase::UnknownName => http1::HttpRejection::UnknownName,
        RejectionCase::NoName => http1::HttpRejection::NoName,
        RejectionCase::Malformed => http1::HttpRejection::Malformed,
        RejectionCase::TooLarge => http1::HttpRejection::TooLarge,
        RejectionCase::Late => http1::HttpRejection::Timeout,
        RejectionCase::Unserved => http1::HttpRejection::Unavailable,
        RejectionCase::Silence => return RejectionAnswer::Close,
        RejectionCase::Reset => return RejectionAnswer::Reset,
    };
    let method = match hello {
        Some(Hello::Http(head)) => head.method,
        Some(Hello::Tls(_) | Hello::Unread) | None => Method::Other,
    };
    RejectionAnswer::Say(refusal.answer(method).to_vec())
}

//! The response to a rejected client.
//!
//! Owns the mapping from outcome and kind of listener to a response. Sends nothing itself. Invariant: no response
//! contains a byte that the client sent.

use crate::config::model::{self, Protocol};
use crate::protocol::http1::{self, Method};
use crate::protocol::tls::client_hello::Alert;
use crate::proxy::preread::{Hello, PrereadError};
use crate::snapshot::ActiveListener;
use crate::types::outcome::Outcome;

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
        Protocol::Tls => answer_tls(listener.config.refusal, outcome, received, hello),
        Protocol::Http => answer_http(outcome, hello),
        Protocol::Tcp => RejectionResponse::Reset,
    }
}

/// What an outcome means for the one who is refused: section 4 of the contract has a line for each.
enum RejectionCase {
    UnknownName,
    NoName,
    Malformed,
    TooLarge,
    /// Something came, but not the whole.
    Late,
    /// It sent nothing, or nothing that is understood here, or is gone: it gets no word.
    Silence,
    /// Nothing behind the listener can serve.
    Unserved,
    /// It is gone, or never was let in.
    Reset,
}

fn case(outcome: Outcome) -> RejectionCase {
    match outcome {
        Outcome::UnknownName => RejectionCase::UnknownName,
        Outcome::NoName => RejectionCase::NoName,
        Outcome::Malformed => RejectionCase::Malformed,
        Outcome::TooLarge => RejectionCase::TooLarge,
        Outcome::HelloTimeout => RejectionCase::Late,
        Outcome::HelloClosed
        | Outcome::HelloReset
        | Outcome::HelloSilent
        | Outcome::NotTls
        | Outcome::NotHttp => RejectionCase::Silence,
        Outcome::PoolDown
        | Outcome::PoolFull
        | Outcome::ConnectRefused
        | Outcome::ConnectReset
        | Outcome::ConnectTimeout
        | Outcome::ConnectUnreachable
        | Outcome::ConnectLocal => RejectionCase::Unserved,
        Outcome::Denied
        | Outcome::LimitConnections
        | Outcome::LimitPerSource
        | Outcome::LimitRate
        | Outcome::ConnectClientGone
        | Outcome::ClientClosed
        | Outcome::BackendClosed
        | Outcome::ClientReset
        | Outcome::BackendReset
        | Outcome::ClientLost
        | Outcome::BackendLost
        | Outcome::IdleTimeout
        | Outcome::HalfCloseTimeout
        | Outcome::BackendDown
        | Outcome::Maintenance
        | Outcome::DrainDeadline
        | Outcome::Shutdown
        | Outcome::PinMoved
        | Outcome::InternalError => RejectionCase::Reset,
    }
}

fn answer_tls(
    mode: model::RejectionMode,
    outcome: Outcome,
    received: &[u8],
    hello: Option<&Hello>,
) -> RejectionResponse {
    let alert = match case(outcome) {
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

fn answer_http(outcome: Outcome, hello: Option<&Hello>) -> RejectionResponse {
    let refusal = match case(outcome) {
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
    RejectionResponse::Send(refusal.response(method).to_vec())
}

//! How a client is told no.
//!
//! Owns what the kind of listener and the case come to. Sends nothing itself. Invariant: no answer
//! holds a byte that the client sent.

use crate::client_hello::Alert;
use crate::config::model::{self, Protocol};
use crate::hello::{Hello, HelloFault};
use crate::http_head::{self, Method};
use crate::snapshot::Listener;
use crate::termination::Outcome;

/// What a refused client gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// These bytes and an orderly close.
    Say(Vec<u8>),
    /// An orderly close.
    Close,
    /// A reset.
    Reset,
}

/// The outcome of a hello that never was.
#[must_use]
pub fn outcome_of(fault: &HelloFault) -> Outcome {
    match fault {
        HelloFault::Closed => Outcome::HelloClosed,
        HelloFault::Reset => Outcome::HelloReset,
        HelloFault::Silent => Outcome::HelloSilent,
        HelloFault::Timeout => Outcome::HelloTimeout,
        HelloFault::NotTls(_) => Outcome::NotTls,
        HelloFault::NotHttp(_) => Outcome::NotHttp,
        HelloFault::MalformedTls(_) | HelloFault::MalformedHttp(_) => Outcome::Malformed,
        HelloFault::TooLargeTls(_) | HelloFault::TooLargeHttp => Outcome::TooLarge,
    }
}

/// The answer to a client that ends with `outcome`; `received` is what it sent, `hello` what that was.
#[must_use]
pub fn answer(
    listener: &Listener,
    outcome: Outcome,
    received: &[u8],
    hello: Option<&Hello>,
) -> Answer {
    match listener.config.protocol {
        Protocol::Tls => answer_tls(listener.config.refusal, outcome, received, hello),
        Protocol::Http => answer_http(outcome, hello),
        Protocol::Tcp => Answer::Reset,
    }
}

/// What an outcome means for the one who is refused: section 4 of the contract has a line for each.
enum Case {
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

fn case(outcome: Outcome) -> Case {
    match outcome {
        Outcome::UnknownName => Case::UnknownName,
        Outcome::NoName => Case::NoName,
        Outcome::Malformed => Case::Malformed,
        Outcome::TooLarge => Case::TooLarge,
        Outcome::HelloTimeout => Case::Late,
        Outcome::HelloClosed
        | Outcome::HelloReset
        | Outcome::HelloSilent
        | Outcome::NotTls
        | Outcome::NotHttp => Case::Silence,
        Outcome::PoolDown
        | Outcome::PoolFull
        | Outcome::ConnectRefused
        | Outcome::ConnectReset
        | Outcome::ConnectTimeout
        | Outcome::ConnectUnreachable
        | Outcome::ConnectLocal => Case::Unserved,
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
        | Outcome::InternalError => Case::Reset,
    }
}

fn answer_tls(
    refusal: model::Refusal,
    outcome: Outcome,
    received: &[u8],
    hello: Option<&Hello>,
) -> Answer {
    let alert = match case(outcome) {
        Case::UnknownName => Alert::UnrecognizedName,
        Case::NoName => match hello {
            Some(Hello::Tls(hello)) => Alert::for_missing_name(hello),
            Some(Hello::Http(_) | Hello::Unread) | None => Alert::HandshakeFailure,
        },
        Case::Malformed => Alert::DecodeError,
        Case::TooLarge => Alert::RecordOverflow,
        Case::Late | Case::Silence => return Answer::Close,
        Case::Unserved | Case::Reset => return Answer::Reset,
    };
    match refusal {
        model::Refusal::Alert => alert
            .record(received)
            .map_or(Answer::Close, |record| Answer::Say(record.into())),
        model::Refusal::Reset => Answer::Reset,
        model::Refusal::Close => Answer::Close,
    }
}

fn answer_http(outcome: Outcome, hello: Option<&Hello>) -> Answer {
    let refusal = match case(outcome) {
        Case::UnknownName => http_head::Refusal::UnknownName,
        Case::NoName => http_head::Refusal::NoName,
        Case::Malformed => http_head::Refusal::Malformed,
        Case::TooLarge => http_head::Refusal::TooLarge,
        Case::Late => http_head::Refusal::Timeout,
        Case::Unserved => http_head::Refusal::Unavailable,
        Case::Silence => return Answer::Close,
        Case::Reset => return Answer::Reset,
    };
    let method = match hello {
        Some(Hello::Http(head)) => head.method,
        Some(Hello::Tls(_) | Hello::Unread) | None => Method::Other,
    };
    Answer::Say(refusal.answer(method).to_vec())
}

//! Owns the unencrypted messages of a TLS server: its first flight, the sessions that it grants, and a ClientHello that every
//! server since Windows XP responds to.
//!
//! Up to TLS 1.2 the server's certificate is not encrypted (RFC 5246 section 7.4.2), so a check can read it without a TLS
//! stack that still supports TLS 1.0. The session id and the version of a ServerHello are unencrypted in every version.
//!
//! Must not know sockets, clocks or what is done with a result. No certificate is verified or even parsed here.
//!
//! Invariant: a result is final. Whatever bytes follow, and in whatever pieces they arrive, the reader returns the same result.
//!
//! | file | owns |
//! |---|---|
//! | `record` | TLS records, and the limit of all of them together |
//! | `handshake` | handshake headers, message types, and the limit of one message |
//! | `alerts` | which alerts end a handshake |
//! | `message` | the ServerHello, the Certificate and the NewSessionTicket message |
//! | `flight` | the order of messages up to the certificate, for health checks |
//! | `grants` | the order of messages up to the ChangeCipherSpec, and the sessions granted by then |
//! | `offer` | the ClientHello that is sent |

use std::fmt;

use crate::protocol::tls::client_hello::{ProtocolVersion, SessionId};

mod alerts;
mod flight;
mod grants;
mod handshake;
mod message;
mod offer;
mod record;
#[cfg(test)]
mod tests;

pub use flight::FlightReader;
pub use grants::{Grant, GrantReader, ReaderStatus};
pub use handshake::MAX_MESSAGE;
pub use offer::client_hello;
pub use record::MAX_WIRE;

/// The result for the bytes read so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlightProgress {
    /// The flight is valid so far, and the certificate has not arrived.
    NeedMore,
    /// The server has sent its certificate.
    Certificate(Box<Identity>),
    /// The server sends no unencrypted certificate: TLS 1.3, a resumed session or an anonymous suite.
    NoCertificate(Box<ServerHello>),
    /// The server ended the handshake with an alert.
    Alert(ServerAlert),
    /// The bytes are not a valid first flight.
    Error(ServerHelloError),
}

/// The ServerHello and the certificate of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The choice of the server.
    pub hello: ServerHello,
    /// The server's own certificate, as DER; not parsed.
    pub leaf: Vec<u8>,
}

/// The choice of a server from the client's offer (RFC 5246 section 7.4.1.3, RFC 8446 section 4.1.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerHello {
    /// The negotiated version; the one of the supported_versions extension if there is one.
    pub version: ProtocolVersion,
    /// The id of the session up to TLS 1.2; since TLS 1.3 an echo of the client's id.
    pub session_id: SessionId,
    /// The number of the suite in the IANA registry.
    pub cipher_suite: u16,
}

/// The description of an alert (RFC 8446 section 6, RFC 5246 section 7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerAlert(pub u8);

impl ServerAlert {
    /// An orderly close, which is an error in the middle of a handshake.
    pub const CLOSE_NOTIFY: Self = Self(0);
    /// The server supports nothing in the offer.
    pub const HANDSHAKE_FAILURE: Self = Self(40);
    /// The server supports no version in the offer.
    pub const PROTOCOL_VERSION: Self = Self(70);
    /// No suite in the offer is strong enough for the server.
    pub const INSUFFICIENT_SECURITY: Self = Self(71);
}

impl fmt::Display for ServerAlert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            0 => "close_notify",
            10 => "unexpected_message",
            20 => "bad_record_mac",
            22 => "record_overflow",
            40 => "handshake_failure",
            47 => "illegal_parameter",
            49 => "access_denied",
            50 => "decode_error",
            51 => "decrypt_error",
            70 => "protocol_version",
            71 => "insufficient_security",
            80 => "internal_error",
            86 => "inappropriate_fallback",
            90 => "user_canceled",
            109 => "missing_extension",
            112 => "unrecognized_name",
            116 => "certificate_required",
            120 => "no_application_protocol",
            other => return write!(f, "number {other}"),
        })
    }
}

/// Why bytes are not a valid first flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerHelloError {
    /// No TLS server begins like this.
    NotTls,
    /// A record with an unexpected type or version, or an empty record.
    Record,
    /// A handshake message out of order.
    Order,
    /// An alert of an unknown level.
    Alert,
    /// A ServerHello whose lengths do not add up.
    ServerHello,
    /// A Certificate message whose lengths do not add up, or that is empty.
    Certificate,
    /// A record, a message or the flight is over its limit.
    TooLarge,
}

impl fmt::Display for ServerHelloError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotTls => "the response is not TLS",
            Self::Record => "the response has a malformed TLS record",
            Self::Order => "the response has a handshake message out of order",
            Self::Alert => "the response has a malformed alert",
            Self::ServerHello => "the response has a malformed ServerHello",
            Self::Certificate => "the response has a malformed Certificate message",
            Self::TooLarge => "the response is too large for a handshake",
        })
    }
}

impl std::error::Error for ServerHelloError {}

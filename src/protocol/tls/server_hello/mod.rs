//! Owns the meaning of what a TLS server says in clear: its first flight, the session that it grants, and the ClientHello
//! that draws a flight out of any server since Windows XP.
//!
//! Up to TLS 1.2 the server's certificate is not encrypted (RFC 5246 section 7.4.2), so a check can see it without a TLS
//! stack that still speaks TLS 1.0. The session id and the version of a ServerHello are clear in every version.
//!
//! Must not know sockets, clocks or what is done with a verdict; nor is a certificate judged or even parsed here.
//!
//! Invariant: a verdict is final. Whatever bytes follow, and in whatever pieces they come, the reader gives the same one.
//!
//! | file | owns |
//! |---|---|
//! | `record` | TLS records, and the limit on all of them |
//! | `handshake` | handshake headers, the types of messages, and the limit on one message |
//! | `alerts` | which alerts end a handshake |
//! | `message` | the ServerHello, the Certificate and the NewSessionTicket message |
//! | `flight` | the order of messages up to the certificate, for health checks |
//! | `grants` | the order of messages up to the ChangeCipherSpec, and the session that is granted by then |
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

/// What the bytes read so far come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlightProgress {
    /// Nothing is wrong so far, and the certificate has not come.
    NeedMore,
    /// The server has shown its certificate.
    Certificate(Box<Identity>),
    /// The server goes on without a certificate in clear: TLS 1.3, a resumed session or an anonymous suite.
    NoCertificate(Box<ServerHello>),
    /// The server ended the handshake with an alert.
    Alert(ServerAlert),
    /// The bytes are no sound first flight.
    Fault(ServerHelloError),
}

/// What a server has shown of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its choice.
    pub hello: ServerHello,
    /// The server's own certificate, as DER; not parsed.
    pub leaf: Vec<u8>,
}

/// A server's choice among what the client offered (RFC 5246 section 7.4.1.3, RFC 8446 section 4.1.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerHello {
    /// The version that will be spoken; that of the supported_versions extension, where there is one.
    pub version: ProtocolVersion,
    /// The session's name up to TLS 1.2, an echo of the client's since.
    pub session_id: SessionId,
    /// The suite by its number in the IANA registry.
    pub cipher_suite: u16,
}

/// The description of an alert (RFC 8446 section 6, RFC 5246 section 7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerAlert(pub u8);

impl ServerAlert {
    /// The orderly end, which is none in the middle of a handshake.
    pub const CLOSE_NOTIFY: Self = Self(0);
    /// Nothing in the offer suits the server.
    pub const HANDSHAKE_FAILURE: Self = Self(40);
    /// No version in the offer suits the server.
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

/// Why bytes are no sound first flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerHelloError {
    /// No TLS server begins like this.
    NotTls,
    /// A record of a type or version, or of no length, that cannot stand there.
    Record,
    /// A handshake message out of its order.
    Order,
    /// An alert of an unknown level.
    Alert,
    /// A ServerHello that breaks its own lengths.
    ServerHello,
    /// A Certificate message that breaks its own lengths or is empty.
    Certificate,
    /// A record, a message or the whole is beyond its limit.
    TooLarge,
}

impl fmt::Display for ServerHelloError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotTls => "the answer is not TLS",
            Self::Record => "the answer has a malformed TLS record",
            Self::Order => "the answer has a handshake message out of order",
            Self::Alert => "the answer has a malformed alert",
            Self::ServerHello => "the answer has a malformed ServerHello",
            Self::Certificate => "the answer has a malformed Certificate message",
            Self::TooLarge => "the answer is larger than a handshake may be",
        })
    }
}

impl std::error::Error for ServerHelloError {}

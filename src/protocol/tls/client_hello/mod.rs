//! Owns the parsing of a client's first flight: the bytes received so far give a [`ClientHello`], need more
//! bytes, or are rejected with a reason.
//!
//! Must not know sockets, clocks, routes or what is done with a result; the caller reads, waits
//! and responds.
//!
//! Invariant: a result is final. Whatever bytes follow, and in whatever pieces they arrive, the
//! parser returns the same result and the same name. Bytes that cannot be parsed are an error and
//! never a hello without a name.
//!
//! Only the framing is checked: every length, every limit of a vector that is read, at most one
//! extension of each type. The offer itself (versions, suites, the order of extensions) is left to the
//! backend, which has the better alert.
//!
//! | file | owns |
//! |---|---|
//! | `deframe` | TLS records and the handshake header, and all size limits |
//! | `message` | the ClientHello message |
//! | `extension` | the extensions that are read |
//! | `sslv2` | the hello in SSL 2 format |
//! | `hello` | the parsed hello |
//! | `error` | why bytes are rejected |
//! | `alert` | the alert records for rejections |

mod alert;
mod deframe;
mod error;
mod extension;
mod hello;
mod message;
mod reader;
mod sslv2;
#[cfg(test)]
mod tests;

pub use alert::Alert;
pub use deframe::{ClientHelloParser, MAX_MESSAGE, MAX_WIRE};
pub use error::{MalformedHello, NotTls, TooLarge};
pub use hello::{Alpn, ClientHello, Format, ProtocolVersion, ServerName, SessionId, Versions};

/// The result for the bytes received so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HelloProgress {
    /// The hello is valid so far but not complete.
    NeedMore,
    /// A valid hello.
    Hello(Box<ClientHello>),
    /// No TLS client begins like this.
    NotTls(NotTls),
    /// The bytes begin as TLS but are not a valid ClientHello.
    Malformed(MalformedHello),
    /// A size limit is exceeded.
    TooLarge(TooLarge),
}

/// A rejection, before it becomes a [`HelloProgress`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClientHelloError {
    NotTls(NotTls),
    Malformed(MalformedHello),
    TooLarge(TooLarge),
}

impl From<NotTls> for ClientHelloError {
    fn from(reason: NotTls) -> Self {
        Self::NotTls(reason)
    }
}

impl From<MalformedHello> for ClientHelloError {
    fn from(reason: MalformedHello) -> Self {
        Self::Malformed(reason)
    }
}

impl From<TooLarge> for ClientHelloError {
    fn from(reason: TooLarge) -> Self {
        Self::TooLarge(reason)
    }
}

impl From<ClientHelloError> for HelloProgress {
    fn from(error: ClientHelloError) -> Self {
        match error {
            ClientHelloError::NotTls(reason) => Self::NotTls(reason),
            ClientHelloError::Malformed(reason) => Self::Malformed(reason),
            ClientHelloError::TooLarge(reason) => Self::TooLarge(reason),
        }
    }
}

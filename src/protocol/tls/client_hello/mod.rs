//! Owns the meaning of a TLS client's first flight: from the bytes received so far to a
//! [`ClientHello`], to the wish for more bytes, or to the reason why they are refused.
//!
//! Must not know sockets, clocks, routes or what is done with a verdict; the caller reads, waits
//! and answers.
//!
//! Invariant: a verdict is final. Whatever bytes follow, and in whatever pieces they come, the
//! parser gives the same verdict and the same name. What cannot be parsed is a fault and never a
//! hello without a name.
//!
//! What is judged is framing: every length, every bound of a vector that is read, one extension of
//! a type. What a client may offer (versions, suites, the order of extensions) is the backend's to
//! judge, and its alert is the better answer.
//!
//! | file | owns |
//! |---|---|
//! | `deframe` | TLS records and the handshake header, and every limit on size |
//! | `message` | the ClientHello message |
//! | `extension` | the extensions that are read |
//! | `sslv2` | the hello in the format of SSL 2 |
//! | `hello` | what a hello says, as values |
//! | `error` | why bytes are refused |
//! | `alert` | the alert records that answer a refusal |

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

/// What the bytes received so far come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HelloProgress {
    /// Nothing is wrong so far, and the hello is not whole.
    NeedMore,
    /// A sound hello.
    Hello(Box<ClientHello>),
    /// No TLS client begins like this.
    NotTls(NotTls),
    /// It began as TLS and is not a sound ClientHello.
    Malformed(MalformedHello),
    /// A limit is passed.
    TooLarge(TooLarge),
}

/// A refusal on its way up to [`HelloProgress`].
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
    fn from(fault: ClientHelloError) -> Self {
        match fault {
            ClientHelloError::NotTls(reason) => Self::NotTls(reason),
            ClientHelloError::Malformed(reason) => Self::Malformed(reason),
            ClientHelloError::TooLarge(reason) => Self::TooLarge(reason),
        }
    }
}

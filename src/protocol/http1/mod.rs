//! Owns the parsing of the head of an HTTP/1.x request: the bytes received so far give the [`Host`]
//! of the request, need more bytes, or are rejected with a reason.
//!
//! Must not know sockets, clocks, routes or what is done with a result; the caller reads, waits and
//! responds.
//!
//! Invariant: a result is final. Whatever bytes follow, and in whatever pieces they arrive, the
//! parser returns the same result and the same host. Bytes that cannot be parsed are an error and
//! never a request without a host.
//!
//! Only the parts that two parsers could interpret differently are checked: line ends, the request
//! line, the names of fields and the host. The path, the other fields and the body are left to the
//! backend, which has the better error response.
//!
//! | file | owns |
//! |---|---|
//! | `parser` | lines, the size limit, and which lines name the host |
//! | `request_line` | method, target and version |
//! | `authority` | host and port |
//! | `error` | why bytes are rejected |
//! | `rejection` | the responses to rejected requests |

mod authority;
mod error;
mod parser;
mod rejection;
mod request_line;
#[cfg(test)]
mod tests;

pub use error::{AuthorityError, MalformedHead, NotHttp};
pub use parser::{HttpHeadParser, MAX_HEAD};
pub use rejection::HttpRejection;

use crate::types::host_name::HostName;

/// The result for the bytes received so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HeadProgress {
    /// The head is valid so far but not complete.
    #[default]
    NeedMore,
    /// A valid head.
    Head(HttpHead),
    /// No HTTP/1.x client begins like this.
    NotHttp(NotHttp),
    /// The bytes begin as HTTP but are not a valid head.
    Malformed(MalformedHead),
    /// The head takes more than [`MAX_HEAD`] bytes.
    TooLarge,
}

/// The head of a request, as far as balancing needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpHead {
    /// The host that the request is for.
    pub host: Host,
    /// The method, as far as it decides the form of a response.
    pub method: Method,
    /// Length of the head in the received bytes, including the empty line at its end. The content
    /// follows.
    pub wire_len: usize,
}

/// The host of a request: the authority of its target, else its Host field (RFC 9112 sections 3.2.2
/// and 3.3).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Host {
    /// There is no Host field, or it is empty, which RFC 9112 section 3.2 allows where a target has
    /// no authority.
    #[default]
    Absent,
    /// A host name, normalised, without the port.
    Name(HostName),
    /// An IP address, or characters that RFC 3986 section 3.2.2 allows in a host but no host name has; no route can match it.
    NoHostName,
}

impl Host {
    /// The host of a Host field with this value, as [`HttpHeadParser`] parses it.
    ///
    /// # Errors
    ///
    /// Why a request with it is rejected.
    pub fn of_field(value: &[u8]) -> Result<Self, AuthorityError> {
        match value.trim_ascii() {
            [] => Ok(Self::Absent),
            value => Ok(authority::Authority::parse(value)?.host),
        }
    }
}

/// A method, as far as it decides the form of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// HEAD, whose responses have no content (RFC 9110 section 9.3.2).
    Head,
    /// Any other method, or an unknown one.
    Other,
}

/// A rejection, before it becomes a [`HeadProgress`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HeadError {
    NotHttp(NotHttp),
    Malformed(MalformedHead),
}

impl From<NotHttp> for HeadError {
    fn from(reason: NotHttp) -> Self {
        Self::NotHttp(reason)
    }
}

impl From<MalformedHead> for HeadError {
    fn from(reason: MalformedHead) -> Self {
        Self::Malformed(reason)
    }
}

impl From<HeadError> for HeadProgress {
    fn from(error: HeadError) -> Self {
        match error {
            HeadError::NotHttp(reason) => Self::NotHttp(reason),
            HeadError::Malformed(reason) => Self::Malformed(reason),
        }
    }
}

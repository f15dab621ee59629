//! Owns the meaning of the head of an HTTP/1.x request: from the bytes received so far to the
//! [`Host`] it is for, to the wish for more bytes, or to the reason why they are refused.
//!
//! Must not know sockets, clocks, routes or what is done with a verdict; the caller reads, waits
//! and answers.
//!
//! Invariant: a verdict is final. Whatever bytes follow, and in whatever pieces they come, the
//! parser gives the same verdict and the same host. What cannot be parsed is a fault and never a
//! request without a host.
//!
//! What is judged is what two readers could read in two ways: the ends of lines, the request line,
//! the names of fields and the host. The path, the other fields and the body are the backend's to
//! judge, and its answer is the better one.
//!
//! | file | owns |
//! |---|---|
//! | `parser` | lines, the limit on size, and which of them name the host |
//! | `request_line` | method, target and version |
//! | `authority` | host and port |
//! | `error` | why bytes are refused |
//! | `rejection` | the answers to what is refused |

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

/// What the bytes received so far come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HeadProgress {
    /// Nothing is wrong so far, and the head is not whole.
    #[default]
    NeedMore,
    /// A sound head.
    Head(HttpHead),
    /// No HTTP/1.x client begins like this.
    NotHttp(NotHttp),
    /// It began as HTTP and is not a sound head.
    Malformed(MalformedHead),
    /// The head takes more than [`MAX_HEAD`] bytes.
    TooLarge,
}

/// The head of a request, as far as balancing needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpHead {
    /// The host that the request is for.
    pub host: Host,
    /// The method, as far as it decides the form of an answer.
    pub method: Method,
    /// How many of the bytes received the head took, the empty line at its end included. What
    /// follows is content.
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
    /// A host name, normalised; the port is gone.
    Name(HostName),
    /// An address, or characters that RFC 3986 section 3.2.2 has in a host and no host name has: nothing that could be
    /// configured.
    NoHostName,
}

impl Host {
    /// What a Host field of this value is for, as [`HttpHeadParser`] takes it.
    ///
    /// # Errors
    ///
    /// Why a request with it is refused.
    pub fn of_field(value: &[u8]) -> Result<Self, AuthorityError> {
        match value.trim_ascii() {
            [] => Ok(Self::Absent),
            value => Ok(authority::Authority::parse(value)?.host),
        }
    }
}

/// A method, as far as it decides the form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// HEAD, whose answers have no content (RFC 9110 section 9.3.2).
    Head,
    /// Any other method, or one that is not known.
    Other,
}

/// A refusal on its way up to [`HeadProgress`].
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
    fn from(fault: HeadError) -> Self {
        match fault {
            HeadError::NotHttp(reason) => Self::NotHttp(reason),
            HeadError::Malformed(reason) => Self::Malformed(reason),
        }
    }
}

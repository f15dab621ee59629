//! Owns the reasons why the head of a request is refused.
//!
//! Must not know what the refusal looks like to the client.
//!
//! Invariant: a reason is a small value of a closed set, without a byte that the client sent.

use std::fmt;

use crate::types::host_name::HostNameError;

/// Why bytes are not the beginning of an HTTP/1.x connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NotHttp {
    /// The first byte, or the first one behind a leading empty line, begins no method.
    FirstByte,
    /// The first byte is that of a TLS handshake record (RFC 8446 section 5.1).
    Tls,
    /// A method is followed by something other than a space, or holds a byte that no token has.
    Method,
    /// The preface of HTTP/2 (RFC 9113 section 3.4).
    Http2,
    /// The first line names no version of HTTP; a request of HTTP/0.9 and most other protocols end
    /// here.
    NoVersion,
}

/// Why a head that began as HTTP is not sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MalformedHead {
    /// The request line is not method, target and version with one space between them (RFC 9112
    /// section 3).
    RequestLine,
    /// A version other than `HTTP/1.0` and `HTTP/1.1`.
    Version,
    /// A target in none of the four forms, or in one that its method does not have (RFC 9112
    /// section 3.2).
    Target,
    /// The authority in the target is unsound.
    TargetAuthority(AuthorityError),
    /// The Host field is unsound.
    Host(AuthorityError),
    /// More than one Host field (RFC 9112 section 3.2).
    Hosts,
    /// A line after the request line begins with white space: a folded field (RFC 9112 section
    /// 5.2), or what section 2.2 has refused before the first field.
    Fold,
    /// White space between a field's name and its colon (RFC 9112 section 5.1).
    SpaceBeforeColon,
    /// A field's name that is empty or no token, or a line without a colon.
    FieldName,
    /// NUL or another control byte (RFC 9110 section 5.5).
    ControlByte,
    /// CR without LF after it (RFC 9112 section 2.2).
    BareCr,
    /// LF without CR before it. RFC 9112 section 2.2 lets a recipient take it for the end of a
    /// line; not all do.
    BareLf,
}

/// Why bytes are no host and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuthorityError {
    /// A user or a password before the host (RFC 9110 section 4.2.4).
    UserInfo,
    /// Brackets that do not close, or that hold no IPv6 address.
    Brackets,
    /// A port that is no number from 1 to 65535, or none where there has to be one.
    Port,
    /// A name that is no host name.
    Name(HostNameError),
}

impl fmt::Display for NotHttp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FirstByte => "the first byte does not begin an HTTP request",
            Self::Tls => "the first byte begins a TLS handshake",
            Self::Method => "the first bytes are no HTTP method",
            Self::Http2 => "the connection begins with the preface of HTTP/2",
            Self::NoVersion => "the first line names no HTTP version",
        })
    }
}

impl fmt::Display for MalformedHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RequestLine => "the request line is not method, target and version",
            Self::Version => "the version is neither HTTP/1.0 nor HTTP/1.1",
            Self::Target => "the target has a form that its method does not have",
            Self::TargetAuthority(fault) => return write!(f, "the target is unsound: {fault}"),
            Self::Host(fault) => return write!(f, "the host field is unsound: {fault}"),
            Self::Hosts => "there is more than one host field",
            Self::Fold => "a line begins with white space",
            Self::SpaceBeforeColon => "white space stands before a colon",
            Self::FieldName => "a field has no name or one that is no token",
            Self::ControlByte => "the head has a control byte",
            Self::BareCr => "a CR has no LF after it",
            Self::BareLf => "an LF has no CR before it",
        })
    }
}

impl fmt::Display for AuthorityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UserInfo => f.write_str("a user stands before the host"),
            Self::Brackets => f.write_str("the brackets hold no IPv6 address"),
            Self::Port => f.write_str("the port is no number from 1 to 65535"),
            Self::Name(fault) => fault.fmt(f),
        }
    }
}

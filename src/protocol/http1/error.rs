//! Owns the reasons why the head of a request is rejected.
//!
//! Must not know the response to the client.
//!
//! Invariant: a reason is a value of a closed set and contains no byte that the client sent.

use std::fmt;

use crate::types::host_name::HostNameError;

/// Why bytes are not the beginning of an HTTP/1.x connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NotHttp {
    /// The first byte, or the first one after a leading empty line, cannot begin a method.
    FirstByte,
    /// The first byte is that of a TLS handshake record (RFC 8446 section 5.1).
    Tls,
    /// The method is not followed by a space, or has a byte that no token has.
    Method,
    /// The preface of HTTP/2 (RFC 9113 section 3.4).
    Http2,
    /// The first line has no HTTP version, as in HTTP/0.9 and most other protocols.
    NoVersion,
}

/// Why bytes that begin as HTTP are not a valid head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MalformedHead {
    /// The request line is not method, target and version with one space between them (RFC 9112
    /// section 3).
    RequestLine,
    /// A version other than `HTTP/1.0` and `HTTP/1.1`.
    Version,
    /// A target in none of the four forms, or in one that its method does not allow (RFC 9112
    /// section 3.2).
    Target,
    /// The authority in the target is invalid.
    TargetAuthority(AuthorityError),
    /// The Host field is invalid.
    Host(AuthorityError),
    /// More than one Host field (RFC 9112 section 3.2).
    Hosts,
    /// A line after the request line begins with white space: a folded field (RFC 9112 section
    /// 5.2), or white space before the first field (section 2.2).
    Fold,
    /// White space between a field's name and its colon (RFC 9112 section 5.1).
    SpaceBeforeColon,
    /// A field name that is empty or not a token, or a line without a colon.
    FieldName,
    /// NUL or another control byte (RFC 9110 section 5.5).
    ControlByte,
    /// CR without LF after it (RFC 9112 section 2.2).
    BareCr,
    /// LF without CR before it. RFC 9112 section 2.2 allows a recipient to accept it as a line end;
    /// not all do.
    BareLf,
}

/// Why bytes are not a host with an optional port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuthorityError {
    /// A user or a password before the host (RFC 9110 section 4.2.4).
    UserInfo,
    /// Brackets that are not closed, or do not contain an IPv6 address.
    Brackets,
    /// A port that is not a number from 1 to 65535, or a missing port where one is required.
    Port,
    /// An invalid host name.
    Name(HostNameError),
}

impl fmt::Display for NotHttp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FirstByte => "the first byte does not begin an HTTP request",
            Self::Tls => "the first byte begins a TLS handshake",
            Self::Method => "the first bytes are not an HTTP method",
            Self::Http2 => "the connection begins with the HTTP/2 preface",
            Self::NoVersion => "the first line has no HTTP version",
        })
    }
}

impl fmt::Display for MalformedHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RequestLine => "the request line is not a method, a target and a version",
            Self::Version => "the version is neither HTTP/1.0 nor HTTP/1.1",
            Self::Target => "the target has a form that its method does not allow",
            Self::TargetAuthority(error) => return write!(f, "the target is invalid: {error}"),
            Self::Host(error) => return write!(f, "the Host field is invalid: {error}"),
            Self::Hosts => "there is more than one Host field",
            Self::Fold => "a line begins with white space",
            Self::SpaceBeforeColon => "there is white space before a colon",
            Self::FieldName => "the name of a field is missing or not a token",
            Self::ControlByte => "the head contains a control byte",
            Self::BareCr => "a CR is not followed by LF",
            Self::BareLf => "an LF is not preceded by CR",
        })
    }
}

impl fmt::Display for AuthorityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UserInfo => f.write_str("the host is preceded by user information"),
            Self::Brackets => f.write_str("the brackets do not contain an IPv6 address"),
            Self::Port => f.write_str("the port is not a number from 1 to 65535"),
            Self::Name(error) => error.fmt(f),
        }
    }
}

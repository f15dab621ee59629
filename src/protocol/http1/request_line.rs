//! Owns the request line (RFC 9112 section 3): the version, the four forms of a target, and the
//! host in two of them.
//!
//! Must not know the lines after it, nor how lines are split.
//!
//! Invariant: a target has exactly one form, determined by the method and its first bytes; a host
//! comes only from an authority.

use super::authority::Authority;
use super::{HeadError, Host, MalformedHead, Method, NotHttp};

/// A parsed request line.
#[derive(Debug)]
pub(super) struct RequestLine {
    pub(super) method: Method,
    /// The host in the target; `None` for the forms without one, for which the Host field counts.
    pub(super) host: Option<Host>,
}

impl RequestLine {
    /// Parses a line without its line end. It begins with a method and a space and has no control
    /// byte.
    pub(super) fn parse(line: &[u8]) -> Result<Self, HeadError> {
        // With "HTTP/" anywhere in it this is a malformed request, which gets a response. Without, it
        // is another protocol or HTTP/0.9.
        if !line
            .windows(6)
            .any(|part| part.eq_ignore_ascii_case(b" HTTP/"))
        {
            return Err(NotHttp::NoVersion.into());
        }
        let mut parts = line.split(|&byte| byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(MalformedHead::RequestLine.into());
        };
        if target.is_empty() {
            return Err(MalformedHead::RequestLine.into());
        }
        if !matches!(version, b"HTTP/1.0" | b"HTTP/1.1") {
            return Err(MalformedHead::Version.into());
        }
        Ok(Self {
            host: host_of(method, target)?,
            // Methods are case-sensitive (RFC 9110 section 9.1).
            method: match method {
                b"HEAD" => Method::Head,
                _ => Method::Other,
            },
        })
    }
}

/// The host in a target that has one (RFC 9112 section 3.2).
fn host_of(method: &[u8], target: &[u8]) -> Result<Option<Host>, MalformedHead> {
    match (method, target) {
        // The authority-form, which must have a port (RFC 9112 section 3.2.3).
        (b"CONNECT", authority) => {
            let authority = Authority::parse(authority).map_err(MalformedHead::TargetAuthority)?;
            authority
                .port
                .ok_or(MalformedHead::TargetAuthority(super::AuthorityError::Port))?;
            Ok(Some(authority.host))
        }
        (b"OPTIONS", b"*") | (_, [b'/', ..]) => Ok(None),
        (_, absolute) => {
            let authority = authority_of(absolute).ok_or(MalformedHead::Target)?;
            let authority = Authority::parse(authority).map_err(MalformedHead::TargetAuthority)?;
            Ok(Some(authority.host))
        }
    }
}

/// The authority of a target in absolute-form, of the schemes `http` and `https` (RFC 9110 section
/// 4.2).
fn authority_of(target: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = target.split_at_checked(target.iter().position(|&byte| byte == b':')?)?;
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return None;
    }
    let rest = rest.strip_prefix(b"://")?;
    rest.split(|byte| matches!(byte, b'/' | b'?' | b'#')).next()
}

//! Owns the text of a host with or without a port (RFC 3986 section 3.2, RFC 9112 sections 3.2 and
//! 3.2.3).
//!
//! Must not know where in the head it was.
//!
//! Invariant: accepted text has only one interpretation: no user, no percent-encoding, no IPv6 address
//! without brackets.

use std::net::Ipv6Addr;
use std::num::NonZeroU16;
use std::str::FromStr;

use super::{AuthorityError, Host};
use crate::types::host_name::{HostName, HostNameError};

/// A host that is not absent, and its port.
pub(super) struct Authority {
    pub(super) host: Host,
    /// `None` also for a colon without a port, which RFC 3986 section 3.2.3 allows.
    pub(super) port: Option<NonZeroU16>,
}

impl Authority {
    pub(super) fn parse(text: &[u8]) -> Result<Self, AuthorityError> {
        if text.contains(&b'@') {
            return Err(AuthorityError::UserInfo);
        }
        let (host, rest) = match text.strip_prefix(b"[") {
            Some(inner) => {
                let (address, rest) = split_before(inner, b']');
                let rest = rest.strip_prefix(b"]").ok_or(AuthorityError::Brackets)?;
                (address_of(address)?, rest)
            }
            None => {
                let (name, rest) = split_before(text, b':');
                (host_of(name)?, rest)
            }
        };
        let port = match rest {
            [] => None,
            [b':', digits @ ..] => port_of(digits)?,
            [..] => return Err(AuthorityError::Port),
        };
        Ok(Self { host, port })
    }
}

fn split_before(text: &[u8], byte: u8) -> (&[u8], &[u8]) {
    let len = text.iter().position(|&other| other == byte);
    text.split_at(len.unwrap_or(text.len()))
}

fn host_of(name: &[u8]) -> Result<Host, AuthorityError> {
    match HostName::parse(name) {
        Ok(name) => Ok(Host::Name(name)),
        Err(HostNameError::IpLiteral) => Ok(Host::NoHostName),
        Err(HostNameError::BadCharacter) if name.iter().all(|&byte| is_host_byte(byte)) => {
            match HostName::parse_sent(name) {
                Ok(_) => Ok(Host::NoHostName),
                Err(error) => Err(AuthorityError::Name(error)),
            }
        }
        Err(error) => Err(AuthorityError::Name(error)),
    }
}

/// Whether RFC 3986 section 3.2.2 allows this byte in a host name, except `%`: percent-encoded text has two interpretations.
fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte)
}

/// The text between brackets: an IPv6 address, without a zone, which RFC 9844 removed from
/// addresses in URIs.
fn address_of(text: &[u8]) -> Result<Host, AuthorityError> {
    let address = str::from_utf8(text).ok().map(Ipv6Addr::from_str);
    match address {
        Some(Ok(_)) => Ok(Host::NoHostName),
        Some(Err(_)) | None => Err(AuthorityError::Brackets),
    }
}

fn port_of(digits: &[u8]) -> Result<Option<NonZeroU16>, AuthorityError> {
    if digits.is_empty() {
        return Ok(None);
    }
    // The parser of the standard library accepts a sign too.
    let digits = str::from_utf8(digits)
        .ok()
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let port = digits.and_then(|digits| NonZeroU16::from_str(digits).ok());
    port.map(Some).ok_or(AuthorityError::Port)
}

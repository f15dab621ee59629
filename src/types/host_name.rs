//! Host names, from a ClientHello, an HTTP Host field or the configuration.
//!
//! Owns what a host name is. Must not know where a name came from, nor routes and their wildcards. Invariant: a [`HostName`] is
//! in the form in which names are compared: 1 to 253 bytes, labels of 1 to 63 bytes of `a-z`, `0-9`, `-` and `_`, no trailing
//! dot, and not an IP address.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Maximum length of a name as text, without the trailing dot (RFC 1035 section 2.3.4: 255 octets on the wire, two of which,
/// the first length octet and the one of the root, are not text).
const MAX_NAME: usize = 253;

/// Maximum length of a label (RFC 1035 section 2.3.4).
const MAX_LABEL: usize = 63;

/// A host name, normalised: lower case, ASCII, without the trailing dot.
///
/// ```
/// use lyncpin::types::host_name::HostName;
///
/// let name = HostName::parse(b"Meet.Contoso.COM.")?;
/// assert_eq!(name.as_str(), "meet.contoso.com");
/// # Ok::<(), lyncpin::types::host_name::HostNameError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(Box<str>);

/// Why bytes are not a host name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HostNameError {
    /// There are no bytes.
    Empty,
    /// More than 253 bytes.
    TooLong,
    /// Two dots in a row, a leading dot, or more than one trailing dot.
    EmptyLabel,
    /// A label of more than 63 bytes.
    LabelTooLong,
    /// NUL, another control byte or DEL. Some TLS stacks end a name at NUL, so it must never reach a comparison.
    ControlByte,
    /// A byte above 0x7f: internationalised names are sent as A-labels (RFC 6066 section 3).
    NonAscii,
    /// Another character that is not allowed in host names, such as a space or a slash.
    BadCharacter,
    /// An IP address, which RFC 6066 section 3 does not permit as a name.
    IpLiteral,
}

impl HostName {
    /// Checks and normalises a name.
    ///
    /// Underscores are allowed, because Windows networks have such hosts. One trailing dot (the root of an absolute name) is
    /// removed.
    ///
    /// # Errors
    ///
    /// The first error found, see [`HostNameError`]; an address is [`HostNameError::IpLiteral`].
    pub fn parse(bytes: &[u8]) -> Result<Self, HostNameError> {
        let name = without_trailing_dot(bytes);
        if name.is_empty() {
            return Err(if bytes.is_empty() {
                HostNameError::Empty
            } else {
                HostNameError::EmptyLabel
            });
        }
        if name.len() > MAX_NAME {
            return Err(HostNameError::TooLong);
        }
        let mut folded = [0; MAX_NAME];
        let mut label = 0;
        for (target, &byte) in folded.iter_mut().zip(name) {
            label = match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' if label < MAX_LABEL => {
                    label + 1
                }
                b'.' if label > 0 => 0,
                other => return Err(error_at(other, name)),
            };
            *target = byte.to_ascii_lowercase();
        }
        if label == 0 {
            return Err(HostNameError::EmptyLabel);
        }
        if is_ip_literal(name) {
            return Err(HostNameError::IpLiteral);
        }
        // Cannot fail: every byte is ASCII.
        let text = str::from_utf8(&folded[..name.len()]).map_err(|_| HostNameError::NonAscii)?;
        Ok(Self(text.into()))
    }

    /// Parses a name as clients send it: like [`HostName::parse`], but a `:port` after the name is ignored.
    ///
    /// `None` is a valid name that cannot be in a route: an address, or a name with characters that are not allowed in host
    /// names.
    ///
    /// ```
    /// use lyncpin::types::host_name::HostName;
    ///
    /// let name = HostName::parse_sent(b"meet.contoso.com:443")?;
    /// assert_eq!(name, Some(HostName::parse(b"meet.contoso.com")?));
    /// assert_eq!(HostName::parse_sent(b"192.0.2.1")?, None);
    /// # Ok::<(), lyncpin::types::host_name::HostNameError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When a client must not send it: an empty or too long name or label, or a control byte.
    pub fn parse_sent(bytes: &[u8]) -> Result<Option<Self>, HostNameError> {
        let name = without_port(bytes);
        match Self::parse(name) {
            Ok(name) => Ok(Some(name)),
            Err(HostNameError::BadCharacter | HostNameError::NonAscii) => {
                check_labels(name).map(|()| None)
            }
            Err(HostNameError::IpLiteral) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether the bytes are an IPv4 or IPv6 address as text, the latter with or without brackets or a zone, and either with or
/// without a trailing dot.
pub fn is_ip_literal(bytes: &[u8]) -> bool {
    let bytes = without_trailing_dot(bytes);
    let Ok(text) = str::from_utf8(bytes) else {
        return false;
    };
    // Few names end in a digit, so for most names this compares one byte.
    if text.ends_with(|last: char| last.is_ascii_digit()) && Ipv4Addr::from_str(text).is_ok() {
        return true;
    }
    if !bytes.contains(&b':') {
        return false;
    }
    let inner = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    let address = inner
        .split_once('%')
        .map_or(inner, |(address, _zone)| address);
    Ipv6Addr::from_str(address).is_ok()
}

/// The name before a `:port`, or everything if what follows the only colon cannot be a port. An IPv6 address in brackets may
/// have a port, too.
fn without_port(bytes: &[u8]) -> &[u8] {
    let Some(colon) = bytes.iter().rposition(|&byte| byte == b':') else {
        return bytes;
    };
    let (name, port) = (&bytes[..colon], &bytes[colon + 1..]);
    let is_port = port.is_empty()
        || port.iter().all(u8::is_ascii_digit)
            && str::from_utf8(port).is_ok_and(|port| port.parse::<u16>().is_ok());
    let is_only_colon = !name.contains(&b':') || name.starts_with(b"[") && name.ends_with(b"]");
    if is_port && is_only_colon {
        name
    } else {
        bytes
    }
}

/// Checks the labels of a name with any characters. Its length has been checked.
fn check_labels(name: &[u8]) -> Result<(), HostNameError> {
    if name.iter().any(|byte| matches!(byte, 0..0x20 | 0x7f)) {
        return Err(HostNameError::ControlByte);
    }
    if is_ip_literal(name) {
        return Ok(());
    }
    for label in without_trailing_dot(name).split(|&byte| byte == b'.') {
        match label.len() {
            0 => return Err(HostNameError::EmptyLabel),
            1..=MAX_LABEL => {}
            _ => return Err(HostNameError::LabelTooLong),
        }
    }
    Ok(())
}

fn without_trailing_dot(bytes: &[u8]) -> &[u8] {
    bytes.strip_suffix(b".").unwrap_or(bytes)
}

/// The error for the first byte of `name` that is not allowed.
fn error_at(byte: u8, name: &[u8]) -> HostNameError {
    match byte {
        0..0x20 | 0x7f => HostNameError::ControlByte,
        0x80.. => HostNameError::NonAscii,
        b'.' => HostNameError::EmptyLabel,
        b':' | b'[' if is_ip_literal(name) => HostNameError::IpLiteral,
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => HostNameError::LabelTooLong,
        _ => HostNameError::BadCharacter,
    }
}

impl FromStr for HostName {
    type Err = HostNameError;

    fn from_str(text: &str) -> Result<Self, HostNameError> {
        Self::parse(text.as_bytes())
    }
}

impl AsRef<str> for HostName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// For lookups with `&str` in maps keyed by names: equality, order and hash are those of the text.
impl std::borrow::Borrow<str> for HostName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostName({})", self.0)
    }
}

impl fmt::Display for HostNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the name is empty",
            Self::TooLong => "the name is longer than 253 bytes",
            Self::EmptyLabel => "the name has an empty label",
            Self::LabelTooLong => "the name has a label longer than 63 bytes",
            Self::ControlByte => "the name has a control byte",
            Self::NonAscii => "the name has a byte that is not ASCII",
            Self::BadCharacter => "the name has a character that no host name has",
            Self::IpLiteral => "the name is an IP address",
        })
    }
}

impl std::error::Error for HostNameError {}

#[cfg(test)]
mod tests;

//! Owns what a host name is: the one type for names out of a ClientHello, an HTTP Host field and
//! the configuration.
//!
//! Must not know where a name came from, or what is routed by it; wildcards are the business of the
//! routes.
//!
//! Invariant: a [`HostName`] is in the one form in which names are compared: 1 to 253 bytes, labels
//! of 1 to 63 bytes out of `a-z`, `0-9`, `-` and `_`, no trailing dot, and not the text of an IP
//! address.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Longest name in text form, without the trailing dot (RFC 1035 section 2.3.4: 255 octets on the
/// wire, of which the first length octet and the root's are not text).
const MAX_NAME: usize = 253;

/// Longest label (RFC 1035 section 2.3.4).
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
    /// No byte at all.
    Empty,
    /// More than 253 bytes.
    TooLong,
    /// Two dots in a row, a leading dot, or more than one trailing dot.
    EmptyLabel,
    /// A label of more than 63 bytes.
    LabelTooLong,
    /// NUL, another control byte or DEL. Some stacks end a name at NUL, so it must never reach a
    /// comparison.
    ControlByte,
    /// A byte past 0x7f: internationalised names travel as A-labels (RFC 6066 section 3).
    NonAscii,
    /// Another character that no host name has, a space or a slash for instance.
    BadCharacter,
    /// The text of an IP address, which RFC 6066 section 3 does not permit as a name.
    IpLiteral,
}

impl HostName {
    /// Checks and normalises a name.
    ///
    /// Underscores are let through, because Windows networks have such hosts. One trailing dot (the
    /// root of an absolute name) is removed.
    ///
    /// # Errors
    ///
    /// The first fault found, see [`HostNameError`]; an address gives [`HostNameError::IpLiteral`].
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
        for (place, &byte) in folded.iter_mut().zip(name) {
            label = match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' if label < MAX_LABEL => {
                    label + 1
                }
                b'.' if label > 0 => 0,
                refused => return Err(fault_of(refused, name)),
            };
            *place = byte.to_ascii_lowercase();
        }
        if label == 0 {
            return Err(HostNameError::EmptyLabel);
        }
        if is_ip_literal(name) {
            return Err(HostNameError::IpLiteral);
        }
        // Cannot fail, as every byte was found to be ASCII above; the fault is what it would mean.
        let text = str::from_utf8(&folded[..name.len()]).map_err(|_| HostNameError::NonAscii)?;
        Ok(Self(text.into()))
    }

    /// Reads a name as clients send it: [`HostName::parse`], and a `:port` behind the name does not count.
    ///
    /// `None` is what no route can name, and is sound all the same: the text of an address, or characters that no host
    /// name has.
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
    /// What no client may send: an empty or over-long name or label, or a control byte.
    pub fn parse_sent(bytes: &[u8]) -> Result<Option<Self>, HostNameError> {
        let name = without_port(bytes);
        match Self::parse(name) {
            Ok(name) => Ok(Some(name)),
            Err(HostNameError::BadCharacter | HostNameError::NonAscii) => {
                check_labels(name).map(|()| None)
            }
            Err(HostNameError::IpLiteral) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether the bytes are the text of an IPv4 or IPv6 address, the latter with or without brackets
/// or a zone, and either with or without a trailing dot.
pub fn is_ip_literal(bytes: &[u8]) -> bool {
    let bytes = without_trailing_dot(bytes);
    let Ok(text) = str::from_utf8(bytes) else {
        return false;
    };
    // Few names end in a digit, so that most cost no more than a look at their last byte.
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

/// The name before a `:port`, or all of it where nothing that could be a port follows one colon. An IPv6 address in
/// brackets may have one, too.
fn without_port(bytes: &[u8]) -> &[u8] {
    let Some(colon) = bytes.iter().rposition(|&byte| byte == b':') else {
        return bytes;
    };
    let (name, port) = (&bytes[..colon], &bytes[colon + 1..]);
    let is_port = port.is_empty()
        || port.iter().all(u8::is_ascii_digit)
            && str::from_utf8(port).is_ok_and(|port| port.parse::<u16>().is_ok());
    let is_alone = !name.contains(&b':') || name.starts_with(b"[") && name.ends_with(b"]");
    if is_port && is_alone { name } else { bytes }
}

/// The faults of a name whatever its characters are. Its length is that of a name.
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

/// Names the fault of a byte that ended the walk through `name`.
fn fault_of(byte: u8, name: &[u8]) -> HostNameError {
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

/// Lets a map keyed by names be asked with a `&str`: equality, order and hash are those of the
/// text.
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
mod tests {
    use super::*;

    #[track_caller]
    fn check(input: &[u8], expected: Result<&str, HostNameError>) {
        let parsed = HostName::parse(input);
        assert_eq!(
            parsed.as_ref().map(HostName::as_str),
            expected.as_ref().map(|name| *name),
            "{}",
            input.escape_ascii()
        );
    }

    #[test]
    fn names_are_folded_and_lose_one_trailing_dot() {
        check(b"contoso.com", Ok("contoso.com"));
        check(b"LyncWeb.Contoso.COM.", Ok("lyncweb.contoso.com"));
        check(b"fe_01.contoso.local", Ok("fe_01.contoso.local"));
        check(
            b"xn--bcher-kva.contoso.com",
            Ok("xn--bcher-kva.contoso.com"),
        );
        check(b"localhost", Ok("localhost"));
        check(b"-a-.b", Ok("-a-.b"));
    }

    #[test]
    fn empty_names_and_labels_are_faults() {
        check(b"", Err(HostNameError::Empty));
        check(b".", Err(HostNameError::EmptyLabel));
        check(b"..", Err(HostNameError::EmptyLabel));
        check(b".contoso.com", Err(HostNameError::EmptyLabel));
        check(b"meet..contoso.com", Err(HostNameError::EmptyLabel));
        check(b"contoso.com..", Err(HostNameError::EmptyLabel));
    }

    #[test]
    fn lengths_are_bounded_to_the_byte() {
        let label = "a".repeat(63);
        check(label.as_bytes(), Ok(&label));
        check("a".repeat(64).as_bytes(), Err(HostNameError::LabelTooLong));
        check(
            format!("b.{}.c", "a".repeat(64)).as_bytes(),
            Err(HostNameError::LabelTooLong),
        );

        let longest = format!("{label}.{label}.{label}.{}", "b".repeat(61));
        assert_eq!(longest.len(), 253);
        check(longest.as_bytes(), Ok(&longest));
        check(format!("{longest}.").as_bytes(), Ok(&longest));
        check(
            format!("{longest}b").as_bytes(),
            Err(HostNameError::TooLong),
        );
        check(
            format!("{longest}..").as_bytes(),
            Err(HostNameError::TooLong),
        );
    }

    #[test]
    fn bytes_outside_a_host_name_are_faults() {
        check(
            b"contoso.com\0.fabrikam.com",
            Err(HostNameError::ControlByte),
        );
        check(b"contoso.com\r\n", Err(HostNameError::ControlByte));
        check(b"contoso\x7f.com", Err(HostNameError::ControlByte));
        check(
            "b\u{fc}cher.contoso.com".as_bytes(),
            Err(HostNameError::NonAscii),
        );
        check(b"*.contoso.com", Err(HostNameError::BadCharacter));
        check(b"contoso.com:443", Err(HostNameError::BadCharacter));
        check(b"contoso.com/", Err(HostNameError::BadCharacter));
        check(b" contoso.com", Err(HostNameError::BadCharacter));
    }

    #[test]
    fn addresses_are_no_names() {
        for address in [
            "192.0.2.1",
            "192.0.2.1.",
            "::1",
            "[::1]",
            "2001:DB8::1",
            "::ffff:192.0.2.1",
            "fe80::1%eth0",
            "[fe80::1%251]",
            "::",
        ] {
            assert!(is_ip_literal(address.as_bytes()), "{address}");
            check(address.as_bytes(), Err(HostNameError::IpLiteral));
        }
        for name in [
            "1.2.3",
            "192.0.2.256",
            "abc",
            "beef.contoso.com",
            "[192.0.2.1]",
            "a:b",
            "[::1",
            "",
            ".",
        ] {
            assert!(!is_ip_literal(name.as_bytes()), "{name}");
        }
    }

    #[track_caller]
    fn check_sent(input: &[u8], expected: Result<Option<&str>, HostNameError>) {
        let parsed = HostName::parse_sent(input);
        let parsed = parsed
            .as_ref()
            .map(|name| name.as_ref().map(HostName::as_str));
        assert_eq!(
            parsed,
            expected.as_ref().map(|name| *name),
            "{}",
            input.escape_ascii()
        );
    }

    #[test]
    fn a_port_behind_a_sent_name_does_not_count() {
        for sent in [
            "a.test",
            "a.test.",
            "A.TEST:443",
            "a.test:",
            "a.test.:8443",
            "a.test:0",
            "a.test:00443",
            "a.test:65535",
        ] {
            check_sent(sent.as_bytes(), Ok(Some("a.test")));
        }
        check_sent(b"fe_01:443", Ok(Some("fe_01")));
        let longest = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(61));
        check_sent(format!("{longest}:443").as_bytes(), Ok(Some(&longest)));
    }

    #[test]
    fn what_no_route_can_name_is_no_fault() {
        for sent in [
            "192.0.2.1",
            "192.0.2.1:443",
            "2001:db8::1",
            "[2001:db8::1]",
            "[2001:db8::1]:443",
            "[::1]:",
            "::",
            "*.a.test",
            "a.test:65536",
            "a.test:https",
            "a.test:+1",
            "a.test:443:443",
            "a.test::443",
            "a b.test",
            "a.test/",
            "https://a.test",
            "a.test:443/path",
            "b\u{fc}cher.test",
            "user@a.test",
        ] {
            check_sent(sent.as_bytes(), Ok(None));
        }
        check_sent(b"\xff.test", Ok(None));
    }

    #[test]
    fn what_no_client_may_send_is_a_fault_with_a_port_too() {
        let label = "a".repeat(64);
        for port in ["", ":443", ":", ":x"] {
            for (name, fault) in [
                ("a.test\0", HostNameError::ControlByte),
                ("a\u{7f}.test", HostNameError::ControlByte),
                ("a..test", HostNameError::EmptyLabel),
                (".test", HostNameError::EmptyLabel),
                ("a*b..test", HostNameError::EmptyLabel),
                ("*.\n", HostNameError::ControlByte),
                (&format!("{label}.test"), HostNameError::LabelTooLong),
                (&format!("*.{label}.test"), HostNameError::LabelTooLong),
                (&"a.".repeat(200), HostNameError::TooLong),
            ] {
                check_sent(format!("{name}{port}").as_bytes(), Err(fault));
            }
        }
        check_sent(b"", Err(HostNameError::Empty));
        check_sent(b":443", Err(HostNameError::Empty));
        check_sent(b":", Err(HostNameError::Empty));
        check_sent(b".:443", Err(HostNameError::EmptyLabel));
    }

    #[test]
    fn a_map_of_names_is_asked_with_text() {
        let names = std::collections::HashSet::from([HostName::parse(b"Contoso.com").unwrap()]);
        assert!(names.contains("contoso.com"));
    }
}

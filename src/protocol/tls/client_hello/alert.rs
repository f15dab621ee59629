//! Owns the alert records for rejected hellos.
//!
//! Must not know the configured response to a rejection, nor how it is sent.
//!
//! Invariant: an alert is one complete record in a version that the client can read.

use super::{ClientHello, ProtocolVersion};

/// Content type of alert records (RFC 8446 section 5.1).
const ALERT: u8 = 21;
/// Alert level (RFC 8446 section 6).
const FATAL: u8 = 2;

/// A fatal alert (RFC 8446 section 6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Alert {
    /// A record or a hello over the limits.
    RecordOverflow = 22,
    /// Nothing in the offer is served; for clients before TLS 1.3.
    HandshakeFailure = 40,
    /// A hello that cannot be parsed.
    DecodeError = 50,
    /// A hello without the required server name extension (RFC 8446 section 9.2).
    MissingExtension = 109,
    /// A name that is not served (RFC 6066 section 3).
    UnrecognizedName = 112,
}

impl Alert {
    /// The alert for a valid hello without a name if `no_name` is `refuse`. `missing_extension` is for
    /// clients that offer TLS 1.3; older ones do not know it.
    pub fn for_missing_name(hello: &ClientHello) -> Self {
        if hello.versions.offers_tls13() {
            Self::MissingExtension
        } else {
            Self::HandshakeFailure
        }
    }

    /// The record for a client that sent `received`; `None` for a client that sent no TLS record and
    /// would not understand it, including SSL 2 hellos.
    pub fn record(self, received: &[u8]) -> Option<[u8; 7]> {
        let [major, minor] = record_version(received)?.0.to_be_bytes();
        Some([ALERT, major, minor, 0, 2, FATAL, self as u8])
    }
}

/// The version for a record to this client.
///
/// TLS 1.3 ignores it (RFC 8446 section 5.1), but older clients may reject a version above their own. So
/// it is the version of the hello if that has arrived (RFC 5246 appendix E.1), else the one of its
/// record, limited to SSL 3 to TLS 1.2, which is what TLS 1.3 uses too.
fn record_version(received: &[u8]) -> Option<ProtocolVersion> {
    let &[22, 3, record_minor, ..] = received else {
        return None;
    };
    let version = match *received {
        // A first record with the handshake header and the version of a ClientHello.
        [_, _, _, high, low, 1, _, _, _, major, minor, ..]
            if u16::from_be_bytes([high, low]) >= 6 =>
        {
            u16::from_be_bytes([major, minor])
        }
        _ => 0x0300 | u16::from(record_minor),
    };
    Some(ProtocolVersion(version).clamp(ProtocolVersion::SSL3, ProtocolVersion::TLS1_2))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record header, a handshake header and a client version.
    fn flight(record: u16, client: u16) -> Vec<u8> {
        let ([a, b], [c, d]) = (record.to_be_bytes(), client.to_be_bytes());
        vec![22, a, b, 0, 200, 1, 0, 0, 196, c, d]
    }

    #[track_caller]
    fn check(received: &[u8], version: [u8; 2]) {
        let [major, minor] = version;
        assert_eq!(
            Alert::UnrecognizedName.record(received),
            Some([21, major, minor, 0, 2, 2, 112])
        );
    }

    #[test]
    fn an_alert_has_the_version_of_the_hello() {
        check(&flight(0x0301, 0x0303), [3, 3]);
        check(&flight(0x0301, 0x0302), [3, 2]);
        check(&flight(0x0301, 0x0301), [3, 1]);
        check(&flight(0x0300, 0x0300), [3, 0]);
    }

    #[test]
    fn an_alert_never_has_an_unknown_version() {
        check(&flight(0x0301, 0x1234), [3, 3]);
        check(&flight(0x0301, 0x0000), [3, 0]);
        check(&[22, 3, 0xff], [3, 3]);
    }

    #[test]
    fn an_alert_has_the_version_of_the_record_until_the_version_of_the_hello_arrives() {
        check(&flight(0x0301, 0x0303)[..10], [3, 1]);
        check(&[22, 3, 1, 0, 1, 1, 22, 3, 1, 0, 1, 0], [3, 1]);
    }

    #[test]
    fn bytes_that_are_not_a_tls_record_get_no_alert() {
        for received in [
            &b""[..],
            b"\x16",
            b"\x16\x03",
            b"GET / HTTP/1.1",
            &[0x80, 0x2e, 1, 0, 2],
            &[22, 2, 0],
        ] {
            assert_eq!(Alert::DecodeError.record(received), None);
        }
    }

    #[test]
    fn codes_are_those_of_the_registry() {
        let code = |alert: Alert| alert.record(&[22, 3, 1]).map(|record| record[6]);
        assert_eq!(code(Alert::RecordOverflow), Some(22));
        assert_eq!(code(Alert::HandshakeFailure), Some(40));
        assert_eq!(code(Alert::DecodeError), Some(50));
        assert_eq!(code(Alert::MissingExtension), Some(109));
        assert_eq!(code(Alert::UnrecognizedName), Some(112));
    }
}

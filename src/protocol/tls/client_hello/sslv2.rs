//! Owns the ClientHello in SSL 2 format, which old clients send because every server understands it (RFC
//! 5246 appendix E.2).
//!
//! Must not know TLS records. The format has no extensions, and so no name.
//!
//! Invariant: the format has no signature beyond one bit and a type, so the bytes count as such a hello
//! only if every field is consistent. Otherwise they are "not TLS" rather than malformed; neither gets
//! an alert.

use super::reader::FieldReader;
use super::{Alpn, ClientHello, Format, NotTls, ProtocolVersion, ServerName, SessionId, Versions};

/// Message type of a ClientHello.
const CLIENT_HELLO: u8 = 1;
/// Length of the fields before the suites, without the record header.
const FIXED: usize = 9;
/// Shortest such hello: one suite of three bytes and a challenge of 16.
const MIN_LEN: usize = FIXED + 3 + 16;

/// Whether a flight that begins with this byte may be such a hello: the highest bit is set in a record
/// header of two bytes. A header of three bytes is for padding, which an unencrypted record does not
/// have.
pub(super) fn begins(first: u8) -> bool {
    first & 0x80 != 0
}

/// Parses the hello received so far; each field is checked as soon as it is complete.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<ClientHello>, NotTls> {
    let mut reader = FieldReader(bytes);
    let Some(header) = reader.u16() else {
        return Ok(None);
    };
    let len = usize::from(header & 0x7fff);
    if len < MIN_LEN {
        return Err(NotTls::Sslv2);
    }
    let Some(kind) = reader.u8() else {
        return Ok(None);
    };
    if kind != CLIENT_HELLO {
        return Err(NotTls::Sslv2);
    }
    let Some(version) = version(&mut reader)? else {
        return Ok(None);
    };
    let Some(lengths) = Lengths::read(&mut reader) else {
        return Ok(None);
    };
    if !lengths.fit(len) {
        return Err(NotTls::Sslv2);
    }
    let Some(body) = reader.take(len - FIXED) else {
        return Ok(None);
    };
    let session_id = SessionId::new(&body[lengths.suites..lengths.suites + lengths.session_id])
        .ok_or(NotTls::Sslv2)?;
    Ok(Some(ClientHello {
        server_name: ServerName::Absent,
        alpn: Alpn::default(),
        session_id,
        ticket: None,
        early_data: false,
        versions: Versions {
            highest: version.min(ProtocolVersion::TLS1_2),
        },
        record_version: ProtocolVersion::SSL2,
        format: Format::Sslv2,
        ech: false,
        wire_len: 2 + len,
    }))
}

/// The lengths of the fields after the version.
struct Lengths {
    suites: usize,
    session_id: usize,
    challenge: usize,
}

impl Lengths {
    fn read(reader: &mut FieldReader<'_>) -> Option<Self> {
        Some(Self {
            suites: reader.u16()?.into(),
            session_id: reader.u16()?.into(),
            challenge: reader.u16()?.into(),
        })
    }

    /// Whether they are allowed and add up to a record of `len` bytes.
    fn fit(&self, len: usize) -> bool {
        self.suites > 0
            && self.suites.is_multiple_of(3)
            && matches!(self.session_id, 0 | 16)
            && (16..=32).contains(&self.challenge)
            && FIXED + self.suites + self.session_id + self.challenge == len
    }
}

/// The version, SSL 2 or any later one; the first byte is checked before the second arrives.
fn version(reader: &mut FieldReader<'_>) -> Result<Option<ProtocolVersion>, NotTls> {
    match (reader.u8(), reader.u8()) {
        (None, _) | (Some(0 | 3), None) => Ok(None),
        (Some(0), Some(2)) => Ok(Some(ProtocolVersion::SSL2)),
        (Some(3), Some(minor)) => Ok(Some(ProtocolVersion(0x0300 | u16::from(minor)))),
        _ => Err(NotTls::Sslv2),
    }
}

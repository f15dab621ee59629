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
    let (Some(suites), Some(session_id), Some(challenge)) =
        (reader.u16(), reader.u16(), reader.u16())
    else {
        return Ok(None);
    };
    let (suites, session_id, challenge) = (
        usize::from(suites),
        usize::from(session_id),
        usize::from(challenge),
    );
    let fits = suites > 0
        && suites % 3 == 0
        && matches!(session_id, 0 | 16)
        && (16..=32).contains(&challenge)
        && FIXED + suites + session_id + challenge == len;
    if !fits {
        return Err(NotTls::Sslv2);
    }
    let Some(body) = reader.take(len - FIXED) else {
        return Ok(None);
    };
    let session_id = SessionId::new(&body[suites..suites + session_id]).ok_or(NotTls::Sslv2)?;
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

/// The version, SSL 2 or any later one; the first byte is checked before the second arrives.
fn version(reader: &mut FieldReader<'_>) -> Result<Option<ProtocolVersion>, NotTls> {
    match (reader.u8(), reader.u8()) {
        (None, _) | (Some(0 | 3), None) => Ok(None),
        (Some(0), Some(2)) => Ok(Some(ProtocolVersion::SSL2)),
        (Some(3), Some(minor)) => Ok(Some(ProtocolVersion(0x0300 | u16::from(minor)))),
        _ => Err(NotTls::Sslv2),
    }
}

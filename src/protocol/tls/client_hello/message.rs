//! Owns the ClientHello message after its handshake header (RFC 8446 section 4.1.2, RFC 5246
//! section 7.4.1.2).
//!
//! Must not know records, nor the contents of extensions.
//!
//! Invariant: every byte of the message belongs to one of its fields, or the message is rejected.

use super::extension::Extensions;
use super::reader::FieldReader;
use super::{ClientHello, Format, MalformedHello, ProtocolVersion, SessionId};

/// Parses a complete message with this body; `wire_len` is its length on the wire.
pub(super) fn parse(
    body: &[u8],
    record_version: ProtocolVersion,
    wire_len: usize,
) -> Result<ClientHello, MalformedHello> {
    let mut reader = FieldReader(body);
    let legacy_version = ProtocolVersion(reader.u16().ok_or(MalformedHello::TooShort)?);
    // Later major versions are negotiated down (RFC 5246 appendix E.1); earlier ones never used TLS
    // records.
    if legacy_version < ProtocolVersion::SSL3 {
        return Err(MalformedHello::Version);
    }
    let _random = reader.take(32).ok_or(MalformedHello::TooShort)?;
    let session_id = reader
        .vec8()
        .and_then(SessionId::new)
        .ok_or(MalformedHello::SessionId)?;
    let suites = reader.vec16().ok_or(MalformedHello::CipherSuites)?;
    if suites.is_empty() || suites.len() % 2 != 0 {
        return Err(MalformedHello::CipherSuites);
    }
    let compression = reader.vec8().ok_or(MalformedHello::CompressionMethods)?;
    if compression.is_empty() {
        return Err(MalformedHello::CompressionMethods);
    }
    // A hello may end here (RFC 5246 section 7.4.1.2), as those of SSL 3 and old TLS 1.0 clients do.
    let extensions = if reader.is_empty() {
        Extensions::default()
    } else {
        let block = reader.vec16().ok_or(MalformedHello::ExtensionLength)?;
        if !reader.is_empty() {
            return Err(MalformedHello::TrailingBytes);
        }
        Extensions::parse(block)?
    };
    Ok(ClientHello {
        versions: extensions.versions(legacy_version),
        server_name: extensions.server_name,
        alpn: extensions.alpn,
        session_id,
        ticket: extensions.ticket,
        early_data: extensions.early_data,
        record_version,
        format: Format::Tls,
        ech: extensions.ech,
        wire_len,
    })
}

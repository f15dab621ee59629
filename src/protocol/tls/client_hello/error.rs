//! Owns the reasons why a client's first flight is rejected.
//!
//! Must not know the response to the client.
//!
//! Invariant: a reason is a value of a closed set and contains no byte that the client sent.

use std::fmt;

use crate::types::host_name::HostNameError;

/// Why bytes are not the beginning of a TLS connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NotTls {
    /// The first byte begins neither a handshake record nor an SSL 2 record.
    FirstByte,
    /// The first record does not have a version since SSL 3.
    RecordVersion,
    /// It began like a hello in SSL 2 format, but its fields are inconsistent.
    Sslv2,
}

/// Why a first flight that begins as TLS is not a valid ClientHello.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MalformedHello {
    /// A record of another type before the hello was complete.
    RecordType,
    /// A later record does not have a version since SSL 3.
    RecordVersion,
    /// An empty record (RFC 8446 section 5.1).
    EmptyRecord,
    /// A handshake message other than a ClientHello.
    HandshakeType,
    /// The message is shorter than its fixed fields.
    TooShort,
    /// A version before SSL 3.
    Version,
    /// A session id that is truncated or has more than 32 bytes.
    SessionId,
    /// Cipher suites that are truncated, empty or an odd number of bytes.
    CipherSuites,
    /// Compression methods that are truncated or empty.
    CompressionMethods,
    /// The lengths of the extensions do not add up.
    ExtensionLength,
    /// Bytes after the extensions.
    TrailingBytes,
    /// Two extensions of one type (RFC 8446 section 4.2).
    DuplicateExtension,
    /// The lengths in the server name extension do not add up.
    ServerNameLength,
    /// A server name extension without an entry.
    ServerNameListEmpty,
    /// A server name of a type other than host name.
    ServerNameType,
    /// More than one server name.
    ServerNames,
    /// An invalid host name.
    ServerName(HostNameError),
    /// An ALPN extension whose lengths do not add up, or with an empty name or no name.
    Alpn,
    /// A supported versions extension whose lengths do not add up or that is empty.
    SupportedVersions,
}

/// Which limit a first flight exceeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TooLarge {
    /// A record of more than 2^14 bytes (RFC 8446 section 5.1).
    Record,
    /// A ClientHello of more than [`MAX_MESSAGE`](super::MAX_MESSAGE) bytes.
    Message,
    /// A ClientHello that takes more than [`MAX_WIRE`](super::MAX_WIRE) bytes with its record
    /// headers.
    Wire,
}

impl fmt::Display for NotTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FirstByte => "the first byte does not begin a TLS handshake",
            Self::RecordVersion => "the first record has no TLS version",
            Self::Sslv2 => "the first record is neither TLS nor an SSL 2 hello",
        })
    }
}

impl fmt::Display for MalformedHello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RecordType => "a record of another type comes before the hello is complete",
            Self::RecordVersion => "a later record has no TLS version",
            Self::EmptyRecord => "a record is empty",
            Self::HandshakeType => "the first handshake message is not a client hello",
            Self::TooShort => "the hello is too short",
            Self::Version => "the hello has a version before SSL 3",
            Self::SessionId => "the session id is truncated or too long",
            Self::CipherSuites => "the cipher suites are truncated, odd or empty",
            Self::CompressionMethods => "the compression methods are truncated or empty",
            Self::ExtensionLength => "the lengths of the extensions do not add up",
            Self::TrailingBytes => "bytes follow the extensions",
            Self::DuplicateExtension => "an extension comes twice",
            Self::ServerNameLength => "the lengths of the server name do not add up",
            Self::ServerNameListEmpty => "the list of server names is empty",
            Self::ServerNameType => "the server name is of an unknown type",
            Self::ServerNames => "there is more than one server name",
            Self::ServerName(error) => {
                return write!(f, "the server name is not a host name: {error}");
            }
            Self::Alpn => "the ALPN extension is malformed",
            Self::SupportedVersions => "the supported versions extension is malformed",
        })
    }
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Record => "a record is longer than 16384 bytes",
            Self::Message => "the hello is longer than 65536 bytes",
            Self::Wire => "the hello takes more than 131072 bytes on the wire",
        })
    }
}

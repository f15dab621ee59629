//! Owns the parsed ClientHello.
//!
//! Must not know how the bytes were framed or parsed.
//!
//! Invariant: a [`ClientHello`] owns its contents and outlives the bytes that it was read from.

use std::fmt;

use crate::types::host_name::HostName;

/// A client's first message, as far as balancing needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientHello {
    /// The requested server name (RFC 6066 section 3); with ECH the outer one.
    pub server_name: ServerName,
    /// The offered protocols inside TLS (RFC 7301).
    pub alpn: Alpn,
    /// The session to resume (RFC 5246 section 7.4.1.2). TLS 1.3 clients send random bytes.
    pub session_id: SessionId,
    /// The content of the session ticket extension (RFC 5077 section 3.2): empty if the client only
    /// requests a ticket. TLS 1.3 tickets are not read, because an observer cannot know which server
    /// issued them.
    pub ticket: Option<Box<[u8]>>,
    /// Whether early data may follow before the response of the server (RFC 8446 section 4.2.10).
    /// Such a flight must not be sent to a second server.
    pub early_data: bool,
    /// The offered versions.
    pub versions: Versions,
    /// The version in the header of the first record (RFC 8446 section 5.1: without meaning, mostly
    /// 0x0301).
    pub record_version: ProtocolVersion,
    /// The format of the hello.
    pub format: Format,
    /// Whether the hello carries an encrypted one (RFC 9849), or GREASE that looks like it.
    pub ech: bool,
    /// Length of the hello in the received bytes. Other bytes may follow.
    pub wire_len: usize,
}

/// The name in a hello.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum ServerName {
    /// The extension is absent.
    #[default]
    Absent,
    /// A host name, normalised, without a port.
    Name(HostName),
    /// An IP address as text, or characters that no host name has; no route can match it.
    NoHostName,
}

/// The format of a hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// TLS records, since SSL 3.
    Tls,
    /// The older format (RFC 5246 appendix E.2).
    Sslv2,
}

/// A protocol version as on the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProtocolVersion(pub u16);

impl ProtocolVersion {
    /// SSL 2.
    pub const SSL2: Self = Self(0x0002);
    /// SSL 3 (RFC 6101).
    pub const SSL3: Self = Self(0x0300);
    /// TLS 1.0 (RFC 2246).
    pub const TLS1_0: Self = Self(0x0301);
    /// TLS 1.1 (RFC 4346).
    pub const TLS1_1: Self = Self(0x0302);
    /// TLS 1.2 (RFC 5246).
    pub const TLS1_2: Self = Self(0x0303);
    /// TLS 1.3 (RFC 8446).
    pub const TLS1_3: Self = Self(0x0304);

    /// The version, if it is known: drafts of TLS 1.3 (0x7f and the number of the draft) count as TLS
    /// 1.3; GREASE and future versions are unknown.
    pub(super) fn known(self) -> Option<Self> {
        match self.0 {
            0x0300..=0x0304 => Some(self),
            0x7f00..=0x7fff => Some(Self::TLS1_3),
            _ => None,
        }
    }
}

impl fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::SSL2 => f.write_str("SSL 2"),
            Self::SSL3 => f.write_str("SSL 3"),
            Self::TLS1_0 => f.write_str("TLS 1.0"),
            Self::TLS1_1 => f.write_str("TLS 1.1"),
            Self::TLS1_2 => f.write_str("TLS 1.2"),
            Self::TLS1_3 => f.write_str("TLS 1.3"),
            Self(other) => write!(f, "{other:#06x}"),
        }
    }
}

impl fmt::Debug for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProtocolVersion({self})")
    }
}

/// The versions that a client offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Versions {
    /// The highest known version.
    pub highest: ProtocolVersion,
}

impl Versions {
    /// Whether TLS 1.3 is among them.
    pub fn offers_tls13(self) -> bool {
        self.highest >= ProtocolVersion::TLS1_3
    }
}

/// A session id of up to 32 bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct SessionId {
    /// Zero after `len`, so that equal ids are equal values.
    bytes: [u8; 32],
    len: u8,
}

impl SessionId {
    /// An id of these bytes; `None` for more than 32 (RFC 5246 section 7.4.1.2).
    pub fn new(id: &[u8]) -> Option<Self> {
        let mut bytes = [0; 32];
        bytes.get_mut(..id.len())?.copy_from_slice(id);
        Some(Self {
            bytes,
            len: u8::try_from(id.len()).ok()?,
        })
    }

    /// The bytes of the id; empty if the client does not resume a session by id.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({:02x?})", self.as_bytes())
    }
}

/// The protocol names of the ALPN extension, in the client's order.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Alpn {
    /// As on the wire, each name preceded by its length; validated by the parser.
    list: Box<[u8]>,
}

impl Alpn {
    pub(super) fn new(list: &[u8]) -> Self {
        Self { list: list.into() }
    }

    /// The names; none if the client does not send the extension.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &*self.list;
        std::iter::from_fn(move || {
            let (&len, names) = rest.split_first()?;
            let (name, after) = names.split_at_checked(len.into())?;
            rest = after;
            Some(name)
        })
    }
}

impl fmt::Debug for Alpn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.iter().map(|name| name.escape_ascii().to_string()))
            .finish()
    }
}

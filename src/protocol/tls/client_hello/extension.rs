//! Owns the extensions of a ClientHello: which ones are read, and their contents.
//!
//! Must not know the rest of the message.
//!
//! Invariant: the extensions fill their block to the last byte, and no type occurs twice (RFC 8446
//! section 4.2), including those that are not read.

use super::reader::FieldReader;
use super::{Alpn, MalformedHello, ProtocolVersion, ServerName, Versions};
use crate::types::host_name::HostName;

/// RFC 6066 section 3.
const SERVER_NAME: u16 = 0;
/// RFC 7301 section 3.1.
const ALPN: u16 = 16;
/// RFC 5077 section 3.2.
const SESSION_TICKET: u16 = 35;
/// RFC 8446 section 4.2.10.
const EARLY_DATA: u16 = 42;
/// RFC 8446 section 4.2.1.
const SUPPORTED_VERSIONS: u16 = 43;
/// RFC 9849 section 5.
const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;

/// The only defined name type (RFC 6066 section 3).
const HOST_NAME: u8 = 0;

/// The contents of the extensions that are read.
#[derive(Default)]
pub(super) struct Extensions {
    pub(super) server_name: ServerName,
    pub(super) alpn: Alpn,
    pub(super) ticket: Option<Box<[u8]>>,
    pub(super) early_data: bool,
    pub(super) ech: bool,
    /// The highest known version in the supported versions extension.
    supported: Option<ProtocolVersion>,
}

impl Extensions {
    /// Reads the block of extensions, without its length.
    pub(super) fn parse(block: &[u8]) -> Result<Self, MalformedHello> {
        let mut found = Self::default();
        let mut seen = SeenTypes::default();
        let mut reader = FieldReader(block);
        while !reader.is_empty() {
            let kind = reader.u16().ok_or(MalformedHello::ExtensionLength)?;
            let data = reader.vec16().ok_or(MalformedHello::ExtensionLength)?;
            if !seen.insert(kind) {
                return Err(MalformedHello::DuplicateExtension);
            }
            match kind {
                SERVER_NAME => found.server_name = server_name(data)?,
                ALPN => found.alpn = alpn(data).ok_or(MalformedHello::Alpn)?,
                SESSION_TICKET => found.ticket = Some(data.into()),
                EARLY_DATA => found.early_data = true,
                SUPPORTED_VERSIONS => found.supported = supported_versions(data)?,
                ENCRYPTED_CLIENT_HELLO => found.ech = true,
                _ => {}
            }
        }
        Ok(found)
    }

    /// The offered versions of a hello whose version field is `legacy`.
    pub(super) fn versions(&self, legacy: ProtocolVersion) -> Versions {
        // Without the extension, no field offers more than TLS 1.2 (RFC 8446 section 4.2.1).
        Versions {
            highest: self
                .supported
                .unwrap_or(legacy.min(ProtocolVersion::TLS1_2)),
        }
    }
}

/// RFC 6066 section 3: a list of one name. An empty list or name is the response of a server, which a
/// client must not send.
fn server_name(data: &[u8]) -> Result<ServerName, MalformedHello> {
    let mut extension = FieldReader(data);
    let mut list = extension
        .vec16()
        .filter(|_| extension.is_empty())
        .map(FieldReader)
        .ok_or(MalformedHello::ServerNameLength)?;
    let kind = list.u8().ok_or(MalformedHello::ServerNameListEmpty)?;
    if kind != HOST_NAME {
        // The length of such an entry is unknown, and so is the start of the next one.
        return Err(MalformedHello::ServerNameType);
    }
    let name = list.vec16().ok_or(MalformedHello::ServerNameLength)?;
    if !list.is_empty() {
        return Err(MalformedHello::ServerNames);
    }
    match HostName::parse_sent(name) {
        Ok(Some(name)) => Ok(ServerName::Name(name)),
        Ok(None) => Ok(ServerName::NoHostName),
        Err(error) => Err(MalformedHello::ServerName(error)),
    }
}

/// RFC 7301 section 3.1: at least one protocol, and none that is empty.
fn alpn(data: &[u8]) -> Option<Alpn> {
    let mut extension = FieldReader(data);
    let list = extension
        .vec16()
        .filter(|list| extension.is_empty() && !list.is_empty())?;
    let mut protocols = FieldReader(list);
    while !protocols.is_empty() {
        protocols.vec8().filter(|protocol| !protocol.is_empty())?;
    }
    Some(Alpn::new(list))
}

/// RFC 8446 section 4.2.1. Values that are not versions (RFC 8701) are skipped.
fn supported_versions(data: &[u8]) -> Result<Option<ProtocolVersion>, MalformedHello> {
    let mut extension = FieldReader(data);
    let list = extension
        .vec8()
        .filter(|list| extension.is_empty() && !list.is_empty() && list.len() % 2 == 0);
    let list = list.ok_or(MalformedHello::SupportedVersions)?;
    Ok(list
        .chunks_exact(2)
        .filter_map(|value| ProtocolVersion(u16::from_be_bytes([value[0], value[1]])).known())
        .max())
}

/// The extension types of one hello.
///
/// Real hellos have about twenty, a few of them above 63. A malicious one may have 16,384, for which comparing
/// each with all before it would take quadratic time.
#[derive(Default)]
struct SeenTypes {
    /// A bit for each type below 64.
    low: u64,
    /// The first types above that.
    few: [u16; 16],
    few_len: usize,
    /// A bit for each type, once there are more than `few` can have.
    many: Option<Box<[u64; 1024]>>,
}

impl SeenTypes {
    /// Whether `kind` is new.
    fn insert(&mut self, kind: u16) -> bool {
        if kind < 64 {
            return set(&mut self.low, kind);
        }
        if let Some(many) = &mut self.many {
            return set(&mut many[usize::from(kind / 64)], kind);
        }
        let few = &self.few[..self.few_len];
        if few.contains(&kind) {
            return false;
        }
        if let Some(entry) = self.few.get_mut(self.few_len) {
            *entry = kind;
            self.few_len += 1;
        } else {
            let mut many = Box::new([0; 1024]);
            for kind in self.few.into_iter().chain([kind]) {
                set(&mut many[usize::from(kind / 64)], kind);
            }
            self.many = Some(many);
        }
        true
    }
}

/// Sets the bit of `kind` in its word; returns whether it was clear.
fn set(word: &mut u64, kind: u16) -> bool {
    let bit = 1 << (kind % 64);
    let clear = *word & bit == 0;
    *word |= bit;
    clear
}

//! The keys of pins.
//!
//! Owns the two kinds of keys, and which bits of an address count. Must not know tables, or how a session's hash is made.
//! Invariant: equal keys find the same pin.

use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv6Addr};

use crate::config::model::SourcePrefix;

/// The key of a pin.
pub trait Keyed: Copy + Eq {
    /// The client whose quota the pin counts against; `None` where clients have no quota.
    fn share(&self) -> Option<u64>;
}

/// A client, by the parts that the configuration distinguishes clients by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    /// The source prefix, an IPv4 address in its mapped form; zero where the source is not part of the key.
    pub source: [u8; 16],
    /// The configured name that matched, as the table numbers it; zero where the name is not part of the key.
    pub name: u32,
}

impl Keyed for Key {
    fn share(&self) -> Option<u64> {
        None
    }
}

/// A TLS session that a server has granted, independent of the client's address.
#[derive(Debug, Clone, Copy)]
pub struct Session {
    /// A keyed hash of the session id or ticket, which cannot be derived from it.
    pub hash: [u8; 16],
    /// A keyed hash of the [`Key`] of the client that last used it. Not part of the session's identity.
    pub client: u64,
}

impl PartialEq for Session {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl Eq for Session {}

impl Hash for Session {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hash.hash(state);
    }
}

impl Keyed for Session {
    fn share(&self) -> Option<u64> {
        Some(self.client)
    }
}

/// Bits of a key's hash, by which its pin is found. Equal keys must have equal tags; different keys should rarely have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag(pub u32);

/// The leading bits of `address` that count; of an IPv4 address in its mapped form (RFC 4291, section 2.5.5.2).
#[must_use]
pub fn source_bits(address: IpAddr, prefix: SourcePrefix) -> [u8; 16] {
    let (mapped, bits) = match address {
        IpAddr::V4(v4) => (v4.to_ipv6_mapped(), 96 + u32::from(prefix.ipv4.min(32))),
        IpAddr::V6(v6) => (v6, u32::from(prefix.ipv6.min(128))),
    };
    let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
    Ipv6Addr::from_bits(mapped.to_bits() & mask).octets()
}

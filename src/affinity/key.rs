//! Whom a pin is for.
//!
//! Owns which bits of an address count. Knows no table.

use std::net::{IpAddr, Ipv6Addr};

use crate::config::model::SourcePrefix;

/// Whom a pin is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    /// The source prefix, an IPv4 address in its mapped form; zero where the source is not part of the key.
    pub source: [u8; 16],
    /// The configured name that matched, as the table numbers it; zero where the name is not part of the key.
    pub name: u32,
}

/// Bits of a key's hash, by which its pin is found. Equal keys must come with equal tags, and different ones should
/// hardly ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag(pub u32);

/// The leading bits of `address` that count, an IPv4 address in its mapped form (RFC 4291, section 2.5.5.2).
#[must_use]
pub fn source_bits(address: IpAddr, prefix: SourcePrefix) -> [u8; 16] {
    let (mapped, bits) = match address {
        IpAddr::V4(v4) => (v4.to_ipv6_mapped(), 96 + u32::from(prefix.ipv4.min(32))),
        IpAddr::V6(v6) => (v6, u32::from(prefix.ipv6.min(128))),
    };
    let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
    Ipv6Addr::from_bits(mapped.to_bits() & mask).octets()
}

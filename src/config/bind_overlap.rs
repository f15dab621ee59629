//! Addresses that cannot be bound at the same time.
//!
//! Owns that rule. Must not know what the addresses are for. Invariant: constant cost per address, however many there are.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use super::diagnostics::FileLocation;

/// Addresses that are already used.
#[derive(Debug, Default)]
pub(crate) struct Binds {
    ports: HashMap<(u16, bool), FamilyPort>,
}

/// One port of one address family.
#[derive(Debug, Default)]
struct FamilyPort {
    first: Option<Bind>,
    unspecified: Option<Bind>,
    by_address: HashMap<IpAddr, Bind>,
}

/// A used address.
#[derive(Debug, Clone)]
pub(crate) struct Bind {
    /// The address.
    pub address: SocketAddr,
    /// Its location in the file.
    pub at: FileLocation,
    /// Its owner: "listener `https`".
    pub owner: String,
}

impl Binds {
    /// Adds an address, and returns the earlier one that it overlaps. IPv6 is bound IPv6-only, so the two families
    /// never overlap.
    pub(crate) fn add(
        &mut self,
        address: SocketAddr,
        at: FileLocation,
        owner: &str,
    ) -> Option<Bind> {
        let ip = address.ip();
        let port = self
            .ports
            .entry((address.port(), ip.is_ipv4()))
            .or_default();
        let used = port.by_address.get(&ip).or(port.unspecified.as_ref());
        let used = used
            .or(port.first.as_ref().filter(|_| ip.is_unspecified()))
            .cloned();
        let bind = Bind {
            address,
            at,
            owner: owner.to_owned(),
        };
        port.first.get_or_insert_with(|| bind.clone());
        if ip.is_unspecified() {
            port.unspecified.get_or_insert_with(|| bind.clone());
        }
        port.by_address.entry(ip).or_insert(bind);
        used
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(addresses: &[&str], overlaps: Option<&str>) {
        let mut binds = Binds::default();
        let found = addresses
            .iter()
            .filter_map(|text| binds.add(text.parse().unwrap(), FileLocation::START, ""))
            .next();
        assert_eq!(
            found.map(|bind| bind.address),
            overlaps.map(|text| text.parse().unwrap())
        );
    }

    #[test]
    fn an_unspecified_address_overlaps_all_of_its_family() {
        check(&["0.0.0.0:443", "127.0.0.1:443"], Some("0.0.0.0:443"));
        check(&["127.0.0.1:443", "0.0.0.0:443"], Some("127.0.0.1:443"));
        check(&["[::]:443", "[::1]:443"], Some("[::]:443"));
        check(&["192.0.2.1:443", "192.0.2.1:443"], Some("192.0.2.1:443"));
        check(&["0.0.0.0:443", "[::]:443", "0.0.0.0:80", "[::1]:80"], None);
        check(
            &["192.0.2.1:443", "192.0.2.2:443", "[2001:db8::1]:443"],
            None,
        );
    }
}

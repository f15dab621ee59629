//! What the keys of a group's clients are made of.
//!
//! Owns the comparison of two schemes, for reload, upgrade and the store alike, and the translation of a key from one scheme
//! to another. Must not know tables. Invariant: a translated key finds every client that the original key found; where that
//! is impossible there is no translation.

use std::net::{IpAddr, Ipv6Addr};

use super::PinKey;
use crate::affinity::shard::source_bits;
use crate::config::model::{self, SourcePrefix};

const SOURCE: u8 = 1;
const NAME: u8 = 1 << 1;

/// The parts of a client's key. TLS sessions are not part of it: their keys are hashes, the same under every scheme.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyScheme {
    /// `None` where the source is not part of the key.
    source: Option<(u8, u8)>,
    by_name: bool,
}

impl KeyScheme {
    /// The scheme of a group with these settings.
    #[must_use]
    pub fn of(settings: &model::AffinitySettings) -> Self {
        let SourcePrefix { ipv4, ipv6 } = settings.source_prefix;
        Self {
            source: settings.by_source.then_some((ipv4, ipv6)),
            by_name: settings.by_name,
        }
    }

    /// The scheme as three bytes: the parts of the key (bit 0 the source, bit 1 the configured name), the prefix length of
    /// an IPv4 source, and that of an IPv6 source.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 3] {
        let (ipv4, ipv6) = self.source.unwrap_or_default();
        let source = if self.source.is_some() { SOURCE } else { 0 };
        let name = if self.by_name { NAME } else { 0 };
        [source | name, ipv4, ipv6]
    }

    /// The scheme of these bytes. Unknown bits are ignored: files of older builds have bit 2 for TLS sessions.
    #[must_use]
    pub fn from_bytes([parts, ipv4, ipv6]: [u8; 3]) -> Self {
        Self {
            source: (parts & SOURCE != 0).then_some((ipv4, ipv6)),
            by_name: parts & NAME != 0,
        }
    }

    /// Translates a key of this scheme into the scheme `to`. Where `to` has fewer parts, several keys become one.
    ///
    /// `None` where `to` needs a part that this scheme does not have: the name, the source, or more bits of it.
    #[must_use]
    pub fn translate(&self, key: PinKey, to: &Self) -> Option<PinKey> {
        let (source, name) = match key {
            PinKey::Client { source, name } if self != to => (source, name),
            same @ (PinKey::Client { .. } | PinKey::Session { .. }) => return Some(same),
        };
        if to.source.is_none() && !to.by_name {
            return None;
        }
        let name = match (to.by_name, name) {
            (true, None) => return None,
            (true, name) => name,
            (false, _) => None,
        };
        let source = match (self.source, to.source) {
            (_, None) => [0; 16],
            (None, Some(_)) => return None,
            (Some(known), Some(wanted)) => fewer_bits(source, known, wanted)?,
        };
        Some(PinKey::Client { source, name })
    }
}

/// The first `wanted` bits of a source, if so many are `known`.
fn fewer_bits(source: [u8; 16], known: (u8, u8), wanted: (u8, u8)) -> Option<[u8; 16]> {
    let address = Ipv6Addr::from(source).to_canonical();
    let enough = match address {
        IpAddr::V4(_) => wanted.0 <= known.0,
        IpAddr::V6(_) => wanted.1 <= known.1,
    };
    let prefix = SourcePrefix {
        ipv4: wanted.0,
        ipv6: wanted.1,
    };
    enough.then(|| source_bits(address, prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scheme(source: Option<(u8, u8)>, by_name: bool) -> KeyScheme {
        KeyScheme { source, by_name }
    }

    fn key(source: &str, name: Option<&str>) -> PinKey {
        let source = match source {
            "" => [0; 16],
            address => match address.parse().unwrap() {
                IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                IpAddr::V6(v6) => v6.octets(),
            },
        };
        PinKey::Client {
            source,
            name: name.map(Into::into),
        }
    }

    #[test]
    fn a_key_is_translated_if_the_new_scheme_has_no_more_parts_than_the_old_one() {
        let (full, wide) = (Some((32, 128)), Some((24, 64)));
        let www = Some("www.contoso.com");
        let cases = [
            // Fewer bits of the source.
            (
                scheme(full, false),
                scheme(wide, false),
                ("192.0.2.7", None),
                Some(("192.0.2.0", None)),
            ),
            (
                scheme(full, false),
                scheme(wide, false),
                ("2001:db8::1:2:3:4", None),
                Some(("2001:db8::", None)),
            ),
            // More bits: they are unknown.
            (
                scheme(wide, false),
                scheme(full, false),
                ("192.0.2.0", None),
                None,
            ),
            (
                scheme(wide, false),
                scheme(full, false),
                ("2001:db8::", None),
                None,
            ),
            // Another prefix of one family does not affect the other family.
            (
                scheme(Some((32, 64)), false),
                scheme(full, false),
                ("192.0.2.7", None),
                Some(("192.0.2.7", None)),
            ),
            (
                scheme(Some((32, 64)), false),
                scheme(full, false),
                ("2001:db8::", None),
                None,
            ),
            // Names.
            (
                scheme(full, true),
                scheme(full, false),
                ("192.0.2.7", www),
                Some(("192.0.2.7", None)),
            ),
            (
                scheme(full, false),
                scheme(full, true),
                ("192.0.2.7", None),
                None,
            ),
            (
                scheme(full, true),
                scheme(None, true),
                ("192.0.2.7", www),
                Some(("", www)),
            ),
            (scheme(None, true), scheme(full, true), ("", www), None),
            // Clients have no keys at all.
            (
                scheme(full, true),
                scheme(None, false),
                ("192.0.2.7", www),
                None,
            ),
        ];
        for (from, to, (source, name), wanted) in cases {
            let translated = from.translate(key(source, name), &to);
            let wanted = wanted.map(|(source, name)| key(source, name));
            assert_eq!(translated, wanted, "{source} {name:?} {from:?} {to:?}");
        }
    }

    #[test]
    fn session_keys_are_the_same_under_every_scheme() {
        let session = PinKey::Session {
            hash: [7; 16],
            client: 3,
        };
        let to = scheme(None, false);
        let translated = scheme(Some((32, 128)), true).translate(session.clone(), &to);
        assert_eq!(translated, Some(session));
    }

    #[test]
    fn an_unused_prefix_does_not_change_the_scheme() {
        let by_name = |ipv4| {
            KeyScheme::of(&model::AffinitySettings {
                by_source: false,
                by_name: true,
                by_session: false,
                source_prefix: SourcePrefix { ipv4, ipv6: 128 },
                ttl: std::time::Duration::from_secs(1),
                group: "web".into(),
                max_entries: 1,
            })
        };
        assert_eq!(by_name(32), by_name(8));
        assert_eq!(KeyScheme::from_bytes([0b110, 24, 64]), by_name(32));
    }

    #[test]
    fn a_scheme_survives_its_bytes() {
        for source in [None, Some((32, 128)), Some((0, 0))] {
            for by_name in [false, true] {
                let scheme = scheme(source, by_name);
                assert_eq!(KeyScheme::from_bytes(scheme.to_bytes()), scheme);
            }
        }
    }
}

//! Pins as they are shown.
//!
//! Owns the way from a table's terms to those of people. Invariant: showing changes nothing.

use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::admin::view;
use crate::affinity::shard::{Key, PinView};
use crate::affinity::table::{PinKey, PinRecord, Pins};
use crate::config::model::AffinitySettings;
use crate::types::timestamp::Timestamp;

/// A pin that was found in a page.
pub(super) fn shown(pins: &Pins, kept: &PinRecord) -> view::PinEntry {
    let (client, name) = match &kept.key {
        PinKey::Client { source, name } => {
            let client = network(*source, &pins.settings());
            (client, name.as_ref().map(ToString::to_string))
        }
        PinKey::Session { .. } => (None, None),
    };
    let age = pins.since(kept.created);
    view::PinEntry {
        group: pins.group().to_string(),
        client,
        name,
        backend: kept.backend.to_string(),
        origin: kept.origin.as_str().into(),
        created: Timestamp(SystemTime::now() - age),
        age_seconds: age.as_secs(),
        connections: kept.in_use.into(),
        expires_in_seconds: kept.expires.map(|expires| rounded(pins.until(expires))),
    }
}

/// A pin that was found by its key; `name` is the configured name, whether it is part of the key or not. `None` while
/// no backend has answered its client yet.
pub(in crate::server) fn viewed(
    pins: &Pins,
    view: &PinView<Key>,
    name: &str,
) -> Option<view::PinEntry> {
    let kept = PinRecord {
        key: kept_key(pins, view.key, name),
        backend: pins.member_name(view.member)?,
        origin: view.origin,
        created: view.created,
        expires: view.expires,
        in_use: view.in_use,
    };
    Some(shown(pins, &kept))
}

fn kept_key(pins: &Pins, key: Key, name: &str) -> PinKey {
    PinKey::Client {
        source: key.source,
        name: pins.settings().by_name.then(|| Arc::from(name)),
    }
}

/// The network that bits of a source stand for, as people write it; `None` where the source is no part of the key.
pub(super) fn network(source: [u8; 16], settings: &AffinitySettings) -> Option<String> {
    let (address, prefix) = (Ipv6Addr::from(source), settings.source_prefix);
    settings.by_source.then(|| match address.to_ipv4_mapped() {
        Some(v4) => format!("{v4}/{}", prefix.ipv4),
        None => format!("{address}/{}", prefix.ipv6),
    })
}

/// To the nearest second: what was just used expires in all of its time.
fn rounded(left: Duration) -> u64 {
    (left + Duration::from_millis(500)).as_secs()
}

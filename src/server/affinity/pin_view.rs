//! Pins in the form of the API.
//!
//! Owns the way from a record to the fields of the API. Invariant: viewing a pin changes nothing.

use std::net::Ipv6Addr;
use std::time::{Duration, SystemTime};

use crate::admin::view;
use crate::affinity::record::{PinKey, PinRecord};
use crate::affinity::shard::{Key, PinView};
use crate::affinity::table::Pins;
use crate::config::model::AffinitySettings;
use crate::types::timestamp::Timestamp;

/// A pin of this table.
pub(super) fn entry(pins: &Pins, record: &PinRecord) -> view::PinEntry {
    let (client, name) = match &record.key {
        PinKey::Client { source, name } => {
            let client = network(*source, &pins.settings());
            (client, name.as_ref().map(ToString::to_string))
        }
        PinKey::Session { .. } => (None, None),
    };
    view::PinEntry {
        group: pins.group().to_string(),
        client,
        name,
        backend: record.backend.to_string(),
        origin: record.origin.as_str().into(),
        created: Timestamp(SystemTime::now() - record.age),
        age_seconds: record.age.as_secs(),
        connections: record.usage.connections().into(),
        expires_in_seconds: record.usage.expires_in().map(rounded),
    }
}

/// A pin of this table, as the table views it.
pub(in crate::server) fn view_entry(pins: &Pins, view: &PinView<Key>) -> Option<view::PinEntry> {
    pins.record(view).map(|record| entry(pins, &record))
}

/// The network of a source prefix, in CIDR notation; `None` where the source is not part of the key.
pub(super) fn network(source: [u8; 16], settings: &AffinitySettings) -> Option<String> {
    let (address, prefix) = (Ipv6Addr::from(source), settings.source_prefix);
    settings.by_source.then(|| match address.to_ipv4_mapped() {
        Some(v4) => format!("{v4}/{}", prefix.ipv4),
        None => format!("{address}/{}", prefix.ipv6),
    })
}

/// Rounds to the nearest second: a pin that was just used then shows its whole time to live.
fn rounded(left: Duration) -> u64 {
    (left + Duration::from_millis(500)).as_secs()
}

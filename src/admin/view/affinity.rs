//! Pins, as the API and the `affinity` commands show and change them.
//!
//! Owns the names and the meaning of these fields. Must not know tables. Invariant: as for the other views.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::types::timestamp::Timestamp;

/// Selects the pins that match every field that is set. An empty filter matches all pins.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinFilter {
    /// The group.
    pub group: Option<String>,
    /// Pins of clients in this network, and pins of a wider prefix that contains it.
    #[serde(with = "network")]
    pub client: Option<IpNet>,
    /// The configured name, or a requested name that a route matches.
    pub name: Option<String>,
    /// Pins to a backend of this pool.
    pub pool: Option<String>,
    /// Pins to this backend: `BACKEND`, or `POOL/BACKEND`.
    pub backend: Option<String>,
}

impl PinFilter {
    /// Whether it matches every pin.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A client whose pins are requested: `GET /api/v1/affinity/client`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientQuery {
    /// The group; `None` is every group.
    pub group: Option<String>,
    /// Its address; an IPv4-mapped address is its IPv4 address.
    pub client: IpAddr,
    /// The requested or the configured name; `None` is every name.
    pub name: Option<String>,
}

/// A pin to create: `PUT /api/v1/affinity` with the action `pin`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinAssignment {
    /// The group; `None` if the backend or the name determines it.
    pub group: Option<String>,
    /// The client: an address, or a network that is one client in its group; `None` in a group that pins by name only.
    pub client: Option<IpNet>,
    /// The requested or the configured name; `None` in a group that does not pin by name.
    pub name: Option<String>,
    /// Its backend: `BACKEND`, or `POOL/BACKEND`.
    pub backend: String,
}

/// One pin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinEntry {
    /// Its group.
    pub group: String,
    /// The source prefix that counts as one client; `null` if the source is not part of the key.
    pub client: Option<String>,
    /// The configured name or pattern, or `no_name`, `unknown_name` or `pool`; `null` if the name is not part of the key.
    pub name: Option<String>,
    /// Its backend.
    pub backend: String,
    /// What set the backend: `policy`, `failover`, `session` or `administrator`.
    pub origin: String,
    /// When it was created.
    pub created: Timestamp,
    /// Its age in whole seconds.
    pub age_seconds: u64,
    /// Connections that use it.
    pub connections: u64,
    /// Whole seconds until it expires without a new connection; `null` while connections use it.
    pub expires_in_seconds: Option<u64>,
}

/// A page of pins: `GET /api/v1/affinity`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinPage {
    /// In no order. A pin that exists during the whole listing appears on exactly one page.
    pub entries: Vec<PinEntry>,
    /// Where the next page begins; `null` after the last one. A page before the last one may be empty.
    pub cursor: Option<String>,
}

/// The pins of one client: `GET /api/v1/affinity/client`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientPins {
    /// As requested; an IPv4-mapped address is its IPv4 address.
    pub client: IpAddr,
    /// As requested.
    pub name: Option<String>,
    /// The pins that apply to it, sorted by group and name.
    pub pins: Vec<ClientPin>,
}

/// One pin of a client, and its pinned TLS sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientPin {
    /// The pin.
    pub pin: PinEntry,
    /// TLS sessions of this client that have pins of their own.
    pub sessions: u64,
}

/// The body of `PUT /api/v1/affinity`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case", deny_unknown_fields)]
pub enum AffinityChange {
    /// Creates a pin, or changes its backend. Connections stay as they are.
    Pin {
        /// The group, unless the backend or the name determines it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        group: Option<String>,
        /// The client: an address, or a network that is one client in its group.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        client: Option<String>,
        /// The requested or the configured name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// The backend of the pin: `BACKEND`, or `POOL/BACKEND`.
        backend: String,
    },
    /// Moves every pin that matches to `to`, and resets the connections that use one. At least one filter is required.
    Move {
        /// See [`PinFilter::group`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        group: Option<String>,
        /// See [`PinFilter::client`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        client: Option<String>,
        /// See [`PinFilter::name`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// See [`PinFilter::pool`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pool: Option<String>,
        /// See [`PinFilter::backend`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        backend: Option<String>,
        /// The new backend: `BACKEND`, or `POOL/BACKEND`.
        to: String,
    },
}

/// The response to the action `pin`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinResult {
    /// The group.
    pub group: String,
    /// The backend of the pins now.
    pub backend: String,
    /// One, or more if listeners know the name under several patterns.
    pub pins: Vec<PinnedKey>,
}

/// The key of a pin that was set, and its previous backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedKey {
    /// The source prefix that counts as one client; `null` if the source is not part of the key.
    pub client: Option<String>,
    /// The configured name or pattern; `null` if the name is not part of the key.
    pub name: Option<String>,
    /// The previous backend; `null` if there was no pin.
    pub before: Option<String>,
}

/// The response to the action `move`, and to `DELETE /api/v1/affinity`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinsChanged {
    /// Pins that were moved or removed.
    pub pins: u64,
    /// TLS sessions that were moved or removed.
    pub sessions: u64,
    /// Connections that used one of them. A move resets them; removing pins leaves them open.
    pub connections: u64,
}

/// A network as text.
mod network {
    use ipnet::IpNet;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer, de::Error as _};

    #[allow(clippy::ref_option, reason = "serde passes a field by reference")]
    pub(super) fn serialize<S: Serializer>(
        net: &Option<IpNet>,
        into: S,
    ) -> Result<S::Ok, S::Error> {
        net.map(|net| net.to_string()).serialize(into)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<IpNet>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| text.parse().map_err(D::Error::custom))
            .transpose()
    }
}

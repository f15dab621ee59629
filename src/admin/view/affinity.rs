//! Pins, as the API and the `affinity` commands show and change them.
//!
//! Owns the names and the meaning of these fields. Invariant: that of the whole view.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::types::timestamp::Timestamp;

/// Which pins are meant: those that fit every field that says something. Nothing said means all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinFilter {
    /// The group.
    pub group: Option<String>,
    /// Pins of clients in this network. A pin of a wider prefix than this one is met too, if it holds this network.
    #[serde(with = "network")]
    pub client: Option<IpNet>,
    /// The configured name, or any name that a client would ask for and that a route matches.
    pub name: Option<String>,
    /// Pins that lead to a backend of this pool.
    pub pool: Option<String>,
    /// Pins that lead to this backend: `BACKEND`, or `POOL/BACKEND`.
    pub backend: Option<String>,
}

impl PinFilter {
    /// Whether it says nothing, so that every pin fits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A client whose pins someone asks for: `GET /api/v1/affinity/client`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientQuery {
    /// The group alone; `None` is every group.
    pub group: Option<String>,
    /// Where it comes from; an IPv4-mapped address is its IPv4 address.
    pub client: IpAddr,
    /// What it asks for, or the configured name; `None` is every name.
    pub name: Option<String>,
}

/// A pin that is to be: `PUT /api/v1/affinity` with the action `pin`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinOrder {
    /// The group; `None` where the backend or the name says which.
    pub group: Option<String>,
    /// The client, as an address or a network that its group takes for one client; `None` in a group by name alone.
    pub client: Option<IpNet>,
    /// What it asks for, or the configured name; `None` in a group that does not pin by name.
    pub name: Option<String>,
    /// Where it is to lead: `BACKEND`, or `POOL/BACKEND`.
    pub backend: String,
}

/// One pin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinEntry {
    /// The group whose table it stands in.
    pub group: String,
    /// The source prefix that counts as one client; `null` where the source is no part of the key.
    pub client: Option<String>,
    /// The configured name or pattern, or `no_name`, `unknown_name` or `pool`; `null` where it is no part of the key.
    pub name: Option<String>,
    /// Where it leads.
    pub backend: String,
    /// Who made it lead there: `policy`, `failover`, `session` or `administrator`.
    pub origin: String,
    /// When it was made.
    pub created: Timestamp,
    /// How long ago that was, in whole seconds.
    pub age_seconds: u64,
    /// Connections that hold it.
    pub connections: u64,
    /// When it expires if its client does not come, in whole seconds; `null` while connections hold it.
    pub expires_in_seconds: Option<u64>,
}

/// Some of the pins that fit: `GET /api/v1/affinity`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinPage {
    /// In no order, each pin that stands all the while once.
    pub entries: Vec<PinEntry>,
    /// Where the next page begins; `null` after the last one. A page may be empty and not the last.
    pub cursor: Option<String>,
}

/// The pins of one client: `GET /api/v1/affinity/client`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientPins {
    /// As asked; an IPv4-mapped address as its IPv4 address.
    pub client: IpAddr,
    /// As asked.
    pub name: Option<String>,
    /// Every pin that counts for it, sorted by group and name.
    pub pins: Vec<ClientPin>,
}

/// One pin of a client, and what stands beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientPin {
    /// The pin.
    pub pin: PinEntry,
    /// TLS sessions of this client that are pinned by themselves.
    pub sessions: u64,
}

/// The body of `PUT /api/v1/affinity`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case", deny_unknown_fields)]
pub enum AffinityChange {
    /// Makes a pin, or lets one lead elsewhere, without touching connections.
    Pin {
        /// See [`PinOrder::group`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        group: Option<String>,
        /// See [`PinOrder::client`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        client: Option<String>,
        /// See [`PinOrder::name`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// See [`PinOrder::backend`].
        backend: String,
    },
    /// Lets every pin that fits lead to `to`, and resets the connections that hold one. At least one filter is wanted.
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
        /// Where they are to lead: `BACKEND`, or `POOL/BACKEND`.
        to: String,
    },
}

/// The answer to the action `pin`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinResult {
    /// The group whose table was changed.
    pub group: String,
    /// Where the pins lead now.
    pub backend: String,
    /// One, or more where listeners know the name under several patterns.
    pub pins: Vec<PinnedKey>,
}

/// What one pin was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedKey {
    /// The source prefix that counts as one client; `null` where the source is no part of the key.
    pub client: Option<String>,
    /// The configured name or pattern; `null` where it is no part of the key.
    pub name: Option<String>,
    /// Where it led before; `null` where there was no pin.
    pub before: Option<String>,
}

/// The answer to the action `move`, and to `DELETE /api/v1/affinity`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinsChanged {
    /// Pins that were moved or forgotten.
    pub pins: u64,
    /// TLS sessions that were moved or forgotten.
    pub sessions: u64,
    /// Connections that hold one of them: a move resets them, and they live on where pins are forgotten.
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

//! The errors of queries and changes of pins, and how a client is written in one.
//!
//! Owns these errors and their texts. Must not know tables. Invariant: an error names what is missing or wrong.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::unknown_name::UnknownName;

/// Parses a client: an address or a network, such as `192.0.2.7`, `192.0.2.0/24` or `2001:db8::/64`; an IPv4-mapped
/// address is its IPv4 address, and bits after the prefix are ignored.
///
/// # Errors
///
/// When it is neither.
pub fn client(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.to_canonical().into());
    }
    let net: IpNet = text.parse().map_err(|_| {
        let hint = crate::config::network_hint(text);
        let hint = hint.map_or(String::new(), |hint| format!(" ({hint})"));
        format!("{text:?} is neither an address nor a network such as 192.0.2.0/24{hint}")
    })?;
    let mapped = match net {
        IpNet::V6(net) => net
            .addr()
            .to_ipv4_mapped()
            .zip(net.prefix_len().checked_sub(96)),
        IpNet::V4(_) => None,
    };
    let net = match mapped {
        Some((address, length)) => IpNet::new(address.into(), length)
            .map_err(|_| format!("{text:?} has an invalid prefix length"))?,
        None => net,
    };
    Ok(net.trunc())
}

/// Why a query or a change of pins fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AffinityError {
    /// No group has this name.
    UnknownGroup(UnknownName),
    /// No pool has this name.
    UnknownPool(UnknownName),
    /// No pool in question has a backend of this name.
    UnknownBackend {
        /// The backend.
        backend: UnknownName,
        /// The group or the pool that was named, for the error text; `None` is any pool with affinity.
        within: Option<String>,
    },
    /// Clients of this name are not routed to the pool.
    NameNotInPool {
        /// The name.
        name: String,
        /// The pool.
        pool: String,
    },
    /// The backend is in none of the groups of the pins that match.
    BackendNotInGroups {
        /// The backend.
        backend: String,
        /// Those groups.
        groups: Vec<String>,
    },
    /// Clients of this name are not routed to a pool with affinity.
    UnknownName(String),
    /// The pool is in another group.
    PoolNotInGroup {
        /// The group that was named.
        group: String,
        /// The pool.
        pool: String,
    },
    /// The pool has no affinity, and thus no group.
    NoAffinity(String),
    /// No pool has affinity.
    NoGroups,
    /// An upgrade is under way: the new process might miss the change.
    UpgradeInProgress,
    /// More than one group matches; one has to be named.
    AmbiguousGroup(Vec<String>),
    /// The group pins by name; a name is required.
    NameRequired(String),
    /// The group pins by source; a client is required.
    ClientRequired(String),
    /// The network is more than one client to the group.
    NotOneClient {
        /// The group.
        group: String,
        /// The network.
        named: IpNet,
        /// The prefix length of one client in the group.
        one: u8,
    },
    /// The cursor is invalid.
    InvalidCursor(String),
    /// The source is not part of the group's key.
    NotBySource(String),
    /// The name is not part of the group's key.
    NotByName(String),
    /// The group pins neither by source nor by name, but by TLS session.
    BySessionOnly(String),
    /// The table has `max_entries` pins, all of them in use.
    TableFull(String),
}

/// What kind of error an [`AffinityError`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AffinityErrorKind {
    /// The request lacks something or makes no sense.
    Invalid,
    /// Something named does not exist.
    NotFound,
    /// The configuration or the state of the balancer does not allow it.
    Conflict,
}

impl AffinityError {
    /// What kind of error it is.
    #[must_use]
    pub fn kind(&self) -> AffinityErrorKind {
        match self {
            Self::UnknownGroup(_)
            | Self::UnknownPool(_)
            | Self::UnknownBackend { .. }
            | Self::PoolNotInGroup { .. }
            | Self::NameNotInPool { .. }
            | Self::BackendNotInGroups { .. }
            | Self::UnknownName(_) => AffinityErrorKind::NotFound,
            Self::AmbiguousGroup(_)
            | Self::NameRequired(_)
            | Self::ClientRequired(_)
            | Self::NotOneClient { .. }
            | Self::InvalidCursor(_) => AffinityErrorKind::Invalid,
            Self::NoAffinity(_)
            | Self::NoGroups
            | Self::UpgradeInProgress
            | Self::NotBySource(_)
            | Self::NotByName(_)
            | Self::BySessionOnly(_)
            | Self::TableFull(_) => AffinityErrorKind::Conflict,
        }
    }
}

impl fmt::Display for AffinityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UpgradeInProgress => {
                f.write_str("an upgrade is under way; try again in a moment")
            }
            Self::UnknownGroup(group) => write!(
                f,
                "there is no affinity group {:?}{}",
                group.name(),
                group.suggestion("affinity group")
            ),
            Self::UnknownPool(pool) => {
                write!(
                    f,
                    "there is no pool {:?}{}",
                    pool.name(),
                    pool.suggestion("pool")
                )
            }
            Self::UnknownBackend { backend, within } => {
                let (name, known) = (backend.name(), backend.suggestion("backend"));
                match within {
                    Some(within) => write!(f, "{within} has no backend {name:?}{known}"),
                    None => write!(f, "no pool with affinity has a backend {name:?}{known}"),
                }
            }
            Self::UnknownName(name) => {
                write!(f, "no route for {name:?} points to a pool with affinity")
            }
            Self::NameNotInPool { name, pool } => {
                write!(f, "no route for {name:?} points to pool {pool:?}")
            }
            Self::BackendNotInGroups { backend, groups } => write!(
                f,
                "the pins that match are in affinity group {}, where no pool has a backend {backend:?}",
                groups.join(", ")
            ),
            Self::PoolNotInGroup { group, pool } => {
                write!(f, "pool {pool:?} is not in group {group:?}")
            }
            Self::NoAffinity(pool) => write!(f, "pool {pool:?} has no affinity"),
            Self::NoGroups => f.write_str("no pool has affinity"),
            Self::AmbiguousGroup(groups) => {
                write!(
                    f,
                    "more than one affinity group matches; specify one of: {}",
                    groups.join(", ")
                )
            }
            Self::NameRequired(group) => {
                write!(f, "group {group:?} pins by name; a name is required")
            }
            Self::ClientRequired(group) => {
                write!(f, "group {group:?} pins by source; a client is required")
            }
            Self::NotOneClient { group, named, one } => write!(
                f,
                "{named} is more than one client; in group {group:?} a client is a /{one}"
            ),
            Self::InvalidCursor(cursor) => write!(f, "invalid cursor {cursor:?}"),
            Self::NotBySource(group) => write!(f, "group {group:?} does not pin by source"),
            Self::NotByName(group) => write!(f, "group {group:?} does not pin by name"),
            Self::BySessionOnly(group) => {
                write!(f, "group {group:?} pins by TLS session only")
            }
            Self::TableFull(group) => {
                write!(
                    f,
                    "the affinity table of group {group:?} is full, and every pin is in use"
                )
            }
        }
    }
}

impl std::error::Error for AffinityError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_addresses_and_networks() {
        for (typed, parsed) in [
            ("192.0.2.7", "192.0.2.7/32"),
            ("192.0.2.7/24", "192.0.2.0/24"),
            ("2001:db8::7", "2001:db8::7/128"),
            ("2001:db8::7/64", "2001:db8::/64"),
            ("::ffff:192.0.2.7", "192.0.2.7/32"),
            ("::ffff:192.0.2.7/120", "192.0.2.0/24"),
            ("0.0.0.0/0", "0.0.0.0/0"),
        ] {
            assert_eq!(client(typed).map(|net| net.to_string()), Ok(parsed.into()));
        }
        for wrong in [
            "",
            "phone7",
            "192.0.2.7/33",
            "192.0.2",
            "192.0.2.7:443",
            "/24",
        ] {
            assert!(client(wrong).is_err(), "{wrong}");
        }
    }
}

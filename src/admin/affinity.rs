//! What may be wrong with a question about pins, and how a client is written in one.
//!
//! Owns these errors and their words. Must not know tables. Invariant: an error names what has to be said instead.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::unknown::Unknown;

/// A client as typed: an address or a network, such as `192.0.2.7`, `192.0.2.0/24` or `2001:db8::/64`; an IPv4-mapped
/// address is its IPv4 address, and bits after the prefix do not count.
///
/// # Errors
///
/// What is wrong with it.
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
            .map_err(|_| format!("{text:?} has no such prefix"))?,
        None => net,
    };
    Ok(net.trunc())
}

/// Why a question about pins has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AffinityError {
    /// No group has this name.
    UnknownGroup(Unknown),
    /// No pool has this name.
    UnknownPool(Unknown),
    /// Nothing that is meant has a backend of this name.
    UnknownBackend {
        /// The backend.
        backend: Unknown,
        /// The group or the pool that was named, in words; `None` is any of them.
        within: Option<String>,
    },
    /// A client that asks for this name does not come to the pool.
    OtherPool {
        /// The name.
        name: String,
        /// The pool.
        pool: String,
    },
    /// The backend is in none of the groups whose pins are meant.
    OtherGroups {
        /// The backend.
        backend: String,
        /// Those groups.
        groups: Vec<String>,
    },
    /// Nobody who asks for this is routed to a pool with affinity.
    UnknownName(String),
    /// The pool is in another group.
    ForeignPool {
        /// The group that was named.
        group: String,
        /// The pool.
        pool: String,
    },
    /// The pool is in no group.
    NoAffinity(String),
    /// No pool is in any group.
    NoGroups,
    /// An upgrade is under way: the new process might not hear of the change.
    Upgrading,
    /// Several groups fit, and one has to be named.
    WhichGroup(Vec<String>),
    /// The group pins by name, and none is named.
    WhichName(String),
    /// The group pins by source, and no client is named.
    WhichClient(String),
    /// What is named is more than one client to the group.
    ManyClients {
        /// The group.
        group: String,
        /// What was named.
        named: IpNet,
        /// How long the prefix of one client is there.
        one: u8,
    },
    /// The cursor is of no page.
    Cursor(String),
    /// The source is no part of the group's key.
    NotBySource(String),
    /// The name is no part of the group's key.
    NotByName(String),
    /// The group pins neither by source nor by name.
    BySessionAlone(String),
    /// The table holds `max_entries` pins, and each of them is in use.
    Full(String),
}

/// What kind of fault an [`AffinityError`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AffinityErrorKind {
    /// The question lacks something or says what makes no sense.
    Wrong,
    /// What is named does not exist.
    Missing,
    /// It cannot be as things are.
    Impossible,
}

impl AffinityError {
    /// What kind of fault it is.
    #[must_use]
    pub fn fault(&self) -> AffinityErrorKind {
        match self {
            Self::UnknownGroup(_)
            | Self::UnknownPool(_)
            | Self::UnknownBackend { .. }
            | Self::ForeignPool { .. }
            | Self::OtherPool { .. }
            | Self::OtherGroups { .. }
            | Self::UnknownName(_) => AffinityErrorKind::Missing,
            Self::WhichGroup(_)
            | Self::WhichName(_)
            | Self::WhichClient(_)
            | Self::ManyClients { .. }
            | Self::Cursor(_) => AffinityErrorKind::Wrong,
            Self::NoAffinity(_)
            | Self::NoGroups
            | Self::Upgrading
            | Self::NotBySource(_)
            | Self::NotByName(_)
            | Self::BySessionAlone(_)
            | Self::Full(_) => AffinityErrorKind::Impossible,
        }
    }
}

impl fmt::Display for AffinityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Upgrading => f.write_str("an upgrade is under way; ask again in a moment"),
            Self::UnknownGroup(group) => write!(
                f,
                "there is no affinity group {:?}{}",
                group.name(),
                group.instead("affinity group")
            ),
            Self::UnknownPool(pool) => {
                write!(
                    f,
                    "there is no pool {:?}{}",
                    pool.name(),
                    pool.instead("pool")
                )
            }
            Self::UnknownBackend { backend, within } => {
                let (name, instead) = (backend.name(), backend.instead("backend"));
                match within {
                    Some(within) => write!(f, "{within} has no backend {name:?}{instead}"),
                    None => write!(f, "no pool with affinity has a backend {name:?}{instead}"),
                }
            }
            Self::UnknownName(name) => {
                write!(f, "no route leads {name:?} to a pool with affinity")
            }
            Self::OtherPool { name, pool } => {
                write!(f, "no route leads {name:?} to pool {pool:?}")
            }
            Self::OtherGroups { backend, groups } => write!(
                f,
                "the pins that are meant are of affinity group {}, where no pool has a backend {backend:?}",
                groups.join(", ")
            ),
            Self::ForeignPool { group, pool } => {
                write!(f, "pool {pool:?} is not in group {group:?}")
            }
            Self::NoAffinity(pool) => write!(f, "pool {pool:?} has no affinity"),
            Self::NoGroups => f.write_str("no pool has affinity"),
            Self::WhichGroup(groups) => {
                write!(
                    f,
                    "more than one affinity group fits, name one of them: {}",
                    groups.join(", ")
                )
            }
            Self::WhichName(group) => {
                write!(f, "group {group:?} pins by name: the name is wanted, too")
            }
            Self::WhichClient(group) => {
                write!(
                    f,
                    "group {group:?} pins by source: the client is wanted, too"
                )
            }
            Self::ManyClients { group, named, one } => write!(
                f,
                "{named} is more than one client: group {group:?} takes a /{one} for one"
            ),
            Self::Cursor(cursor) => write!(f, "the cursor {cursor:?} is of no page"),
            Self::NotBySource(group) => write!(f, "group {group:?} does not pin by source"),
            Self::NotByName(group) => write!(f, "group {group:?} does not pin by name"),
            Self::BySessionAlone(group) => {
                write!(f, "group {group:?} pins by TLS session alone")
            }
            Self::Full(group) => {
                write!(
                    f,
                    "every pin of group {group:?} is in use, and there is no room for more"
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
        for (typed, meant) in [
            ("192.0.2.7", "192.0.2.7/32"),
            ("192.0.2.7/24", "192.0.2.0/24"),
            ("2001:db8::7", "2001:db8::7/128"),
            ("2001:db8::7/64", "2001:db8::/64"),
            ("::ffff:192.0.2.7", "192.0.2.7/32"),
            ("::ffff:192.0.2.7/120", "192.0.2.0/24"),
            ("0.0.0.0/0", "0.0.0.0/0"),
        ] {
            assert_eq!(client(typed).map(|net| net.to_string()), Ok(meant.into()));
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

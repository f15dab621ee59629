//! Which tables, keys and backends are meant by what was typed.
//!
//! Owns the way from names to the table's own terms, and which questions make no sense. Invariant: what is named and
//! does not exist is an error, and never a filter that lets everything through.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::backend_filter::{BackendFilter, NamedBackend};
use super::names;
use super::names::ConfiguredName;
use crate::admin::view::{PinFilter, PinOrder};
use crate::admin::{AffinityError, Unknown};
use crate::affinity::shard::{Key, Member};
use crate::affinity::table::{Cursor, Pins, TableFilter};
use crate::config::model::SourcePrefix;
use crate::snapshot::Snapshot;
use crate::upstream::pool::Pool;

/// Pins that one look through a table finds at most.
const FOUND: usize = 1000;

/// The pins that are meant in one group.
pub(super) struct PinQuery {
    /// The group's table.
    pub(super) pins: Arc<Pins>,
    /// One for each configured name, where names are asked for; no pin fits two of them.
    pub(super) filters: Vec<TableFilter>,
}

/// One filter of one group: what a look goes through.
pub(super) struct QueryPart<'a> {
    /// The group's table.
    pub(super) pins: &'a Pins,
    /// The filter.
    pub(super) filter: &'a TableFilter,
    /// Which of the group's filters it is.
    pub(super) nth: usize,
}

impl PinQuery {
    /// Each filter, in order.
    pub(super) fn parts(&self) -> impl Iterator<Item = QueryPart<'_>> {
        self.filters
            .iter()
            .enumerate()
            .map(|(nth, filter)| QueryPart {
                pins: &self.pins,
                filter,
                nth,
            })
    }
}

/// A client's key, and the configured name that it comes under, whether that is part of the key or not.
#[derive(Debug)]
pub(super) struct NamedKey {
    /// The key.
    pub(super) key: Key,
    /// The name.
    pub(super) name: Arc<str>,
}

/// Pins that are to be.
pub(super) struct PinRequest {
    /// The group's table.
    pub(super) pins: Arc<Pins>,
    /// One, or more where listeners know the name under several patterns.
    pub(super) keys: Vec<NamedKey>,
    /// Where they are to lead.
    pub(super) member: Member,
    /// The backend's name.
    pub(super) backend: Arc<str>,
}

/// The tables that are meant: all of them, or one.
pub(super) fn groups<'a>(
    snapshot: &'a Snapshot,
    group: Option<&str>,
) -> Result<Vec<&'a Arc<Pins>>, AffinityError> {
    let Some(group) = group else {
        return Ok(snapshot.groups.iter().collect());
    };
    let found = snapshot.groups.iter().find(|pins| **pins.group() == *group);
    found.map(|pins| vec![pins]).ok_or_else(|| {
        let names = snapshot.groups.iter().map(|pins| &**pins.group());
        AffinityError::UnknownGroup(Unknown::new(group, names))
    })
}

/// What a filter means in each group in which anything can fit.
///
/// # Errors
///
/// What it names that does not exist, or that is no part of any key.
pub(super) fn meant(
    snapshot: &Snapshot,
    filter: &PinFilter,
) -> Result<Vec<PinQuery>, AffinityError> {
    let mut groups = groups(snapshot, filter.group.as_deref())?;
    let leads = BackendFilter::of(snapshot, filter)?;
    let nowhere = |_| leads.nowhere(snapshot, filter.group.as_deref());
    narrow(&mut groups, |pins| leads.in_group(pins), nowhere)?;
    if filter.client.is_some() {
        let by_source = |pins: &Pins| pins.settings().by_source;
        narrow(&mut groups, by_source, AffinityError::NotBySource)?;
    }
    let known = match &filter.name {
        None => None,
        Some(name) => {
            let known = names::asked(snapshot, name)?;
            let by_name = |pins: &Pins| pins.settings().by_name;
            narrow(&mut groups, by_name, AffinityError::NotByName)?;
            let led_there = |pins: &Pins| {
                known
                    .iter()
                    .any(|known| known.group() == Some(pins.group()))
            };
            narrow(&mut groups, led_there, |_| {
                AffinityError::UnknownName(name.clone())
            })?;
            Some(known)
        }
    };
    let meant = |pins: &Arc<Pins>| PinQuery {
        pins: pins.clone(),
        filters: filters(pins, filter, &leads, known.as_deref()),
    };
    Ok(groups.into_iter().map(meant).collect())
}

/// A filter in a table's own terms: one, or one for each of the names.
fn filters(
    pins: &Pins,
    filter: &PinFilter,
    leads: &BackendFilter,
    known: Option<&[ConfiguredName]>,
) -> Vec<TableFilter> {
    let mut names = match known {
        Some(known) => {
            let here = known
                .iter()
                .filter(|known| known.group() == Some(pins.group()));
            here.map(|known| Some(pins.number_name(&known.matched)))
                .collect()
        }
        None => vec![None],
    };
    // They are sorted, so equal ones, which lead to several pools, stand side by side.
    names.dedup();
    let prefix = pins.settings().source_prefix;
    let one = |name| TableFilter {
        clients: filter.client.map(|client| widened(client, prefix)),
        name,
        members: leads.members(pins),
    };
    names.into_iter().map(one).collect()
}

/// What a move means: the pins, and the backend. Where several groups have such a backend, the one in which a pin fits.
pub(super) fn moving(
    snapshot: &Snapshot,
    filter: &PinFilter,
    to: &str,
) -> Result<(PinQuery, NamedBackend), AffinityError> {
    let to = NamedBackend::find(&snapshot.pools, to)?;
    let mut meant = meant(snapshot, filter)?;
    let groups: Vec<String> = meant
        .iter()
        .map(|meant| meant.pins.group().to_string())
        .collect();
    meant.retain(|meant| to.in_group(&meant.pins));
    if meant.len() > 1 {
        let (pinned, none): (Vec<_>, Vec<_>) =
            meant.into_iter().partition(|meant| moves_any(meant, &to));
        // Where nothing would be moved, any of the groups says so.
        meant = match pinned.is_empty() {
            true => none.into_iter().take(1).collect(),
            false => pinned,
        };
    }
    let one = only(meant, |meant| meant.pins.group())?;
    let one = one.ok_or_else(|| match filter.group.as_deref() {
        Some(group) => to.missing(snapshot, Some(group)),
        None => AffinityError::OtherGroups {
            backend: to.backend.to_string(),
            groups,
        },
    })?;
    Ok((one, to))
}

/// Whether a pin that is meant leads elsewhere than to this backend.
fn moves_any(meant: &PinQuery, to: &NamedBackend) -> bool {
    meant.parts().any(|part| {
        let mut cursor = Some(Cursor::default());
        while let Some(at) = cursor {
            let (found, next) = part.pins.page(part.filter, at, FOUND, super::LOOKS);
            if found.iter().any(|kept| kept.backend != to.backend) {
                return true;
            }
            cursor = next;
        }
        false
    })
}

/// What an order means: one group and at least one key.
pub(super) fn ordered(snapshot: &Snapshot, order: &PinOrder) -> Result<PinRequest, AffinityError> {
    let mut groups = groups(snapshot, order.group.as_deref())?;
    let known = match &order.name {
        Some(name) => Some(names::asked(snapshot, name)?),
        None => None,
    };
    // A client that asks for a name comes to the pools that its routes lead to, and nowhere else.
    let reached: Option<Vec<Arc<Pool>>> = known
        .as_ref()
        .map(|known| known.iter().map(|known| known.pool.clone()).collect());
    let reached = reached.as_deref().unwrap_or(&snapshot.pools);
    let to = NamedBackend::find(reached, &order.backend);
    let to = to.map_err(|error| not_reached(snapshot, reached, order).unwrap_or(error))?;
    groups.retain(|pins| to.in_group(pins));
    let missing = || to.missing(snapshot, order.group.as_deref());
    let pins = only(groups, |pins| pins.group())?.ok_or_else(missing)?;
    let known = known.map(|mut known| {
        known.retain(|known| to.in_pool(&known.pool) && known.group() == Some(pins.group()));
        known
    });
    Ok(PinRequest {
        pins: pins.clone(),
        keys: keys_of(pins, order, known.as_deref())?,
        member: to.member(pins),
        backend: to.backend,
    })
}

/// That the pool which an order names is there, and its name does not lead to it.
fn not_reached(
    snapshot: &Snapshot,
    reached: &[Arc<Pool>],
    order: &PinOrder,
) -> Option<AffinityError> {
    let name = order.name.clone()?;
    let (pool, _) = order.backend.split_once('/')?;
    let is_it = |known: &Arc<Pool>| *known.name == *pool;
    if reached.iter().any(is_it) || !snapshot.pools.iter().any(is_it) {
        return None;
    }
    // What is wrong with the backend itself is said first.
    Some(match NamedBackend::find(&snapshot.pools, &order.backend) {
        Err(error) => error,
        Ok(_) => AffinityError::OtherPool {
            name,
            pool: pool.to_owned(),
        },
    })
}

/// The keys of the one client that an order is about.
fn keys_of(
    pins: &Pins,
    order: &PinOrder,
    known: Option<&[ConfiguredName]>,
) -> Result<Vec<NamedKey>, AffinityError> {
    let (settings, group) = (pins.settings(), pins.group().to_string());
    let source = match (settings.by_source, order.client) {
        (true, Some(client)) => one_client(client, settings.source_prefix, &group)?,
        (true, None) => return Err(AffinityError::WhichClient(group)),
        (false, Some(_)) => return Err(AffinityError::NotBySource(group)),
        (false, None) => IpAddr::from([0; 4]),
    };
    match (settings.by_name, known) {
        (true, Some(known)) => Ok(keys(pins, known, source)),
        (true, None) => Err(AffinityError::WhichName(group)),
        (false, _) if settings.by_source => Ok(vec![key(pins, "".into(), source)]),
        (false, _) => Err(AffinityError::BySessionAlone(group)),
    }
}

/// The keys of a client in a table, by the configured names that it comes under; each once.
pub(super) fn keys(pins: &Pins, known: &[ConfiguredName], client: IpAddr) -> Vec<NamedKey> {
    let here = known
        .iter()
        .filter(|known| known.group() == Some(pins.group()));
    let mut keys: Vec<NamedKey> = here
        .map(|known| key(pins, known.matched.clone(), client))
        .collect();
    // They are sorted by name, so equal ones stand side by side.
    keys.dedup_by_key(|named| named.key);
    keys
}

fn key(pins: &Pins, name: Arc<str>, client: IpAddr) -> NamedKey {
    let key = pins.key(client, pins.number_name(&name));
    NamedKey { key, name }
}

/// The one that is left, if any is.
fn only<T>(mut left: Vec<T>, group: impl Fn(&T) -> &Arc<str>) -> Result<Option<T>, AffinityError> {
    if left.len() > 1 {
        let groups = left.iter().map(|one| group(one).to_string()).collect();
        return Err(AffinityError::WhichGroup(groups));
    }
    Ok(left.pop())
}

/// Keeps the groups in which something fits; where that leaves none, it is an error, which may name the first.
fn narrow(
    groups: &mut Vec<&Arc<Pins>>,
    fits: impl Fn(&Pins) -> bool,
    error: impl FnOnce(String) -> AffinityError,
) -> Result<(), AffinityError> {
    let first = groups.first().map(|pins| pins.group().to_string());
    groups.retain(|pins| fits(pins));
    if groups.is_empty() {
        return Err(first.map_or(AffinityError::NoGroups, error));
    }
    Ok(())
}

/// The address of one client, where a group takes all of `client` for one.
fn one_client(client: IpNet, prefix: SourcePrefix, group: &str) -> Result<IpAddr, AffinityError> {
    let one = match client {
        IpNet::V4(_) => prefix.ipv4,
        IpNet::V6(_) => prefix.ipv6,
    };
    if client.prefix_len() < one {
        return Err(AffinityError::ManyClients {
            group: group.into(),
            named: client,
            one,
        });
    }
    Ok(client.addr())
}

/// As much of a network as a group tells apart.
pub(super) fn widened(client: IpNet, prefix: SourcePrefix) -> IpNet {
    let one = match client {
        IpNet::V4(_) => prefix.ipv4,
        IpNet::V6(_) => prefix.ipv6,
    };
    IpNet::new(client.addr(), client.prefix_len().min(one)).map_or(client, |net| net.trunc())
}

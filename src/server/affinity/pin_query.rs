//! The tables, keys and backends of an administrator's query or order.
//!
//! Owns the way from names to the numbers of tables, and which queries are invalid. Must not know what is done with the pins.
//! Invariant: a name that does not exist is an error, and never a filter that selects everything.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::backend_filter::{BackendFilter, NamedBackend};
use super::names::{self, ConfiguredName};
use crate::admin::view::{PinAssignment, PinFilter};
use crate::admin::{AffinityError, UnknownName};
use crate::affinity::shard::{Key, Member};
use crate::affinity::table::{Cursor, Pins, TableFilter};
use crate::config::model::SourcePrefix;
use crate::snapshot::Snapshot;
use crate::upstream::pool::Pool;

/// The most pins of one page.
const PAGE: usize = 1000;

/// The pins that are selected in one group.
pub(super) struct PinQuery {
    /// The group's table.
    pub(super) pins: Arc<Pins>,
    /// One for each configured name, if a name is given; no pin matches two of them.
    pub(super) filters: Vec<TableFilter>,
}

/// One filter of one group.
pub(super) struct QueryPart<'a> {
    /// The group's table.
    pub(super) pins: &'a Pins,
    /// The filter.
    pub(super) filter: &'a TableFilter,
    /// Its index among the filters of the group.
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

/// A client's key and its configured name, whether that is part of the key or not.
#[derive(Debug)]
pub(super) struct NamedKey {
    /// The key.
    pub(super) key: Key,
    /// The name.
    pub(super) name: Arc<str>,
}

/// Pins to be created or moved.
pub(super) struct PinRequest {
    /// The group's table.
    pub(super) pins: Arc<Pins>,
    /// One, or more if the name matches several patterns.
    pub(super) keys: Vec<NamedKey>,
    /// Their backend.
    pub(super) member: Member,
    /// The backend's name.
    pub(super) backend: Arc<str>,
}

/// The table of this group, or all tables.
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
        AffinityError::UnknownGroup(UnknownName::new(group, names))
    })
}

/// The query of a filter in each group in which it can select pins.
///
/// # Errors
///
/// If it names something that does not exist, or that is not part of any key.
pub(super) fn queries(
    snapshot: &Snapshot,
    filter: &PinFilter,
) -> Result<Vec<PinQuery>, AffinityError> {
    let mut groups = groups(snapshot, filter.group.as_deref())?;
    let backends = BackendFilter::of(snapshot, filter)?;
    let not_in_groups = |_| backends.not_in_groups(snapshot, filter.group.as_deref());
    narrow(&mut groups, |pins| backends.in_group(pins), not_in_groups)?;
    if filter.client.is_some() {
        let by_source = |pins: &Pins| pins.settings().by_source;
        narrow(&mut groups, by_source, AffinityError::NotBySource)?;
    }
    let known = match &filter.name {
        None => None,
        Some(name) => {
            let known = names::matching(snapshot, name)?;
            let by_name = |pins: &Pins| pins.settings().by_name;
            narrow(&mut groups, by_name, AffinityError::NotByName)?;
            let has_name = |pins: &Pins| {
                known
                    .iter()
                    .any(|known| known.group() == Some(pins.group()))
            };
            narrow(&mut groups, has_name, |_| {
                AffinityError::UnknownName(name.clone())
            })?;
            Some(known)
        }
    };
    let query = |pins: &Arc<Pins>| PinQuery {
        pins: pins.clone(),
        filters: filters(pins, filter, &backends, known.as_deref()),
    };
    Ok(groups.into_iter().map(query).collect())
}

/// The filters for a table: one, or one for each of the names.
fn filters(
    pins: &Pins,
    filter: &PinFilter,
    backends: &BackendFilter,
    known: Option<&[ConfiguredName]>,
) -> Vec<TableFilter> {
    let mut names = match known {
        Some(known) => {
            let here = known
                .iter()
                .filter(|known| known.group() == Some(pins.group()));
            here.map(|known| Some(pins.intern_name(&known.matched)))
                .collect()
        }
        None => vec![None],
    };
    // They are sorted, so equal names of several pools are adjacent.
    names.dedup();
    let prefix = pins.settings().source_prefix;
    let one = |name| TableFilter {
        clients: filter.client.map(|client| widened(client, prefix)),
        name,
        members: backends.members(pins),
    };
    names.into_iter().map(one).collect()
}

/// The pins of a move, and the new backend. If several groups have such a backend: the one with a pin to move.
pub(super) fn move_query(
    snapshot: &Snapshot,
    filter: &PinFilter,
    to: &str,
) -> Result<(PinQuery, NamedBackend), AffinityError> {
    let to = NamedBackend::find(&snapshot.pools, to)?;
    let mut queries = queries(snapshot, filter)?;
    let groups: Vec<String> = queries
        .iter()
        .map(|query| query.pins.group().to_string())
        .collect();
    queries.retain(|query| to.in_group(&query.pins));
    if queries.len() > 1 {
        let (moving, idle): (Vec<_>, Vec<_>) =
            queries.into_iter().partition(|query| moves_any(query, &to));
        // If nothing would be moved, any of the groups will do.
        queries = match moving.is_empty() {
            true => idle.into_iter().take(1).collect(),
            false => moving,
        };
    }
    let one = only(queries, |query| query.pins.group())?;
    let one = one.ok_or_else(|| match filter.group.as_deref() {
        Some(group) => to.missing(snapshot, Some(group)),
        None => AffinityError::BackendNotInGroups {
            backend: to.backend.to_string(),
            groups,
        },
    })?;
    Ok((one, to))
}

/// Whether the query selects a pin to another backend than this.
fn moves_any(query: &PinQuery, to: &NamedBackend) -> bool {
    query.parts().any(|part| {
        let mut cursor = Some(Cursor::default());
        while let Some(at) = cursor {
            let (found, next) = part.pins.page(part.filter, at, PAGE, super::CELLS_PER_CALL);
            if found.iter().any(|record| record.backend != to.backend) {
                return true;
            }
            cursor = next;
        }
        false
    })
}

/// The pins of an order: one group and at least one key.
pub(super) fn request(
    snapshot: &Snapshot,
    order: &PinAssignment,
) -> Result<PinRequest, AffinityError> {
    let mut groups = groups(snapshot, order.group.as_deref())?;
    let known = match &order.name {
        Some(name) => Some(names::matching(snapshot, name)?),
        None => None,
    };
    // A client that requests a name gets only to the pools of its routes.
    let reachable: Option<Vec<Arc<Pool>>> = known
        .as_ref()
        .map(|known| known.iter().map(|known| known.pool.clone()).collect());
    let reachable = reachable.as_deref().unwrap_or(&snapshot.pools);
    let to = NamedBackend::find(reachable, &order.backend);
    let to = to.map_err(|error| unreachable_pool(snapshot, reachable, order).unwrap_or(error))?;
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

/// The error that the pool of an order exists, but clients that request its name do not get there.
fn unreachable_pool(
    snapshot: &Snapshot,
    reachable: &[Arc<Pool>],
    order: &PinAssignment,
) -> Option<AffinityError> {
    let name = order.name.clone()?;
    let (pool, _) = order.backend.split_once('/')?;
    let is_it = |known: &Arc<Pool>| *known.name == *pool;
    if reachable.iter().any(is_it) || !snapshot.pools.iter().any(is_it) {
        return None;
    }
    // An error of the backend itself has precedence.
    Some(match NamedBackend::find(&snapshot.pools, &order.backend) {
        Err(error) => error,
        Ok(_) => AffinityError::NameNotInPool {
            name,
            pool: pool.to_owned(),
        },
    })
}

/// The keys of the client of an order.
fn keys_of(
    pins: &Pins,
    order: &PinAssignment,
    known: Option<&[ConfiguredName]>,
) -> Result<Vec<NamedKey>, AffinityError> {
    let (settings, group) = (pins.settings(), pins.group().to_string());
    let source = match (settings.by_source, order.client) {
        (true, Some(client)) => one_client(client, settings.source_prefix, &group)?,
        (true, None) => return Err(AffinityError::ClientRequired(group)),
        (false, Some(_)) => return Err(AffinityError::NotBySource(group)),
        (false, None) => IpAddr::from([0; 4]),
    };
    match (settings.by_name, known) {
        (true, Some(known)) => Ok(keys(pins, known, source)),
        (true, None) => Err(AffinityError::NameRequired(group)),
        (false, _) if settings.by_source => Ok(vec![key(pins, "".into(), source)]),
        (false, _) => Err(AffinityError::BySessionOnly(group)),
    }
}

/// The keys of a client in a table under these configured names, each once.
pub(super) fn keys(pins: &Pins, known: &[ConfiguredName], client: IpAddr) -> Vec<NamedKey> {
    let here = known
        .iter()
        .filter(|known| known.group() == Some(pins.group()));
    let mut keys: Vec<NamedKey> = here
        .map(|known| key(pins, known.matched.clone(), client))
        .collect();
    // They are sorted by name, so equal ones are adjacent.
    keys.dedup_by_key(|named| named.key);
    keys
}

fn key(pins: &Pins, name: Arc<str>, client: IpAddr) -> NamedKey {
    let key = pins.key(client, pins.intern_name(&name));
    NamedKey { key, name }
}

/// The only element, if there is one.
fn only<T>(mut left: Vec<T>, group: impl Fn(&T) -> &Arc<str>) -> Result<Option<T>, AffinityError> {
    if left.len() > 1 {
        let groups = left.iter().map(|one| group(one).to_string()).collect();
        return Err(AffinityError::AmbiguousGroup(groups));
    }
    Ok(left.pop())
}

/// Retains the groups that fit. If none does, the error can name the first one.
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

/// The address of a client, if the group does not distinguish the addresses of `client`.
fn one_client(client: IpNet, prefix: SourcePrefix, group: &str) -> Result<IpAddr, AffinityError> {
    let one = match client {
        IpNet::V4(_) => prefix.ipv4,
        IpNet::V6(_) => prefix.ipv6,
    };
    if client.prefix_len() < one {
        return Err(AffinityError::NotOneClient {
            group: group.into(),
            named: client,
            one,
        });
    }
    Ok(client.addr())
}

/// The network, widened to the prefix of a group.
pub(super) fn widened(client: IpNet, prefix: SourcePrefix) -> IpNet {
    let one = match client {
        IpNet::V4(_) => prefix.ipv4,
        IpNet::V6(_) => prefix.ipv6,
    };
    IpNet::new(client.addr(), client.prefix_len().min(one)).map_or(client, |net| net.trunc())
}

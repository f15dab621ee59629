//! Queries and changes of pins by an administrator.
//!
//! Owns pages of pins, the changes, and their log lines. Must not know HTTP, or how a table finds its pins. Invariant: every
//! change that affects something is logged once for each group, with no more of a client's address than
//! `log.client_address` allows.

mod backend_filter;
mod names;
mod pin_query;
mod pin_view;

use ipnet::IpNet;

use crate::admin::view::{
    ClientPin, ClientPins, ClientQuery, PinAssignment, PinFilter, PinPage, PinResult, PinnedKey,
    PinsChanged,
};
use crate::admin::{AffinityError, Caller, ForwardedChange};
use crate::affinity::table::{self, Cursor};
use crate::config::model::{ClientAddress, SourcePrefix};
use crate::snapshot::Snapshot;
use crate::upstream::backend::Availability;
use pin_query::{PinQuery, QueryPart};
pub(super) use pin_view::view_entry;
use pin_view::{entry, network};

/// Cells of a table that one call visits: a millisecond's work or two, so that no call holds up its thread.
const CELLS_PER_CALL: usize = 1 << 16;

/// At most `most` of the pins that `filter` selects, from `cursor` on.
pub(super) fn page(
    snapshot: &Snapshot,
    filter: &PinFilter,
    cursor: Option<&str>,
    most: usize,
) -> Result<PinPage, AffinityError> {
    let queries = pin_query::queries(snapshot, filter)?;
    let parts: Vec<QueryPart<'_>> = queries.iter().flat_map(PinQuery::parts).collect();
    let (mut at, mut within) = match cursor {
        Some(text) => {
            find_cursor(&parts, text).ok_or_else(|| AffinityError::InvalidCursor(text.into()))?
        }
        None => (0, Cursor::default()),
    };
    let mut entries = Vec::new();
    // One part after the other, until there are enough or a part has used its limit.
    while at < parts.len() && entries.len() < most {
        let part = &parts[at];
        let left = most - entries.len();
        let (found, next) = part.pins.page(part.filter, within, left, CELLS_PER_CALL);
        entries.extend(found.iter().map(|record| entry(part.pins, record)));
        within = next.unwrap_or_default();
        if next.is_some() {
            break;
        }
        at += 1;
    }
    let on = parts.get(at);
    let cursor = on.map(|part| format!("{within}~{}@{}", part.nth, part.pins.group()));
    Ok(PinPage { entries, cursor })
}

/// The part of a cursor, and the position in it.
fn find_cursor(parts: &[QueryPart<'_>], text: &str) -> Option<(usize, Cursor)> {
    let (position, group) = text.split_once('@')?;
    let (within, nth) = position.split_once('~')?;
    let nth: usize = nth.parse().ok()?;
    let is_it = |part: &QueryPart<'_>| **part.pins.group() == *group && part.nth == nth;
    Some((parts.iter().position(is_it)?, within.parse().ok()?))
}

/// Every pin of a client, found by lookup however large the tables are.
pub(super) fn client_pins(
    snapshot: &Snapshot,
    query: &ClientQuery,
) -> Result<ClientPins, AffinityError> {
    let groups = pin_query::groups(snapshot, query.group.as_deref())?;
    let known = match &query.name {
        Some(name) => names::matching(snapshot, name)?,
        None => names::all(snapshot),
    };
    let mut found = Vec::new();
    for pins in groups {
        for named in pin_query::keys(pins, &known, query.client) {
            let pin = pins.view(&named.key);
            let pin = pin.and_then(|view| view_entry(pins, &view));
            let pin = pin.map(|pin| ClientPin {
                pin,
                sessions: pins.sessions_of(&named.key) as u64,
            });
            found.extend(pin);
        }
    }
    Ok(ClientPins {
        client: query.client,
        name: query.name.clone(),
        pins: found,
    })
}

/// Creates a pin or moves one.
pub(super) fn pin(snapshot: &Snapshot, order: &PinAssignment) -> Result<PinResult, AffinityError> {
    let request = pin_query::request(snapshot, order)?;
    let (pins, group) = (&request.pins, request.pins.group());
    let mut made = Vec::new();
    for named in &request.keys {
        let before = pins.view(&named.key).map(|view| view.member);
        pins.pin(named.key, request.member)
            .map_err(|_| AffinityError::TableFull(group.to_string()))?;
        let before = before.and_then(|member| pins.member_name(member));
        let client = network(named.key.source, &pins.settings());
        let name = pins.settings().by_name.then(|| named.name.to_string());
        let caller = Caller::current();
        tracing::info!(
            target: "lyncpin::server",
            by = caller.by.as_str(),
            from = caller.from,
            group = &**group,
            client = client.as_deref(),
            name = name.as_deref(),
            backend = &*request.backend,
            before = before.as_deref(),
            "the administrator pinned a client"
        );
        made.push(PinnedKey {
            client,
            name,
            before: before.map(|name| name.to_string()),
        });
    }
    Ok(PinResult {
        group: group.to_string(),
        backend: request.backend.to_string(),
        pins: made,
    })
}

/// Moves the pins that `filter` selects to `to`, and resets the connections that hold them.
pub(super) fn move_pins(
    snapshot: &Snapshot,
    availability: &Availability,
    filter: &PinFilter,
    to: &str,
) -> Result<PinsChanged, AffinityError> {
    let (query, to) = pin_query::move_query(snapshot, filter, to)?;
    let mut changed = PinsChanged::default();
    for filter in &query.filters {
        let member = to.member(&query.pins);
        add(&mut changed, query.pins.move_to(filter, member));
    }
    availability.wake_workers();
    let action = PinOperation::Moved(&to.backend);
    log(snapshot, &query, filter, &changed, action);
    Ok(changed)
}

/// The order to move pins for another process, whose configuration may be older: with the group and the backend that it
/// means here.
pub(super) fn resolved(snapshot: &Snapshot, filter: PinFilter, to: String) -> ForwardedChange {
    match pin_query::move_query(snapshot, &filter, &to) {
        Ok((query, to)) => ForwardedChange::Move {
            filter: PinFilter {
                group: Some(query.pins.group().to_string()),
                ..filter
            },
            to: to.backend.to_string(),
        },
        Err(_) => ForwardedChange::Move { filter, to },
    }
}

/// The same as [`move_pins`] in a process that has stopped accepting. Pins can be moved to a backend that it does not know,
/// since only the reset of their connections matters.
pub(super) fn move_draining(
    snapshot: &Snapshot,
    availability: &Availability,
    filter: &PinFilter,
    to: &str,
) -> Result<PinsChanged, AffinityError> {
    match move_pins(snapshot, availability, filter, to) {
        Err(AffinityError::UnknownBackend { .. }) => {}
        moved => return moved,
    }
    let mut sum = PinsChanged::default();
    for query in pin_query::queries(snapshot, filter)? {
        for filter in &query.filters {
            let member = query.pins.intern_member(to);
            add(&mut sum, query.pins.move_to(filter, member));
        }
        log(snapshot, &query, filter, &sum, PinOperation::Moved(to));
    }
    availability.wake_workers();
    Ok(sum)
}

/// Clears the pins that `filter` selects.
pub(super) fn clear_pins(
    snapshot: &Snapshot,
    filter: &PinFilter,
) -> Result<PinsChanged, AffinityError> {
    let mut sum = PinsChanged::default();
    for query in pin_query::queries(snapshot, filter)? {
        let mut changed = PinsChanged::default();
        for filter in &query.filters {
            add(&mut changed, query.pins.clear(filter));
        }
        log(snapshot, &query, filter, &changed, PinOperation::Cleared);
        sum.pins += changed.pins;
        sum.sessions += changed.sessions;
        sum.connections += changed.connections;
    }
    Ok(sum)
}

fn add(sum: &mut PinsChanged, totals: table::ChangeTotals) {
    sum.pins += totals.pins as u64;
    sum.sessions += totals.sessions as u64;
    sum.connections += totals.connections as u64;
}

/// An administrator's change of pins.
#[derive(Clone, Copy)]
enum PinOperation<'a> {
    /// They were moved to this backend.
    Moved(&'a str),
    /// They were cleared.
    Cleared,
}

/// Logs what was moved or cleared in one group, and by which filter.
fn log(
    snapshot: &Snapshot,
    query: &PinQuery,
    filter: &PinFilter,
    changed: &PinsChanged,
    action: PinOperation<'_>,
) {
    if *changed == PinsChanged::default() {
        return;
    }
    let prefix = query.pins.settings().source_prefix;
    let address = snapshot.config.log.client_address;
    let client = filter
        .client
        .map(|client| logged(client, address, prefix).to_string());
    let (message, to) = match action {
        PinOperation::Moved(to) => (
            "the administrator moved pins: their connections are reset",
            Some(to),
        ),
        PinOperation::Cleared => ("the administrator cleared pins", None),
    };
    let caller = Caller::current();
    tracing::info!(
        target: "lyncpin::server",
        by = caller.by.as_str(),
        from = caller.from,
        group = &**query.pins.group(),
        client,
        name = filter.name,
        pool = filter.pool,
        backend = filter.backend,
        to,
        pins = changed.pins,
        sessions = changed.sessions,
        connections = changed.connections,
        "{message}"
    );
}

/// The part of an administrator's client filter that may be logged.
fn logged(client: IpNet, address: ClientAddress, prefix: SourcePrefix) -> IpNet {
    match address {
        ClientAddress::Full => client,
        ClientAddress::Prefix => pin_query::widened(client, prefix),
    }
}

#[cfg(test)]
mod tests;

//! Pins, as an administrator asks for them and changes them.
//!
//! Owns pages, what is done with the pins that are meant, and what is told of it. Knows no HTTP, and not how a table
//! finds its pins. Invariant: every change that touches something is told, once a group, with no more of a client's
//! address than `log.client_address` allows.

mod backend_filter;
mod names;
mod pin_query;
mod pin_view;

use ipnet::IpNet;

use crate::admin::view::{
    ClientPin, ClientPins, ClientQuery, PinFilter, PinOrder, PinPage, PinResult, PinnedKey,
    PinsChanged,
};
use crate::admin::{AffinityError, Caller, Order};
use crate::affinity::table::{self, Cursor};
use crate::config::model::{ClientAddress, SourcePrefix};
use crate::snapshot::Snapshot;
use crate::upstream::backend::Availability;
use pin_query::{PinQuery, QueryPart};
pub(super) use pin_view::viewed;
use pin_view::{network, shown};

/// Places of a table that one call looks at: a millisecond's work or two, so that no call holds up what else its thread
/// does.
const LOOKS: usize = 1 << 16;

/// At most `most` of the pins that are meant, from `cursor` on.
pub(super) fn page(
    snapshot: &Snapshot,
    filter: &PinFilter,
    cursor: Option<&str>,
    most: usize,
) -> Result<PinPage, AffinityError> {
    let meant = pin_query::meant(snapshot, filter)?;
    let parts: Vec<QueryPart<'_>> = meant.iter().flat_map(PinQuery::parts).collect();
    let (mut at, mut within) = match cursor {
        Some(text) => {
            find_cursor(&parts, text).ok_or_else(|| AffinityError::Cursor(text.into()))?
        }
        None => (0, Cursor::default()),
    };
    let mut entries = Vec::new();
    // One part after the other, until there are enough or a look has gone as far as it may.
    while at < parts.len() && entries.len() < most {
        let part = &parts[at];
        let left = most - entries.len();
        let (found, next) = part.pins.page(part.filter, within, left, LOOKS);
        entries.extend(found.iter().map(|kept| shown(part.pins, kept)));
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

/// The part and the place in it that a cursor stands for.
fn find_cursor(parts: &[QueryPart<'_>], text: &str) -> Option<(usize, Cursor)> {
    let (place, group) = text.split_once('@')?;
    let (within, nth) = place.split_once('~')?;
    let nth: usize = nth.parse().ok()?;
    let is_it = |part: &QueryPart<'_>| **part.pins.group() == *group && part.nth == nth;
    Some((parts.iter().position(is_it)?, within.parse().ok()?))
}

/// Every pin that counts for a client: looked up, however many there are.
pub(super) fn client_pins(
    snapshot: &Snapshot,
    query: &ClientQuery,
) -> Result<ClientPins, AffinityError> {
    let groups = pin_query::groups(snapshot, query.group.as_deref())?;
    let known = match &query.name {
        Some(name) => names::asked(snapshot, name)?,
        None => names::all(snapshot),
    };
    let mut found = Vec::new();
    for pins in groups {
        for named in pin_query::keys(pins, &known, query.client) {
            let pin = pins.view(&named.key);
            let pin = pin.and_then(|view| viewed(pins, &view, &named.name));
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

/// Makes a pin, or lets one lead elsewhere.
pub(super) fn pin(snapshot: &Snapshot, order: &PinOrder) -> Result<PinResult, AffinityError> {
    let ordered = pin_query::ordered(snapshot, order)?;
    let (pins, group) = (&ordered.pins, ordered.pins.group());
    let mut made = Vec::new();
    for named in &ordered.keys {
        let before = pins.view(&named.key).map(|view| view.member);
        pins.pin(named.key, ordered.member)
            .map_err(|_| AffinityError::Full(group.to_string()))?;
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
            backend = &*ordered.backend,
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
        backend: ordered.backend.to_string(),
        pins: made,
    })
}

/// Lets the pins that are meant lead to `to`, and resets the connections that hold them.
pub(super) fn move_pins(
    snapshot: &Snapshot,
    availability: &Availability,
    filter: &PinFilter,
    to: &str,
) -> Result<PinsChanged, AffinityError> {
    let (meant, to) = pin_query::moving(snapshot, filter, to)?;
    let mut touched = PinsChanged::default();
    for filter in &meant.filters {
        let member = to.member(&meant.pins);
        add(&mut touched, meant.pins.move_to(filter, member));
    }
    availability.wake_workers();
    tell(
        snapshot,
        &meant,
        filter,
        &touched,
        PinChange::Moved(&to.backend),
    );
    Ok(touched)
}

/// The order to move pins as another process understands it, whose configuration may be an older one: with the group and
/// the backend that are meant here.
pub(super) fn resolved(snapshot: &Snapshot, filter: PinFilter, to: String) -> Order {
    match pin_query::moving(snapshot, &filter, &to) {
        Ok((meant, to)) => Order::Move {
            filter: PinFilter {
                group: Some(meant.pins.group().to_string()),
                ..filter
            },
            to: to.backend.to_string(),
        },
        Err(_) => Order::Move { filter, to },
    }
}

/// The same as [`move_pins`] in a process that accepts nobody any more: pins are moved to a backend too that it does not
/// know, since the reset of their connections is what counts.
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
    for meant in pin_query::meant(snapshot, filter)? {
        for filter in &meant.filters {
            let member = meant.pins.number_member(to);
            add(&mut sum, meant.pins.move_to(filter, member));
        }
        tell(snapshot, &meant, filter, &sum, PinChange::Moved(to));
    }
    availability.wake_workers();
    Ok(sum)
}

/// Forgets the pins that are meant.
pub(super) fn clear_pins(
    snapshot: &Snapshot,
    filter: &PinFilter,
) -> Result<PinsChanged, AffinityError> {
    let mut sum = PinsChanged::default();
    for meant in pin_query::meant(snapshot, filter)? {
        let mut touched = PinsChanged::default();
        for filter in &meant.filters {
            add(&mut touched, meant.pins.clear(filter));
        }
        tell(snapshot, &meant, filter, &touched, PinChange::Cleared);
        sum.pins += touched.pins;
        sum.sessions += touched.sessions;
        sum.connections += touched.connections;
    }
    Ok(sum)
}

fn add(sum: &mut PinsChanged, touched: table::ChangeTotals) {
    sum.pins += touched.pins as u64;
    sum.sessions += touched.sessions as u64;
    sum.connections += touched.connections as u64;
}

/// What was done with pins.
#[derive(Clone, Copy)]
enum PinChange<'a> {
    /// They lead to this backend now.
    Moved(&'a str),
    /// They are forgotten.
    Cleared,
}

/// Tells of what was moved or forgotten in one group, and by which filter.
fn tell(
    snapshot: &Snapshot,
    meant: &PinQuery,
    filter: &PinFilter,
    touched: &PinsChanged,
    change: PinChange<'_>,
) {
    if *touched == PinsChanged::default() {
        return;
    }
    let prefix = meant.pins.settings().source_prefix;
    let address = snapshot.config.log.client_address;
    let client = filter
        .client
        .map(|client| logged(client, address, prefix).to_string());
    let (message, to) = match change {
        PinChange::Moved(to) => (
            "the administrator moved pins: their connections are reset",
            Some(to),
        ),
        PinChange::Cleared => ("the administrator cleared pins", None),
    };
    let caller = Caller::current();
    tracing::info!(
        target: "lyncpin::server",
        by = caller.by.as_str(),
        from = caller.from,
        group = &**meant.pins.group(),
        client,
        name = filter.name,
        pool = filter.pool,
        backend = filter.backend,
        to,
        pins = touched.pins,
        sessions = touched.sessions,
        connections = touched.connections,
        "{message}"
    );
}

/// As much of what an administrator typed as the log may show.
fn logged(client: IpNet, address: ClientAddress, prefix: SourcePrefix) -> IpNet {
    match address {
        ClientAddress::Full => client,
        ClientAddress::Prefix => pin_query::widened(client, prefix),
    }
}

#[cfg(test)]
mod tests;

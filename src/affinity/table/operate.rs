//! What an administrator queries and changes.
//!
//! Owns the filter of pins, and the limit of one query. Must not know pools or HTTP. Invariant: however large a table is, no
//! lock is held for more than a few hundred pins, and no query visits more cells than it is allowed to.

use std::collections::HashSet;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;

use super::Pins;
use super::key_table::{Next, STEP};
use super::sync::Ordering;
use crate::affinity::record::PinRecord;
use crate::affinity::shard::{Key, Member, PinAction, PinView, Session, TableFull, source_bits};
use crate::config::model;

/// Which pins are selected: those that match all conditions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableFilter {
    /// Of clients whose source prefix overlaps this network.
    pub clients: Option<IpNet>,
    /// Of the configured name with this number ([`Pins::intern_name`]).
    pub name: Option<u32>,
    /// To one of these backends.
    pub members: Option<Vec<Member>>,
}

/// What an administrator's change affected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChangeTotals {
    /// Pins of clients.
    pub pins: usize,
    /// Pins of TLS sessions.
    pub sessions: usize,
    /// Connections of this process that hold one of them.
    pub connections: usize,
}

/// Where a query continues.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cursor {
    shard: usize,
    cell: u32,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.shard, self.cell)
    }
}

impl FromStr for Cursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (shard, cell) = text.split_once('-').ok_or(())?;
        Ok(Self {
            shard: shard.parse().map_err(|_| ())?,
            cell: cell.parse().map_err(|_| ())?,
        })
    }
}

impl TableFilter {
    /// Whether every pin is selected.
    #[must_use]
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    fn selects_clients(&self) -> bool {
        self.clients.is_some() || self.name.is_some()
    }

    fn matches(&self, pin: &PinView<Key>, settings: &model::AffinitySettings) -> bool {
        self.matches_client(&pin.key, settings) && self.matches_member(pin.member)
    }

    fn matches_client(&self, key: &Key, settings: &model::AffinitySettings) -> bool {
        let from = |net: &IpNet| overlaps(net, key.source, settings);
        self.clients.as_ref().is_none_or(from) && self.name.is_none_or(|name| key.name == name)
    }

    fn matches_member(&self, member: Member) -> bool {
        let members = self.members.as_ref();
        members.is_none_or(|members| members.contains(&member))
    }
}

/// Whether a client of `net` can have this source prefix.
fn overlaps(net: &IpNet, source: [u8; 16], settings: &model::AffinitySettings) -> bool {
    if !settings.by_source {
        return false;
    }
    let address = Ipv6Addr::from(source);
    let (address, own): (IpAddr, u8) = match address.to_ipv4_mapped() {
        Some(v4) => (v4.into(), settings.source_prefix.ipv4),
        None => (address.into(), settings.source_prefix.ipv6),
    };
    if own >= net.prefix_len() {
        return net.contains(&address);
    }
    // The pin's prefix is wider than `net`.
    net.addr().is_ipv4() == address.is_ipv4()
        && source_bits(net.addr(), settings.source_prefix) == source
}

impl Pins {
    /// The key of a client from `source`; `name` is the configured name's number.
    #[must_use]
    pub fn key(&self, source: IpAddr, name: u32) -> Key {
        let settings = self.settings();
        Key {
            source: if settings.by_source {
                source_bits(source, settings.source_prefix)
            } else {
                [0; 16]
            },
            name: if settings.by_name { name } else { 0 },
        }
    }

    /// The number of a configured name.
    #[must_use]
    pub fn known_name(&self, name: &str) -> Option<u32> {
        self.names.known(name)
    }

    /// The number of a backend's name.
    #[must_use]
    pub fn known_member(&self, backend: &str) -> Option<Member> {
        self.members.known(backend).map(Member)
    }

    /// Pins of clients that `filter` selects, from `cursor` on: at most `most`, from at most `cells` cells. Returns where to
    /// continue; `None` at the end. Each pin that exists all the while is returned exactly once.
    #[must_use]
    pub fn page(
        &self,
        filter: &TableFilter,
        cursor: Cursor,
        most: usize,
        cells: usize,
    ) -> (Vec<PinRecord>, Option<Cursor>) {
        let (mut found, mut visited) = (Vec::new(), 0);
        let mut cell = cursor.cell;
        let (now, settings) = (self.now(), self.settings());
        let ended = self.clients.with_each(cursor.shard, |shard| {
            if found.len() >= most || visited >= cells {
                return Next::End;
            }
            let left = (most - found.len()).min(cells - visited);
            let step = STEP.min(u32::try_from(left).unwrap_or(STEP));
            visited += step as usize;
            let next = shard.visit(cell, step, now, |pin| {
                if filter.matches(pin, &settings) {
                    found.extend(self.record_at(pin, now));
                }
                PinAction::Keep
            });
            cell = next.unwrap_or(0);
            next.map_or(Next::Shard, |_| Next::Again)
        });
        (found, ended.map(|shard| Cursor { shard, cell }))
    }

    /// Creates the client's pin or moves it to `to`. Returns the previous backend if the pin has moved. Connections stay open.
    ///
    /// # Errors
    ///
    /// If the table is full and every pin in use.
    pub fn pin(&self, key: Key, to: Member) -> Result<Option<Member>, TableFull> {
        let home = self.clients.home(&key);
        let now = self.now();
        self.clients.with(home, |shard, tag, room| {
            shard.set((key, tag), now, to, room)
        })
    }

    /// Moves every pin that `filter` selects to `to`, and those of the sessions that its client used last. The connections
    /// that hold one must end: the caller wakes the workers.
    pub fn move_to(&self, filter: &TableFilter, to: Member) -> ChangeTotals {
        let totals = self.change(filter, |member| {
            if member == to {
                PinAction::Keep
            } else {
                PinAction::Move(to)
            }
        });
        self.moves.fetch_add(1, Ordering::Release);
        totals
    }

    /// Clears every pin that `filter` selects, and those of the sessions that its client used last. Connections stay open.
    pub fn clear(&self, filter: &TableFilter) -> ChangeTotals {
        self.change(filter, |_| PinAction::Clear)
    }

    /// Clears every pin to `member`. Returns the number of those of clients.
    pub fn clear_member(&self, member: Member) -> usize {
        let members = Some(vec![member]);
        let filter = TableFilter {
            members,
            ..TableFilter::default()
        };
        self.clear(&filter).pins
    }

    /// Number of known TLS sessions that this client used last.
    #[must_use]
    pub fn sessions_of(&self, key: &Key) -> usize {
        let client = self.secret.client(key);
        let mut sessions = 0;
        self.sessions.visit(self.now(), |pin| {
            sessions += usize::from(pin.key.client == client);
            PinAction::Keep
        });
        sessions
    }

    fn change(&self, filter: &TableFilter, action: impl Fn(Member) -> PinAction) -> ChangeTotals {
        let mut totals = ChangeTotals::default();
        // The clients whose sessions are selected, unless all are.
        let mut clients: Option<HashSet<u64>> = filter.selects_clients().then(HashSet::new);
        let with_sessions = self.sessions() > 0;
        let (now, settings) = (self.now(), self.settings());
        let foreign = self.foreign.lock();
        self.clients.visit(now, |pin| {
            if !filter.matches_client(&pin.key, &settings) {
                return PinAction::Keep;
            }
            // Also if the pin has another backend: its client's sessions have backends of their own.
            if with_sessions && let Some(clients) = &mut clients {
                clients.insert(self.secret.client(&pin.key));
            }
            if !filter.matches_member(pin.member) {
                return PinAction::Keep;
            }
            let action = action(pin.member);
            if action != PinAction::Keep {
                totals.pins += 1;
                let uses = pin.in_use.saturating_sub(foreign.of_client(&pin.key));
                totals.connections += uses as usize;
            }
            action
        });
        self.sessions.visit(now, |pin: &PinView<Session>| {
            let of_client = clients
                .as_ref()
                .is_none_or(|clients| clients.contains(&pin.key.client));
            if !of_client || !filter.matches_member(pin.member) {
                return PinAction::Keep;
            }
            let action = action(pin.member);
            if action != PinAction::Keep {
                totals.sessions += 1;
                // Where clients have pins, their connections hold those as well and are counted there.
                let alone = !settings.by_source && !settings.by_name;
                let uses = pin.in_use.saturating_sub(foreign.of_session(&pin.key));
                totals.connections += if alone { uses as usize } else { 0 };
            }
            action
        });
        totals
    }
}

//! Pins as an administrator sees and changes them.
//!
//! Owns what is meant by "these pins", and how far one look goes. Invariant: however large a table is, no lock is held
//! for more than a few hundred pins, and no one call looks at more places than it was told to.

use std::collections::HashSet;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;

use super::key_table::{Next, STEP};
use super::sync::Ordering;
use super::{PinRecord, Pins};
use crate::affinity::shard::{Key, Member, PinAction, PinView, Session, TableFull, source_bits};
use crate::config::model;

/// Which pins are meant: those that everything here says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableFilter {
    /// Of clients from these addresses: their source prefix and this overlap.
    pub clients: Option<IpNet>,
    /// Of the configured name that has this number ([`Pins::number_name`]).
    pub name: Option<u32>,
    /// That lead to one of these backends.
    pub members: Option<Vec<Member>>,
}

/// What an administrator's change came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChangeTotals {
    /// Pins of clients.
    pub pins: usize,
    /// Pins of TLS sessions.
    pub sessions: usize,
    /// Connections of this process that held one of them.
    pub connections: usize,
}

/// Where a look through the table goes on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cursor {
    shard: usize,
    place: u32,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.shard, self.place)
    }
}

impl FromStr for Cursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (shard, place) = text.split_once('-').ok_or(())?;
        Ok(Self {
            shard: shard.parse().map_err(|_| ())?,
            place: place.parse().map_err(|_| ())?,
        })
    }
}

impl TableFilter {
    /// Whether every pin is meant.
    #[must_use]
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    fn means_clients_only(&self) -> bool {
        self.clients.is_some() || self.name.is_some()
    }

    fn means(&self, pin: &PinView<Key>, settings: &model::AffinitySettings) -> bool {
        self.means_client(&pin.key, settings) && self.means_member(pin.member)
    }

    fn means_client(&self, key: &Key, settings: &model::AffinitySettings) -> bool {
        let from = |net: &IpNet| overlap(net, key.source, settings);
        self.clients.as_ref().is_none_or(from) && self.name.is_none_or(|name| key.name == name)
    }

    fn means_member(&self, member: Member) -> bool {
        let members = self.members.as_ref();
        members.is_none_or(|members| members.contains(&member))
    }
}

/// Whether a client of `net` can have this source prefix.
fn overlap(net: &IpNet, source: [u8; 16], settings: &model::AffinitySettings) -> bool {
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
    // The pin stands for more than was asked for.
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

    /// The number of a name that is configured.
    #[must_use]
    pub fn known_name(&self, name: &str) -> Option<u32> {
        self.names.known(name)
    }

    /// The number of a backend of the group.
    #[must_use]
    pub fn known_member(&self, backend: &str) -> Option<Member> {
        self.members.known(backend).map(Member)
    }

    /// Pins of clients that `filter` means, from `cursor` on: at most `most`, of at most `looks` places. Says where to go
    /// on; `None` is the end. Each pin that stands all the while is met exactly once.
    #[must_use]
    pub fn page(
        &self,
        filter: &TableFilter,
        cursor: Cursor,
        most: usize,
        looks: usize,
    ) -> (Vec<PinRecord>, Option<Cursor>) {
        let (mut found, mut looked) = (Vec::new(), 0);
        let mut place = cursor.place;
        let (now, settings) = (self.now(), self.settings());
        let ended = self.clients.with_each(cursor.shard, |shard| {
            if found.len() >= most || looked >= looks {
                return Next::End;
            }
            let left = (most - found.len()).min(looks - looked);
            let step = STEP.min(u32::try_from(left).unwrap_or(STEP));
            looked += step as usize;
            let next = shard.visit(place, step, now, |pin| {
                if filter.means(pin, &settings) {
                    found.extend(self.kept(pin, self.kept_key(pin.key)));
                }
                PinAction::Keep
            });
            place = next.unwrap_or(0);
            next.map_or(Next::Shard, |_| Next::Again)
        });
        (found, ended.map(|shard| Cursor { shard, place }))
    }

    /// Makes the client's pin lead to `to`, be it new or not. Says where it led before, if it led elsewhere. Connections
    /// live on.
    ///
    /// # Errors
    ///
    /// Where the table is full and every pin in use.
    pub fn pin(&self, key: Key, to: Member) -> Result<Option<Member>, TableFull> {
        let home = self.clients.home(&key);
        let now = self.now();
        self.clients.with(home, |shard, tag, room| {
            shard.set((key, tag), now, to, room)
        })
    }

    /// Makes every pin that `filter` means lead to `to`, and those of the sessions that its client used last, and recalls
    /// the connections that hold one. Whoever calls it wakes them.
    pub fn move_to(&self, filter: &TableFilter, to: Member) -> ChangeTotals {
        let touched = self.change(filter, |member| {
            if member == to {
                PinAction::Keep
            } else {
                PinAction::Move(to)
            }
        });
        self.recalls.fetch_add(1, Ordering::Release);
        touched
    }

    /// Forgets every pin that `filter` means, and those of the sessions that its client used last. Connections live on.
    pub fn clear(&self, filter: &TableFilter) -> ChangeTotals {
        self.change(filter, |_| PinAction::Forget)
    }

    /// Forgets every pin that leads to `member`; says how many of clients there were.
    pub fn release(&self, member: Member) -> usize {
        let members = Some(vec![member]);
        let filter = TableFilter {
            members,
            ..TableFilter::default()
        };
        self.clear(&filter).pins
    }

    /// TLS sessions that a client used last and that are known.
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

    fn change(&self, filter: &TableFilter, verdict: impl Fn(Member) -> PinAction) -> ChangeTotals {
        let mut touched = ChangeTotals::default();
        // Which clients' sessions are meant, where not all are.
        let mut clients: Option<HashSet<u64>> = filter.means_clients_only().then(HashSet::new);
        let with_sessions = self.sessions() > 0;
        let (now, settings) = (self.now(), self.settings());
        let foreign = self.foreign.now();
        self.clients.visit(now, |pin| {
            if !filter.means_client(&pin.key, &settings) {
                return PinAction::Keep;
            }
            // Also where the pin leads elsewhere: its client's sessions have backends of their own.
            if with_sessions && let Some(clients) = &mut clients {
                clients.insert(self.secret.client(&pin.key));
            }
            if !filter.means_member(pin.member) {
                return PinAction::Keep;
            }
            let verdict = verdict(pin.member);
            if verdict != PinAction::Keep {
                touched.pins += 1;
                let uses = pin.in_use.saturating_sub(foreign.of_client(&pin.key));
                touched.connections += uses as usize;
            }
            verdict
        });
        self.sessions.visit(now, |pin: &PinView<Session>| {
            let of_client = clients
                .as_ref()
                .is_none_or(|clients| clients.contains(&pin.key.client));
            if !of_client || !filter.means_member(pin.member) {
                return PinAction::Keep;
            }
            let verdict = verdict(pin.member);
            if verdict != PinAction::Keep {
                touched.sessions += 1;
                // Where clients have pins, their connections hold those too, and are counted there.
                let alone = !settings.by_source && !settings.by_name;
                let uses = pin.in_use.saturating_sub(foreign.of_session(&pin.key));
                touched.connections += if alone { uses as usize } else { 0 };
            }
            verdict
        });
        touched
    }
}

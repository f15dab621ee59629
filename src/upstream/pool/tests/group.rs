//! Compares pools of one group with the model in `rules`, while clients connect through any pool, servers fail, drain and
//! return, administrators move pins, time passes and the table is full.

mod connections;
mod events;

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::rules::{
    MAX_ENTRIES, ModelServer, ModelState, Name, Pin, Servers, TTL, Table, To, expect,
    expect_redispatch,
};
use super::*;
use crate::affinity::record::PinKey;
use crate::affinity::table::TableFilter;
use crate::protocol::tls::client_hello::{
    ClientHello, ClientHelloParser, HelloProgress, SessionId,
};
use events::{GroupEvent, Whom, event};

const NAMES: [Name; 3] = ["fe01", "fe02", "fe03"];
const POOLS: [&[Name]; 3] = [
    &["fe01", "fe02", "fe03"],
    &["fe03", "fe01", "fe02"],
    &["fe02", "fe01"],
];
const CLIENTS: u8 = 6;
const SESSIONS: u8 = 6;

/// A connection, and what it holds according to the rules.
struct Open {
    pick: Selection,
    pool: usize,
    client: u8,
    at: Name,
    tried: Vec<Name>,
    /// `Some` if it holds its client's pin; whether the pin was moved since.
    pin: Option<bool>,
    /// The same for the session that it resumed.
    session: Option<(u8, bool)>,
    /// Sessions that it was granted; held in addition to the selection.
    granted: Vec<(u8, PinGuard<Session>, bool)>,
    is_disconnected: bool,
}

struct World {
    pins: Arc<Pins>,
    pools: Vec<Arc<Pool>>,
    servers: Vec<Servers>,
    clients: Table,
    sessions: Table,
    open: Vec<Open>,
    /// Number of each learned session, by its hash.
    known: BTreeMap<[u8; 16], u8>,
    now: u64,
}

fn hello(session: u8) -> ClientHello {
    let bytes = include_bytes!("../../../../tests/data/hello/tls13-517-bytes.bin");
    let HelloProgress::Hello(hello) = ClientHelloParser::new().advance(bytes) else {
        panic!()
    };
    ClientHello {
        session_id: id(session),
        ticket: None,
        ..*hello
    }
}

fn id(session: u8) -> SessionId {
    SessionId::new(&[session; 32]).unwrap()
}

impl World {
    fn new() -> Self {
        let pins = pins_of(MAX_ENTRIES);
        pins.stop_time();
        let pool = |(number, names): (usize, &&[Name])| {
            let name = format!("pool{number}");
            let backends = names.iter().map(|named| backend(&name, named, Some(3)));
            Arc::new(Pool::new(
                (*name).into(),
                backends.collect(),
                Balance::RoundRobin,
                Some(pins.clone()),
                None,
                OnDown::Close,
            ))
        };
        let pools = POOLS.iter().enumerate().map(pool).collect();
        let server = ModelServer {
            up: true,
            state: ModelState::Ready,
            in_flight: 0,
            most: 3,
        };
        let servers = |names: &&[Name]| names.iter().map(|&name| (name, server)).collect();
        Self {
            pools,
            servers: POOLS.iter().map(servers).collect(),
            pins,
            clients: Table::new(),
            sessions: Table::new(),
            open: Vec::new(),
            known: BTreeMap::new(),
            now: 0,
        }
    }

    fn key(&self, client: u8) -> Key {
        self.pins.key([192, 0, 2, client].into(), 1)
    }

    fn apply(&mut self, event: GroupEvent) {
        let open = |which: usize| which % self.open.len().max(1);
        match event {
            GroupEvent::Open(pool, client, session) => self.open_connection(pool, client, session),
            GroupEvent::Connected(at) => self.connected(open(at)),
            GroupEvent::Fail(at) => self.fail(open(at)),
            GroupEvent::Learn(at, session) => self.learn(open(at), session),
            GroupEvent::End(at) => self.end(open(at)),
            GroupEvent::Health(pool, name, up) => self.health(pool, NAMES[name], up),
            GroupEvent::State(name, state_code) => self.state(NAMES[name], state_code),
            GroupEvent::Move(whom, to) => self.change(whom, Some(NAMES[to])),
            GroupEvent::Clear(whom) => self.change(whom, None),
            GroupEvent::Pin(client, to) => self.pin(client, NAMES[to]),
            GroupEvent::Pass(time) => {
                self.now += time;
                self.pins.pass_time(std::time::Duration::from_millis(time));
            }
            GroupEvent::Sweep => self.pins.sweep(10),
        }
        let now = self.now;
        for table in [&mut self.clients, &mut self.sessions] {
            table.retain(|_, pin| pin.in_use > 0 || pin.expires > now);
        }
    }

    fn server(&mut self, pool: usize, name: Name) -> &mut ModelServer {
        self.servers[pool].get_mut(name).unwrap()
    }

    /// The backends that the policy may choose.
    fn candidates(&self, pool: usize, tried: &[Name]) -> Vec<Name> {
        let servers = self.servers[pool].iter();
        let takes =
            |(name, server): &(&Name, &ModelServer)| server.takes_new() && !tried.contains(name);
        servers.filter(takes).map(|(name, _)| *name).collect()
    }

    fn name_of(&self, pick: &Selection) -> Name {
        NAMES
            .into_iter()
            .find(|name| **name == *pick.backend().name)
            .unwrap()
    }

    /// The pins with a backend: of clients, then of sessions.
    fn current(&mut self) -> [BTreeMap<u8, (Name, u32)>; 2] {
        let mut found = [BTreeMap::new(), BTreeMap::new()];
        self.pins.export(&mut |kept| {
            let backend = NAMES.into_iter().find(|name| **name == *kept.backend);
            let pin = (backend.unwrap(), kept.usage.connections());
            match kept.key {
                PinKey::Client { source, .. } => drop(found[0].insert(source[15], pin)),
                PinKey::Session { hash, .. } => drop(found[1].insert(self.known[&hash], pin)),
            }
        });
        found
    }

    /// An idle pin that is gone was evicted for the new one.
    fn check_evicted(&mut self, before: &Table, was_full: bool) {
        let [current, _] = self.current();
        let gone = gone(before, &current);
        assert!(gone.len() <= usize::from(was_full), "{gone:?}");
        for gone in gone {
            assert_eq!(self.clients.remove(&gone).unwrap().in_use, 0);
        }
    }

    fn check_none_evicted(&mut self, before: &Table) {
        let [current, _] = self.current();
        assert!(gone(before, &current).is_empty());
    }

    fn health(&mut self, pool: usize, name: Name, up: bool) {
        let Some(server) = self.servers[pool].get_mut(name) else {
            return;
        };
        server.up = up;
        let health = if up { Health::Up } else { Health::Down };
        self.backend(pool, name).set_health(health, "test");
    }

    fn backend(&self, pool: usize, name: Name) -> &Arc<Backend> {
        let mut backends = self.pools[pool].backends.iter();
        backends.find(|backend| *backend.name == *name).unwrap()
    }

    fn state(&mut self, name: Name, state_code: u8) {
        let over = crate::upstream::backend::Deadline {
            at: std::time::Instant::now(),
            wall_time: std::time::SystemTime::now(),
        };
        let (model, state, deadline) = match state_code {
            0 => (ModelState::Drain, AdminState::Drain, None),
            1 => (ModelState::Drained, AdminState::Drain, Some(over)),
            2 => (ModelState::Maintain, AdminState::Maintain, None),
            _ => (ModelState::Ready, AdminState::Ready, None),
        };
        for pool in 0..POOLS.len() {
            if self.servers[pool].contains_key(name) {
                self.server(pool, name).state = model;
                self.backend(pool, name).set_state(state, deadline);
            }
        }
    }

    /// Moves or clears the matching pins.
    fn change(&mut self, whom: Whom, to: Option<Name>) {
        let filter = TableFilter {
            clients: whom
                .client
                .map(|client| format!("192.0.2.{client}/32").parse().unwrap()),
            name: None,
            members: whom
                .leading_to
                .map(|name| vec![self.pins.known_member(NAMES[name]).unwrap()]),
        };
        let touched = match to {
            Some(to) => self
                .pins
                .move_to(&filter, self.pins.known_member(to).unwrap()),
            None => self.pins.clear(&filter),
        };
        let is_changed = |pin: &Pin| {
            let matches = whom
                .leading_to
                .is_none_or(|name| pin.pinned_to == Some(NAMES[name]));
            matches && pin.pinned_to.is_some() && pin.pinned_to != to
        };
        let of_client = |number: u8| whom.client.is_none_or(|client| number == client);
        let with_pin = |clients: &Table, number: u8| {
            whom.client.is_none()
                || clients
                    .get(&number)
                    .is_some_and(|pin| pin.pinned_to.is_some())
        };
        let sessions = |(_, pin): &(&u8, &Pin)| {
            is_changed(pin) && of_client(pin.client) && with_pin(&self.clients, pin.client)
        };
        let sessions: Vec<u8> = self
            .sessions
            .iter()
            .filter(sessions)
            .map(|(number, _)| *number)
            .collect();
        let clients = |(number, pin): &(&u8, &Pin)| is_changed(pin) && of_client(**number);
        let clients: Vec<u8> = self
            .clients
            .iter()
            .filter(clients)
            .map(|(number, _)| *number)
            .collect();
        let held: u32 = clients
            .iter()
            .map(|number| self.clients[number].in_use)
            .sum();
        assert_eq!(
            (touched.pins, touched.sessions, touched.connections),
            (clients.len(), sessions.len(), held as usize)
        );
        for number in &clients {
            change_pin(self.clients.get_mut(number).unwrap(), to);
        }
        for number in &sessions {
            change_pin(self.sessions.get_mut(number).unwrap(), to);
        }
        if to.is_none() {
            return;
        }
        for open in &mut self.open {
            let of_pin = clients.contains(&open.client);
            open.pin = open.pin.map(|moved| moved || of_pin);
            let of_session = |session: u8| sessions.contains(&session);
            open.session = open
                .session
                .map(|(session, moved)| (session, moved || of_session(session)));
            for (session, _, moved) in &mut open.granted {
                *moved |= of_session(*session);
            }
        }
    }

    fn pin(&mut self, client: u8, to: Name) {
        let before = self.clients.clone();
        let was_full = self.pins.len() >= MAX_ENTRIES;
        let member = self.pins.known_member(to).unwrap();
        let pinned = self.pins.pin(self.key(client), member);
        if pinned.is_err() {
            return assert!(!has_room(&before) && !before.contains_key(&client));
        }
        if !before.contains_key(&client) {
            self.check_evicted(&before, was_full);
        }
        let pin = self
            .clients
            .entry(client)
            .or_insert_with(|| Pin::new(client));
        (pin.pinned_to, pin.candidate) = (Some(to), None);
        pin.expires = self.now + TTL;
    }

    fn check(&mut self) {
        let leading = |table: &Table| {
            let pinned_to = table
                .iter()
                .filter_map(|(number, pin)| Some((*number, (pin.pinned_to?, pin.in_use))));
            pinned_to.collect::<BTreeMap<_, _>>()
        };
        let wanted = [leading(&self.clients), leading(&self.sessions)];
        assert_eq!(self.current(), wanted);
        assert!(self.pins.len() <= MAX_ENTRIES && self.pins.sessions() <= MAX_ENTRIES);
        for (pool, servers) in self.servers.iter().enumerate() {
            for (name, server) in servers {
                assert_eq!(self.backend(pool, name).in_flight(), server.in_flight);
                assert!(server.in_flight <= server.most);
            }
        }
        for open in &mut self.open {
            let moved = open.pin == Some(true) || open.session.is_some_and(|(_, moved)| moved);
            open.is_disconnected |= open.pick.disconnect_reason().is_some();
            assert_eq!(open.is_disconnected, moved);
            assert!(
                open.granted
                    .iter()
                    .all(|(_, claim, moved)| claim.has_moved() == *moved)
            );
        }
    }
}

/// The effect of a connection that started and ended.
fn touch(table: &mut Table, number: u8, client: u8, now: u64) {
    if let Some(pin) = table.get_mut(&number) {
        pin.client = client;
        if pin.in_use == 0 {
            pin.expires = now + TTL;
        }
    }
}

/// Whether an idle pin could be evicted or a new one added.
fn has_room(table: &Table) -> bool {
    table.values().filter(|pin| pin.in_use > 0).count() < MAX_ENTRIES
}

/// Pins that had a backend and are gone.
fn gone(before: &Table, current: &BTreeMap<u8, (Name, u32)>) -> Vec<u8> {
    let gone =
        |(number, pin): &(&u8, &Pin)| pin.pinned_to.is_some() && !current.contains_key(number);
    let gone = before.iter().filter(gone);
    gone.map(|(number, _)| *number).collect()
}

fn change_pin(pin: &mut Pin, to: Option<Name>) {
    pin.pinned_to = to;
    match to {
        Some(_) => pin.candidate = None,
        None => pin.expires = 0,
    }
}

proptest! {
    #[test]
    fn pools_of_a_group_follow_the_rules(events in prop::collection::vec(event(), 1..120)) {
        let mut world = World::new();
        for event in events {
            world.apply(event);
            world.check();
        }
        while !world.open.is_empty() {
            world.apply(GroupEvent::End(0));
            world.check();
        }
        world.apply(GroupEvent::Pass(TTL + 2_000));
        world.apply(GroupEvent::Sweep);
        prop_assert!(world.pins.is_empty() && world.pins.sessions() == 0);
        for name in NAMES {
            let member = world.pins.known_member(name).unwrap();
            prop_assert_eq!(world.pins.pins_to(member), 0);
        }
    }
}

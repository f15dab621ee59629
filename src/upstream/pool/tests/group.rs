//! Pools of one group beside their rules: clients that come through any of them, while servers fall, drain and return,
//! administrators move pins, time passes and the table is full.

mod connections;
mod events;

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::rules::{BOUND, Name, Pin, Server, Servers, TTL, Table, To, Wish, judge, judge_again};
use super::*;
use crate::affinity::record::PinKey;
use crate::affinity::table::TableFilter;
use crate::protocol::tls::client_hello::{
    ClientHello, ClientHelloParser, HelloProgress, SessionId,
};
use events::{Event, Whom, event};

const NAMES: [Name; 3] = ["fe01", "fe02", "fe03"];
const POOLS: [&[Name]; 3] = [
    &["fe01", "fe02", "fe03"],
    &["fe03", "fe01", "fe02"],
    &["fe02", "fe01"],
];
const CLIENTS: u8 = 6;
const SESSIONS: u8 = 6;

/// A connection, and what it holds by the rules.
struct Open {
    pick: Selection,
    pool: usize,
    client: u8,
    at: Name,
    tried: Vec<Name>,
    /// Whether it holds its client's pin, and whether that was moved since.
    pin: Option<bool>,
    /// The same of the session that it resumed.
    session: Option<(u8, bool)>,
    /// Sessions that it was granted; held beside the pick.
    granted: Vec<(u8, PinGuard<Session>, bool)>,
    told: bool,
}

struct World {
    pins: Arc<Pins>,
    pools: Vec<Arc<Pool>>,
    servers: Vec<Servers>,
    clients: Table,
    sessions: Table,
    open: Vec<Open>,
    /// By its hash, the number of a session that was learned.
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
        let pins = pins_of(BOUND);
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
        let server = Server {
            up: true,
            state: Wish::Ready,
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

    fn happen(&mut self, event: Event) {
        let open = |which: usize| which % self.open.len().max(1);
        match event {
            Event::Come(pool, client, session) => self.come(pool, client, session),
            Event::Answer(at) => self.answer(open(at)),
            Event::Fail(at) => self.fail(open(at)),
            Event::Learn(at, session) => self.learn(open(at), session),
            Event::End(at) => self.end(open(at)),
            Event::Health(pool, name, up) => self.health(pool, NAMES[name], up),
            Event::State(name, wish) => self.state(NAMES[name], wish),
            Event::Move(whom, to) => self.change(whom, Some(NAMES[to])),
            Event::Clear(whom) => self.change(whom, None),
            Event::Pin(client, to) => self.pin(client, NAMES[to]),
            Event::Pass(time) => {
                self.now += time;
                self.pins.pass_time(std::time::Duration::from_millis(time));
            }
            Event::Sweep => self.pins.sweep(10),
        }
        let now = self.now;
        for table in [&mut self.clients, &mut self.sessions] {
            table.retain(|_, pin| pin.in_use > 0 || pin.expires > now);
        }
    }

    fn server(&mut self, pool: usize, name: Name) -> &mut Server {
        self.servers[pool].get_mut(name).unwrap()
    }

    /// Whom the policy may choose.
    fn among(&self, pool: usize, tried: &[Name]) -> Vec<Name> {
        let servers = self.servers[pool].iter();
        let takes = |(name, server): &(&Name, &Server)| server.takes_new() && !tried.contains(name);
        servers.filter(takes).map(|(name, _)| *name).collect()
    }

    fn name_of(&self, pick: &Selection) -> Name {
        NAMES
            .into_iter()
            .find(|name| **name == *pick.backend().name)
            .unwrap()
    }

    /// The pins that stand and lead somewhere: of clients, then of sessions.
    fn standing(&mut self) -> [BTreeMap<u8, (Name, u32)>; 2] {
        let mut found = [BTreeMap::new(), BTreeMap::new()];
        self.pins.export(&mut |kept| {
            let leads = NAMES.into_iter().find(|name| **name == *kept.backend);
            let told = (leads.unwrap(), kept.usage.connections());
            match kept.key {
                PinKey::Client { source, .. } => drop(found[0].insert(source[15], told)),
                PinKey::Session { hash, .. } => drop(found[1].insert(self.known[&hash], told)),
            }
        });
        found
    }

    /// An idle pin that is not there any more gave way to the one that was made.
    fn gave_way(&mut self, before: &Table, was_full: bool) {
        let [standing, _] = self.standing();
        let gone = gone(before, &standing);
        assert!(gone.len() <= usize::from(was_full), "{gone:?}");
        for gone in gone {
            assert_eq!(self.clients.remove(&gone).unwrap().in_use, 0);
        }
    }

    fn nothing_gave_way(&mut self, before: &Table) {
        let [standing, _] = self.standing();
        assert!(gone(before, &standing).is_empty());
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

    fn state(&mut self, name: Name, wish: u8) {
        let over = crate::upstream::backend::Deadline {
            at: std::time::Instant::now(),
            shown: std::time::SystemTime::now(),
        };
        let (wish, state, deadline) = match wish {
            0 => (Wish::Drain, AdminState::Drain, None),
            1 => (Wish::Drained, AdminState::Drain, Some(over)),
            2 => (Wish::Maintain, AdminState::Maintain, None),
            _ => (Wish::Ready, AdminState::Ready, None),
        };
        for pool in 0..POOLS.len() {
            if self.servers[pool].contains_key(name) {
                self.server(pool, name).state = wish;
                self.backend(pool, name).set_state(state, deadline);
            }
        }
    }

    /// Moves or forgets what is meant.
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
        let led = |pin: &Pin| {
            let meant = whom
                .leading_to
                .is_none_or(|name| pin.leads == Some(NAMES[name]));
            meant && pin.leads.is_some() && pin.leads != to
        };
        let of_client = |number: u8| whom.client.is_none_or(|client| number == client);
        let with_pin = |clients: &Table, number: u8| {
            whom.client.is_none() || clients.get(&number).is_some_and(|pin| pin.leads.is_some())
        };
        let sessions = |(_, pin): &(&u8, &Pin)| {
            led(pin) && of_client(pin.client) && with_pin(&self.clients, pin.client)
        };
        let sessions: Vec<u8> = self
            .sessions
            .iter()
            .filter(sessions)
            .map(|(number, _)| *number)
            .collect();
        let clients = |(number, pin): &(&u8, &Pin)| led(pin) && of_client(**number);
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
            open.pin = open.pin.map(|recalled| recalled || of_pin);
            let of_session = |session: u8| sessions.contains(&session);
            open.session = open
                .session
                .map(|(session, recalled)| (session, recalled || of_session(session)));
            for (session, _, recalled) in &mut open.granted {
                *recalled |= of_session(*session);
            }
        }
    }

    fn pin(&mut self, client: u8, to: Name) {
        let before = self.clients.clone();
        let was_full = self.pins.len() >= BOUND;
        let member = self.pins.known_member(to).unwrap();
        let pinned = self.pins.pin(self.key(client), member);
        if pinned.is_err() {
            return assert!(!has_room(&before) && !before.contains_key(&client));
        }
        if !before.contains_key(&client) {
            self.gave_way(&before, was_full);
        }
        let pin = self
            .clients
            .entry(client)
            .or_insert_with(|| Pin::new(client));
        (pin.leads, pin.candidate) = (Some(to), None);
        pin.expires = self.now + TTL;
    }

    fn check(&mut self) {
        let leading = |table: &Table| {
            let leads = table
                .iter()
                .filter_map(|(number, pin)| Some((*number, (pin.leads?, pin.in_use))));
            leads.collect::<BTreeMap<_, _>>()
        };
        let wanted = [leading(&self.clients), leading(&self.sessions)];
        assert_eq!(self.standing(), wanted);
        assert!(self.pins.len() <= BOUND && self.pins.sessions() <= BOUND);
        for (pool, servers) in self.servers.iter().enumerate() {
            for (name, server) in servers {
                assert_eq!(self.backend(pool, name).in_flight(), server.in_flight);
                assert!(server.in_flight <= server.most);
            }
        }
        for open in &mut self.open {
            let recalled =
                open.pin == Some(true) || open.session.is_some_and(|(_, recalled)| recalled);
            open.told |= open.pick.recalled().is_some();
            assert_eq!(open.told, recalled);
            assert!(
                open.granted
                    .iter()
                    .all(|(_, claim, recalled)| claim.is_recalled() == *recalled)
            );
        }
    }
}

/// As if a connection had begun and ended.
fn touch(table: &mut Table, number: u8, client: u8, now: u64) {
    if let Some(pin) = table.get_mut(&number) {
        pin.client = client;
        if pin.in_use == 0 {
            pin.expires = now + TTL;
        }
    }
}

/// Whether not all pins that there may be are in use.
fn has_room(table: &Table) -> bool {
    table.values().filter(|pin| pin.in_use > 0).count() < BOUND
}

/// Pins that led somewhere and stand no more.
fn gone(before: &Table, standing: &BTreeMap<u8, (Name, u32)>) -> Vec<u8> {
    let gone = |(number, pin): &(&u8, &Pin)| pin.leads.is_some() && !standing.contains_key(number);
    let gone = before.iter().filter(gone);
    gone.map(|(number, _)| *number).collect()
}

fn change_pin(pin: &mut Pin, to: Option<Name>) {
    pin.leads = to;
    match to {
        Some(_) => pin.candidate = None,
        None => pin.expires = 0,
    }
}

proptest! {
    #[test]
    fn pools_of_a_group_do_as_the_rules_say(events in prop::collection::vec(event(), 1..120)) {
        let mut world = World::new();
        for event in events {
            world.happen(event);
            world.check();
        }
        while !world.open.is_empty() {
            world.happen(Event::End(0));
            world.check();
        }
        world.happen(Event::Pass(TTL + 2_000));
        world.happen(Event::Sweep);
        prop_assert!(world.pins.is_empty() && world.pins.sessions() == 0);
        for name in NAMES {
            let member = world.pins.known_member(name).unwrap();
            prop_assert_eq!(world.pins.leading_to(member), 0);
        }
    }
}

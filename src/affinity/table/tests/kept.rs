//! Pins outside the table.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

const NAMES: [&str; 3] = ["meet.contoso.com", "dialin.contoso.com", "*.fabrikam.com"];
const BACKENDS: [&str; 3] = ["fe01", "fe02", "fe03"];

/// Tables whose names and backends have been numbered in this order.
fn table(names: &[&str], backends: &[&str], secret: &Secret) -> Arc<Pins> {
    let pins = pins_of(&settings(10), secret);
    for name in names {
        let _ = pins.number_name(name);
    }
    for backend in backends {
        let _ = pins.number_member(backend);
    }
    pins
}

fn address(client: u32) -> std::net::IpAddr {
    std::net::Ipv4Addr::from_bits(0xc000_0200 + client).into()
}

fn exported(pins: &Pins) -> HashMap<PinKey, PinRecord> {
    let mut all = HashMap::new();
    pins.export(&mut |kept| drop(all.insert(kept.key.clone(), kept)));
    all
}

/// Who used a session last, which tells no two sessions apart.
fn client_of(kept: &PinRecord) -> Option<u64> {
    match kept.key {
        PinKey::Session { client, .. } => Some(client),
        PinKey::Client { .. } => None,
    }
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Hold(u32, usize, usize),
    Learn(u32, u32, usize),
    Recognise(u32, u32),
    End(usize),
    Pin(u32, usize, usize),
    Move(usize),
    Clear(usize),
    Pass(u64),
    Sweep,
    Tell,
}

fn event() -> impl Strategy<Value = Event> {
    let (number, name, backend) = (|| 0..6u32, || 0..NAMES.len(), || 0..BACKENDS.len());
    prop_oneof![
        6 => (number(), name(), backend()).prop_map(|(a, b, c)| Event::Hold(a, b, c)),
        4 => (number(), number(), backend()).prop_map(|(a, b, c)| Event::Learn(a, b, c)),
        3 => (number(), number()).prop_map(|(a, b)| Event::Recognise(a, b)),
        8 => (0..9usize).prop_map(Event::End),
        2 => (number(), name(), backend()).prop_map(|(a, b, c)| Event::Pin(a, b, c)),
        1 => backend().prop_map(Event::Move),
        1 => backend().prop_map(Event::Clear),
        4 => (0..40_000u64).prop_map(Event::Pass),
        1 => Just(Event::Sweep),
        4 => Just(Event::Tell),
    ]
}

#[derive(Debug)]
enum Held {
    Client(#[allow(dead_code, reason = "held for its Drop")] PinGuard<Key>),
    Session(#[allow(dead_code, reason = "held for its Drop")] PinGuard<Session>),
}

struct World {
    pins: Arc<Pins>,
    held: Vec<Held>,
    /// What was told of, put together.
    told: HashMap<PinKey, PinRecord>,
}

impl World {
    fn new() -> Self {
        let pins = table(&NAMES, &BACKENDS, &Secret::random());
        pins.track();
        Self {
            pins,
            held: Vec::new(),
            told: HashMap::new(),
        }
    }

    fn member(&self, backend: usize) -> Member {
        self.pins.known_member(BACKENDS[backend]).unwrap()
    }

    fn key(&self, client: u32, name: usize) -> Key {
        let name = self.pins.known_name(NAMES[name]).unwrap();
        self.pins.key(address(client), name)
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Hold(client, name, backend) => {
                let (key, member) = (self.key(client, name), self.member(backend));
                let found = self
                    .pins
                    .begin(key, |_| Eligibility::Takes, || Some(member));
                if let Lookup::Pinned(claim, member) | Lookup::New(claim, member) = found {
                    let _ = claim.answered(member);
                    self.held.push(Held::Client(claim));
                }
            }
            Event::Learn(number, client, backend) => {
                let (client, member) = (self.key(client, 0), self.member(backend));
                let learned = self
                    .pins
                    .learn_id(&session_id(number), Some(&client), member);
                self.held.extend(learned.map(Held::Session));
            }
            Event::Recognise(number, client) => {
                let (id, client) = (session_id(number), self.key(client, 0));
                let found = self
                    .pins
                    .recognise(None, &id, Some(&client), |_| Eligibility::Takes);
                self.held
                    .extend(found.map(|found| Held::Session(found.claim)));
            }
            Event::End(at) if !self.held.is_empty() => {
                drop(self.held.swap_remove(at % self.held.len()));
            }
            Event::End(_) => {}
            Event::Pin(client, name, backend) => {
                let pinned = self.pins.pin(self.key(client, name), self.member(backend));
                assert!(pinned.is_ok() || self.held.len() >= 10);
            }
            Event::Move(backend) => {
                self.pins
                    .move_to(&TableFilter::default(), self.member(backend));
            }
            Event::Clear(backend) => drop(self.pins.release(self.member(backend))),
            Event::Pass(time) => self.pins.pass_time(Duration::from_millis(time)),
            Event::Sweep => self.pins.sweep(100),
            Event::Tell => self.tell(),
        }
    }

    /// What was told comes to what stands.
    fn tell(&mut self) {
        let told = &mut self.told;
        let all = self.pins.take_changes(&mut |change| match change {
            TableChange::Set(kept) => drop(told.insert(kept.key.clone(), kept)),
            TableChange::Gone(key) => drop(told.remove(&key)),
        });
        assert_eq!(all, crate::affinity::shard::Completeness::All);
        let now = self.pins.now();
        // Time goes on while this looks: of what is near its end, nobody can say whether it stands.
        let lasts = |kept: &PinRecord| kept.expires.is_none_or(|at| at.0 > now.0 + 5_000);
        told.retain(|_, kept| kept.expires.is_none_or(|at| at > now));
        let bare = |pins: &HashMap<PinKey, PinRecord>| {
            let lasting = pins.values().filter(|kept| lasts(kept)).cloned();
            let bare = lasting.map(|kept| PinRecord {
                in_use: kept.in_use.min(1),
                ..kept
            });
            let keyed = bare.map(|kept| (kept.key.clone(), (client_of(&kept), kept)));
            keyed.collect::<HashMap<_, _>>()
        };
        assert_eq!(bare(told), bare(&exported(&self.pins)));
    }

    /// Another process, whose clock is a second ahead so that nothing has more than its time left, takes all over.
    fn hand_over(&self) {
        let (mut names, mut backends) = (NAMES, BACKENDS);
        names.reverse();
        backends.reverse();
        let heir = table(&names, &backends, self.pins.secret());
        heir.pass_time(self.pins.since(heir.now()) + Duration::from_secs(1));
        let all = exported(&self.pins);
        for kept in all.values() {
            let lives = kept.expires.is_none_or(|at| at > heir.now());
            assert!(
                heir.restore(kept) == lives
                    || kept
                        .expires
                        .is_some_and(|at| heir.until(at) < Duration::from_secs(5))
            );
            assert!(!heir.restore(kept), "it stands already");
        }
        let mut handed = exported(&heir);
        handed.retain(|_, kept| heir.until(kept.expires.unwrap()) >= Duration::from_secs(5));
        for (key, kept) in &handed {
            let before = &all[key];
            assert_eq!(kept.in_use, 0);
            let expires = before.expires.or(kept.expires);
            let wanted = PinRecord {
                in_use: 0,
                expires,
                ..before.clone()
            };
            assert_eq!((kept, client_of(kept)), (&wanted, client_of(&wanted)));
        }
        let lasts = |kept: &&PinRecord| {
            kept.expires
                .is_none_or(|at| heir.until(at) >= Duration::from_secs(10))
        };
        assert!(
            all.values()
                .filter(lasts)
                .all(|kept| handed.contains_key(&kept.key))
        );
    }
}

proptest! {
    #[test]
    fn whoever_is_told_of_every_change_knows_what_stands(
        events in prop::collection::vec(event(), 1..80)
    ) {
        let mut world = World::new();
        for event in events {
            world.happen(event);
        }
        world.tell();
        world.hand_over();
        world.held.clear();
        world.tell();
        world.pins.pass_time(Duration::from_secs(62));
        world.pins.sweep(100);
        prop_assert!(world.pins.is_empty() && world.pins.sessions() == 0);
        for client in 0..6 {
            let client = world.pins.secret.client(&world.key(client, 0));
            prop_assert_eq!(world.pins.sessions.shares.of_client(client), 0);
        }
    }
}

fn kept(pins: &Pins) -> PinRecord {
    PinRecord {
        key: PinKey::Client {
            source: pins.key(address(1), 1).source,
            name: Some(NAMES[0].into()),
        },
        backend: BACKENDS[0].into(),
        origin: Origin::Failover,
        created: pins.now(),
        expires: None,
        in_use: 3,
    }
}

#[test]
fn what_the_configuration_does_not_have_is_not_put_back() {
    let pins = table(&NAMES, &BACKENDS, &Secret::random());
    let sound = kept(&pins);
    let of = |source, name: Option<&str>| PinRecord {
        key: PinKey::Client {
            source,
            name: name.map(Into::into),
        },
        ..sound.clone()
    };
    let elsewhere = PinRecord {
        backend: "fe09".into(),
        ..sound.clone()
    };
    let long_ago = PinRecord {
        expires: Some(Moment(pins.now().0 - 1)),
        ..sound.clone()
    };
    // Half of the address is not part of any key here.
    let narrow = std::net::Ipv6Addr::from_bits((0x2001_0db8 << 96) + 1).octets();
    let whole = pins.key(address(1), 1).source;
    let unsound = [
        elsewhere,
        long_ago,
        of(whole, Some("lyncdiscover.contoso.com")),
        of(whole, None),
        of(narrow, Some(NAMES[0])),
    ];
    assert!(unsound.iter().all(|kept| !pins.restore(kept)));
    assert!(pins.is_empty());
    assert!(pins.restore(&sound));
    assert_eq!(pins.len(), 1);
}

#[test]
fn where_clients_have_no_pins_none_is_put_back() {
    let settings = model::AffinitySettings {
        by_source: false,
        by_name: false,
        ..settings(10)
    };
    let pins = pins_of(&settings, &Secret::random());
    let _ = pins.number_member(BACKENDS[0]);
    let nobody = PinKey::Client {
        source: [0; 16],
        name: None,
    };
    assert!(!pins.restore(&PinRecord {
        key: nobody,
        ..kept(&pins)
    }));
}

#[test]
fn a_pin_that_has_expired_is_no_hindrance() {
    let pins = table(&NAMES, &BACKENDS, &Secret::random());
    assert!(pins.restore(&kept(&pins)));
    pins.pass_time(Duration::from_secs(61));
    assert!(pins.restore(&kept(&pins)));
}

#[test]
fn whoever_does_not_ask_for_long_is_told_so() {
    let pins = pins(100);
    pins.track();
    let member = pins.number_member("fe01");
    for _ in 0..700 {
        (0..100).for_each(|client| drop(hold(&pins, key(client), member)));
        pins.clear(&TableFilter::default());
    }
    let mut changes = 0;
    let told = pins.take_changes(&mut |_| changes += 1);
    assert_eq!(told, crate::affinity::shard::Completeness::Part);
    assert!(changes > 0 && pins.is_empty());
    let told = pins.take_changes(&mut |change| panic!("{change:?}"));
    assert_eq!(told, crate::affinity::shard::Completeness::All);
}

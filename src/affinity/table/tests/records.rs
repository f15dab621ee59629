//! Pins outside the table.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::affinity::record::{PinChange, PinKey, PinRecord, PinUsage};

const NAMES: [&str; 3] = ["meet.contoso.com", "dialin.contoso.com", "*.fabrikam.com"];
const BACKENDS: [&str; 3] = ["fe01", "fe02", "fe03"];
const TTL: Duration = Duration::from_secs(60);

/// A table that numbered these names and backends in this order.
fn table(names: &[&str], backends: &[&str], secret: &Secret) -> Arc<Pins> {
    let pins = pins_of(&settings(10), secret);
    for name in names {
        let _ = pins.intern_name(name);
    }
    for backend in backends {
        let _ = pins.intern_member(backend);
    }
    pins
}

fn address(client: u32) -> std::net::IpAddr {
    std::net::Ipv4Addr::from_bits(0xc000_0200 + client).into()
}

fn exported(pins: &Pins) -> HashMap<PinKey, PinRecord> {
    let mut all = HashMap::new();
    pins.export(&mut |record| drop(all.insert(record.key.clone(), record)));
    all
}

/// Who used a session last, which is not part of the identity of a session.
fn client_of(record: &PinRecord) -> Option<u64> {
    match record.key {
        PinKey::Session { client, .. } => Some(client),
        PinKey::Client { .. } => None,
    }
}

/// A change is recorded when a pin comes into use, and not for each further connection.
fn with_one_use(record: PinRecord) -> PinRecord {
    let usage = match record.usage {
        PinUsage::InUse(_) => PinUsage::InUse(1),
        idle @ PinUsage::Idle(_) => idle,
    };
    PinRecord { usage, ..record }
}

#[derive(Debug, Clone, Copy)]
enum RecordEvent {
    Hold(u32, usize, usize),
    Learn(u32, u32, usize),
    Recognise(u32, u32),
    End(usize),
    Pin(u32, usize, usize),
    Move(usize),
    Clear(usize),
    Pass(u64),
    Sweep,
    TakeChanges,
}

fn event() -> impl Strategy<Value = RecordEvent> {
    let (number, name, backend) = (|| 0..6u32, || 0..NAMES.len(), || 0..BACKENDS.len());
    prop_oneof![
        6 => (number(), name(), backend()).prop_map(|(a, b, c)| RecordEvent::Hold(a, b, c)),
        4 => (number(), number(), backend()).prop_map(|(a, b, c)| RecordEvent::Learn(a, b, c)),
        3 => (number(), number()).prop_map(|(a, b)| RecordEvent::Recognise(a, b)),
        8 => (0..9usize).prop_map(RecordEvent::End),
        2 => (number(), name(), backend()).prop_map(|(a, b, c)| RecordEvent::Pin(a, b, c)),
        1 => backend().prop_map(RecordEvent::Move),
        1 => backend().prop_map(RecordEvent::Clear),
        4 => (0..40_000u64).prop_map(RecordEvent::Pass),
        1 => Just(RecordEvent::Sweep),
        4 => Just(RecordEvent::TakeChanges),
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
    /// The sum of all changes, each with the moment at which it was taken.
    sum: HashMap<PinKey, (Moment, PinRecord)>,
}

impl World {
    fn new() -> Self {
        let pins = table(&NAMES, &BACKENDS, &Secret::random());
        pins.stop_time();
        pins.track();
        Self {
            pins,
            held: Vec::new(),
            sum: HashMap::new(),
        }
    }

    fn member(&self, backend: usize) -> Member {
        self.pins.known_member(BACKENDS[backend]).unwrap()
    }

    fn key(&self, client: u32, name: usize) -> Key {
        let name = self.pins.known_name(NAMES[name]).unwrap();
        self.pins.key(address(client), name)
    }

    fn happen(&mut self, event: RecordEvent) {
        match event {
            RecordEvent::Hold(client, name, backend) => {
                let (key, member) = (self.key(client, name), self.member(backend));
                let found = self
                    .pins
                    .acquire(key, |_| Eligibility::Eligible, || Some(member));
                if let Lookup::Pinned(claim, member) | Lookup::New(claim, member) = found {
                    let _ = claim.answered(member);
                    self.held.push(Held::Client(claim));
                }
            }
            RecordEvent::Learn(number, client, backend) => {
                let (client, member) = (self.key(client, 0), self.member(backend));
                let learned = self
                    .pins
                    .learn_id(&session_id(number), Some(&client), member);
                self.held.extend(learned.map(Held::Session));
            }
            RecordEvent::Recognise(number, client) => {
                let (id, client) = (session_id(number), self.key(client, 0));
                let found = self
                    .pins
                    .recognise(None, &id, Some(&client), |_| Eligibility::Eligible);
                self.held
                    .extend(found.map(|found| Held::Session(found.guard)));
            }
            RecordEvent::End(at) if !self.held.is_empty() => {
                drop(self.held.swap_remove(at % self.held.len()));
            }
            RecordEvent::End(_) => {}
            RecordEvent::Pin(client, name, backend) => {
                let pinned = self.pins.pin(self.key(client, name), self.member(backend));
                assert!(pinned.is_ok() || self.held.len() >= 10);
            }
            RecordEvent::Move(backend) => {
                self.pins
                    .move_to(&TableFilter::default(), self.member(backend));
            }
            RecordEvent::Clear(backend) => drop(self.pins.clear_member(self.member(backend))),
            RecordEvent::Pass(time) => self.pins.pass_time(Duration::from_millis(time)),
            RecordEvent::Sweep => self.pins.sweep(100),
            RecordEvent::TakeChanges => self.take_changes(),
        }
    }

    /// The changes add up to the pins of the table.
    fn take_changes(&mut self) {
        let now = self.pins.now();
        let sum = &mut self.sum;
        let all = self.pins.take_changes(&mut |change| match change {
            PinChange::Set(record) => drop(sum.insert(record.key.clone(), (now, record))),
            PinChange::Removed(key) => drop(sum.remove(&key)),
        });
        assert_eq!(all, crate::affinity::shard::Completeness::All);
        let aged = |(then, record): &(Moment, PinRecord)| {
            let record = record.after(Duration::from_millis(now.0 - then.0))?;
            Some(with_one_use(record))
        };
        sum.retain(|_, record| aged(record).is_some());
        let expected = sum
            .iter()
            .map(|(key, record)| (key.clone(), aged(record).unwrap()));
        let known = exported(&self.pins).into_iter();
        let known = known.map(|(key, record)| (key, with_one_use(record)));
        let keyed = |(key, record): (PinKey, PinRecord)| (key, (client_of(&record), record));
        let expected: HashMap<_, _> = expected.map(keyed).collect();
        let known: HashMap<_, _> = known.map(keyed).collect();
        assert_eq!(expected, known);
    }

    /// The table of another process, whose names and backends have other numbers, imports all pins.
    fn import_all(&self) {
        let (mut names, mut backends) = (NAMES, BACKENDS);
        names.reverse();
        backends.reverse();
        let successor = table(&names, &backends, self.pins.secret());
        successor.stop_time();
        let keys = self.pins.pin_group().keys;
        let all = exported(&self.pins);
        for record in all.values() {
            // A restart, where no connection lives on.
            let usage = PinUsage::Idle(record.usage.expires_in().unwrap_or(TTL));
            let idle = PinRecord {
                usage,
                ..record.clone()
            };
            let imported = successor.import(&idle, &keys);
            assert!(matches!(imported, Ok(Imported::Added)), "{imported:?}");
            let again = successor.import(&idle, &keys);
            assert!(matches!(again, Ok(Imported::Merged)), "{again:?}");
        }
        let imported = exported(&successor);
        assert_eq!(imported.len(), all.len());
        for (key, record) in &imported {
            let before = &all[key];
            let expected = PinRecord {
                usage: PinUsage::Idle(before.usage.expires_in().unwrap_or(TTL)),
                // The table has whole seconds of its own clock.
                age: record.age,
                ..before.clone()
            };
            assert_eq!((record, client_of(record)), (&expected, client_of(before)));
            let off = record.age.abs_diff(before.age);
            assert!(off < Duration::from_secs(1), "{off:?}");
        }
    }
}

proptest! {
    #[test]
    fn all_changes_add_up_to_the_pins_of_the_table(
        events in prop::collection::vec(event(), 1..80)
    ) {
        let mut world = World::new();
        for event in events {
            world.happen(event);
        }
        world.take_changes();
        world.import_all();
        world.held.clear();
        world.take_changes();
        world.pins.pass_time(Duration::from_secs(62));
        world.pins.sweep(100);
        prop_assert!(world.pins.is_empty() && world.pins.sessions() == 0);
        for client in 0..6 {
            let client = world.pins.secret.client(&world.key(client, 0));
            prop_assert_eq!(world.pins.sessions.quotas.of_client(client), 0);
        }
    }
}

fn record(pins: &Pins) -> PinRecord {
    PinRecord {
        key: PinKey::Client {
            source: pins.key(address(1), 1).source,
            name: Some(NAMES[0].into()),
        },
        backend: BACKENDS[0].into(),
        origin: Origin::Failover,
        age: Duration::ZERO,
        usage: PinUsage::Idle(TTL),
    }
}

/// Imports a pin with a key of the table's own scheme.
fn import(pins: &Arc<Pins>, record: &PinRecord) -> Result<Imported, NotImported> {
    pins.import(record, &pins.pin_group().keys)
}

#[test]
fn what_the_configuration_does_not_have_is_not_imported() {
    let pins = table(&NAMES, &BACKENDS, &Secret::random());
    let valid = record(&pins);
    let of = |source, name: Option<&str>| PinRecord {
        key: PinKey::Client {
            source,
            name: name.map(Into::into),
        },
        ..valid.clone()
    };
    let elsewhere = PinRecord {
        backend: "fe09".into(),
        ..valid.clone()
    };
    let expired = PinRecord {
        usage: PinUsage::Idle(Duration::ZERO),
        ..valid.clone()
    };
    // Half of an IPv6 address is not part of any key here.
    let narrow = std::net::Ipv6Addr::from_bits((0x2001_0db8 << 96) + 1).octets();
    let whole = pins.key(address(1), 1).source;
    let cases = [
        (elsewhere, NotImported::Unknown),
        (expired, NotImported::Expired),
        (
            of(whole, Some("lyncdiscover.contoso.com")),
            NotImported::Unknown,
        ),
        (of(whole, None), NotImported::OtherKeys),
        (of(narrow, Some(NAMES[0])), NotImported::OtherKeys),
    ];
    for (record, reason) in cases {
        assert_eq!(import(&pins, &record).err(), Some(reason), "{record:?}");
    }
    assert!(pins.is_empty());
    assert!(import(&pins, &valid).is_ok());
    assert_eq!(pins.len(), 1);
}

#[test]
fn where_clients_have_no_pins_none_is_imported() {
    let settings = model::AffinitySettings {
        by_source: false,
        by_name: false,
        ..settings(10)
    };
    let pins = pins_of(&settings, &Secret::random());
    let _ = pins.intern_member(BACKENDS[0]);
    let key = PinKey::Client {
        source: [0; 16],
        name: None,
    };
    let record = PinRecord {
        key,
        ..record(&pins)
    };
    assert_eq!(import(&pins, &record).err(), Some(NotImported::OtherKeys));
}

#[test]
fn an_expired_pin_does_not_count_as_one_of_the_table() {
    let pins = table(&NAMES, &BACKENDS, &Secret::random());
    let is_new = || matches!(import(&pins, &record(&pins)), Ok(Imported::Added));
    assert!(is_new());
    pins.pass_time(Duration::from_secs(61));
    assert!(is_new());
}

#[test]
fn pins_in_use_and_idle_ones_pass_to_a_table_with_other_keys() {
    let old = table(&NAMES, &BACKENDS, &Secret::random());
    let member = old.known_member(BACKENDS[1]).unwrap();
    let name = old.known_name(NAMES[0]).unwrap();
    let used = hold(&old, old.key(address(1), name), member);
    drop(hold(&old, old.key(address(2), name), member));
    let by_source = model::AffinitySettings {
        by_name: false,
        ..settings(10)
    };
    let new = pins_of(&by_source, old.secret());
    let _ = new.intern_member(BACKENDS[1]);
    new.import_table(&old);
    let mut found = Vec::new();
    new.export(&mut |record| found.push(record));
    assert_eq!(found.len(), 2);
    for record in found {
        let left = record.usage.expires_in().unwrap();
        assert!(left > TTL - Duration::from_secs(20), "{left:?}");
        assert_eq!(&*record.backend, BACKENDS[1]);
    }
    drop(used);
}

#[test]
fn changes_that_were_not_taken_for_long_are_reported_as_incomplete() {
    let pins = pins(100);
    pins.track();
    let member = pins.intern_member("fe01");
    for _ in 0..700 {
        (0..100).for_each(|client| drop(hold(&pins, key(client), member)));
        pins.clear(&TableFilter::default());
    }
    let mut changes = 0;
    let taken = pins.take_changes(&mut |_| changes += 1);
    assert_eq!(taken, crate::affinity::shard::Completeness::Part);
    assert!(changes > 0 && pins.is_empty());
    let taken = pins.take_changes(&mut |change| panic!("{change:?}"));
    assert_eq!(taken, crate::affinity::shard::Completeness::All);
}

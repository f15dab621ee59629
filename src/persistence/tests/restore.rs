//! Which pins and states of an old file are restored, and for how long.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use crate::affinity::record::{KeyScheme, PinChange, PinGroup, PinKey, PinRecord, PinUsage};
use crate::affinity::shard::Origin;
use crate::affinity::table::Secret;
use crate::persistence::clock::Stamp;
use crate::persistence::encoder::Encoder;
use crate::persistence::frame::{self, Frames};
use crate::persistence::records::StateRecord;
use crate::persistence::recovery::Contents;
use crate::persistence::restore::{Restored, restore};
use crate::snapshot::Snapshot;
use crate::telemetry::metrics::Registry;
use crate::types::backend_state::AdminState;
use crate::upstream::backend::Availability;

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;

/// Two pools of one group, with a time to live of 20 minutes.
fn snapshot() -> Snapshot {
    let yaml = "listeners: { http: { bind: [\"192.0.2.1:80\"], protocol: http, \
                routes: [{ names: [lyncweb.contoso.com], pool: web }, { names: [meet.contoso.com], pool: apps }] } }\n\
                pools:\n\
                \x20 web: { backends: [\"192.0.2.11:1\", \"192.0.2.12:1\"], affinity: { group: all, by: [source, tls_session] } }\n\
                \x20 apps: { backends: [\"192.0.2.11:2\", \"192.0.2.12:2\"], affinity: { group: all, by: [source, tls_session] } }\n";
    let yaml = yaml.replace("\"192.0.2.11:", "{ name: fe01, address: \"192.0.2.11:");
    let yaml = yaml.replace("\"192.0.2.12:", "{ name: fe02, address: \"192.0.2.12:");
    let yaml = yaml.replace(":1\"", ":1\" }").replace(":2\"", ":2\" }");
    let config = crate::config::read(&yaml, "test").unwrap_or_else(|errors| panic!("{errors}"));
    let availability = Arc::new(Availability::default());
    Snapshot::build(
        config.config,
        &Registry::default(),
        &availability,
        &Secret::random(),
    )
}

fn key(client: u8) -> PinKey {
    PinKey::Client {
        source: Ipv4Addr::new(192, 0, 2, client).to_ipv6_mapped().octets(),
        name: None,
    }
}

fn pin(key: PinKey, backend: &str, left: Option<u64>) -> PinRecord {
    PinRecord {
        key,
        backend: backend.into(),
        origin: Origin::Failover,
        age: Duration::from_millis(30 * MINUTE),
        usage: left.map_or(PinUsage::InUse(1), |left| {
            PinUsage::Idle(Duration::from_millis(left))
        }),
    }
}

fn stamp(boot: u8, since_boot: u64, wall: u64) -> Stamp {
    Stamp {
        boot: [boot; 16],
        since_boot,
        wall,
    }
}

/// Encodes a batch of the group.
type Batch<'a> = &'a dyn Fn(&mut Encoder, u32);

/// The contents of a file of these batches.
fn contents(snapshot: &Snapshot, batches: &[(Stamp, Batch<'_>)]) -> Contents {
    contents_of(&snapshot.groups[0].pin_group(), batches)
}

/// The same, written by a balancer with this group.
fn contents_of(group: &PinGroup, batches: &[(Stamp, Batch<'_>)]) -> Contents {
    let mut encoder = Encoder::new(batches[0].0);
    encoder.begin(batches[0].0);
    let group = encoder.group(group);
    encoder.end_checkpoint();
    for (stamp, put) in batches {
        encoder.begin(*stamp);
        put(&mut encoder, group);
    }
    let mut bytes = frame::preamble().to_vec();
    bytes.extend(encoder.finish());
    let mut frames = Frames::open(&bytes[..], bytes.len() as u64).unwrap();
    let mut contents = Contents::default();
    while let Some(payload) = frames.next().unwrap() {
        contents.apply(payload).unwrap();
    }
    contents
}

/// Whole minutes until the restored pin of client 1 expires; `None` if it was not restored.
fn minutes_left(snapshot: &Snapshot) -> Option<u64> {
    let pins = &snapshot.groups[0];
    let mut left = None;
    pins.export(&mut |kept| {
        assert_eq!(
            (kept.key, &*kept.backend, kept.origin),
            (key(1), "fe01", Origin::Failover)
        );
        left = kept.usage.expires_in();
    });
    // Rounded up, since the clock of the table runs.
    left.map(|left| (left + Duration::from_secs(1)).as_secs() / 60)
}

#[track_caller]
fn check(left: Option<u64>, written: Stamp, last: Stamp, now: Stamp, expected: Option<u64>) {
    let snapshot = snapshot();
    let put = |encoder: &mut Encoder, group: u32| encoder.set(group, &pin(key(1), "fe01", left));
    let contents = contents(&snapshot, &[(written, &put), (last, &|_, _| {})]);
    let restored = restore(&contents, &snapshot, &now);
    assert_eq!(minutes_left(&snapshot), expected);
    let (pins, expired) = (
        usize::from(expected.is_some()),
        usize::from(expected.is_none()),
    );
    assert_eq!(
        restored,
        Restored {
            pins,
            expired,
            ..Restored::default()
        }
    );
}

#[test]
fn downtime_counts_and_jumps_of_the_wall_clock_do_not() {
    let written = stamp(1, HOUR, 100 * HOUR);
    for wall in [0, 100 * HOUR, 900 * HOUR] {
        let now = stamp(1, HOUR + 4 * MINUTE, wall);
        check(Some(10 * MINUTE), written, written, now, Some(6));
        let now = stamp(1, HOUR + 10 * MINUTE, wall);
        check(Some(10 * MINUTE), written, written, now, None);
    }
}

#[test]
fn after_a_reboot_the_wall_clock_counts_if_it_goes_forward() {
    let written = stamp(1, HOUR, 100 * HOUR);
    let now = |wall| stamp(2, MINUTE, wall);
    check(
        Some(10 * MINUTE),
        written,
        written,
        now(100 * HOUR + 3 * MINUTE),
        Some(7),
    );
    check(
        Some(10 * MINUTE),
        written,
        written,
        now(99 * HOUR),
        Some(10),
    );
    check(Some(10 * MINUTE), written, written, now(101 * HOUR), None);
}

#[test]
fn a_pin_in_use_counts_as_idle_since_the_last_batch() {
    let (written, last) = (stamp(1, HOUR, 0), stamp(1, 9 * HOUR, 0));
    check(
        None,
        written,
        last,
        stamp(1, 9 * HOUR + 5 * MINUTE, 0),
        Some(15),
    );
    check(
        None,
        written,
        last,
        stamp(1, 9 * HOUR + 20 * MINUTE, 0),
        None,
    );
}

#[test]
fn no_pin_lives_longer_than_the_current_time_to_live() {
    let written = stamp(1, HOUR, 0);
    check(
        Some(50 * MINUTE),
        written,
        written,
        stamp(1, HOUR + 5 * MINUTE, 0),
        Some(15),
    );
}

#[test]
fn the_last_record_of_a_pin_counts() {
    let snapshot = snapshot();
    let first = |encoder: &mut Encoder, group: u32| {
        for client in 1..=3 {
            encoder.set(group, &pin(key(client), "fe02", Some(MINUTE)));
        }
    };
    let second = |encoder: &mut Encoder, group: u32| {
        encoder.set(group, &pin(key(1), "fe01", Some(9 * MINUTE)));
        encoder.change(group, &PinChange::Removed(key(2)));
        encoder.change(group, &PinChange::Removed(key(3)));
        encoder.set(group, &pin(key(3), "fe01", Some(2 * MINUTE)));
        encoder.change(group, &PinChange::Removed(key(3)));
    };
    let (at, later) = (stamp(1, HOUR, 0), stamp(1, HOUR + MINUTE, 0));
    let contents = contents(&snapshot, &[(at, &first), (later, &second)]);
    assert_eq!(restore(&contents, &snapshot, &later).pins, 1);
    assert_eq!(minutes_left(&snapshot), Some(9));
}

#[test]
fn sessions_are_restored() {
    let snapshot = snapshot();
    let session = PinKey::Session {
        hash: [9; 16],
        client: 7,
    };
    let kept = pin(session.clone(), "fe02", Some(5 * MINUTE));
    let put = |encoder: &mut Encoder, group: u32| encoder.set(group, &kept);
    let at = stamp(1, HOUR, 0);
    let contents = contents(&snapshot, &[(at, &put)]);
    assert_eq!(restore(&contents, &snapshot, &at).pins, 1);
    let mut found = Vec::new();
    snapshot.groups[0].export(&mut |kept| found.push((kept.key, kept.backend)));
    assert_eq!(found, [(session, "fe02".into())]);
}

/// Written by a balancer whose default was an IPv6 /64; all 128 bits count now.
#[test]
fn another_prefix_of_one_family_does_not_affect_the_other() {
    let snapshot = snapshot();
    let ipv6 = PinKey::Client {
        source: "2001:db8:0:1::".parse::<Ipv6Addr>().unwrap().octets(),
        name: None,
    };
    let session = PinKey::Session {
        hash: [9; 16],
        client: 7,
    };
    let put = |encoder: &mut Encoder, group: u32| {
        for key in [key(1), ipv6.clone(), session.clone()] {
            encoder.set(group, &pin(key, "fe01", Some(5 * MINUTE)));
        }
    };
    let now = snapshot.groups[0].pin_group();
    assert_eq!(now.keys.to_bytes(), [1, 32, 128]);
    let before = PinGroup {
        keys: KeyScheme::from_bytes([1, 32, 64]),
        ..now
    };
    let at = stamp(1, HOUR, 0);
    let restored = restore(&contents_of(&before, &[(at, &put)]), &snapshot, &at);
    assert_eq!((restored.pins, restored.other_keys), (2, 1));
    let mut found = Vec::new();
    snapshot.groups[0].export(&mut |kept| found.push(kept.key));
    assert!(found.contains(&key(1)) && found.contains(&session));
}

#[test]
fn a_session_is_the_same_whichever_client_uses_it() {
    let snapshot = snapshot();
    let session = |client| PinKey::Session {
        hash: [9; 16],
        client,
    };
    let set = |client, backend: &'static str| {
        let kept = pin(session(client), backend, Some(5 * MINUTE));
        move |encoder: &mut Encoder, group: u32| encoder.set(group, &kept)
    };
    let at = stamp(1, HOUR, 0);
    let contents = contents(&snapshot, &[(at, &set(7, "fe01")), (at, &set(8, "fe02"))]);
    assert_eq!(restore(&contents, &snapshot, &at).pins, 1);
    let mut found = Vec::new();
    snapshot.groups[0].export(&mut |kept| found.push((kept.key, kept.backend)));
    assert_eq!(found, [(session(8), "fe02".into())]);
}

fn drain(pool: &str, left: Option<u64>) -> StateRecord {
    StateRecord {
        pool: pool.into(),
        backend: "fe01".into(),
        state: AdminState::Drain,
        left,
    }
}

/// Restores states of `fe01` in these pools, each drained half an hour ago with so many minutes left.
#[track_caller]
fn drained(states: &[(&str, u64)], pins: usize) -> Snapshot {
    let snapshot = snapshot();
    let put = |encoder: &mut Encoder, group: u32| {
        encoder.set(group, &pin(key(1), "fe01", None));
        for (pool, left) in states {
            encoder.state(&drain(pool, Some(left * MINUTE)));
        }
        encoder.state(&drain("gone", None));
    };
    let (at, last) = (stamp(1, HOUR, 0), stamp(1, HOUR + 30 * MINUTE, 0));
    let contents = contents(&snapshot, &[(at, &put), (last, &|_, _| {})]);
    let restored = restore(&contents, &snapshot, &last);
    let expected = Restored {
        pins,
        states: states.len(),
        drained: 1 - pins,
        unknown: 1,
        ..Restored::default()
    };
    assert_eq!(restored, expected);
    snapshot
}

#[test]
fn a_drain_continues_with_the_time_that_is_left() {
    let snapshot = drained(&[("web", 40)], 1);
    let backend = &snapshot.pools[0].backends[0];
    assert_eq!(backend.state(), AdminState::Drain);
    let left = backend
        .deadline()
        .unwrap()
        .at
        .duration_since(std::time::Instant::now());
    assert!(
        left > Duration::from_secs(9 * 60) && left <= Duration::from_secs(10 * 60),
        "{left:?}"
    );
    assert!(backend.allows_pinned());
}

#[test]
fn a_drain_that_has_ended_takes_no_client_and_its_pins_are_dropped_unless_another_pool_needs_them()
{
    let snapshot = drained(&[("web", 20), ("apps", 20)], 0);
    let backend = &snapshot.pools[0].backends[0];
    assert_eq!(
        (backend.state(), backend.allows_pinned()),
        (AdminState::Drain, false)
    );
    let ago = backend.deadline().unwrap().wall_time.elapsed().unwrap();
    assert!(ago >= Duration::from_secs(10 * 60), "{ago:?}");
    drained(&[("web", 20)], 1);
}

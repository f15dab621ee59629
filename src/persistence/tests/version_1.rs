//! A file that an older build wrote, byte for byte: it is read, and its pins and states take effect.

use std::time::Duration;

use crate::affinity::record::{PinKey, PinUsage};
use crate::affinity::shard::Origin;
use crate::persistence::frame::Frames;
use crate::persistence::recovery::Contents;
use crate::types::backend_state::AdminState;

/// Two groups, pins of clients and of a TLS session, states, and changes by a second process.
const FILE: &[u8] = include_bytes!("../../../tests/data/affinity_store/version-1");

fn contents() -> Contents {
    let mut frames = Frames::open(FILE, FILE.len() as u64).unwrap();
    assert_eq!(frames.next().unwrap().unwrap()[..32], [7; 32], "the secret");
    let mut contents = Contents::default();
    while let Some(payload) = frames.next().unwrap() {
        contents.apply(payload).unwrap();
    }
    contents
}

#[test]
fn the_pins_of_a_file_of_an_older_build_are_read() {
    let contents = contents();
    assert!(contents.is_complete());
    let mut pins: Vec<_> = contents
        .pins()
        .map(|(group, record, stamp)| {
            let key = match &record.key {
                PinKey::Client { source, name } => {
                    format!("{} {}", source[15], name.as_deref().unwrap_or("-"))
                }
                PinKey::Session { hash, client } => format!("session {} {client}", hash[0]),
            };
            let group = &contents.groups()[group];
            let of = format!("{} {:?} {key}", group.name, group.keys.to_bytes());
            let age = u64::try_from(record.age.as_millis()).unwrap();
            (
                of,
                record.backend.to_string(),
                record.origin,
                age,
                record.usage,
                stamp.since_boot,
            )
        })
        .collect();
    pins.sort_by(|a, b| a.0.cmp(&b.0));
    let idle = |seconds| PinUsage::Idle(Duration::from_secs(seconds));
    let pin = |of: &str, backend: &str, origin, age, usage, stamp| {
        (of.to_owned(), backend.to_owned(), origin, age, usage, stamp)
    };
    let www = "lyncweb.contoso.com";
    // The scheme of `apps` has the bit for TLS sessions, which older builds wrote.
    let expected = [
        pin(
            "apps [1, 32, 64] 1 -",
            "fe01",
            Origin::Session,
            3_600_000,
            idle(600),
            1_000,
        ),
        pin(
            "apps [1, 32, 64] session 9 78",
            "fe02",
            Origin::Failover,
            9_000,
            PinUsage::InUse(1),
            9_000,
        ),
        pin(
            &format!("web [3, 32, 64] 1 {www}"),
            "fe01",
            Origin::Policy,
            5_000,
            idle(1_200),
            1_000,
        ),
        pin(
            &format!("web [3, 32, 64] 2 {www}"),
            "fe01",
            Origin::Failover,
            70_500,
            idle(1_200),
            1_500,
        ),
    ];
    assert_eq!(pins, expected);
}

#[test]
fn the_states_of_a_file_of_an_older_build_are_read() {
    let contents = contents();
    let states: Vec<_> = contents
        .states()
        .map(|(state, stamp)| {
            let of = format!("{}/{}", state.pool, state.backend);
            (of, state.state, state.left, stamp.since_boot)
        })
        .collect();
    let expected = [
        ("apps/fe02".to_owned(), AdminState::Maintain, None, 9_000),
        ("web/fe01".to_owned(), AdminState::Ready, None, 9_000),
    ];
    assert_eq!(states, expected);
    assert_eq!(contents.last().map(|last| last.since_boot), Some(10_000));
}

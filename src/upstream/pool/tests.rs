mod group;
mod rules;
mod stress;
#[cfg(lyncpin_shuttle)]
mod threads;

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::affinity::shard::{Eligibility, Key, Session};
use crate::affinity::table::{PinGuard, Secret};
use crate::config::model;
use crate::telemetry::metrics::{BackendMetrics, ConnectFailure, Registry};
use crate::types::backend_state::AdminState;
use crate::upstream::backend::Availability;

pub(super) fn backend(pool: &str, name: &str, max_connections: Option<u32>) -> Arc<Backend> {
    let configured = model::BackendConfig {
        name: name.into(),
        address: model::ServerAddress {
            host: model::ServerHost::Address("192.0.2.1".parse().unwrap()),
            port: 4443,
        },
        weight: 1,
        check_ports: BTreeMap::new(),
    };
    let metrics = BackendMetrics::new(&Registry::default(), &pool.into(), &name.into());
    let backend = Backend::new(
        pool.into(),
        configured,
        max_connections,
        metrics,
        Arc::new(Availability::default()),
    );
    backend.set_address("192.0.2.1:4443".parse().unwrap());
    backend.set_health(Health::Up, "test");
    Arc::new(backend)
}

pub(super) fn pins() -> Arc<Pins> {
    pins_of(1000)
}

fn pins_of(max_entries: usize) -> Arc<Pins> {
    let settings = model::AffinitySettings {
        by_source: true,
        by_name: true,
        by_session: true,
        source_prefix: SourcePrefix { ipv4: 32, ipv6: 64 },
        ttl: Duration::from_secs(60),
        group: "web".into(),
        max_entries,
    };
    Arc::new(Pins::new(
        &settings,
        &Registry::default(),
        &Secret::random(),
    ))
}

pub(super) fn pool(
    name: &str,
    backends: &[&str],
    pins: &Arc<Pins>,
    backup: Option<Arc<Pool>>,
) -> Arc<Pool> {
    let backends = backends
        .iter()
        .map(|backend_name| backend(name, backend_name, Some(2)))
        .collect();
    let balance = Balance::RoundRobin;
    Arc::new(Pool::new(
        name.into(),
        backends,
        balance,
        Some(pins.clone()),
        backup,
        OnDown::Close,
    ))
}

fn client(last: u8) -> PoolClient {
    PoolClient {
        source: [192, 0, 2, last].into(),
        name_id: 1,
    }
}

/// Picks a backend, connects, and releases everything.
pub(super) fn connect(pool: &Arc<Pool>, last: u8) -> (String, PickedBy) {
    let pick = pool.pick(client(last), None).unwrap();
    pick.connected(None);
    (pick.backend().name.to_string(), pick.by())
}

#[test]
fn a_client_returns_to_its_backend_through_every_pool_of_the_group() {
    let pins = pins();
    let https = pool("https", &["fe01", "fe02", "fe03"], &pins, None);
    let http = pool("http", &["fe03", "fe01", "fe02"], &pins, None);
    for last in 1..=9 {
        let (first, by) = connect(&https, last);
        assert_eq!(by, PickedBy::Policy(Balance::RoundRobin));
        assert_eq!(connect(&http, last), (first.clone(), PickedBy::Pin));
        assert_eq!(connect(&https, last), (first, PickedBy::Pin));
    }
}

#[test]
fn the_pin_of_a_dead_backend_moves_and_stays_there() {
    let pool = pool("https", &["fe01", "fe02"], &pins(), None);
    let (first, _) = connect(&pool, 1);
    let dead = pool
        .backends
        .iter()
        .find(|backend| *backend.name == first)
        .unwrap();
    dead.set_health(Health::Down, "test");
    let (second, by) = connect(&pool, 1);
    assert_eq!(by, PickedBy::Policy(Balance::RoundRobin));
    assert_ne!(first, second);
    dead.set_health(Health::Up, "test");
    assert_eq!(connect(&pool, 1), (second, PickedBy::Pin));
}

#[test]
fn a_draining_backend_keeps_its_clients_and_gets_no_new_ones() {
    let pool = pool("https", &["fe01", "fe02"], &pins(), None);
    let (first, _) = connect(&pool, 1);
    let drained = pool
        .backends
        .iter()
        .find(|backend| *backend.name == first)
        .unwrap();
    drained.set_state(AdminState::Drain, None);
    assert_eq!(connect(&pool, 1), (first.clone(), PickedBy::Pin));
    assert!((2..9).all(|last| connect(&pool, last).0 != first));
    let passed = crate::upstream::backend::Deadline {
        at: std::time::Instant::now(),
        wall_time: std::time::SystemTime::now(),
    };
    drained.set_state(AdminState::Drain, Some(passed));
    assert_ne!(connect(&pool, 1).0, first);
}

#[test]
fn the_backup_serves_while_nothing_is_available_and_makes_no_pins() {
    let backup = pool("backup", &["paired01"], &pins(), None);
    let table = pins();
    let pool = pool("https", &["fe01"], &table, Some(backup));
    pool.backends[0].set_health(Health::Down, "test");
    assert_eq!(connect(&pool, 1), ("paired01".into(), PickedBy::Backup));
    assert!(table.is_empty());
    pool.backends[0].set_health(Health::Up, "test");
    assert_eq!(connect(&pool, 1).0, "fe01");
}

#[test]
fn a_connection_to_a_full_pinned_backend_goes_elsewhere_and_the_pin_stays() {
    let pool = pool("https", &["fe01", "fe02"], &pins(), None);
    let first = pool.pick(client(1), None).unwrap();
    first.connected(None);
    let second = pool.pick(client(1), None).unwrap();
    assert_eq!(second.by(), PickedBy::Pin);
    let third = pool.pick(client(1), None).unwrap();
    third.connected(None);
    assert_ne!(third.backend().name, first.backend().name);
    drop(second);
    assert_eq!(
        pool.pick(client(1), None).unwrap().backend().name,
        first.backend().name
    );
    let _other = pool.pick(client(2), None).unwrap();
    let last = pool.pick(client(1), None).unwrap();
    assert_eq!(
        pool.pick(client(3), None)
            .map(|pick| pick.backend().name.clone()),
        Err(NoPick::Full)
    );
    drop((third, last));
}

#[test]
fn redispatch_tries_each_backend_once_and_moves_the_pin_only_when_connected() {
    let pool = pool("https", &["fe01", "fe02", "fe03"], &pins(), None);
    let (first, _) = connect(&pool, 1);
    let mut pick = pool.pick(client(1), None).unwrap();
    let mut seen = vec![pick.backend().name.to_string()];
    while pick.redispatch(ConnectFailure::Refused) {
        seen.push(pick.backend().name.to_string());
    }
    assert_eq!(seen[0], first);
    seen.sort();
    assert_eq!(seen, ["fe01", "fe02", "fe03"]);
    drop(pick);
    assert_eq!(connect(&pool, 1).0, first);
    assert!(pool.backends.iter().all(|backend| backend.in_flight() == 0));
}

#[test]
fn simultaneous_failures_of_one_client_agree_on_the_next_backend() {
    let pool = pool("https", &["fe01", "fe02", "fe03"], &pins(), None);
    let mut one = pool.pick(client(1), None).unwrap();
    let mut two = pool.pick(client(1), None).unwrap();
    assert_eq!(one.backend().name, two.backend().name);
    assert!(one.redispatch(ConnectFailure::Refused) && two.redispatch(ConnectFailure::Timeout));
    assert_eq!(one.backend().name, two.backend().name);
}

#[test]
fn a_pin_to_a_backend_that_another_pool_lacks_is_unchanged() {
    let pins = pins();
    let wide = pool("wide", &["fe01", "fe02"], &pins, None);
    let narrow = pool("narrow", &["fe01"], &pins, None);
    let last = (1..9)
        .find(|&last| connect(&wide, last).0 == "fe02")
        .unwrap();
    assert_eq!(connect(&narrow, last).0, "fe01");
    assert_eq!(connect(&wide, last), ("fe02".into(), PickedBy::Pin));
}

#[test]
fn no_backend_is_picked_if_none_is_available() {
    let pool = pool("https", &["fe01"], &pins(), None);
    pool.backends[0].set_state(AdminState::Maintain, None);
    assert_eq!(pool.pick(client(1), None).map(drop), Err(NoPick::Down));
    assert!(!pool.can_serve());
}

#[test]
fn an_unchecked_backend_serves_only_if_no_backend_is_up() {
    let pool = pool("https", &["fe01", "fe02"], &pins(), None);
    pool.backends[0].set_health(Health::Unknown, "test");
    assert!((1..9).all(|last| connect(&pool, last).0 == "fe02"));
    pool.backends[1].set_health(Health::Down, "test");
    assert_eq!(connect(&pool, 9).0, "fe01");
    assert!(pool.can_serve() && !pool.is_ready());
}

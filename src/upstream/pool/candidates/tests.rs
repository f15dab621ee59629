use super::*;
use crate::affinity::table::Pins;
use crate::types::backend_state::AdminState;
use crate::upstream::backend::{Availability, Deadline};
use crate::upstream::pool::tests::{backend, connect, pins, pool};
use crate::upstream::pool::{ExclusionReason, PickedBy};

/// The backend at this index goes down and comes back.
fn falls_and_returns(pool: &Arc<Pool>, index: usize) {
    pool.backends[index].set_health(Health::Down, "test");
    pool.backends[index].set_health(Health::Up, "test");
}

/// So slow that no step happens during a test.
const SLOW: Duration = Duration::from_secs(24 * 3600);

fn slow(names: &[&str], pins: &Arc<Pins>) -> Arc<Pool> {
    let pool = Arc::into_inner(pool("https", names, pins, None)).unwrap();
    Arc::new(pool.with_slow_start(SLOW))
}

/// How many of these clients are sent to the backend at this index, one after the other.
fn drawn(pool: &Arc<Pool>, index: usize, clients: impl Iterator<Item = u8>) -> usize {
    let name = &*pool.backends[index].name;
    clients
        .filter(|&last| connect(pool, last).0 == name)
        .count()
}

#[test]
fn a_backend_that_comes_back_starts_with_a_sixteenth_of_its_weight() {
    let pool = slow(&["fe01", "fe02"], &pins());
    assert_eq!(drawn(&pool, 0, 1..=10), 5, "no slow start at startup");
    falls_and_returns(&pool, 0);
    assert!((pool.effective_weight(&pool.backends[0]) - 1.0 / 16.0).abs() < 1e-9);
    assert!((pool.effective_weight(&pool.backends[1]) - 1.0).abs() < 1e-9);
    assert_eq!(drawn(&pool, 0, 11..=44), 2, "1 of 17 turns");
}

#[test]
fn pinned_clients_return_to_a_backend_in_slow_start() {
    let pool = slow(&["fe01", "fe02"], &pins());
    let pinned: Vec<u8> = (1..=10)
        .filter(|&last| connect(&pool, last).0 == "fe01")
        .collect();
    falls_and_returns(&pool, 0);
    assert_eq!(drawn(&pool, 0, pinned.iter().copied()), pinned.len());
}

#[test]
fn backends_in_slow_start_share_by_weight_and_weight_0_stays_0() {
    let pool = slow(&["fe01", "fe02"], &pins());
    for index in [0, 1] {
        falls_and_returns(&pool, index);
    }
    assert_eq!(drawn(&pool, 0, 1..=20), 10);
    let mut configured = (*pool.backends[0].configured()).clone();
    configured.weight = 0;
    let weightless = Backend::new(
        "https".into(),
        configured,
        None,
        pool.backends[0].metrics.clone(),
        Arc::new(Availability::default()),
    );
    weightless.set_address("192.0.2.1:4443".parse().unwrap());
    weightless.set_health(Health::Down, "test");
    weightless.set_health(Health::Up, "test");
    assert!(pool.effective_weight(&weightless).abs() < 1e-9);
}

#[test]
fn a_return_is_a_change_that_allows_new_clients_again() {
    let is_back = |steps: &dyn Fn(&Backend)| {
        let backend = backend("https", "fe01", None);
        steps(&backend);
        backend.returned().is_some()
    };
    assert!(!is_back(&|_| {}));
    assert!(!is_back(
        &|backend| backend.set_state(AdminState::Ready, None)
    ));
    assert!(!is_back(
        &|backend| backend.set_health(Health::Unknown, "test")
    ));
    for state in [AdminState::Drain, AdminState::Maintain] {
        assert!(!is_back(&|backend| backend.set_state(state, None)));
        assert!(is_back(&|backend| {
            backend.set_state(state, None);
            backend.set_state(AdminState::Ready, None);
        }));
        assert!(!is_back(&|backend| {
            backend.set_state(state, None);
            falls(backend);
            backend.set_health(Health::Up, "test");
        }));
        assert!(!is_back(&|backend| {
            falls(backend);
            backend.set_state(state, None);
            backend.set_state(AdminState::Ready, None);
        }));
    }
}

fn falls(backend: &Backend) {
    backend.set_health(Health::Down, "test");
}

#[test]
fn the_return_is_cleared_when_slow_start_ends() {
    let pool = Arc::into_inner(pool("https", &["fe01", "fe02"], &pins(), None)).unwrap();
    let pool = pool.with_slow_start(Duration::from_millis(1));
    falls(&pool.backends[0]);
    pool.backends[0].set_health(Health::Up, "test");
    while pool.effective_weight(&pool.backends[0]) < 1.0 {
        std::thread::yield_now();
    }
    assert_eq!(pool.backends[0].returned(), None);
}

#[test]
fn a_pool_whose_last_backend_is_only_damped_can_serve() {
    let pool = pool("https", &["fe01"], &pins(), None);
    let backend = &pool.backends[0];
    falls(backend);
    assert!(!pool.can_serve());
    let until = Deadline {
        at: std::time::Instant::now() + SLOW,
        wall_time: std::time::SystemTime::now() + SLOW,
    };
    backend.set_damped(Some(crate::upstream::backend::Damped { until, falls: 3 }));
    assert!(pool.can_serve());
    backend.set_state(AdminState::Maintain, None);
    assert!(!pool.can_serve());
}

/// Two pools of one group whose backends have the same names, in different order.
fn group() -> [Arc<Pool>; 2] {
    let pins = pins();
    let names = [["fe01", "fe02", "fe03"], ["fe03", "fe01", "fe02"]];
    let made = [
        pool("https", &names[0], &pins, None),
        pool("http", &names[1], &pins, None),
    ];
    let siblings = |of: &Arc<Pool>, other: &Arc<Pool>| {
        let named = |backend: &Arc<Backend>| {
            let same = other
                .backends
                .iter()
                .filter(|known| known.name == backend.name);
            same.cloned().collect()
        };
        of.backends.iter().map(named).collect()
    };
    let both = [siblings(&made[0], &made[1]), siblings(&made[1], &made[0])];
    let mut both = both.into_iter();
    made.map(|pool| {
        Arc::new(
            Arc::into_inner(pool)
                .unwrap()
                .with_siblings(both.next().unwrap()),
        )
    })
}

fn named<'a>(pool: &'a Pool, name: &str) -> &'a Arc<Backend> {
    let found = pool.backends.iter().find(|known| *known.name == *name);
    found.unwrap()
}

#[test]
fn new_clients_go_to_backends_that_are_usable_in_every_pool_of_the_group() {
    let [https, http] = group();
    named(&http, "fe01").set_health(Health::Down, "test");
    assert!((1..=9).all(|last| connect(&https, last).0 != "fe01"));
    let obstacles = |pool: &Pool| -> Vec<_> {
        let all = pool.rotation().into_iter();
        all.map(|standing| standing.excluded).collect()
    };
    let elsewhere = Some(ExclusionReason::NotInGroup("http".into()));
    assert_eq!(obstacles(&https), [elsewhere, None, None]);
    assert_eq!(obstacles(&http), [None, Some(ExclusionReason::Down), None]);
    named(&http, "fe02").set_state(AdminState::Drain, None);
    assert!((10..=19).all(|last| connect(&https, last).0 == "fe03"));
    named(&http, "fe03").set_health(Health::Unknown, "test");
    assert_eq!(obstacles(&https), [None, None, None]);
    let mut used: Vec<String> = (20..=29).map(|last| connect(&https, last).0).collect();
    used.sort();
    used.dedup();
    assert_eq!(
        used,
        ["fe01", "fe02", "fe03"],
        "none is usable in all pools, so all that are up here serve"
    );
    for name in ["fe01", "fe02"] {
        named(&https, name).set_health(Health::Unknown, "test");
    }
    assert!(
        (30..=39).all(|last| connect(&https, last).0 == "fe03"),
        "up before unknown"
    );
}

#[test]
fn a_pin_stays_if_its_backend_is_down_in_another_pool_and_moves_there() {
    let [https, http] = group();
    let last = (1..=9)
        .find(|&last| connect(&https, last).0 == "fe01")
        .unwrap();
    named(&http, "fe01").set_health(Health::Down, "test");
    assert_eq!(connect(&https, last), ("fe01".into(), PickedBy::Pin));
    let (moved, _) = connect(&http, last);
    assert_ne!(moved, "fe01");
    assert_eq!(
        connect(&https, last),
        (moved, PickedBy::Pin),
        "for all ports"
    );
}

#[test]
fn the_pins_of_a_drained_backend_serve_in_pools_where_it_is_not_drained() {
    let [https, http] = group();
    let (here, there) = (named(&https, "fe01"), named(&http, "fe01"));
    assert!(https.pins_allowed_elsewhere(here));
    there.set_health(Health::Down, "test");
    assert!(https.pins_allowed_elsewhere(here), "it may come back");
    let deadline = |at| Deadline {
        at,
        wall_time: std::time::SystemTime::now(),
    };
    let now = std::time::Instant::now();
    there.set_state(AdminState::Drain, Some(deadline(now + SLOW)));
    assert!(https.pins_allowed_elsewhere(here));
    there.set_state(AdminState::Drain, Some(deadline(now)));
    assert!(!https.pins_allowed_elsewhere(here));
    there.set_state(AdminState::Maintain, None);
    assert!(!https.pins_allowed_elsewhere(here));
}

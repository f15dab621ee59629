//! `status` of small sites and of large ones, by pool and by server.

use lyncpin::admin::view::StatusView;
use lyncpin::admin::{EndpointSet, RequestLimits};
use lyncpin::types::backend_state::{AdminState, Health};
use lyncpin::types::timestamp::Timestamp;

use super::ask;
use crate::admin::fake::{Fake, Running, status};

/// A site with this number of pools and of backends per pool, with the same names in each pool.
/// All are up, except after `change`.
fn site(pools: usize, backends: usize, change: impl FnOnce(&mut StatusView)) -> Running {
    let mut status = status();
    let mut pool = status.pools[0].clone();
    let mut sound = pool.backends[0].clone();
    (sound.health, sound.state, sound.damped_until) = (Health::Up, AdminState::Ready, None);
    (sound.deadline, sound.drain_seconds_left) = (None, None);
    (sound.effective_weight, sound.why) = (1.0, "tcp:5061: connected".into());
    let check = &mut sound.checks[0];
    (check.passing, check.counts, check.certificate_expiry) = (Some(true), Some(true), None);
    pool.backup = None;
    pool.backends = (1..=backends)
        .map(|number| {
            let mut backend = sound.clone();
            backend.name = format!("fe{number:02}");
            backend
        })
        .collect();
    status.pools = (1..=pools)
        .map(|number| {
            let mut pool = pool.clone();
            pool.name = format!("pool-{number:02}");
            pool
        })
        .collect();
    change(&mut status);
    Running::start(
        Fake::with(status),
        None,
        EndpointSet::All,
        RequestLimits::default(),
    )
}

fn printed(running: &Running, arguments: &[&str]) -> String {
    let output = ask(running, &[&["status"], arguments].concat());
    assert_eq!(
        (output.status, output.err.as_str()),
        (0, ""),
        "{arguments:?}"
    );
    output.out
}

#[test]
fn a_large_site_has_one_line_per_pool_and_then_the_problems() {
    let running = site(40, 20, |status| {
        let failing = &mut status.pools[16].backends[6];
        (failing.health, failing.why) = (Health::Down, "tcp:5061: connection refused".into());
        status.pools[3].backends[1].state = AdminState::Maintain;
        let observed = &mut status.pools[5].backends[2].checks[0];
        (observed.decides, observed.passing) = (false, Some(false));
    });
    let text = printed(&running, &[]);
    assert!(
        text.lines().count() < 80,
        "{} lines\n{text}",
        text.lines().count()
    );
    for part in [
        "798 of 800 backends in service, 1 down, 1 in maintenance\n",
        "pool-01  can serve       20/20  ",
        "pool-17  can serve       19/20           60    40  1 down\n",
        "1 in maintenance\n",
        "\npool pool-17:\n",
        "tcp:5061: connection refused\n",
        "\npool pool-06:\n",
        "fe03: observing check tcp:5061 fails for ",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    assert!(!text.contains("\npool pool-01:\n"), "{text}");
    let all = printed(&running, &["--all"]);
    assert!(all.lines().count() > 800);
    assert!(all.contains("pool pool-01: "), "{all}");
}

#[test]
fn omitted_backends_are_counted() {
    let running = site(40, 20, |status| {
        for pool in &mut status.pools[..16] {
            for backend in &mut pool.backends {
                backend.health = Health::Down;
            }
            pool.can_serve = false;
        }
    });
    let text = printed(&running, &[]);
    assert!(
        text.contains("480 of 800 backends in service, 320 down\n"),
        "{text}"
    );
    assert!(text.contains("and 270 backends more"), "{text}");
    assert!(text.contains("pool-01  cannot serve        0/20"), "{text}");
}

#[test]
fn a_pool_or_a_backend_can_be_selected() {
    let running = site(40, 20, |_| {});
    let pool = printed(&running, &["pool-07"]);
    assert_eq!(pool.matches("\npool ").count(), 1, "{pool}");
    assert_eq!(pool.matches("\nfe").count(), 20, "{pool}");
    let backend = printed(&running, &["fe03"]);
    assert_eq!(backend.matches("\nfe03").count(), 40, "{backend}");
    let both = printed(&running, &["pool-07/fe03", "pool-08/fe04"]);
    assert_eq!(both.matches("\nfe").count(), 2, "{both}");
    let json = printed(&running, &["--json", "pool-07/fe03"]);
    let read: StatusView = serde_json::from_str(&json).unwrap();
    assert_eq!((read.pools.len(), read.pools[0].backends.len()), (1, 1));
    for (typed, hint) in [
        ("pool-99", "did you mean `pool-09`?"),
        ("fe3", "did you mean `fe03`?"),
        ("pool-07/", "did you mean `pool-07`?"),
        ("pool-07/fe3", "did you mean `pool-07/fe03`?"),
        (
            "pool-07/nowhere",
            "the backends of pool pool-07 are fe01, fe02, ",
        ),
        ("nix", "the pools are pool-01, pool-02, "),
    ] {
        let output = ask(&running, &["status", typed]);
        assert_eq!(output.status, 1);
        let begin = format!("no pool or backend {typed:?}; {hint}");
        assert!(output.err.starts_with(&begin), "{}", output.err);
    }
    let output = ask(&running, &["status", "nix"]);
    assert!(
        output
            .err
            .contains(" and 20 more; the backends are fe01, fe02, "),
        "{}",
        output.err
    );
    let json = printed(&running, &["--json", "--by-server", "pool-07/fe03"]);
    let read: StatusView = serde_json::from_str(&json).unwrap();
    assert_eq!((read.pools.len(), read.pools[0].backends.len()), (1, 1));
}

#[test]
fn only_listeners_that_route_to_the_selection_are_listed() {
    let running = site(40, 1, |status| {
        let listener = status.listeners[0].clone();
        status.listeners = (1..=40)
            .map(|number| {
                let mut listener = listener.clone();
                listener.name = format!("listener-{number:02}");
                listener.routes[0].pool = format!("pool-{number:02}");
                listener.no_name = None;
                listener
            })
            .collect();
        status.pools[2].backup = Some("pool-07".into());
        status.listeners.pop();
    });
    let all = printed(&running, &[]);
    assert_eq!(all.matches("\nlistener-").count(), 39, "{all}");
    let one = printed(&running, &["pool-07"]);
    assert_eq!(one.matches("\nlistener-").count(), 2, "{one}");
    assert!(
        one.contains("\nlistener-03 ") && one.contains("\nlistener-07 "),
        "{one}"
    );
    let none = printed(&running, &["pool-40"]);
    assert!(none.contains("no listener routes here\n"), "{none}");
    let by_server = printed(&running, &["--by-server", "pool-08/fe01"]);
    assert_eq!(by_server.matches("\nlistener-").count(), 1, "{by_server}");
}

#[test]
fn by_server_a_line_has_the_state_in_each_pool() {
    let running = site(4, 3, |status| {
        status.pools[2].backends[0].health = Health::Down;
        status.pools[2].backends[0].effective_weight = 0.0;
        for pool in &mut status.pools {
            pool.backends[1].state = AdminState::Drain;
        }
        status.pools[3].affinity_group = Some("other".into());
    });
    let text = printed(&running, &["--by-server"]);
    for part in [
        "fe01           3/4           12     4  down, ready in pool-03; up, ready in pool-01, pool-02, pool-04\n",
        "fe02           0/4           12     4  up, drain in all 4 pools\n",
        "fe03           4/4           12     4  up, ready in all 4 pools\n",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
}

#[test]
fn a_count_of_one_is_singular_and_checks_about_to_change_are_shown() {
    let running = site(1, 1, |status| {
        (status.connections, status.workers) = (1, 1);
        let now = status.now.0;
        let backend = &mut status.pools[0].backends[0];
        backend.weight = 0;
        backend.effective_weight = 0.0;
        let check = &mut backend.checks[0];
        (check.passing, check.against, check.needed) = (Some(false), 2, 3);
        let ended = now - std::time::Duration::from_secs(90_061);
        check.certificate_expiry = Some(Timestamp(ended));
    });
    let text = printed(&running, &[]);
    for part in [
        ": ready, 1 connection of at most 1000, 1 worker, up 2h1m\n",
        "0 of 1 backend in service, 1 with weight 0\n",
        ", serves pinned clients only\n",
        "  fe01: deciding check tcp:5061 fails for 2h1m, 2 of 3 until it counts as failing: connection refused\n",
        "  fe01: certificate seen by check tcp:5061 expired 1d1h ago\n",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
}

#[test]
fn an_open_port_that_rejects_all_clients_is_marked() {
    let running = site(1, 2, |status| {
        status.pools[0].name = "web".into();
        status.pools[0].can_serve = false;
        for backend in &mut status.pools[0].backends {
            (backend.health, backend.effective_weight) = (Health::Down, 0.0);
        }
    });
    let text = printed(&running, &[]);
    for part in [
        "https     tls       open, rejects all            3  ",
        "pool web: least_connections, affinity group web, cannot serve\n",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
}

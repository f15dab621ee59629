//! How a server returns to service, with slow start or delayed by flap damping, and `drain --wait`.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use lyncpin::types::timestamp::Timestamp;
use serde_json::Value;

use crate::support::balancer::Balancer;
use crate::support::peers::{Backend, ask, assert_reset, connect_from, entries, is_alive};
use crate::support::{eventually, own_address};

/// A pool of these backends with two `tcp` listeners, and a second pool of its group with another listener.
fn start(backends: &[Backend], keys: &str) -> Balancer {
    let entries = entries(backends);
    let balancer = Balancer::start(&format!(
        "listeners:\n\
         \x20 tcp: {{ bind: [\"HOST:5000\"], protocol: tcp, pool: web }}\n\
         \x20 other: {{ bind: [\"HOST:5001\"], protocol: tcp, pool: other }}\n\
         pools:\n  web: {{ {entries}, affinity: {{ by: [source], group: web }}, {keys} }}\n\
         \x20 other: {{ {entries}, affinity: {{ by: [source], group: web }} }}"
    ));
    eventually("all are up", || {
        let ups = balancer.metric("lyncpin_backend_up", &[]);
        (ups == 2.0 * backends.len() as f64).then_some(())
    });
    balancer
}

/// The server of a new client.
fn new_client_server(balancer: &Balancer) -> String {
    let client = connect_from(own_address(), balancer.at(5000)).unwrap();
    ask(&client, b"?").unwrap()
}

/// The status of a backend of the pool `web`.
fn status(balancer: &Balancer, index: usize) -> Value {
    balancer.status()["pools"][0]["backends"][index].clone()
}

fn set(balancer: &Balancer, backend: &str, state: &str) {
    for pool in ["web", "other"] {
        let body = format!("{{\"state\":\"{state}\"}}");
        assert_eq!(balancer.set_state(pool, backend, &body).status, 200);
    }
}

#[test]
fn a_server_in_slow_start_gets_its_reduced_share_and_its_pinned_clients() {
    let backends = Backend::several(2);
    let keys = "health: none, balance: round_robin, slow_start: 24h";
    let balancer = start(&backends, keys);
    let weight = |index| {
        status(&balancer, index)["effective_weight"]
            .as_f64()
            .unwrap()
    };
    assert_eq!(
        (weight(0), weight(1)),
        (1.0, 1.0),
        "at the start of the balancer all have full weight"
    );
    let source = own_address();
    let pinned = || ask(&connect_from(source, balancer.at(5000)).unwrap(), b"?").unwrap();
    let server = pinned();
    let index = usize::from(server == "b");
    set(&balancer, &server, "drain");
    assert_eq!(weight(index), 0.0);
    set(&balancer, &server, "ready");
    assert_eq!((weight(index), weight(1 - index)), (0.0625, 1.0));
    assert_eq!(status(&balancer, index)["weight"], 1);
    let printed = balancer.command(&["status"]).output().unwrap();
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert!(printed.contains("0.06 of 1"), "{printed}");
    let count = (0..34)
        .filter(|_| new_client_server(&balancer) == server)
        .count();
    assert_eq!(count, 2, "1 of 17 turns");
    assert_eq!(pinned(), server);
}

/// Makes the first server of the pool fail until it is held out, and returns the value of `observe` from that time.
fn flap<T>(balancer: &Balancer, server: &Backend, mut observe: impl FnMut(&Value) -> T) -> T {
    let is = |seen: &Value, health: &str| seen["health"] == health;
    eventually("it is held out for long enough to be observed", || {
        server.stop();
        eventually("it is down", || {
            is(&status(balancer, 0), "down").then_some(())
        });
        server.start_again();
        let seen = eventually("it is up or held out", || {
            let seen = status(balancer, 0);
            (is(&seen, "up") || seen["damped_until"].is_string()).then_some(seen)
        });
        let before = observe(&seen);
        if status(balancer, 0)["damped_until"].is_string() {
            return Some(before);
        }
        // The next failure doubles the time.
        eventually("it is up", || is(&status(balancer, 0), "up").then_some(()));
        None
    })
}

#[test]
fn a_flapping_server_is_held_out_and_reports_why_until_it_is_reset() {
    let backends = Backend::several(2);
    let keys = "health: { interval: 200ms, timeout: 200ms, rise: 2, fall: 1 }";
    let balancer = start(&backends, keys);
    let own = ["pool=\"web\"", "backend=\"a\""];
    let metric = |name: &str| balancer.metric(name, &own);
    let (seen, falls, damped) = flap(&balancer, &backends[0], |seen| {
        let falls = metric("lyncpin_backend_falls_total");
        (seen.clone(), falls, metric("lyncpin_backend_damped"))
    });
    assert!(falls >= 2.0, "the first fall is not damped");
    let why = seen["why"].as_str().unwrap();
    let begins = why.starts_with("damped: checks pass, held out of rotation for ");
    assert!(
        begins && why.ends_with(&format!(" s more after {falls} falls")),
        "{why}"
    );
    let time = |field: &str| {
        seen[field]
            .as_str()
            .unwrap()
            .parse::<Timestamp>()
            .unwrap()
            .0
    };
    assert!(time("damped_until") > time("since"));
    assert_eq!(damped, 1.0);
    let line = eventually("the damping is logged", || {
        balancer.log().into_iter().find(|line| {
            let message = line["message"].as_str().unwrap_or_default();
            message.ends_with("held out of rotation (flap damping)")
        })
    });
    assert_eq!(line["backend"], "a");

    set(&balancer, "a", "ready");
    let since = eventually("it is up", || {
        let seen = status(&balancer, 0);
        (seen["health"] == "up").then_some(seen["damped_until"].clone())
    });
    assert!(since.is_null());
    assert_eq!(metric("lyncpin_backend_damped"), 0.0);
}

#[test]
fn a_flapping_server_returns_early_if_there_is_no_other() {
    let backends = Backend::several(2);
    let keys = "health: { interval: 200ms, timeout: 200ms, rise: 2, fall: 1 }";
    let balancer = start(&backends, keys);
    let is_up = |index| {
        eventually("it is up", || {
            let seen = status(&balancer, index);
            (seen["health"] == "up").then_some(seen["why"].as_str().unwrap().to_owned())
        })
    };
    eventually("it is used before its hold time ends", || {
        flap(&balancer, &backends[0], |_| ());
        backends[1].stop();
        let why = is_up(0);
        assert_eq!(new_client_server(&balancer), "a");
        let early = why.ends_with("back early, because no other backend of the pool is available");
        backends[1].start_again();
        set(&balancer, "b", "ready");
        is_up(1);
        early.then_some(())
    });
}

#[test]
fn drain_wait_follows_a_drain_until_its_end_or_its_cancellation() {
    let backends = Backend::several(2);
    let balancer = start(&backends, "health: none");
    let held = connect_from(own_address(), balancer.at(5000)).unwrap();
    let server = ask(&held, b"?").unwrap();
    let drain = |deadline: &str| {
        balancer
            .command(&["drain", &server, "--wait", "--deadline", deadline])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let mut child = drain("1h");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for pool in ["web", "other"] {
        let line = lines.next().unwrap().unwrap();
        assert!(
            line.starts_with(&format!("{pool}/{server}: drain until ")),
            "{line}"
        );
    }
    let line = lines.next().unwrap().unwrap();
    let left = line
        .strip_prefix(&format!("{server}: 1 connection, 1 pin, "))
        .unwrap();
    assert!(left.starts_with("59m5") || left == "1h0m left", "{line}");
    let deadline = balancer.metric(
        "lyncpin_backend_drain_deadline_timestamp_seconds",
        &[&format!("backend=\"{server}\""), "pool=\"web\""],
    );
    assert!(deadline > 1.7e9);
    let left = status(&balancer, usize::from(server == "b"))["drain_seconds_left"]
        .as_f64()
        .unwrap();
    assert!((3000.0..=3600.0).contains(&left), "{left}");

    // A new deadline replaces the first, also for the command that waits.
    let second = drain("0s").wait_with_output().unwrap();
    assert!(second.status.success());
    let line = lines.next().unwrap().unwrap();
    assert_eq!(
        line,
        format!("{server}: 0 connections, 0 pins, the deadline has passed")
    );
    assert!(lines.next().is_none());
    assert!(child.wait().unwrap().success());
    assert_reset(&held);

    // The drain is cancelled while the command waits.
    let source = own_address();
    let other = if server == "a" { "b" } else { "a" };
    let held = connect_from(source, balancer.at(5001)).unwrap();
    assert_eq!(ask(&held, b"?").unwrap(), other);
    let mut child = balancer
        .command(&["drain", &format!("other/{other}"), "--wait", "--force"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for _ in 0..2 {
        lines.next().unwrap().unwrap();
    }
    set(&balancer, other, "ready");
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(1));
    let error = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(
        error,
        format!("other/{other} is no longer draining: its state is ready\n")
    );
    assert!(is_alive(&held));
}

#[test]
fn drain_wait_ends_at_once_if_the_backend_has_no_connections_and_no_pins() {
    let backends = Backend::several(2);
    let balancer = start(&backends, "health: none");
    let ended = balancer
        .command(&["drain", "web/a", "--wait"])
        .output()
        .unwrap();
    assert!(ended.status.success());
    let output = String::from_utf8(ended.stdout).unwrap();
    let last = output.lines().last().unwrap();
    assert!(last.starts_with("a: 0 connections, 0 pins, "), "{output}");
}

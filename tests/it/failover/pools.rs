//! Pools that are down: closed ports, rejections, backups.

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use crate::support::balancer::Balancer;
use crate::support::hello_builder::HelloBuilder;
use crate::support::peers::{
    Backend, ask, assert_reset, connect, connect_from, entries, is_alive, request,
};
use crate::support::{eventually, own_address};

const NAME: &str = "pool.contoso.test";
const HEALTH: &str = "health: { interval: 100ms, timeout: 100ms, rise: 1, fall: 1 }";

/// Listeners of every protocol for the pool `web`, four workers.
fn start(when_down: &str, pools: &str) -> Balancer {
    let route = format!("routes: [{{ names: [{NAME}], pool: web }}]");
    Balancer::start(&format!(
        "listeners:\n\
         \x20 tls: {{ bind: [\"HOST:443\"], protocol: tls, when_pool_down: {when_down}, {route} }}\n\
         \x20 http: {{ bind: [\"HOST:80\"], protocol: http, when_pool_down: {when_down}, {route} }}\n\
         \x20 tcp: {{ bind: [\"HOST:5000\"], protocol: tcp, when_pool_down: {when_down}, pool: web }}\n\
         workers: 4\npools:\n{pools}"
    ))
}

fn refuses(balancer: &Balancer, port: u16) -> bool {
    connect(balancer.at(port)).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

#[test]
fn ports_are_closed_on_every_worker_while_no_backend_can_serve_and_reopen() {
    const TRIES: usize = 64;
    let backends = Backend::several(2);
    let pool = format!("  web: {{ {}, {HEALTH} }}", entries(&backends));
    let balancer = start("close", &pool).ready();
    for round in 0..3 {
        for backend in &backends {
            backend.stop();
        }
        eventually("the ports refuse", || {
            [443, 80, 5000]
                .iter()
                .all(|&port| refuses(&balancer, port))
                .then_some(())
        });
        for port in [443, 80, 5000] {
            for number in 0..TRIES {
                assert!(
                    refuses(&balancer, port),
                    "round {round}, port {port}, try {number}"
                );
            }
        }
        assert_eq!(balancer.metric("lyncpin_listener_open", &[]), 0.0);
        assert_eq!(balancer.get("/readyz").status, 503);
        backends[round % 2].start_again();
        eventually("the ports are open", || {
            [443, 80, 5000]
                .iter()
                .all(|&port| connect(balancer.at(port)).is_ok())
                .then_some(())
        });
        for _ in 0..TRIES {
            let client = connect(balancer.at(80)).unwrap();
            let server = ask(&client, &request(NAME)).unwrap();
            assert_eq!(server, backends[round % 2].name);
        }
        assert_eq!(balancer.metric("lyncpin_listener_open", &[]), 3.0);
        backends[1 - round % 2].start_again();
    }
}

#[test]
fn ports_stay_open_and_reject_with_when_pool_down_accept() {
    let backends = Backend::several(1);
    let pool = format!("  web: {{ {}, {HEALTH} }}", entries(&backends));
    let balancer = start("refuse", &pool).ready();
    backends[0].stop();
    eventually("the backend is down", || {
        (balancer.metric("lyncpin_backend_up", &[]) == 0.0).then_some(())
    });
    for _ in 0..8 {
        let mut client = connect(balancer.at(80)).unwrap();
        client.write_all(&request(NAME)).unwrap();
        let mut response = String::new();
        client.read_to_string(&mut response).unwrap();
        assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
        let mut client = connect(balancer.at(443)).unwrap();
        client
            .write_all(&HelloBuilder::named(NAME).build())
            .unwrap();
        assert_reset(&client);
        // The reset may arrive before connect(2) returns.
        match connect(balancer.at(5000)) {
            Ok(client) => assert_reset(&client),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }
    assert_eq!(balancer.get("/readyz").status, 503);
    let refused = ["outcome=\"pool_down\"", "pool=\"\"", "backend=\"\""];
    eventually("all are counted", || {
        (balancer.metric("lyncpin_connections_total", &refused) == 24.0).then_some(())
    });
    backends[0].start_again();
    eventually("the backend serves again", || {
        let client = connect(balancer.at(80)).unwrap();
        (ask(&client, &request(NAME)).ok()? == "a").then_some(())
    });
}

#[test]
fn a_backup_serves_only_while_the_pool_is_down() {
    let backends = Backend::several(2);
    let balancer = start(
        "close",
        &format!(
            "  web: {{ {}, {HEALTH}, backup: spare }}\n  spare: {{ {}, {HEALTH} }}",
            entries(&backends[..1]),
            entries(&backends[1..])
        ),
    )
    .ready();
    let source = own_address();
    let connect_tcp = || connect_from(source, balancer.at(5000)).unwrap();
    let up = |pool: &str| {
        let pool = format!("pool=\"{pool}\"");
        balancer.metric("lyncpin_backend_up", &[&pool])
    };
    eventually("both are up", || {
        (up("web") + up("spare") == 2.0).then_some(())
    });
    assert_eq!(ask(&connect_tcp(), b"?").unwrap(), "a");
    backends[0].stop();
    // The port never closes, neither before nor after the checks detect the failure.
    let served = eventually("the pool is down", || {
        let client = connect_tcp();
        ask(&client, b"?")
            .ok()
            .filter(|server| server == "b")
            .map(|_| client)
    });
    let pins = || balancer.metric("lyncpin_affinity_entries", &[]);
    assert_eq!(pins(), 1.0, "a backup makes no pins");
    backends[0].start_again();
    eventually("the pool is up", || (up("web") == 1.0).then_some(()));
    for _ in 0..8 {
        assert_eq!(ask(&connect_tcp(), b"?").unwrap(), "a");
    }
    assert!(is_alive(&served), "connections to the backup stay open");
    drop(served);
    let line = eventually("the backup's connection ends", || {
        balancer
            .access()
            .into_iter()
            .find(|line| line["pick"] == "backup")
    });
    assert_eq!(
        (line["pool"].as_str(), line["backend"].as_str()),
        (Some("spare"), Some("b"))
    );
}

#[test]
fn without_checks_a_client_is_redispatched_when_its_server_refuses() {
    let backends = Backend::several(3);
    let balancer = start(
        "close",
        &format!("  web: {{ {}, health: none }}", entries(&backends)),
    );
    let source = own_address();
    let connect_and_ask = || {
        let client = connect_from(source, balancer.at(5000)).unwrap();
        (ask(&client, b"?").unwrap(), client)
    };
    let (first, held) = connect_and_ask();
    let dead = backends
        .iter()
        .find(|backend| backend.name == first)
        .unwrap();
    dead.stop();
    assert_reset(&held);
    let begun = Instant::now();
    let (second, held) = connect_and_ask();
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
    assert_ne!(second, first);
    dead.start_again();
    assert_eq!(connect_and_ask().0, second, "the pin has moved");
    assert!(is_alive(&held));
    let redispatched = [&*format!("backend=\"{first}\""), "reason=\"refused\""];
    assert_eq!(
        balancer.metric("lyncpin_redispatches_total", &redispatched),
        1.0
    );
    // The pinned backend is tried twice, because a restarting service soon accepts again.
    assert_eq!(
        balancer.metric("lyncpin_connect_failures_total", &redispatched),
        2.0
    );
    drop(held);
    let line = eventually("the connection ends", || {
        balancer
            .access()
            .into_iter()
            .find(|line| line["pick"] == "redispatched")
    });
    assert_eq!(line["tries"], 3);
}

#[test]
fn without_checks_a_client_is_rejected_when_every_server_refuses() {
    let backends = Backend::several(4);
    let balancer = start(
        "close",
        &format!("  web: {{ {}, health: none }}", entries(&backends)),
    );
    for backend in &backends {
        backend.stop();
    }
    let mut client = connect(balancer.at(80)).unwrap();
    client.write_all(&request(NAME)).unwrap();
    let mut response = String::new();
    client.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
    let line = balancer.ended("connect_refused");
    assert_eq!(line["tries"], 3, "at most three backends");
    // No backend accepted, so there is no pin.
    assert_eq!(balancer.metric("lyncpin_affinity_entries", &[]), 0.0);
}

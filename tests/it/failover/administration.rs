//! Drain, maintain and ready, set by an administrator.

use std::net::{IpAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::support::balancer::Balancer;
use crate::support::peers::{Backend, ask, assert_reset, connect_from, entries, is_alive};
use crate::support::{eventually, own_address};

fn start(backends: &[Backend]) -> Balancer {
    let balancer = Balancer::start(&format!(
        "listeners: {{ tcp: {{ bind: [\"HOST:5000\"], protocol: tcp, pool: web }} }}\npools: {{ web: {{ {} }} }}",
        entries(backends)
    ));
    eventually("all are up", || {
        let ups = balancer.metric("lyncpin_backend_up", &[]);
        (ups == backends.len() as f64).then_some(())
    });
    balancer
}

fn connect_and_ask(source: IpAddr, balancer: &Balancer) -> (String, TcpStream) {
    let client = connect_from(source, balancer.at(5000)).unwrap();
    (ask(&client, b"?").unwrap(), client)
}

fn set(balancer: &Balancer, backend: &str, body: &str) {
    let response = balancer.set_state("web", backend, body);
    assert_eq!(response.status, 200, "{response:?}");
}

#[test]
fn a_draining_backend_keeps_its_clients_until_the_deadline_and_gets_no_new_ones() {
    let backends = Backend::several(2);
    let balancer = start(&backends);
    let source = own_address();
    let (drained, held) = connect_and_ask(source, &balancer);
    let begun = Instant::now();
    set(&balancer, &drained, r#"{"state":"drain","deadline":"2s"}"#);
    let backend = balancer.status()["pools"][0]["backends"]
        .as_array()
        .unwrap()
        .iter()
        .find(|backend| backend["name"] == *drained)
        .unwrap()
        .clone();
    assert_eq!(
        (&backend["state"], &backend["connections"]),
        (&"drain".into(), &1.into())
    );
    assert!(backend["deadline"].is_string(), "{backend}");
    let mut new_clients = Vec::new();
    for _ in 0..20 {
        let (server, client) = connect_and_ask(own_address(), &balancer);
        assert_ne!(server, drained);
        new_clients.push(client);
    }
    assert_eq!(
        connect_and_ask(source, &balancer).0,
        drained,
        "its own clients may reconnect"
    );
    assert!(is_alive(&held));
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "this machine is too slow for this test"
    );
    assert_reset(&held);
    assert!(
        begun.elapsed() >= Duration::from_millis(1990),
        "{:?}",
        begun.elapsed()
    );
    balancer.ended("drain_deadline");
    let (elsewhere, _held) = connect_and_ask(source, &balancer);
    assert_ne!(elsewhere, drained);
    assert!(
        new_clients.iter().all(is_alive),
        "other connections are not affected"
    );
    set(&balancer, &drained, r#"{"state":"ready"}"#);
    assert_eq!(
        connect_and_ask(source, &balancer).0,
        elsewhere,
        "the client stays on the other backend"
    );
    // The other backend has at least 21 connections.
    assert_eq!(connect_and_ask(own_address(), &balancer).0, drained);
}

#[test]
fn maintenance_resets_at_once_and_clients_stay_at_their_new_backend() {
    let backends = Backend::several(3);
    let balancer = start(&backends);
    let source = own_address();
    let (maintained, held) = connect_and_ask(source, &balancer);
    let others: Vec<_> = (0..6)
        .map(|_| connect_and_ask(own_address(), &balancer))
        .collect();
    set(&balancer, &maintained, r#"{"state":"maintain"}"#);
    let begun = Instant::now();
    assert_reset(&held);
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(balancer.ended("maintenance")["backend"], maintained);
    for (server, client) in &others {
        if *server == maintained {
            assert_reset(client);
        } else {
            assert!(is_alive(client));
        }
    }
    let (elsewhere, _held) = connect_and_ask(source, &balancer);
    assert_ne!(elsewhere, maintained);
    set(&balancer, &maintained, r#"{"state":"ready"}"#);
    assert_eq!(connect_and_ask(source, &balancer).0, elsewhere);
    assert_eq!(connect_and_ask(own_address(), &balancer).0, maintained);
    let broken = ["reason=\"maintain\""];
    assert_eq!(
        balancer.metric("lyncpin_affinity_pins_broken_total", &broken),
        1.0
    );
}

#[test]
fn a_cancelled_drain_resets_no_connection() {
    let backends = Backend::several(2);
    let balancer = start(&backends);
    let (drained, held) = connect_and_ask(own_address(), &balancer);
    set(
        &balancer,
        &drained,
        r#"{"state":"drain","deadline":"500ms"}"#,
    );
    set(&balancer, &drained, r#"{"state":"ready"}"#);
    // Waits past the original deadline.
    std::thread::sleep(Duration::from_millis(700));
    assert!(is_alive(&held));
}

#[test]
fn the_port_refuses_connections_while_every_backend_is_in_maintenance() {
    let backends = Backend::several(2);
    let balancer = start(&backends);
    for backend in &backends {
        set(&balancer, &backend.name, r#"{"state":"maintain"}"#);
    }
    eventually("the port refuses", || {
        connect_from(own_address(), balancer.at(5000)).err()
    });
    set(&balancer, "b", r#"{"state":"ready"}"#);
    let client = eventually("the port is open", || {
        connect_from(own_address(), balancer.at(5000)).ok()
    });
    assert_eq!(ask(&client, b"?").unwrap(), "b");
}

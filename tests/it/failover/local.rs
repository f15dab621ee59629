//! If a connection to one backend fails locally, for example without a free port, another backend serves and no pin moves.

use std::net::{IpAddr, TcpStream};

use socket2::{Domain, Socket, Type};

use crate::support::balancer::Balancer;
use crate::support::network::{in_own_network, run};
use crate::support::peers::{Backend, ask, connect_from, is_alive, reset};
use crate::support::{PATIENCE, at, eventually, own_address};

/// A backend to which connect(2) fails at once with EINVAL: a link-local address without an interface.
const UNREACHABLE: &str = "{ name: unreachable, address: \"[fe80::1]:7000\" }";

fn start(backends: &[String]) -> Balancer {
    Balancer::start(&format!(
        "listeners: {{ tcp: {{ bind: [\"HOST:5000\"], protocol: tcp, pool: web }} }}\n\
         pools: {{ web: {{ backends: [{}], health: none, balance: round_robin, affinity: {{ by: [source] }} }} }}\n\
         workers: 1",
        backends.join(", ")
    ))
}

fn pin(balancer: &Balancer, source: IpAddr, backend: &str) {
    let body = format!(r#"{{"action":"pin","client":"{source}","backend":"{backend}"}}"#);
    let response = balancer.ask("PUT", "/api/v1/affinity", &body).unwrap();
    assert_eq!(response.status, 200, "{}", response.body);
}

/// The backend of a client's pin.
fn pinned(balancer: &Balancer, source: IpAddr) -> String {
    let response = balancer.get(&format!("/api/v1/affinity?client={source}"));
    let body: serde_json::Value = serde_json::from_str(&response.body).unwrap();
    body["entries"][0]["backend"].as_str().unwrap().to_owned()
}

fn connect_and_ask(balancer: &Balancer, source: IpAddr) -> (String, TcpStream) {
    let client = connect_from(source, balancer.at(5000)).unwrap();
    (ask(&client, b"?").unwrap(), client)
}

#[test]
fn a_backend_that_this_machine_cannot_reach_is_skipped_and_the_pin_stays() {
    let server = Backend::start("there");
    let balancer = start(&[UNREACHABLE.into(), server.entry()]);
    let source = own_address();
    pin(&balancer, source, "unreachable");
    for _ in 0..3 {
        let (name, held) = connect_and_ask(&balancer, source);
        assert_eq!(name, "there");
        assert!(is_alive(&held));
        assert_eq!(pinned(&balancer, source), "unreachable");
    }
    let broken = balancer.metric("lyncpin_affinity_pins_broken_total", &[]);
    assert_eq!(broken, 0.0);
    // A pinned backend is tried twice for each client.
    let local = ["backend=\"unreachable\"", "reason=\"local\""];
    let failures = balancer.metric("lyncpin_connect_failures_total", &local);
    assert_eq!(failures, 6.0);
    let redispatched = balancer.metric("lyncpin_redispatches_total", &["reason=\"local\""]);
    assert_eq!(redispatched, 3.0);
    // A client without a pin is pinned to the backend that accepts.
    for _ in 0..4 {
        let source = own_address();
        assert_eq!(connect_and_ask(&balancer, source).0, "there");
        assert_eq!(pinned(&balancer, source), "there");
    }
}

#[test]
fn if_no_backend_can_be_reached_the_outcome_is_connect_local() {
    let other = UNREACHABLE
        .replace("unreachable", "unreachable_too")
        .replace("::1", "::2");
    let balancer = start(&[UNREACHABLE.into(), other]);
    // The reset may arrive before connect(2) returns.
    let _client = connect_from(own_address(), balancer.at(5000));
    let ended = balancer.ended("connect_local");
    assert_eq!(ended["tries"], 2, "{ended}");
}

fn no_port_is_left() {
    const PORTS: usize = 6;
    let (full, other) = (Backend::start("full"), Backend::start("other"));
    let balancer = start(&[full.entry(), other.entry()]);
    let range = format!("net.ipv4.ip_local_port_range=40000 {}", 40_000 + PORTS - 1);
    run("sysctl", &["-q", "-w", &range]);
    // The ports of the clients are outside the range of the balancer.
    let mut ports = 50_000..;
    let mut connect_and_ask = |source| {
        let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        client.set_reuse_address(true).unwrap();
        client
            .bind(&at(source, ports.next().unwrap()).into())
            .unwrap();
        client.connect(&balancer.at(5000).into()).unwrap();
        let client = TcpStream::from(client);
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        (ask(&client, b"?").unwrap(), client)
    };
    let mut connect_pinned = || {
        let source = own_address();
        pin(&balancer, source, "full");
        (source, connect_and_ask(source))
    };
    let held: Vec<_> = (0..PORTS).map(|_| connect_pinned()).collect();
    assert!(held.iter().all(|(_, (name, _))| name == "full"));
    let (source, (name, elsewhere)) = connect_pinned();
    assert_eq!(
        (name.as_str(), pinned(&balancer, source).as_str()),
        ("other", "full")
    );
    assert!(is_alive(&elsewhere));
    // A reset leaves no socket in TIME_WAIT.
    reset(elsewhere);
    for (_, (_, client)) in held {
        reset(client);
    }
    let back = eventually("a port is free again", || {
        let (name, held) = connect_and_ask(source);
        if name == "full" {
            return Some(held);
        }
        reset(held);
        None
    });
    assert!(is_alive(&back));
}

#[test]
fn a_client_without_a_free_port_to_its_backend_is_served_by_another_and_returns() {
    in_own_network(
        "failover::local::a_client_without_a_free_port_to_its_backend_is_served_by_another_and_returns",
        no_port_is_left,
    );
}

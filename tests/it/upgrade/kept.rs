//! The state that the new process restores from the old one.

use std::net::{IpAddr, TcpStream};
use std::time::Duration;

use crate::support::peers::{Backend, ask, connect_from, entries, is_alive};
use crate::support::{eventually, own_address};

use super::Service;

const TCP: u16 = 5000;

fn start(backends: &[Backend], keys: &str) -> Service {
    Service::start(&format!(
        "listeners:\n\
         \x20 tcp: {{ bind: [\"HOST:{TCP}\"], protocol: tcp, pool: web }}\n\
         workers: 2\npools:\n  web: {{ {}, {keys} }}",
        entries(backends)
    ))
}

fn connect_client(source: IpAddr, service: &Service) -> (String, TcpStream) {
    let client = connect_from(source, service.balancer.at(TCP)).unwrap();
    (ask(&client, b"?").unwrap(), client)
}

/// The number of pins in use, by the API.
fn in_use(service: &Service) -> usize {
    let body = service.balancer.get("/api/v1/affinity?limit=10000").body;
    let page: serde_json::Value = serde_json::from_str(&body).unwrap();
    let pins = page["entries"].as_array().unwrap();
    pins.iter()
        .filter(|pin| pin["connections"].as_u64() > Some(0))
        .count()
}

#[test]
fn pins_are_restored_and_stay_in_use_until_their_connections_end() {
    const CLIENTS: usize = 40;
    let backends = Backend::several(3);
    let service = start(&backends, "health: none, affinity: { by: [source] }");
    let clients: Vec<IpAddr> = (0..CLIENTS).map(|_| own_address()).collect();
    let mut before = Vec::new();
    let mut held = Vec::new();
    for (number, &client) in clients.iter().enumerate() {
        let (server, stream) = connect_client(client, &service);
        before.push(server);
        if number % 2 == 0 {
            held.push(stream);
        }
    }
    eventually("half of the pins are in use", || {
        (in_use(&service) == CLIENTS / 2).then_some(())
    });
    for _ in 0..2 {
        service.upgrade();
        assert_eq!(in_use(&service), CLIENTS / 2);
        for (client, server) in clients.iter().zip(&before) {
            assert_eq!(connect_client(*client, &service).0, *server);
        }
    }
    for stream in &held {
        assert!(is_alive(stream));
    }
    drop(held);
    eventually("no pin is in use", || (in_use(&service) == 0).then_some(()));
    for (client, server) in clients.iter().zip(&before) {
        assert_eq!(connect_client(*client, &service).0, *server);
    }
}

#[test]
fn pins_that_can_be_translated_are_restored_with_other_keys() {
    let backends = Backend::several(3);
    let by = |keys: &str| {
        format!(
            "listeners:\n\
             \x20 tcp: {{ bind: [\"HOST:{TCP}\"], protocol: tcp, pool: web }}\n\
             workers: 2\npools:\n  web: {{ {}, health: none, affinity: {{ by: {keys} }} }}",
            entries(&backends)
        )
    };
    let service = Service::start(&by("[source, name]"));
    let clients: Vec<IpAddr> = (0..12).map(|_| own_address()).collect();
    let held: Vec<(String, TcpStream)> = clients
        .iter()
        .map(|&of| connect_client(of, &service))
        .collect();
    // A TLS session is a key of its own, and a key with fewer parts can be derived from one with more.
    for keys in ["[source, name, tls_session]", "[source]"] {
        service.balancer.write(&by(keys));
        service.upgrade();
        for (client, (server, _)) in clients.iter().zip(&held) {
            assert_eq!(connect_client(*client, &service).0, *server, "{keys}");
        }
    }
    assert!(held.iter().all(|(_, stream)| is_alive(stream)));
}

#[test]
fn administrative_states_and_drain_deadlines_are_restored() {
    let backends = Backend::several(3);
    let service = start(&backends, "health: none, affinity: { by: [source] }");
    let pool = service.balancer.status()["pools"][0].clone();
    let name = |index: usize| pool["backends"][index]["name"].as_str().unwrap().to_owned();
    let set = |name: &str, body: &str| {
        assert_eq!(service.balancer.set_state("web", name, body).status, 200);
    };
    set(&name(0), r#"{"state":"drain","deadline":"600s"}"#);
    set(&name(1), r#"{"state":"maintain"}"#);
    std::thread::sleep(Duration::from_millis(1100));
    service.upgrade();
    let status = service.balancer.status();
    let backends = &status["pools"][0]["backends"];
    assert_eq!(backends[0]["state"], "drain");
    let left = backends[0]["drain_seconds_left"].as_f64().unwrap();
    assert!(left > 400.0 && left < 599.5, "{left}");
    assert_eq!(backends[1]["state"], "maintain");
    assert_eq!(backends[2]["state"], "ready");
    for _ in 0..5 {
        assert_eq!(connect_client(own_address(), &service).0, name(2));
    }
}

#[test]
fn health_is_restored_so_that_no_port_closes() {
    let mut backends = Backend::several(2);
    // Long enough that the new process opens its ports before its first check.
    let service = start(
        &backends,
        "health: { interval: 1s, timeout: 500ms, checks: [{ tcp: {} }] }",
    );
    let down = backends.remove(0);
    down.stop();
    eventually("one backend is down", || {
        let status = service.balancer.status();
        let health = |index: usize| status["pools"][0]["backends"][index]["health"].clone();
        (health(0) == "down" && health(1) == "up").then_some(())
    });
    service.upgrade();
    let status = service.balancer.status();
    assert_eq!(status["pools"][0]["backends"][0]["health"], "down");
    assert_eq!(status["pools"][0]["backends"][1]["health"], "up");
    for _ in 0..20 {
        connect_client(own_address(), &service);
    }
    let closed = service.balancer.log().into_iter().find(|entry| {
        entry["message"]
            .as_str()
            .is_some_and(|text| text.starts_with("closed"))
    });
    assert_eq!(closed, None);
}

#[test]
fn the_affinity_store_passes_from_one_process_to_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("affinity");
    let backends = Backend::several(3);
    let yaml = format!(
        "listeners:\n\
         \x20 tcp: {{ bind: [\"HOST:{TCP}\"], protocol: tcp, pool: web }}\n\
         affinity_store: {{ file: \"{}\" }}\n\
         pools:\n  web: {{ {}, health: none, affinity: {{ by: [source] }} }}",
        file.display(),
        entries(&backends)
    );
    let service = Service::start(&yaml);
    let clients: Vec<IpAddr> = (0..10).map(|_| own_address()).collect();
    let before: Vec<String> = clients
        .iter()
        .map(|&client| connect_client(client, &service).0)
        .collect();
    let successor = service.upgrade();
    // The new process has the lock and writes.
    eventually("the new process has the store", || {
        let descriptors =
            std::fs::read_dir(format!("/proc/{}/fd", successor.as_raw_pid())).unwrap();
        let mut targets = descriptors
            .flatten()
            .filter_map(|entry| std::fs::read_link(entry.path()).ok());
        targets
            .any(|target| target.starts_with(directory.path()))
            .then_some(())
    });
    for (client, server) in clients.iter().zip(&before) {
        assert_eq!(connect_client(*client, &service).0, *server);
    }
    service.upgrade();
    for (client, server) in clients.iter().zip(&before) {
        assert_eq!(connect_client(*client, &service).0, *server);
    }
}

//! Affinity groups: one pin applies to several ports whose pools have the same servers, even if a server is down or
//! drained on some of the ports.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use crate::support::balancer::Balancer;
use crate::support::peers::{Backend, ask, connect_from, is_alive};
use crate::support::{eventually, own_address};

const HEALTH: &str = "health: { interval: 100ms, timeout: 100ms, rise: 1, fall: 1 }";
/// The two ports of the pool `secure`, and then the two of `clear`.
const PORTS: [u16; 4] = [443, 4443, 80, 8080];

/// Two pools of one affinity group. Each server has one backend in each pool; `clear` lists them in another order.
struct Site {
    balancer: Balancer,
    secure: Vec<Backend>,
    clear: Vec<Backend>,
}

impl Site {
    fn start() -> Self {
        let (secure, clear) = (Backend::several(3), Backend::several(3));
        let affinity = "affinity: { by: [source], group: web }";
        let pool = |backends: Vec<String>| {
            format!(
                "{{ backends: [{}], {affinity}, {HEALTH} }}",
                backends.join(", ")
            )
        };
        let in_order = secure.iter().map(Backend::entry).collect();
        let rotated = [2, 0, 1].map(|index: usize| clear[index].entry()).into();
        let listener = |port: u16| {
            let pool = if port % 1000 == 443 {
                "secure"
            } else {
                "clear"
            };
            format!("  l{port}: {{ bind: [\"HOST:{port}\"], protocol: tcp, pool: {pool} }}\n")
        };
        let listeners = PORTS.map(listener);
        let balancer = Balancer::start(&format!(
            "listeners:\n{}workers: 2\npools:\n  secure: {}\n  clear: {}\n",
            listeners.concat(),
            pool(in_order),
            pool(rotated)
        ));
        let site = Self {
            balancer,
            secure,
            clear,
        };
        site.wait_for_up_count(6.0);
        site
    }

    fn wait_for_up_count(&self, count: f64) {
        eventually("the expected number of backends is up", || {
            (self.balancer.metric("lyncpin_backend_up", &[]) == count).then_some(())
        });
    }

    fn server_at(&self, source: IpAddr, port: u16) -> String {
        let client = connect_from(source, self.balancer.at(port)).unwrap();
        ask(&client, b"?").unwrap()
    }

    /// The servers that a client gets on all ports. It connects to the port with the index `first` first.
    fn servers(&self, source: IpAddr, first: usize) -> BTreeSet<String> {
        let ports = PORTS.iter().cycle().skip(first).take(PORTS.len());
        ports.map(|&port| self.server_at(source, port)).collect()
    }

    fn pins(&self, pool: usize, backend: &str) -> u64 {
        let status = self.balancer.status();
        let backends = status["pools"][pool]["backends"]
            .as_array()
            .unwrap()
            .clone();
        let found = backends
            .iter()
            .find(|candidate| candidate["name"] == *backend);
        found.unwrap()["pins"].as_u64().unwrap()
    }

    fn set(&self, pool: &str, backend: &str, body: &str) {
        let response = self.balancer.set_state(pool, backend, body);
        assert_eq!(response.status, 200, "{response:?}");
    }
}

fn only(server: &str) -> BTreeSet<String> {
    BTreeSet::from([server.to_owned()])
}

#[test]
fn each_client_gets_one_server_on_all_ports_while_a_server_is_down_on_one_port() {
    let site = Site::start();
    site.clear[0].stop();
    site.wait_for_up_count(5.0);
    let mut used = BTreeSet::new();
    for number in 0..40 {
        let servers = site.servers(own_address(), number);
        assert_eq!(servers.len(), 1, "client {number}: {servers:?}");
        used.extend(servers);
    }
    assert_eq!(
        used,
        BTreeSet::from(["b".to_owned(), "c".to_owned()]),
        "`a` is down on one port"
    );
    let broken = || {
        site.balancer
            .metric("lyncpin_affinity_pins_broken_total", &[])
    };
    assert_eq!(broken(), 0.0);
    let text = site
        .balancer
        .get("/api/v1/explain?listener=l443&source=192.0.2.7")
        .body;
    assert!(text.contains("a is up but not used"), "{text}");
    site.secure[1].stop();
    site.wait_for_up_count(4.0);
    for number in 0..12 {
        assert_eq!(
            site.servers(own_address(), number),
            only("c"),
            "client {number}"
        );
    }
    site.secure[1].start_again();
    site.wait_for_up_count(5.0);

    // No server is up on all ports: each port uses the servers that are up there.
    site.clear[1].stop();
    site.clear[2].stop();
    site.wait_for_up_count(3.0);
    let source = own_address();
    let server = site.server_at(source, 443);
    assert_eq!(site.server_at(source, 4443), server);

    // `a` is up on all ports again and gets clients again.
    for backend in &site.clear {
        backend.start_again();
    }
    site.wait_for_up_count(6.0);
    let mut held = Vec::new();
    eventually("`a` gets a new client", || {
        let client = connect_from(own_address(), site.balancer.at(443)).unwrap();
        let server = ask(&client, b"?").unwrap();
        held.push(client);
        (server == "a").then_some(())
    });
}

#[test]
fn a_pin_moves_on_all_ports_once_one_port_cannot_use_it() {
    let site = Site::start();
    let source = own_address();
    let first = site.server_at(source, 443);
    let index = site
        .clear
        .iter()
        .position(|backend| backend.name == first)
        .unwrap();
    site.clear[index].stop();
    site.wait_for_up_count(5.0);
    assert_eq!(
        site.server_at(source, 4443),
        first,
        "the server is up on this port"
    );
    let second = site.server_at(source, 80);
    assert_ne!(second, first);
    assert_eq!(site.servers(source, 0), only(&second));
    site.clear[index].start_again();
    site.wait_for_up_count(6.0);
    assert_eq!(
        site.servers(source, 2),
        only(&second),
        "the pin does not move back"
    );
}

#[test]
fn a_server_that_is_drained_in_one_pool_gets_no_new_clients_in_the_other() {
    let site = Site::start();
    site.set("clear", "a", r#"{"state":"drain","deadline":"10m"}"#);
    site.set("clear", "b", r#"{"state":"maintain"}"#);
    for number in 0..12 {
        assert_eq!(
            site.servers(own_address(), number),
            only("c"),
            "client {number}"
        );
    }
}

#[test]
fn pins_are_released_when_the_last_pool_has_drained_their_server() {
    let site = Site::start();
    let source = own_address();
    let held = connect_from(source, site.balancer.at(443)).unwrap();
    let server = ask(&held, b"?").unwrap();
    let expired = r#"{"state":"drain","deadline":"0s"}"#;
    let drained = |count: usize| {
        eventually("the drain ends", || {
            let is_drained = |line: &&serde_json::Value| {
                let message = line["message"].as_str().unwrap_or_default();
                message.starts_with("drained: ")
            };
            (site.balancer.log().iter().filter(is_drained).count() == count).then_some(())
        });
    };
    site.set("clear", &server, expired);
    drained(1);
    assert_eq!(
        site.pins(0, &server),
        1,
        "the pin stays while the other pool uses it"
    );
    assert!(is_alive(&held));
    assert_eq!(site.server_at(source, 4443), server);
    // In the other pool, a second drain replaces the first. Once its deadline has passed, no pool needs the pins.
    site.set("secure", &server, r#"{"state":"drain","deadline":"10m"}"#);
    assert_eq!(site.server_at(source, 4443), server);
    site.set("secure", &server, expired);
    drained(2);
    assert_eq!(site.pins(0, &server), 0);
    crate::support::peers::assert_reset(&held);
    let other = site.server_at(source, 80);
    assert_ne!(other, server);
    assert_eq!(site.servers(source, 0), only(&other));
}

#[test]
fn a_drain_that_is_cancelled_before_its_deadline_preserves_every_pin() {
    let site = Site::start();
    let sources: Vec<IpAddr> = (0..6).map(|_| own_address()).collect();
    let server = site.server_at(sources[0], 443);
    let before: Vec<_> = sources
        .iter()
        .map(|source| site.server_at(*source, 80))
        .collect();
    for pool in ["secure", "clear"] {
        site.set(pool, &server, r#"{"state":"drain","deadline":"2s"}"#);
        site.set(pool, &server, r#"{"state":"ready"}"#);
    }
    // Wait until the deadline of the cancelled drain has passed.
    std::thread::sleep(Duration::from_millis(2200));
    let after: Vec<_> = sources
        .iter()
        .map(|source| site.server_at(*source, 4443))
        .collect();
    assert_eq!(after, before);
}

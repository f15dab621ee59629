//! One pin over several ports whose pools have the same servers, some of them on one port only.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use crate::support::balancer::Balancer;
use crate::support::peers::{Backend, ask, connect_from, is_alive};
use crate::support::{eventually, own_address};

const HEALTH: &str = "health: { interval: 100ms, timeout: 100ms, rise: 1, fall: 1 }";
/// The ports of the pool `secure`, then those of `clear`.
const PORTS: [u16; 4] = [443, 4443, 80, 8080];

/// Two pools of one group. Each server has a process for each; `clear` lists them in another order.
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
        let turned = [2, 0, 1].map(|place: usize| clear[place].entry()).into();
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
            pool(turned)
        ));
        let site = Self {
            balancer,
            secure,
            clear,
        };
        site.wait_for_ups(6.0);
        site
    }

    fn wait_for_ups(&self, count: f64) {
        eventually("the checks say so", || {
            (self.balancer.metric("lyncpin_backend_up", &[]) == count).then_some(())
        });
    }

    fn come(&self, source: IpAddr, port: u16) -> String {
        let client = connect_from(source, self.balancer.at(port)).unwrap();
        ask(&client, b"?").unwrap()
    }

    /// The servers that a client gets on all ports, starting with this one.
    fn servers(&self, source: IpAddr, first: usize) -> BTreeSet<String> {
        let ports = PORTS.iter().cycle().skip(first).take(PORTS.len());
        ports.map(|&port| self.come(source, port)).collect()
    }

    fn pins(&self, pool: usize, backend: &str) -> u64 {
        let status = self.balancer.status();
        let backends = status["pools"][pool]["backends"]
            .as_array()
            .unwrap()
            .clone();
        let found = backends.iter().find(|known| known["name"] == *backend);
        found.unwrap()["pins"].as_u64().unwrap()
    }

    fn set(&self, pool: &str, backend: &str, body: &str) {
        let answer = self.balancer.set_state(pool, backend, body);
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

fn only(server: &str) -> BTreeSet<String> {
    BTreeSet::from([server.to_owned()])
}

#[test]
fn all_ports_agree_on_each_of_many_clients_while_a_server_is_down_on_one_port() {
    let site = Site::start();
    site.clear[0].stop();
    site.wait_for_ups(5.0);
    let mut used = BTreeSet::new();
    for number in 0..40 {
        let servers = site.servers(own_address(), number);
        assert_eq!(servers.len(), 1, "client {number}: {servers:?}");
        used.extend(servers);
    }
    assert_eq!(
        used,
        BTreeSet::from(["b".to_owned(), "c".to_owned()]),
        "`a` is not whole"
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
    site.wait_for_ups(4.0);
    for number in 0..12 {
        assert_eq!(
            site.servers(own_address(), number),
            only("c"),
            "client {number}"
        );
    }
    site.secure[1].start_again();
    site.wait_for_ups(5.0);

    // No server is up on all ports: those that are up on a port serve there.
    site.clear[1].stop();
    site.clear[2].stop();
    site.wait_for_ups(3.0);
    let source = own_address();
    let server = site.come(source, 443);
    assert_eq!(site.come(source, 4443), server);

    // Up on all ports again, and used again.
    for backend in &site.clear {
        backend.start_again();
    }
    site.wait_for_ups(6.0);
    let mut held = Vec::new();
    eventually("`a` gets a new client", || {
        let client = connect_from(own_address(), site.balancer.at(443)).unwrap();
        let server = ask(&client, b"?").unwrap();
        held.push(client);
        (server == "a").then_some(())
    });
}

#[test]
fn a_pin_moves_for_all_ports_once_one_of_them_cannot_use_it() {
    let site = Site::start();
    let source = own_address();
    let first = site.come(source, 443);
    let place = site
        .clear
        .iter()
        .position(|backend| backend.name == first)
        .unwrap();
    site.clear[place].stop();
    site.wait_for_ups(5.0);
    assert_eq!(site.come(source, 4443), first, "these ports can use it");
    let second = site.come(source, 80);
    assert_ne!(second, first);
    assert_eq!(site.servers(source, 0), only(&second));
    site.clear[place].start_again();
    site.wait_for_ups(6.0);
    assert_eq!(
        site.servers(source, 2),
        only(&second),
        "it stays where it went"
    );
}

#[test]
fn a_server_that_drains_on_one_port_gets_no_new_clients_on_the_others() {
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
    let over = r#"{"state":"drain","deadline":"0s"}"#;
    let drained = |count: usize| {
        eventually("the drain ends", || {
            let ends = |line: &&serde_json::Value| {
                let message = line["message"].as_str().unwrap_or_default();
                message.starts_with("drained: ")
            };
            (site.balancer.log().iter().filter(ends).count() == count).then_some(())
        });
    };
    site.set("clear", &server, over);
    drained(1);
    assert_eq!(site.pins(0, &server), 1, "the other pool's clients stay");
    assert!(is_alive(&held));
    assert_eq!(site.come(source, 4443), server);
    // A second drain replaces the first. Its deadline passes as well, and now no pool needs the pins.
    site.set("secure", &server, r#"{"state":"drain","deadline":"10m"}"#);
    assert_eq!(site.come(source, 4443), server);
    site.set("secure", &server, over);
    drained(2);
    assert_eq!(site.pins(0, &server), 0);
    crate::support::peers::assert_reset(&held);
    let elsewhere = site.come(source, 80);
    assert_ne!(elsewhere, server);
    assert_eq!(site.servers(source, 0), only(&elsewhere));
}

#[test]
fn a_drain_that_is_cancelled_before_its_deadline_preserves_every_pin() {
    let site = Site::start();
    let sources: Vec<IpAddr> = (0..6).map(|_| own_address()).collect();
    let server = site.come(sources[0], 443);
    let before: Vec<_> = sources
        .iter()
        .map(|source| site.come(*source, 80))
        .collect();
    for pool in ["secure", "clear"] {
        site.set(pool, &server, r#"{"state":"drain","deadline":"2s"}"#);
        site.set(pool, &server, r#"{"state":"ready"}"#);
    }
    // The previous deadline must pass.
    std::thread::sleep(Duration::from_millis(2200));
    let after: Vec<_> = sources
        .iter()
        .map(|source| site.come(*source, 4443))
        .collect();
    assert_eq!(after, before);
}

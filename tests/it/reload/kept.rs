//! A reload keeps the state of backends and pins, and removes the metric series of removed parts.

use std::net::{IpAddr, TcpStream};
use std::time::{Duration, Instant};

use super::{WEB, routed, routes_to, server};
use crate::support::balancer::Balancer;
use crate::support::peers::{
    Backend, ask, assert_reset, connect, connect_from, entries, is_alive, request,
};
use crate::support::raw::{counted, is_health};
use crate::support::{eventually, own_address};

/// The listener `web` before one pool of the same name, with these backends and settings.
fn pool(backends: &str, settings: &str) -> String {
    format!(
        "listeners:\n  web: {{ bind: [\"HOST:{WEB}\"], protocol: http, routes: [{{ names: [www.test], pool: web }}] }}\n\
         pools:\n  web:\n    {backends}\n    {settings}\n"
    )
}

fn from(source: IpAddr, balancer: &Balancer) -> (TcpStream, String) {
    let stream = connect_from(source, balancer.at(WEB)).unwrap();
    let server = ask(&stream, &request("www.test")).unwrap();
    (stream, server)
}

/// A backend of the pool `web` in the status.
fn view(balancer: &Balancer, backend: &str) -> serde_json::Value {
    let status = balancer.status();
    let backends = status["pools"][0]["backends"].as_array().unwrap().clone();
    let named = |known: &serde_json::Value| known["name"] == backend;
    backends.into_iter().find(named).unwrap()
}

fn up(balancer: &Balancer, backends: f64) {
    counted(balancer, "lyncpin_backend_up", &[], backends);
}

#[test]
fn backends_keep_health_states_counters_and_pins() {
    let backends = Backend::several(3);
    let balancer = Balancer::start(&pool(&entries(&backends), "")).ready();
    up(&balancer, 3.0);
    let clients: Vec<_> = (0..6)
        .map(|_| {
            let source = own_address();
            (source, from(source, &balancer))
        })
        .collect();
    balancer.set_state("web", "a", r#"{"state":"drain","deadline":"1h"}"#);
    balancer.set_state("web", "b", r#"{"state":"maintain"}"#);
    let before = ["a", "b", "c"].map(|backend| view(&balancer, backend));
    let bytes = balancer.metric("lyncpin_bytes_total", &[]);
    // The new backend is first, so that every index changes.
    let fourth = Backend::start("d");
    let mut list = vec![fourth.entry()];
    list.extend(backends.iter().map(Backend::entry));
    let list = format!("backends: [{}]", list.join(", "));
    balancer.reloaded(&pool(&list, "balance: round_robin"));
    for before in before {
        let after = view(&balancer, before["name"].as_str().unwrap());
        for same in [
            "state",
            "deadline",
            "health",
            "since",
            "why",
            "pins",
            "connections",
        ] {
            assert_eq!(after[same], before[same], "{same} of {after}");
        }
    }
    assert!(balancer.metric("lyncpin_bytes_total", &[]) >= bytes);
    for (source, (held, server)) in clients {
        if server != "b" {
            assert!(is_alive(&held));
            assert_eq!(from(source, &balancer).1, server);
        }
    }
    let state = "lyncpin_backend_state";
    assert_eq!(
        balancer.metric(state, &["backend=\"a\"", "state=\"drain\""]),
        1.0
    );
}

#[test]
fn a_backend_with_a_new_address_keeps_its_pins_and_is_checked_again() {
    let backends = Backend::several(2);
    let at = |backend: &Backend| {
        format!(
            "backends: [{{ name: fe01, address: \"{}\" }}]",
            backend.address
        )
    };
    let balancer = Balancer::start(&pool(
        &at(&backends[0]),
        "health: { interval: 100ms, timeout: 100ms }",
    ))
    .ready();
    up(&balancer, 1.0);
    let source = own_address();
    let (held, server) = from(source, &balancer);
    assert_eq!(server, "a");
    let before = view(&balancer, "fe01");
    backends[1].stop();
    balancer.reloaded(&pool(
        &at(&backends[1]),
        "health: { interval: 100ms, timeout: 100ms, fall: 1 }",
    ));
    let after = view(&balancer, "fe01");
    assert_eq!(after["address"], backends[1].address.to_string());
    assert_eq!(after["pins"], before["pins"]);
    is_health(&balancer, "web", "down");
    backends[1].start_again();
    is_health(&balancer, "web", "up");
    routes_to(&balancer, "b");
    assert!(is_alive(&held));
    let hits = || balancer.metric("lyncpin_affinity_lookups_total", &["result=\"hit\""]);
    let before = hits();
    assert_eq!(from(source, &balancer).1, "b");
    assert_eq!(hits(), before + 1.0);
}

/// A new name is resolved before the configuration is replaced, so that no client finds a pool without a backend.
#[test]
fn a_new_backend_gets_clients_at_once() {
    let backends = Backend::several(1);
    let balancer = Balancer::start(&routed("a", &backends)).ready();
    let here = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let named = format!(
        "backends: [\"localhost:{}\"]",
        here.local_addr().unwrap().port()
    );
    for _ in 0..5 {
        balancer.reloaded(&pool(&named, "health: none"));
        let client = connect(balancer.at(WEB)).unwrap();
        std::io::Write::write_all(&mut &client, &request("www.test")).unwrap();
        here.accept().unwrap();
        balancer.reloaded(&routed("a", &backends));
        assert_eq!(server(&balancer), "a");
    }
}

#[test]
fn weights_and_limits_take_effect_on_backends_that_stay() {
    let backends = Backend::several(2);
    let weighted = |a: u32, b: u32, settings: &str| {
        let [first, second] = [0, 1].map(|index: usize| &backends[index]);
        let list = format!(
            "backends: [{{ name: a, address: \"{}\", weight: {a} }}, {{ name: b, address: \"{}\", weight: {b} }}]",
            first.address, second.address
        );
        pool(
            &list,
            &format!("affinity: none\n    balance: round_robin\n    {settings}"),
        )
    };
    let balancer = Balancer::start(&weighted(1, 0, "")).ready();
    up(&balancer, 2.0);
    let servers = || -> String { (0..6).map(|_| server(&balancer)).collect() };
    assert_eq!(servers(), "aaaaaa");
    let held = connect(balancer.at(WEB)).unwrap();
    ask(&held, &request("www.test")).unwrap();
    balancer.reloaded(&weighted(0, 1, ""));
    assert_eq!(servers(), "bbbbbb");
    balancer.reloaded(&weighted(2, 1, ""));
    let servers = servers();
    assert_eq!(servers.matches('a').count(), 4, "{servers}");
    counted(&balancer, "lyncpin_connections_active", &[], 1.0);
    // The open connection counts towards the limit and stays open.
    balancer.reloaded(&weighted(1, 0, "max_connections: 1"));
    let full = connect(balancer.at(WEB)).unwrap();
    let answer = ask(&full, &request("www.test"));
    assert!(answer.is_ok_and(|line| line.contains("503")));
    assert!(is_alive(&held));
}

#[test]
fn pins_stay_with_another_ttl_and_max_entries() {
    let backends = Backend::several(3);
    let with = |affinity: &str| pool(&entries(&backends), &format!("affinity: {{ {affinity} }}"));
    let balancer = Balancer::start(&with("ttl: 1h")).ready();
    up(&balancer, 3.0);
    let clients: Vec<_> = (0..9).map(|_| own_address()).collect();
    let servers: Vec<String> = clients.iter().map(|&of| from(of, &balancer).1).collect();
    let entries = || balancer.metric("lyncpin_affinity_entries", &[]);
    assert_eq!(entries(), 9.0);
    balancer.reloaded(&with("ttl: 30m, max_entries: 500"));
    assert_eq!(entries(), 9.0);
    for (&client, server) in clients.iter().zip(&servers) {
        assert_eq!(from(client, &balancer).1, *server);
    }
    assert_eq!(balancer.status()["affinity"][0]["max_entries"], 500);
    // The pins that have been idle longest are evicted, and pins past the new TTL expire.
    balancer.reloaded(&with("ttl: 30m, max_entries: 4"));
    counted(&balancer, "lyncpin_affinity_entries", &[], 4.0);
    balancer.reloaded(&with("ttl: 10ms, max_entries: 4"));
    counted(&balancer, "lyncpin_affinity_entries", &[], 0.0);
    balancer.reloaded(&with("ttl: 1h"));
    from(clients[0], &balancer);
    assert_eq!(entries(), 1.0);
}

#[test]
fn pins_that_can_be_translated_stay_with_other_keys() {
    let backends = Backend::several(3);
    let with = |affinity: &str| pool(&entries(&backends), &format!("affinity: {{ {affinity} }}"));
    let balancer = Balancer::start(&with("by: [source, name]")).ready();
    up(&balancer, 3.0);
    let clients: Vec<_> = (0..9).map(|_| own_address()).collect();
    let held: Vec<_> = clients.iter().map(|&of| from(of, &balancer)).collect();
    let entries = || balancer.metric("lyncpin_affinity_entries", &[]);
    let all_stay = || {
        for (&client, (_, server)) in clients.iter().zip(&held) {
            assert_eq!(from(client, &balancer).1, *server);
        }
    };
    // A session is a key of its own: adding or removing it changes no pin of a client.
    for by in ["by: [source, name, tls_session]", "by: [source, name]"] {
        let answer = balancer.reload(&with(by));
        assert!(!answer.body.contains("other keys"), "{}", answer.body);
        assert_eq!(entries(), 9.0);
        all_stay();
    }
    // Another prefix of one family keeps the pins of the other family; a key with fewer parts is still a key.
    for by in [
        "by: [source, name], source_prefix: { ipv6: 56 }",
        "by: [source], source_prefix: { ipv6: 56 }",
    ] {
        let answer = balancer.reload(&with(by));
        let kept = "has other keys: 9 of its 9 pins are kept";
        assert!(answer.body.contains(kept), "{}", answer.body);
        assert_eq!(entries(), 9.0);
        all_stay();
    }
    // A missing part cannot be added to a key.
    let answer = balancer.reload(&with("by: [source, name]"));
    let kept = "has other keys: 0 of its 9 pins are kept";
    assert!(answer.body.contains(kept), "{}", answer.body);
    assert_eq!(entries(), 0.0);
    assert!(held.iter().all(|(stream, _)| is_alive(stream)));
}

#[test]
fn pins_of_a_removed_backend_are_released() {
    let backends = Backend::several(2);
    let balancer = Balancer::start(&pool(&entries(&backends), "")).ready();
    up(&balancer, 2.0);
    let clients: Vec<_> = (0..6).map(|_| own_address()).collect();
    let of_b = |client: &IpAddr| from(*client, &balancer).1 == "b";
    let moved: Vec<IpAddr> = clients.into_iter().filter(of_b).collect();
    assert!(!moved.is_empty());
    balancer.reloaded(&pool(&entries(&backends[..1]), ""));
    for client in moved {
        assert_eq!(from(client, &balancer).1, "a");
        let hits = balancer.metric("lyncpin_affinity_lookups_total", &["result=\"hit\""]);
        assert_eq!(from(client, &balancer).1, "a");
        let after = balancer.metric("lyncpin_affinity_lookups_total", &["result=\"hit\""]);
        assert_eq!(after, hits + 1.0, "it has a pin again");
    }
}

#[test]
fn a_drain_keeps_its_deadline_when_its_backend_is_removed() {
    let backends = Backend::several(2);
    let balancer = Balancer::start(&pool(&entries(&backends), "balance: round_robin")).ready();
    up(&balancer, 2.0);
    let clients: Vec<_> = (0..4).map(|_| from(own_address(), &balancer)).collect();
    balancer.set_state("web", "b", r#"{"state":"drain","deadline":"2s"}"#);
    balancer.reloaded(&pool(&entries(&backends[..1]), ""));
    let (drained, others): (Vec<_>, Vec<_>) =
        clients.into_iter().partition(|(_, server)| server == "b");
    assert!(!drained.is_empty());
    for (held, _) in &drained {
        assert_reset(held);
    }
    balancer.ended("drain_deadline");
    assert!(others.iter().all(|(held, _)| is_alive(held)));
}

/// The series with this value of a label.
fn series(balancer: &Balancer, value: &str) -> Vec<String> {
    let label = format!("=\"{value}\"");
    let all = balancer.metrics().into_keys();
    all.filter(|series| series.contains(&label)).collect()
}

#[test]
fn series_of_removed_parts_end_with_the_last_connection_and_do_not_return() {
    let backends = Backend::several(3);
    let more = |rest: &str| {
        let pools = routed("a", &backends[..1]);
        pools.replace("pools:", &format!("{rest}pools:"))
    };
    let whole = more("  odd: { bind: [\"HOST:81\"], protocol: tcp, pool: b }\n")
        + &format!(
            "  b: {{ {}, affinity: {{ group: few }}, health: {{ checks: [{{ tcp: {{ }} }}, {{ tcp: {{ port: 7000 }} }}] }} }}\n",
            entries(&backends[1..])
        );
    let balancer = Balancer::start(&whole).ready();
    up(&balancer, 3.0);
    let held = connect(balancer.at(81)).unwrap();
    let kept = ask(&held, b"hello\n").unwrap();
    let other = if kept == "b" { "c" } else { "b" };
    for gone in ["odd", "b", "c", "few"] {
        assert!(!series(&balancer, gone).is_empty(), "{gone}");
    }
    balancer.reloaded(&more(""));
    let gone = |name: &str| {
        eventually(&format!("no series has {name}"), || {
            series(&balancer, name).is_empty().then_some(())
        });
    };
    gone("few");
    if other == "c" {
        gone("c");
    }
    let active = ["listener=\"odd\""];
    assert_eq!(balancer.metric("lyncpin_connections_active", &active), 1.0);
    assert!(is_alive(&held));
    drop(held);
    let names = ["odd", "b", "c", "few"];
    names.iter().for_each(|name| gone(name));
    let looked = Instant::now();
    while looked.elapsed() < Duration::from_secs(3) {
        for name in names {
            assert_eq!(series(&balancer, name), [""; 0]);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(!series(&balancer, "a").is_empty());
}

//! An administrator queries and changes the pins of a running balancer.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::{Value, json};

use super::{NAME, OTHER, connect_tcp, server_for, start};
use crate::support::balancer::{Answer, Balancer};
use crate::support::peers::{Backend, assert_reset, entries, is_alive};
use crate::support::{eventually, own_address};

/// One pin for each client address; new clients are assigned by round robin.
const KEYS: &str = "balance: round_robin, affinity: { by: [source] }";

fn json(response: &Answer) -> Value {
    serde_json::from_str(&response.body).unwrap_or_else(|error| panic!("{error}: {response:?}"))
}

fn change(balancer: &Balancer, body: &Value) -> Value {
    let response = balancer.ask("PUT", "/api/v1/affinity", &body.to_string());
    json(&response.unwrap())
}

fn list(balancer: &Balancer, query: &str) -> Value {
    json(&balancer.get(&format!("/api/v1/affinity?{query}")))
}

fn client_of(pin: &Value) -> String {
    pin["client"].as_str().unwrap().to_owned()
}

/// The client and name of every matching pin, read in pages of this size. Asserts that no pin occurs twice.
fn clients(balancer: &Balancer, query: &str, limit: usize) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut cursor = String::new();
    loop {
        let page = list(balancer, &format!("{query}&limit={limit}{cursor}"));
        let entries = page["entries"].as_array().unwrap();
        assert!(entries.len() <= limit);
        for pin in entries {
            let key = format!("{} {}", client_of(pin), pin["name"]);
            assert!(found.insert(key), "{pin} occurs twice");
        }
        let Some(next) = page["cursor"].as_str() else {
            return found;
        };
        cursor = format!("&cursor={}", next.replace('~', "%7E").replace('@', "%40"));
    }
}

fn event(balancer: &Balancer, message: &str) -> Value {
    eventually(message, || {
        let is_event = |line: &Value| {
            line["message"]
                .as_str()
                .is_some_and(|text| text.starts_with(message))
        };
        balancer.log().into_iter().find(is_event)
    })
}

#[test]
fn a_client_gets_the_backend_that_it_is_pinned_to() {
    let backends = Backend::several(3);
    let balancer = start(&backends, 2, KEYS);
    let source = own_address();
    let pinned = change(
        &balancer,
        &json!({"action": "pin", "client": source.to_string(), "backend": "c"}),
    );
    assert_eq!(
        pinned,
        json!({"group": "web", "backend": "c", "pins": [{"client": format!("{source}/32"), "name": null, "before": null}]})
    );
    for _ in 0..3 {
        assert_eq!(connect_tcp(source, &balancer).0, "c");
    }
    assert_eq!(balancer.ended("client_closed")["pick"], "pinned");
    let page = list(&balancer, "");
    let pin = &page["entries"][0];
    assert_eq!(
        (&pin["backend"], &pin["origin"]),
        (&json!("c"), &json!("administrator"))
    );
    assert_eq!((&pin["group"], &pin["name"]), (&json!("web"), &Value::Null));
    let event = event(&balancer, "the administrator pinned");
    assert_eq!(event["client"], format!("{source}/32"));
    assert_eq!(
        (&event["backend"], &event["before"]),
        (&json!("c"), &Value::Null)
    );
}

/// All phones on one Wi-Fi network share an IPv6 /64.
#[test]
fn each_client_of_an_ipv6_network_has_its_own_pin() {
    let backends = Backend::several(2);
    let balancer = start(&backends, 1, KEYS);
    for (client, backend) in [("2001:db8::7", "a"), ("2001:db8::8", "b")] {
        let pin = json!({"action": "pin", "client": client, "backend": backend});
        let pinned = change(&balancer, &pin);
        assert_eq!(pinned["pins"][0]["client"], format!("{client}/128"));
    }
    for (client, backend) in [("2001:db8::7", "a"), ("2001:db8::8", "b")] {
        let shown = balancer.said(&["affinity", "list", "--client", client, "--json"]);
        let page: Value = serde_json::from_str(&shown.out).unwrap();
        assert_eq!(page["entries"].as_array().unwrap().len(), 1);
        assert_eq!(page["entries"][0]["backend"], backend);
    }
}

#[test]
fn a_move_reports_whether_there_is_no_pin_or_it_already_points_to_the_target() {
    let backends = Backend::several(2);
    let balancer = start(&backends, 1, KEYS);
    let moved = balancer.said(&["affinity", "move", "--client", "192.0.2.7", "--to", "b"]);
    assert_eq!(
        (moved.status, &*moved.err),
        (
            1,
            "192.0.2.7 has no matching pin\ncreate one with `lyncpin affinity pin --client 192.0.2.7 b`\n"
        )
    );
    let pinned = balancer.said(&["affinity", "pin", "--client", "192.0.2.7", "b"]);
    assert_eq!(pinned.status, 0, "{}", pinned.err);
    let moved = balancer.said(&["affinity", "move", "--client", "192.0.2.7", "--to", "b"]);
    assert_eq!(
        (moved.status, &*moved.err),
        (1, "all matching pins already point to b\n")
    );
    let moved = balancer.said(&["affinity", "move", "--client", "192.0.2.7", "--to", "a"]);
    assert_eq!(moved.out, "1 pin moved to a, 0 connections reset\n");
}

#[test]
fn setting_a_pin_again_moves_it_and_resets_no_connection() {
    let backends = Backend::several(2);
    let balancer = start(&backends, 2, KEYS);
    let source = own_address();
    let (first, held) = connect_tcp(source, &balancer);
    let other = if first == "a" { "b" } else { "a" };
    let pinned = change(
        &balancer,
        &json!({"action": "pin", "client": source.to_string(), "backend": other}),
    );
    assert_eq!(pinned["pins"][0]["before"], *first);
    assert_eq!(connect_tcp(source, &balancer).0, other);
    assert!(is_alive(&held));
}

#[test]
fn connections_of_a_moved_client_are_reset_and_new_ones_use_the_new_backend() {
    let backends = Backend::several(3);
    let balancer = start(&backends, 2, KEYS);
    let source = own_address();
    let (first, held) = connect_tcp(source, &balancer);
    let (_, also_held) = connect_tcp(source, &balancer);
    let others: Vec<_> = (0..6)
        .map(|_| connect_tcp(own_address(), &balancer))
        .collect();
    let to = if first == "c" { "a" } else { "c" };
    let output = balancer.said(&[
        "affinity",
        "move",
        "--client",
        &source.to_string(),
        "--to",
        to,
    ]);
    assert_eq!(
        (output.status, output.out),
        (0, format!("1 pin moved to {to}, 2 connections reset\n")),
        "{}",
        output.err
    );
    // The client connects again before its old connections have ended.
    assert_eq!(connect_tcp(source, &balancer).0, to);
    assert_reset(&held);
    assert_reset(&also_held);
    let ended = balancer.ended("pin_moved");
    assert_eq!(
        (&ended["backend"], &ended["by"]),
        (&json!(first), &json!("balancer"))
    );
    assert!(
        others.iter().all(|(_, client)| is_alive(client)),
        "connections of other clients stay open"
    );
    let event = event(&balancer, "the administrator moved");
    assert_eq!(
        (&event["to"], &event["pins"], &event["connections"]),
        (&json!(to), &json!(1), &json!(2))
    );
}

#[test]
fn all_pins_of_a_backend_can_be_moved_to_another() {
    let backends = Backend::several(3);
    let balancer = start(&backends, 2, KEYS);
    let held: Vec<_> = (0..12)
        .map(|_| {
            let source = own_address();
            (source, connect_tcp(source, &balancer))
        })
        .collect();
    let moved = change(
        &balancer,
        &json!({"action": "move", "backend": "a", "to": "b"}),
    );
    assert_eq!(moved, json!({"pins": 4, "sessions": 0, "connections": 4}));
    for (source, (server, client)) in &held {
        if server == "a" {
            assert_reset(client);
            assert_eq!(connect_tcp(*source, &balancer).0, "b");
        } else {
            assert!(is_alive(client));
        }
    }
    assert_eq!(list(&balancer, "backend=a")["entries"], json!([]));
    assert_eq!(clients(&balancer, "backend=b", 100).len(), 8);
}

#[test]
fn clear_removes_pins_and_leaves_connections_open() {
    let backends = Backend::several(2);
    let balancer = start(&backends, 2, KEYS);
    let held: Vec<_> = (0..4)
        .map(|_| {
            let source = own_address();
            (source, connect_tcp(source, &balancer))
        })
        .collect();
    let (source, (first, client)) = &held[0];
    let output = balancer.said(&["affinity", "clear", "--client", &source.to_string()]);
    assert_eq!(
        (output.status, output.out.as_str()),
        (0, "1 pin cleared, 1 connection not affected\n"),
        "{}",
        output.err
    );
    assert!(is_alive(client));
    assert_eq!(clients(&balancer, "", 100).len(), 3);
    let output = balancer.said(&["affinity", "show", "--client", &source.to_string()]);
    assert_eq!(
        (output.status, output.err),
        (1, format!("{source} has no pin\n"))
    );
    // New connections are assigned by round robin again, so two in a row get different servers.
    let next: Vec<String> = (0..2)
        .map(|_| {
            balancer.said(&["affinity", "clear", "--client", &source.to_string()]);
            connect_tcp(*source, &balancer).0
        })
        .collect();
    assert_ne!(next[0], next[1], "the first server was {first}");
    let output = balancer.said(&["affinity", "clear", "--all"]);
    assert!(output.out.starts_with("4 pins cleared, "), "{output:?}");
    assert_eq!(list(&balancer, "")["entries"], json!([]));
    let output = balancer.said(&["affinity", "clear", "--all"]);
    assert_eq!(
        (output.status, output.err.as_str()),
        (1, "no pin matches\n")
    );
    assert!(held.iter().all(|(_, (_, client))| is_alive(client)));
}

#[test]
fn every_filter_lists_the_matching_pins_at_every_page_size() {
    let backends = Backend::several(3);
    let balancer = Balancer::start(&format!(
        "listeners:\n\
         \x20 http: {{ bind: [\"HOST:80\"], protocol: http, routes: [{{ names: [{NAME}], pool: web }}, {{ names: [\"*.contoso.test\"], pool: web }}] }}\n\
         \x20 tcp: {{ bind: [\"HOST:5000\"], protocol: tcp, pool: raw }}\n\
         workers: 2\npools:\n\
         \x20 web: {{ {entries}, health: none, balance: round_robin }}\n\
         \x20 raw: {{ {entries}, health: none, balance: round_robin, affinity: {{ by: [source] }} }}",
        entries = entries(&backends)
    ));
    let sources: Vec<IpAddr> = (0..30).map(|_| own_address()).collect();
    for source in &sources {
        server_for(NAME, *source, &balancer);
        server_for(OTHER, *source, &balancer);
        connect_tcp(*source, &balancer);
    }
    for limit in [1, 7, 90, 10_000] {
        assert_eq!(clients(&balancer, "", limit).len(), 90, "{limit}");
    }
    let count = |query: &str| clients(&balancer, query, 8).len();
    assert_eq!(count("group=raw"), 30);
    assert_eq!(count("pool=web"), 60);
    assert_eq!(count(&format!("name={NAME}")), 30);
    assert_eq!(count("name=%2A.contoso.test"), 30);
    assert_eq!(count("name=whatever.contoso.test"), 30);
    assert_eq!(count("group=raw&backend=a"), 10);
    assert_eq!(count("backend=raw/a"), 10);
    assert_eq!(count(&format!("group=web&client={}", sources[0])), 2);
    assert_eq!(count("group=raw&client=127.0.0.0/8"), 30);
    assert_eq!(count("client=2001:db8::/32"), 0);
    let network = format!("client={}/31", sources[3]);
    let expected = sources
        .iter()
        .filter(|source| same_network(**source, sources[3]))
        .count();
    assert_eq!(count(&format!("group=raw&{network}")), expected);
    let shown = json(&balancer.get(&format!("/api/v1/affinity/client?client={}", sources[5])));
    let pins = shown["pins"].as_array().unwrap().iter();
    let keys: Vec<(&str, Option<&str>)> = pins
        .map(|shown| {
            (
                shown["pin"]["group"].as_str().unwrap(),
                shown["pin"]["name"].as_str(),
            )
        })
        .collect();
    assert_eq!(
        keys,
        [
            ("raw", None),
            ("web", Some("*.contoso.test")),
            ("web", Some(NAME))
        ]
    );
}

fn same_network(one: IpAddr, other: IpAddr) -> bool {
    let last = |address: IpAddr| match address {
        IpAddr::V4(address) => address.to_bits() >> 1,
        IpAddr::V6(_) => 0,
    };
    last(one) == last(other)
}

#[test]
fn a_pin_by_name_is_created_under_the_configured_name() {
    let backends = Backend::several(2);
    let balancer = start(&backends, 2, "balance: round_robin");
    let source = own_address();
    let pin = |name: &str| {
        change(
            &balancer,
            &json!({"action": "pin", "client": source.to_string(), "name": name, "backend": "b"}),
        )
    };
    assert_eq!(pin("PIN.contoso.test.")["pins"][0]["name"], NAME);
    assert_eq!(server_for(NAME, source, &balancer), "b");
    assert_eq!(
        pin("elsewhere.contoso.test")["error"],
        "no route for \"elsewhere.contoso.test\" points to a pool with affinity"
    );
    let without = json!({"action": "pin", "client": source.to_string(), "backend": "b"});
    assert_eq!(
        change(&balancer, &without)["error"],
        "group \"web\" pins by name; a name is required"
    );
}

#[test]
fn explain_shows_the_state_of_a_pin() {
    let backends = Backend::several(2);
    let balancer = start(&backends, 1, KEYS);
    let source = own_address();
    let explain = || json(&balancer.get(&format!("/api/v1/explain?listener=tcp&source={source}")));
    assert_eq!(explain()["pin"], Value::Null);
    let (server, held) = connect_tcp(source, &balancer);
    let explained = explain();
    let pin = &explained["pin"];
    assert_eq!(
        (
            &pin["backend"],
            &pin["origin"],
            &pin["connections"],
            &pin["expires_in_seconds"]
        ),
        (&json!(server), &json!("policy"), &json!(1), &Value::Null)
    );
    assert!(
        explained["steps"]
            .to_string()
            .contains("in use by 1 connection"),
        "{explained}"
    );
    drop(held);
    let idle = eventually("the pin is idle", || {
        Some(explain()).filter(|explained| explained["pin"]["connections"] == 0)
    });
    assert!(
        idle["pin"]["expires_in_seconds"].as_u64().unwrap() <= 1200,
        "{idle}"
    );
    assert!(
        idle["steps"]
            .to_string()
            .contains("unless it is used again"),
        "{idle}"
    );
}

#[test]
fn no_client_can_be_pinned_while_the_table_is_full_of_pins_in_use() {
    let backends = Backend::several(2);
    let balancer = start(&backends, 1, "affinity: { by: [source], max_entries: 2 }");
    let _held: Vec<_> = (0..2)
        .map(|_| connect_tcp(own_address(), &balancer))
        .collect();
    let body = json!({"action": "pin", "client": "192.0.2.7", "backend": "a"}).to_string();
    let response = balancer.ask("PUT", "/api/v1/affinity", &body).unwrap();
    assert_eq!(response.status, 409, "{response:?}");
}

#[test]
fn errors_of_pin_and_move_name_the_cause() {
    let pool = |names: &[&str], affinity: &str| {
        let entries = names
            .iter()
            .map(|name| format!("{{ name: {name}, address: \"127.0.0.1:9\" }}"));
        let entries: Vec<String> = entries.collect();
        format!(
            "{{ backends: [{}], health: none, affinity: {affinity} }}",
            entries.join(", ")
        )
    };
    let key = "{ by: [source, name] }";
    let yaml = format!(
        "listeners:\n\
         \x20 tls: {{ bind: [\"HOST:443\"], protocol: tls, routes: [{{ names: [a.contoso.com], pool: p1 }}, \
         {{ names: [b.contoso.com], pool: p3 }}, {{ names: [c.contoso.com], pool: bare }}], unknown_name: p4 }}\n\
         pools:\n  p1: {}\n  p3: {}\n  p4: {}\n  bare: {}\n",
        pool(&["a"], key),
        pool(&["b"], key),
        pool(&["d"], key),
        pool(&["z"], "none"),
    );
    let balancer = Balancer::start(&yaml).ready();
    let fails_with = |arguments: &[&str], expected: &str| {
        let output = balancer.said(arguments);
        assert_eq!(
            (output.status, output.err.as_str()),
            (1, expected),
            "{arguments:?}"
        );
    };
    let pin = ["affinity", "pin", "--client", "192.0.2.7"];
    let named = |name, to| [&pin[..], &["--name", name, to]].concat();
    fails_with(
        &[&pin[..], &["z"]].concat(),
        "pool \"bare\" has no affinity\n",
    );
    fails_with(
        &[&pin[..], &["bare/z"]].concat(),
        "pool \"bare\" has no affinity\n",
    );
    fails_with(
        &named("a.contoso.com", "p3/b"),
        "no route for \"a.contoso.com\" points to pool \"p3\"\n",
    );
    fails_with(
        &named("a.contoso.com", "p3/x"),
        "pool \"p3\" has no backend \"x\"; the only backend is b\n",
    );
    fails_with(
        &named("a.contoso.com", "bare/z"),
        "pool \"bare\" has no affinity\n",
    );
    assert_eq!(balancer.said(&named("b.contoso.com", "p3/b")).status, 0);
    fails_with(
        &[
            "affinity",
            "move",
            "--name",
            "nope.contoso.com",
            "--to",
            "a",
        ],
        "the pins that match are in affinity group p4, where no pool has a backend \"a\"\n",
    );
}

//! Queries and changes of pins by an administrator, with the balancer as a process.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::{Value, json};

use super::{NAME, OTHER, come, come_for, start};
use crate::support::balancer::{Answer, Balancer};
use crate::support::peers::{Backend, assert_reset, entries, is_alive};
use crate::support::{eventually, own_address};

/// One pin for each client, by round robin.
const KEYS: &str = "balance: round_robin, affinity: { by: [source] }";

fn json(answer: &Answer) -> Value {
    serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
}

fn change(balancer: &Balancer, body: &Value) -> Value {
    let answer = balancer.ask("PUT", "/api/v1/affinity", &body.to_string());
    json(&answer.unwrap())
}

fn list(balancer: &Balancer, query: &str) -> Value {
    json(&balancer.get(&format!("/api/v1/affinity?{query}")))
}

fn client_of(pin: &Value) -> String {
    pin["client"].as_str().unwrap().to_owned()
}

/// The clients of every matching pin, over pages of this size; none occurs twice.
fn clients(balancer: &Balancer, query: &str, limit: usize) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut cursor = String::new();
    loop {
        let page = list(balancer, &format!("{query}&limit={limit}{cursor}"));
        let entries = page["entries"].as_array().unwrap();
        assert!(entries.len() <= limit);
        for pin in entries {
            let key = format!("{} {}", client_of(pin), pin["name"]);
            assert!(found.insert(key), "{pin} came twice");
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
fn a_client_goes_to_the_backend_that_it_is_pinned_to() {
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
        assert_eq!(come(source, &balancer).0, "c");
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

/// All phones of a Wi-Fi share an IPv6 /64.
#[test]
fn clients_of_one_ipv6_network_have_pins_of_their_own() {
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
fn a_move_distinguishes_no_pin_from_a_pin_that_is_there_already() {
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
fn a_pin_that_is_set_again_moves_and_resets_no_connection() {
    let backends = Backend::several(2);
    let balancer = start(&backends, 2, KEYS);
    let source = own_address();
    let (first, held) = come(source, &balancer);
    let other = if first == "a" { "b" } else { "a" };
    let pinned = change(
        &balancer,
        &json!({"action": "pin", "client": source.to_string(), "backend": other}),
    );
    assert_eq!(pinned["pins"][0]["before"], *first);
    assert_eq!(come(source, &balancer).0, other);
    assert!(is_alive(&held));
}

#[test]
fn a_moved_client_is_reset_and_returns_to_the_new_backend_at_once() {
    let backends = Backend::several(3);
    let balancer = start(&backends, 2, KEYS);
    let source = own_address();
    let (first, held) = come(source, &balancer);
    let (_, also_held) = come(source, &balancer);
    let others: Vec<_> = (0..6).map(|_| come(own_address(), &balancer)).collect();
    let to = if first == "c" { "a" } else { "c" };
    let said = balancer.said(&[
        "affinity",
        "move",
        "--client",
        &source.to_string(),
        "--to",
        to,
    ]);
    assert_eq!(
        (said.status, said.out),
        (0, format!("1 pin moved to {to}, 2 connections reset\n")),
        "{}",
        said.err
    );
    // It returns before its old connections have ended.
    assert_eq!(come(source, &balancer).0, to);
    assert_reset(&held);
    assert_reset(&also_held);
    let ended = balancer.ended("pin_moved");
    assert_eq!(
        (&ended["backend"], &ended["by"]),
        (&json!(first), &json!("balancer"))
    );
    assert!(
        others.iter().all(|(_, client)| is_alive(client)),
        "the others notice nothing"
    );
    let event = event(&balancer, "the administrator moved");
    assert_eq!(
        (&event["to"], &event["pins"], &event["connections"]),
        (&json!(to), &json!(1), &json!(2))
    );
}

#[test]
fn all_pins_of_a_backend_move_to_another() {
    let backends = Backend::several(3);
    let balancer = start(&backends, 2, KEYS);
    let held: Vec<_> = (0..12)
        .map(|_| {
            let source = own_address();
            (source, come(source, &balancer))
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
            assert_eq!(come(*source, &balancer).0, "b");
        } else {
            assert!(is_alive(client));
        }
    }
    assert_eq!(list(&balancer, "backend=a")["entries"], json!([]));
    assert_eq!(clients(&balancer, "backend=b", 100).len(), 8);
}

#[test]
fn cleared_pins_are_removed_and_connections_stay_open() {
    let backends = Backend::several(2);
    let balancer = start(&backends, 2, KEYS);
    let held: Vec<_> = (0..4)
        .map(|_| {
            let source = own_address();
            (source, come(source, &balancer))
        })
        .collect();
    let (source, (first, client)) = &held[0];
    let said = balancer.said(&["affinity", "clear", "--client", &source.to_string()]);
    assert_eq!(
        (said.status, said.out.as_str()),
        (0, "1 pin cleared, 1 connection not affected\n"),
        "{}",
        said.err
    );
    assert!(is_alive(client));
    assert_eq!(clients(&balancer, "", 100).len(), 3);
    let said = balancer.said(&["affinity", "show", "--client", &source.to_string()]);
    assert_eq!(
        (said.status, said.err),
        (1, format!("{source} has no pin\n"))
    );
    // Its next connections are assigned again by round robin: one of two gets another server.
    let next: Vec<String> = (0..2)
        .map(|_| {
            balancer.said(&["affinity", "clear", "--client", &source.to_string()]);
            come(*source, &balancer).0
        })
        .collect();
    assert_ne!(next[0], next[1], "it was on {first}");
    let said = balancer.said(&["affinity", "clear", "--all"]);
    assert!(said.out.starts_with("4 pins cleared, "), "{said:?}");
    assert_eq!(list(&balancer, "")["entries"], json!([]));
    let said = balancer.said(&["affinity", "clear", "--all"]);
    assert_eq!((said.status, said.err.as_str()), (1, "no pin matches\n"));
    assert!(held.iter().all(|(_, (_, client))| is_alive(client)));
}

#[test]
fn every_filter_and_every_page_finds_the_matching_pins() {
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
        come_for(NAME, *source, &balancer);
        come_for(OTHER, *source, &balancer);
        come(*source, &balancer);
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
    assert_eq!(come_for(NAME, source, &balancer), "b");
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
fn explain_shows_everything_about_a_pin() {
    let backends = Backend::several(2);
    let balancer = start(&backends, 1, KEYS);
    let source = own_address();
    let explain = || json(&balancer.get(&format!("/api/v1/explain?listener=tcp&source={source}")));
    assert_eq!(explain()["pin"], Value::Null);
    let (server, held) = come(source, &balancer);
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
fn no_client_can_be_pinned_while_a_full_table_is_in_use() {
    let backends = Backend::several(2);
    let balancer = start(&backends, 1, "affinity: { by: [source], max_entries: 2 }");
    let _held: Vec<_> = (0..2).map(|_| come(own_address(), &balancer)).collect();
    let body = json!({"action": "pin", "client": "192.0.2.7", "backend": "a"}).to_string();
    let answer = balancer.ask("PUT", "/api/v1/affinity", &body).unwrap();
    assert_eq!(answer.status, 409, "{answer:?}");
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
    let says = |arguments: &[&str], wanted: &str| {
        let said = balancer.said(arguments);
        assert_eq!(
            (said.status, said.err.as_str()),
            (1, wanted),
            "{arguments:?}"
        );
    };
    let pin = ["affinity", "pin", "--client", "192.0.2.7"];
    let named = |name, to| [&pin[..], &["--name", name, to]].concat();
    says(
        &[&pin[..], &["z"]].concat(),
        "pool \"bare\" has no affinity\n",
    );
    says(
        &[&pin[..], &["bare/z"]].concat(),
        "pool \"bare\" has no affinity\n",
    );
    says(
        &named("a.contoso.com", "p3/b"),
        "no route for \"a.contoso.com\" points to pool \"p3\"\n",
    );
    says(
        &named("a.contoso.com", "p3/x"),
        "pool \"p3\" has no backend \"x\"; the only backend is b\n",
    );
    says(
        &named("a.contoso.com", "bare/z"),
        "pool \"bare\" has no affinity\n",
    );
    assert_eq!(balancer.said(&named("b.contoso.com", "p3/b")).status, 0);
    says(
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

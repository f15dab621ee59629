//! Selection of a backend for a client: pins, policies, weights and limits, over real sockets and with several workers.

mod groups;
mod operators;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::time::Duration;

use crate::support::balancer::Balancer;
use crate::support::front_ends::{FrontEnds, http};
use crate::support::peers::{
    Backend, ask, assert_reset, connect_from, entries, is_alive, raise_descriptors, read_line,
    request,
};
use crate::support::{eventually, own_address};

const NAME: &str = "pin.contoso.test";
const OTHER: &str = "other.contoso.test";

/// A pool of these backends behind a `tcp` and an `http` listener; `keys` are further keys of the pool.
fn start(backends: &[Backend], workers: usize, keys: &str) -> Balancer {
    let pool = format!("{}, health: none, {keys}", entries(backends));
    start_pool(&pool, workers)
}

fn start_pool(pool: &str, workers: usize) -> Balancer {
    Balancer::start(&format!(
        "listeners:\n\
         \x20 tcp: {{ bind: [\"HOST:5000\"], protocol: tcp, pool: web }}\n\
         \x20 http: {{ bind: [\"HOST:80\"], protocol: http, routes: [{{ names: [{NAME}, {OTHER}], pool: web }}] }}\n\
         workers: {workers}\npools:\n  web: {{ {pool} }}"
    ))
}

/// Connects to the `tcp` listener and returns the name of the server and the connection.
fn connect_tcp(source: IpAddr, balancer: &Balancer) -> (String, TcpStream) {
    let client = connect_from(source, balancer.at(5000)).unwrap();
    (ask(&client, b"?").unwrap(), client)
}

/// Sends a request for `name` to the `http` listener and returns the name of the server.
fn server_for(name: &str, source: IpAddr, balancer: &Balancer) -> String {
    let client = connect_from(source, balancer.at(80)).unwrap();
    ask(&client, &request(name)).unwrap()
}

/// Counts the connections of each server.
fn counts(servers: impl IntoIterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for server in servers {
        *counts.entry(server).or_default() += 1;
    }
    counts
}

fn expected_counts(counts: &[(&str, usize)]) -> BTreeMap<String, usize> {
    let owned = counts
        .iter()
        .map(|(server, count)| ((*server).to_owned(), *count));
    owned.collect()
}

#[test]
fn a_thousand_simultaneous_first_connections_of_one_client_get_one_backend() {
    raise_descriptors();
    let backends = Backend::several(3);
    let balancer = start(&backends, 4, "");
    for round in 0..3 {
        let source = own_address();
        let waiting: Vec<TcpStream> = (0..1000)
            .map(|_| connect_from(source, balancer.at(80)).unwrap())
            .collect();
        // All connections are accepted before the first one sends its request.
        std::thread::scope(|threads| {
            for some in waiting.chunks(125) {
                threads.spawn(move || {
                    for mut client in some {
                        client.write_all(&request(NAME)).unwrap();
                    }
                });
            }
        });
        let servers = counts(waiting.iter().map(|client| read_line(client).unwrap()));
        assert_eq!(servers.len(), 1, "round {round}: {servers:?}");
        assert_eq!(servers.values().sum::<usize>(), 1000);
    }
    assert_eq!(balancer.metric("lyncpin_affinity_entries", &[]), 3.0);
}

#[test]
fn simultaneous_first_connections_get_one_backend_while_others_refuse() {
    raise_descriptors();
    let backends = Backend::several(4);
    let balancer = start(&backends, 4, "");
    // Two of four refuse connections, and there are no checks.
    backends[0].stop();
    backends[1].stop();
    for _ in 0..6 {
        let source = own_address();
        let waiting: Vec<TcpStream> = (0..100)
            .map(|_| connect_from(source, balancer.at(80)).unwrap())
            .collect();
        for mut client in &waiting {
            client.write_all(&request(NAME)).unwrap();
        }
        let servers = counts(waiting.iter().map(|client| read_line(client).unwrap()));
        let next = server_for(NAME, source, &balancer);
        assert!(servers.contains_key(&next), "{next} of {servers:?}");
        assert_eq!(servers.len(), 1, "{servers:?}");
    }
}

#[test]
fn clients_from_different_addresses_are_balanced_over_all_backends() {
    let backends = Backend::several(3);
    let balancer = start(&backends, 2, "");
    let all: Vec<_> = (0..60)
        .map(|_| connect_tcp(own_address(), &balancer))
        .collect();
    let servers = counts(all.iter().map(|(server, _)| server.clone()));
    assert_eq!(servers, expected_counts(&[("a", 20), ("b", 20), ("c", 20)]));
}

#[test]
fn one_pin_applies_to_all_ports_of_the_short_form() {
    let front_ends = FrontEnds::start(3);
    let balancer = Balancer::start(&front_ends.short_form()).ready();
    eventually("all backends are up", || {
        (balancer.metric("lyncpin_backend_up", &[]) == 6.0).then_some(())
    });
    let ports = [443, 80, 4443, 8080];
    let mut used = BTreeSet::new();
    for number in 0..12 {
        let source = own_address();
        let mut servers = BTreeSet::new();
        // Each client starts with a different port.
        for port in ports.iter().cycle().skip(number).take(4) {
            let client = match port {
                443 | 4443 => front_ends.https(source, balancer.at(*port)),
                _ => http(source, balancer.at(*port)),
            };
            servers.insert(client.unwrap().server().unwrap());
        }
        assert_eq!(servers.len(), 1, "{source}: {servers:?}");
        used.extend(servers);
    }
    assert!(used.len() > 1, "all clients got the same server");
    assert_eq!(balancer.metric("lyncpin_affinity_entries", &[]), 12.0);
    let hits = ["group=\"external-web\"", "result=\"hit\""];
    assert_eq!(
        balancer.metric("lyncpin_affinity_lookups_total", &hits),
        36.0
    );
}

#[test]
fn a_pin_expires_after_its_last_connection_and_never_while_it_is_in_use() {
    let backends = Backend::several(2);
    let balancer = start(&backends, 1, "affinity: { ttl: 300ms }");
    let entries = || balancer.metric("lyncpin_affinity_entries", &[]);
    let lookups = |result: &str| {
        let result = format!("result=\"{result}\"");
        balancer.metric("lyncpin_affinity_lookups_total", &[&result])
    };
    let source = own_address();
    let (first, held) = connect_tcp(source, &balancer);
    // The time to live must pass.
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(connect_tcp(source, &balancer).0, first);
    assert_eq!(
        (entries(), lookups("hit"), lookups("miss")),
        (1.0, 1.0, 1.0)
    );
    assert!(is_alive(&held));
    drop(held);
    eventually("the pin expires", || (entries() == 0.0).then_some(()));
    connect_tcp(source, &balancer);
    assert_eq!((lookups("hit"), lookups("miss")), (1.0, 2.0));
}

#[test]
fn each_name_has_its_own_pin_unless_affinity_is_by_source_only() {
    let backends = Backend::several(2);
    let by_both = start(&backends, 1, "balance: round_robin");
    let by_source = start(
        &backends,
        1,
        "balance: round_robin, affinity: { by: [source] }",
    );
    let by_name = start(
        &backends,
        1,
        "balance: round_robin, affinity: { by: [name] }",
    );
    let (one, two) = (own_address(), own_address());
    let seen = |balancer: &Balancer| -> Vec<String> {
        let visits = [
            (NAME, one),
            (OTHER, one),
            (NAME, two),
            (NAME, one),
            (OTHER, one),
        ];
        let visits = visits
            .iter()
            .map(|(name, source)| server_for(name, *source, balancer));
        visits.collect()
    };
    assert_eq!(seen(&by_both), ["a", "b", "a", "a", "b"]);
    assert_eq!(seen(&by_source), ["a", "a", "b", "a", "a"]);
    assert_eq!(seen(&by_name), ["a", "b", "a", "a", "b"]);
}

#[test]
fn clients_of_one_prefix_share_a_pin() {
    let backends = Backend::several(2);
    let keys =
        "balance: round_robin, affinity: { by: [source], source_prefix: { ipv4: 24, ipv6: 64 } }";
    let balancer = start(&backends, 1, keys);
    // Outside the addresses that the harness assigns.
    let server_of =
        |network, host| connect_tcp(Ipv4Addr::new(127, 250, network, host).into(), &balancer).0;
    assert_eq!(
        [server_of(1, 1), server_of(1, 77), server_of(1, 254)],
        ["a", "a", "a"]
    );
    assert_eq!(
        [server_of(2, 1), server_of(2, 2), server_of(1, 3)],
        ["b", "b", "a"]
    );
    assert_eq!(balancer.metric("lyncpin_affinity_entries", &[]), 2.0);
}

#[test]
fn new_clients_get_no_pin_while_the_table_is_full_of_pins_in_use() {
    let backends = Backend::several(2);
    let balancer = start(&backends, 2, "affinity: { max_entries: 4 }");
    let mut held: Vec<_> = (0..4)
        .map(|_| connect_tcp(own_address(), &balancer))
        .collect();
    let (_, unpinned) = connect_tcp(own_address(), &balancer);
    assert_eq!(balancer.metric("lyncpin_affinity_unpinned_total", &[]), 1.0);
    assert_eq!(balancer.metric("lyncpin_affinity_entries", &[]), 4.0);
    assert!(is_alive(&unpinned));
    // One pin is idle now, so a new client evicts it.
    held.pop();
    eventually("a new client gets a pin", || {
        drop(connect_tcp(own_address(), &balancer));
        (balancer.metric("lyncpin_affinity_evictions_total", &[]) > 0.0).then_some(())
    });
    assert_eq!(balancer.metric("lyncpin_affinity_entries", &[]), 4.0);
}

#[test]
fn round_robin_is_exact_over_all_workers() {
    let backends = Backend::several(3);
    let balancer = start(&backends, 2, "balance: round_robin, affinity: none");
    std::thread::scope(|threads| {
        for _ in 0..6 {
            threads.spawn(|| {
                for _ in 0..50 {
                    connect_tcp(Ipv4Addr::UNSPECIFIED.into(), &balancer);
                }
            });
        }
    });
    let accepted: Vec<usize> = backends.iter().map(Backend::accepted).collect();
    assert_eq!(accepted, [100, 100, 100]);
}

#[test]
fn clients_are_shared_by_weight_and_weight_zero_gets_none() {
    let backends = Backend::several(3);
    let weighted: Vec<String> = backends
        .iter()
        .zip([3, 1, 0])
        .map(|(backend, weight)| {
            backend
                .entry()
                .replace(" }", &format!(", weight: {weight} }}"))
        })
        .collect();
    for balance in ["round_robin", "least_connections"] {
        let pool = format!(
            "backends: [{}], health: none, affinity: none, balance: {balance}",
            weighted.join(", ")
        );
        let balancer = start_pool(&pool, 2);
        let held: Vec<_> = (0..40)
            .map(|_| connect_tcp(own_address(), &balancer))
            .collect();
        let servers = counts(held.iter().map(|(server, _)| server.clone()));
        assert_eq!(
            servers,
            expected_counts(&[("a", 30), ("b", 10)]),
            "{balance}"
        );
    }
}

#[test]
fn random_two_uses_every_backend() {
    let backends = Backend::several(4);
    let balancer = start(&backends, 2, "balance: random_two, affinity: none");
    let held: Vec<_> = (0..200)
        .map(|_| connect_tcp(own_address(), &balancer))
        .collect();
    let servers = counts(held.iter().map(|(server, _)| server.clone()));
    // The policy takes the less loaded of two random backends, so the loads stay close to each other.
    assert!(
        servers.len() == 4 && servers.values().all(|count| (40..=60).contains(count)),
        "{servers:?}"
    );
}

#[test]
fn source_hash_is_the_same_in_every_process_and_moves_only_the_clients_of_a_lost_backend() {
    let backends = Backend::several(4);
    let sources: Vec<IpAddr> = (1..=80)
        .map(|host| Ipv4Addr::new(127, 251, 0, host).into())
        .collect();
    let keys = "balance: source_hash, affinity: none";
    let servers_of_all = |balancer: &Balancer| -> Vec<String> {
        sources
            .iter()
            .map(|source| connect_tcp(*source, balancer).0)
            .collect()
    };
    let before = servers_of_all(&start(&backends, 2, keys));
    assert_eq!(servers_of_all(&start(&backends, 1, keys)), before);
    let spread = counts(before.iter().cloned());
    assert!(
        spread.len() == 4 && spread.values().all(|count| (8..=36).contains(count)),
        "{spread:?}"
    );
    let after = servers_of_all(&start(&backends[1..], 2, keys));
    for (before, after) in before.iter().zip(&after) {
        assert!(
            before == "a" || before == after,
            "a client moved from {before} to {after}"
        );
    }
}

#[test]
fn max_connections_limits_each_backend_and_keeps_pins() {
    let backends = Backend::several(2);
    let balancer = start(&backends, 2, "max_connections: 3");
    let source = own_address();
    let (pinned, first) = connect_tcp(source, &balancer);
    let mut held = vec![first];
    held.extend(
        (0..2)
            .map(|_| connect_tcp(source, &balancer))
            .map(|(server, client)| {
                assert_eq!(server, pinned);
                client
            }),
    );
    // The pinned backend is full: this connection gets the other one, and the pin does not change.
    let (fallback, other) = connect_tcp(source, &balancer);
    assert_ne!(fallback, pinned);
    held.pop();
    eventually("a connection has ended", || {
        (backends.iter().map(Backend::open).sum::<usize>() == 3).then_some(())
    });
    let (again, client) = connect_tcp(source, &balancer);
    assert_eq!(again, pinned);
    held.push(client);
    let others: Vec<_> = (0..2)
        .map(|_| connect_tcp(own_address(), &balancer))
        .collect();
    assert!(others.iter().all(|(server, _)| *server == fallback));
    // Both backends are at their limit, and connections are not queued.
    match connect_from(own_address(), balancer.at(5000)) {
        Ok(client) => assert_reset(&client),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
    balancer.ended("pool_full");
    drop(other);
    eventually("a new client is served", || {
        let client = connect_from(own_address(), balancer.at(5000)).ok()?;
        ask(&client, b"?").ok()
    });
}

//! What the pure parts cost: parsing a hello, routing, picking, and the affinity table.
//!
//! `cargo bench --bench pure` times them; `cargo bench --bench pure -- --test` runs each once, as a smoke test.

#![allow(missing_docs, reason = "criterion's macros make public functions")]
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

use lyncpin::affinity::shard::{Eligibility, Key, Member};
use lyncpin::affinity::table::{Lookup, Pins, Secret};
use lyncpin::config::model::{self, Balance, NamePattern, OnDown};
use lyncpin::protocol::tls::client_hello::{ClientHelloParser, HelloProgress};
use lyncpin::snapshot::routes::Routes;
use lyncpin::telemetry::metrics::{BackendMetrics, Registry};
use lyncpin::types::backend_state::Health;
use lyncpin::types::host_name::HostName;
use lyncpin::upstream::backend::{Availability, Backend};
use lyncpin::upstream::pool::{Pool, PoolClient};

fn parse(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse_client_hello");
    let hellos: [(&str, &[u8]); 2] = [
        (
            "517_bytes",
            include_bytes!("../tests/data/hello/tls13-517-bytes.bin"),
        ),
        (
            "1735_bytes",
            include_bytes!("../tests/data/hello/tls13-post-quantum.bin"),
        ),
    ];
    for (name, hello) in hellos {
        assert!(matches!(
            ClientHelloParser::new().advance(hello),
            HelloProgress::Hello(_)
        ));
        group.bench_function(name, |b| {
            b.iter(|| ClientHelloParser::new().advance(black_box(hello)));
        });
    }
}

fn route(c: &mut Criterion) {
    let mut group = c.benchmark_group("route");
    for names in [10, 10_000] {
        let name = |number: usize| {
            HostName::parse(format!("host{number}.contoso.com").as_bytes()).unwrap()
        };
        let exact = (0..names).map(|number| (NamePattern::Exact(name(number)), number));
        let wild = (0..names).map(|number| (NamePattern::Suffix(name(number)), number));
        let routes = Routes::new(exact.chain(wild));
        let exact = name(names / 2);
        let below = HostName::parse(format!("a.b.{exact}").as_bytes()).unwrap();
        let unknown = HostName::parse(b"lyncdiscover.fabrikam.com").unwrap();
        assert_eq!(
            (routes.find(&exact), routes.find(&below)),
            (Some(&(names / 2)), Some(&(names / 2)))
        );
        for (what, name) in [("exact", &exact), ("suffix", &below), ("unknown", &unknown)] {
            group.bench_function(BenchmarkId::new(what, names), |b| {
                b.iter(|| routes.find(black_box(name)));
            });
        }
        // Each time another name, so that none is in a cache because it has just been found.
        let all: Vec<_> = (0..names).map(name).collect();
        let mut next = 0;
        group.bench_function(BenchmarkId::new("exact_in_turn", names), |b| {
            b.iter(|| {
                next = (next + 7919) % names;
                routes.find(black_box(&all[next]))
            });
        });
    }
}

fn affinity(group: &str, max_entries: usize) -> model::AffinitySettings {
    model::AffinitySettings {
        by_source: true,
        by_name: true,
        by_session: false,
        source_prefix: model::SourcePrefix { ipv4: 32, ipv6: 64 },
        ttl: Duration::from_secs(1200),
        group: group.into(),
        max_entries,
    }
}

fn pool(backends: usize, balance: Balance, pins: Option<Arc<Pins>>) -> Arc<Pool> {
    let registry = Registry::default();
    let availability = Arc::new(Availability::default());
    let backend = |number: usize| {
        let address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
        let configured = model::BackendConfig {
            name: format!("fe{number:03}").into(),
            address: model::ServerAddress {
                host: model::ServerHost::Address(address),
                port: 4443,
            },
            weight: 1,
            check_ports: BTreeMap::new(),
        };
        let metrics = BackendMetrics::new(&registry, &"web".into(), &configured.name);
        let backend = Backend::new(
            "web".into(),
            configured,
            None,
            metrics,
            availability.clone(),
        );
        backend.set_address((address, 4443).into());
        backend.set_health(Health::Up, "bench");
        Arc::new(backend)
    };
    let backends = (0..backends).map(backend).collect();
    Arc::new(Pool::new(
        "web".into(),
        backends,
        balance,
        pins,
        None,
        OnDown::Close,
    ))
}

fn client(number: u32) -> PoolClient {
    PoolClient {
        source: IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + number)),
        name_id: 1,
    }
}

fn pick(c: &mut Criterion) {
    let mut group = c.benchmark_group("pick");
    let policies = [
        Balance::LeastConnections,
        Balance::RoundRobin,
        Balance::RandomTwo,
        Balance::SourceHash,
    ];
    for backends in [3, 300] {
        for balance in policies {
            let pool = pool(backends, balance, None);
            group.bench_function(BenchmarkId::new(balance.as_str(), backends), |b| {
                b.iter(|| pool.pick(black_box(client(1)), None).is_ok());
            });
        }
        let pins = Arc::new(Pins::new(
            &affinity("web", 1000),
            &Registry::default(),
            &Secret::random(),
        ));
        let pool = pool(backends, Balance::LeastConnections, Some(pins));
        pool.pick(client(1), None).unwrap().connected(None);
        group.bench_function(BenchmarkId::new("pinned", backends), |b| {
            b.iter(|| pool.pick(black_box(client(1)), None).is_ok());
        });
    }
}

fn key(number: u32) -> Key {
    let mut source = [0; 16];
    source[12..].copy_from_slice(&number.to_be_bytes());
    Key { source, name: 1 }
}

/// Begins and ends a connection of this client.
fn visit(pins: &Arc<Pins>, number: u32) {
    match pins.acquire(key(number), |_| Eligibility::Eligible, || Some(Member(1))) {
        Lookup::Pinned(claim, member)
        | Lookup::New(claim, member)
        | Lookup::Stale(claim, member) => {
            let _ = claim.answered(member);
        }
        Lookup::Unpinned(_) | Lookup::NotInPool | Lookup::NoBackend => panic!("there is room"),
    }
}

/// A table in which so many clients are pinned.
fn filled(entries: u32, max_entries: u32) -> Arc<Pins> {
    let settings = affinity("web", max_entries as usize);
    let pins = Arc::new(Pins::new(
        &settings,
        &Registry::default(),
        &Secret::random(),
    ));
    (0..entries).for_each(|number| visit(&pins, number));
    pins
}

fn table(c: &mut Criterion) {
    let mut group = c.benchmark_group("affinity");
    for entries in [1_000, 1_000_000] {
        let pins = filled(entries, 2_000_000);
        let mut next = 0;
        group.bench_function(BenchmarkId::new("lookup", entries), |b| {
            b.iter(|| {
                next = (next + 7919) % entries;
                visit(&pins, black_box(next));
            });
        });
        // Full, so that each new pin makes an old one give way and the table keeps its size.
        let full = filled(entries, entries);
        let mut new = entries;
        group.bench_function(BenchmarkId::new("insert", entries), |b| {
            b.iter(|| {
                new = new.wrapping_add(1);
                visit(&full, black_box(new));
            });
        });
        // The time of a visit by each of so many threads at once: flat up to as many threads as cores, if none
        // hinders another.
        let new = AtomicU32::new(new);
        for threads in [1, 2, 4] {
            let id = |what| BenchmarkId::new(format!("{what}_by_{threads}_threads"), entries);
            group.bench_function(id("lookup"), |b| {
                b.iter_custom(|rounds| {
                    contended(threads, |thread| {
                        let mut next = thread * 1009 % entries;
                        for _ in 0..rounds {
                            next = (next + 7919) % entries;
                            visit(&pins, black_box(next));
                        }
                    })
                });
            });
            group.bench_function(id("insert"), |b| {
                b.iter_custom(|rounds| {
                    let each = u32::try_from(rounds).unwrap_or(u32::MAX);
                    let first = new.fetch_add(each.wrapping_mul(threads), Ordering::Relaxed);
                    contended(threads, |thread| {
                        let first = first.wrapping_add(each.wrapping_mul(thread));
                        (0..each).for_each(|round| visit(&full, first.wrapping_add(round)));
                    })
                });
            });
        }
    }
}

/// How long so many threads take that do this at once.
fn contended(threads: u32, work: impl Fn(u32) + Sync) -> Duration {
    let started = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let work = &work;
            scope.spawn(move || work(thread));
        }
    });
    started.elapsed()
}

criterion_group!(pure, parse, route, pick, table);
criterion_main!(pure);

//! What is printed reads again as the same configuration, whatever the configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;

use super::super::defaults::labelled;
use super::super::model::*;
use super::super::read;
use super::expand;
use crate::host_name::HostName;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn every_configuration_survives_expand(config in config()) {
        let text = expand(&config);
        match read(&text, "expanded") {
            Ok(again) => prop_assert_eq!(again.config, config, "{}", text),
            Err(faults) => prop_assert!(false, "{}\n{}", faults, text),
        }
    }
}

fn config() -> impl Strategy<Value = Config> {
    let pools = (1..4_usize).prop_flat_map(pools);
    pools.prop_flat_map(|pools| {
        let listeners = vec(listener(pools.len()), 1..4);
        (
            listeners,
            Just(pools),
            timeouts(),
            limits(),
            option::of(1..64_usize),
            admin(),
            log(),
        )
            .prop_map(
                |(mut listeners, pools, timeouts, limits, workers, admin, log)| {
                    for (index, listener) in listeners.iter_mut().enumerate() {
                        listener.name = format!("{}{index}", listener.name).into();
                        for bind in &mut listener.bind {
                            bind.set_port(1000 + u16::try_from(index).unwrap());
                        }
                    }
                    let workers = workers.and_then(NonZeroUsize::new);
                    Config {
                        listeners,
                        pools,
                        timeouts,
                        limits,
                        workers,
                        admin,
                        log,
                    }
                },
            )
    })
}

fn label() -> impl Strategy<Value = Arc<str>> {
    "[A-Za-z0-9_.:-]{1,12}"
        .prop_filter("reserved", |text| text != "refuse")
        .prop_map(Into::into)
}

fn host_name() -> impl Strategy<Value = HostName> {
    "([a-z0-9_-]{1,8}\\.){0,3}[a-z0-9-]{1,8}"
        .prop_filter_map("an address", |text| HostName::parse(text.as_bytes()).ok())
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (1..224_u8, any::<[u8; 3]>()).prop_map(|(a, [b, c, d])| IpAddr::from([a, b, c, d])),
        any::<u64>().prop_map(|low| {
            IpAddr::from(std::net::Ipv6Addr::from(
                (0x2001_0db8_u128 << 96) | u128::from(low),
            ))
        }),
    ]
}

fn network() -> impl Strategy<Value = IpNet> {
    (address(), 0..=128_u8).prop_map(|(ip, length)| {
        let most = if ip.is_ipv4() { 32 } else { 128 };
        IpNet::new(ip, length.min(most)).unwrap().trunc()
    })
}

fn milliseconds(from: u64, to: u64) -> impl Strategy<Value = Duration> {
    let scale = prop_oneof![Just(1), Just(1000), Just(60_000), Just(3_600_000)];
    (from..=to, scale).prop_map(move |(n, scale)| {
        let rounded = n / scale * scale;
        Duration::from_millis(if rounded < from { n } else { rounded })
    })
}

fn pattern() -> impl Strategy<Value = NamePattern> {
    (any::<bool>(), host_name()).prop_map(|(exact, name)| match exact {
        true => NamePattern::Exact(name),
        false => NamePattern::Suffix(name),
    })
}

fn target(pools: usize) -> impl Strategy<Value = Target> {
    option::of(0..pools).prop_map(|id| id.map_or(Target::Refuse, |id| Target::Pool(PoolId(id))))
}

fn listener(pools: usize) -> impl Strategy<Value = Listener> {
    let names = vec((pattern(), 0..pools), 1..12);
    let bind = btree_set(address(), 1..4);
    let refusal = prop_oneof![
        Just(Refusal::Alert),
        Just(Refusal::Reset),
        Just(Refusal::Close)
    ];
    let protocol = prop_oneof![
        Just(Protocol::Tls),
        Just(Protocol::Http),
        Just(Protocol::Tcp)
    ];
    let when = prop_oneof![Just(WhenPoolDown::Close), Just(WhenPoolDown::Refuse)];
    let nets = || vec(network(), 0..4);
    let targets = (target(pools), target(pools));
    (
        label(),
        bind,
        protocol,
        names,
        targets,
        refusal,
        when,
        nets(),
        nets(),
    )
        .prop_map(
            |(
                name,
                bind,
                protocol,
                names,
                (no_name, unknown_name),
                refusal,
                when_pool_down,
                allow,
                deny,
            )| {
                let is_tcp = protocol == Protocol::Tcp;
                let is_tls = protocol == Protocol::Tls;
                let pool = is_tcp.then_some(PoolId(names[0].1));
                let refuse_if = |not: bool, target| if not { Target::Refuse } else { target };
                Listener {
                    name,
                    bind: bind.into_iter().map(|ip| SocketAddr::new(ip, 1)).collect(),
                    protocol,
                    routes: if is_tcp { Vec::new() } else { routes(names) },
                    no_name: refuse_if(is_tcp, no_name),
                    unknown_name: refuse_if(is_tcp, unknown_name),
                    pool,
                    refusal: if is_tls { refusal } else { Refusal::Alert },
                    when_pool_down,
                    allow,
                    deny,
                }
            },
        )
}

/// Names, each once, in one route a pool.
fn routes(names: Vec<(NamePattern, usize)>) -> Vec<Route> {
    let mut seen = std::collections::HashSet::new();
    let mut routes: Vec<Route> = Vec::new();
    for (name, pool) in names {
        if !seen.insert(name.clone()) {
            continue;
        }
        match routes.iter_mut().find(|route| route.pool == PoolId(pool)) {
            Some(route) => route.names.push(name),
            None => routes.push(Route {
                names: vec![name],
                pool: PoolId(pool),
            }),
        }
    }
    routes
}

fn pools(count: usize) -> impl Strategy<Value = Vec<Pool>> {
    let links = vec((option::of(0..count), any::<bool>()), count);
    (vec(pool(), count), links).prop_map(|(mut pools, links)| {
        let shared = pools[0].affinity.clone();
        for (index, (backup, shares)) in links.into_iter().enumerate() {
            // A backup further down cannot close a cycle.
            pools[index].backup = backup.filter(|id| *id > index).map(PoolId);
            pools[index].name = format!("{}{index}", pools[index].name).into();
            if shares {
                pools[index].affinity.clone_from(&shared);
            } else if let Some(affinity) = &mut pools[index].affinity {
                affinity.group = format!("own{index}").into();
            }
        }
        pools
    })
}

fn pool() -> impl Strategy<Value = Pool> {
    let balance = prop_oneof![
        Just(Balance::LeastConnections),
        Just(Balance::RoundRobin),
        Just(Balance::RandomTwo),
        Just(Balance::SourceHash),
    ];
    let on_down = prop_oneof![Just(OnDown::Close), Just(OnDown::Keep)];
    let most = option::of(1..=u32::MAX);
    let affinity = option::of(affinity());
    let health = option::of(health());
    (
        label(),
        vec(backend(), 1..5),
        balance,
        affinity,
        health,
        on_down,
        most,
    )
        .prop_map(
            |(name, mut backends, balance, affinity, health, on_down, max_connections)| {
                let (mut names, mut addresses) =
                    (BTreeSet::new(), std::collections::HashSet::new());
                backends.retain(|backend| {
                    names.insert(backend.name.clone()) && addresses.insert(backend.address.clone())
                });
                Pool {
                    name,
                    backends,
                    backup: None,
                    balance,
                    affinity,
                    health,
                    on_down,
                    max_connections,
                }
            },
        )
}

fn backend() -> impl Strategy<Value = Backend> {
    let host = prop_oneof![
        address().prop_map(ServerHost::Address),
        host_name().prop_map(ServerHost::Name),
    ];
    let ports = proptest::collection::btree_map(1..=u16::MAX, 1..=u16::MAX, 0..3);
    let weight = prop_oneof![Just(1), 0..=256_u32];
    (option::of(label()), host, 1..=u16::MAX, weight, ports).prop_map(
        |(name, host, port, weight, check_ports): (_, _, _, _, BTreeMap<u16, u16>)| {
            let own = match &host {
                ServerHost::Address(ip) => ip.to_string(),
                ServerHost::Name(name) => name.to_string(),
            };
            let name = name.unwrap_or_else(|| own.into());
            Backend {
                name,
                address: ServerAddress { host, port },
                weight,
                check_ports,
            }
        },
    )
}

fn affinity() -> impl Strategy<Value = Affinity> {
    let ttl = milliseconds(10, 720 * 3_600_000);
    let by = prop_oneof![Just((true, true)), Just((true, false)), Just((false, true))];
    (
        by,
        0..=32_u8,
        0..=128_u8,
        ttl,
        label(),
        1..=100_000_000_usize,
    )
        .prop_map(
            |((by_source, by_name), ipv4, ipv6, ttl, group, max_entries)| {
                let source_prefix = SourcePrefix { ipv4, ipv6 };
                Affinity {
                    by_source,
                    by_name,
                    source_prefix,
                    ttl,
                    group,
                    max_entries,
                }
            },
        )
}

fn health() -> impl Strategy<Value = Health> {
    let checks = vec(
        (check_kind(), option::of(1..=u16::MAX), any::<bool>()),
        1..5,
    );
    let interval = || milliseconds(10, 24 * 3_600_000);
    (interval(), interval(), 1..=1000_u32, 1..=1000_u32, checks).prop_map(
        |(a, b, rise, fall, checks)| {
            let (interval, timeout) = (a.max(b), a.min(b));
            Health {
                interval,
                timeout,
                rise,
                fall,
                checks: labelled(checks),
            }
        },
    )
}

fn check_kind() -> impl Strategy<Value = CheckKind> {
    let request = || {
        (
            "/[!\"$-~]{0,20}",
            option::of(host_name()),
            vec(100..600_u16, 1..4),
        )
            .prop_map(|(path, host, status)| HttpCheck { path, host, status })
    };
    prop_oneof![
        Just(CheckKind::Tcp),
        (option::of(host_name()), 0..=3650_u32).prop_map(|(name, warn_days_left)| CheckKind::Tls {
            name,
            warn_days_left
        }),
        request().prop_map(CheckKind::Http),
        request().prop_map(CheckKind::Https),
    ]
}

fn timeouts() -> impl Strategy<Value = Timeouts> {
    let wait = || milliseconds(10, 720 * 3_600_000);
    let seconds = (1..=32767_u64).prop_map(Duration::from_secs);
    let user = milliseconds(10, 24 * 3_600_000);
    let or_not = || prop_oneof![Just(Duration::ZERO), milliseconds(1, 720 * 3_600_000)];
    (
        wait(),
        wait(),
        wait(),
        wait(),
        or_not(),
        or_not(),
        seconds,
        user,
    )
        .prop_map(
            |(
                client_hello,
                connect,
                idle,
                half_close,
                drain,
                shutdown,
                tcp_keepalive,
                tcp_user,
            )| {
                Timeouts {
                    client_hello,
                    connect,
                    idle,
                    half_close,
                    drain,
                    shutdown,
                    tcp_keepalive,
                    tcp_user,
                }
            },
        )
}

fn limits() -> impl Strategy<Value = Limits> {
    let bound = || option::of(1..=u32::MAX);
    (bound(), bound(), bound()).prop_map(|(connections, per_source, new_per_source_per_second)| {
        Limits {
            connections,
            per_source,
            new_per_source_per_second,
        }
    })
}

fn admin() -> impl Strategy<Value = Admin> {
    // Printable text of any script, as a path may have it.
    let path =
        || "/[ -~\u{a1}-\u{24f}\u{4e00}-\u{4eff}\u{1f600}-\u{1f64f}]{1,20}".prop_map(PathBuf::from);
    let bind = prop_oneof![
        (address(), 1..1000_u16).prop_map(|(ip, port)| AdminBind::Tcp(SocketAddr::new(ip, port))),
        path().prop_map(AdminBind::Unix),
    ];
    let metrics = prop_oneof![
        (address(), 2000..3000_u16)
            .prop_map(|(ip, port)| AdminBind::Tcp(SocketAddr::new(ip, port))),
        path().prop_map(|path| AdminBind::Unix(path.with_extension("metrics"))),
    ];
    (bind, option::of(metrics), path()).prop_map(|(bind, metrics_bind, token_file)| Admin {
        bind,
        metrics_bind,
        token_file: Some(token_file),
    })
}

fn log() -> impl Strategy<Value = Log> {
    let format = prop_oneof![Just(LogFormat::Text), Just(LogFormat::Json)];
    let address = prop_oneof![Just(ClientAddress::Full), Just(ClientAddress::Prefix)];
    (format, any::<bool>(), address).prop_map(|(format, access, client_address)| Log {
        format,
        access,
        client_address,
    })
}

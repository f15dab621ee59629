//! Sound configurations of every shape, for properties.
//!
//! Owns what a test may assume of any [`Config`]. Must not know what is tested. Invariant: what is made here keeps the
//! promises of its types.

mod pools;
mod settings;

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;

use self::pools::pools;
use self::settings::{admin, affinity_store, limits, log, timeouts};
use super::model::*;
use crate::types::host_name::HostName;

/// Any configuration.
pub(super) fn config() -> impl Strategy<Value = Config> {
    let pools = (1..4_usize).prop_flat_map(pools);
    pools.prop_flat_map(|pools| {
        let listeners = vec(listener(pools.len()), 1..4);
        (
            listeners,
            Just(pools),
            timeouts(),
            limits(),
            option::of(1..64_usize),
            affinity_store(),
            admin(),
            log(),
        )
            .prop_map(
                |(mut listeners, pools, timeouts, limits, workers, affinity_store, admin, log)| {
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
                        affinity_store,
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

fn listener(pools: usize) -> impl Strategy<Value = ListenerConfig> {
    let names = vec((pattern(), 0..pools), 1..12);
    let bind = btree_set(address(), 1..4);
    let refusal = prop_oneof![
        Just(RejectionMode::Alert),
        Just(RejectionMode::Reset),
        Just(RejectionMode::Close)
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
                ListenerConfig {
                    name,
                    bind: bind.into_iter().map(|ip| SocketAddr::new(ip, 1)).collect(),
                    protocol,
                    routes: if is_tcp { Vec::new() } else { routes(names) },
                    no_name: refuse_if(is_tcp, no_name),
                    unknown_name: refuse_if(is_tcp, unknown_name),
                    pool,
                    refusal: if is_tls {
                        refusal
                    } else {
                        RejectionMode::Alert
                    },
                    when_pool_down,
                    allow,
                    deny,
                }
            },
        )
}

/// Names, each once, in one route a pool.
fn routes(names: Vec<(NamePattern, usize)>) -> Vec<RouteConfig> {
    let mut seen = std::collections::HashSet::new();
    let mut routes: Vec<RouteConfig> = Vec::new();
    for (name, pool) in names {
        if !seen.insert(name.clone()) {
            continue;
        }
        match routes.iter_mut().find(|route| route.pool == PoolId(pool)) {
            Some(route) => route.names.push(name),
            None => routes.push(RouteConfig {
                names: vec![name],
                pool: PoolId(pool),
            }),
        }
    }
    routes
}

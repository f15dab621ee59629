//! Listeners of every shape.

use std::collections::HashSet;
use std::net::SocketAddr;

use ipnet::IpNet;
use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;

use super::{address, host_name, label};
use crate::config::model::*;
use crate::config::schema::listener::{LISTENER, default};

fn network() -> impl Strategy<Value = IpNet> {
    (address(), 0..=128_u8).prop_map(|(ip, length)| {
        let max = if ip.is_ipv4() { 32 } else { 128 };
        IpNet::new(ip, length.min(max)).unwrap().trunc()
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

/// A listener that uses some of so many pools.
pub(super) fn listener(pools: usize) -> impl Strategy<Value = ListenerConfig> {
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
    let networks = || vec(network(), 0..4);
    let targets = (target(pools), target(pools));
    let networks = (networks(), networks());
    let parts = (label(), bind, protocol, names, targets, refusal, networks);
    let special = parts.prop_map(
        |(name, bind, protocol, names, (no_name, unknown_name), refusal, (allow, deny))| {
            let listener = ListenerConfig {
                bind: bind.into_iter().map(|ip| SocketAddr::new(ip, 1)).collect(),
                protocol,
                allow,
                deny,
                ..default(name)
            };
            match protocol {
                Protocol::Tcp => ListenerConfig {
                    pool: Some(PoolId(names[0].1)),
                    ..listener
                },
                Protocol::Tls | Protocol::Http => ListenerConfig {
                    routes: routes(names),
                    no_name,
                    unknown_name,
                    refusal: match protocol {
                        Protocol::Tls => refusal,
                        Protocol::Http | Protocol::Tcp => RejectionMode::Alert,
                    },
                    ..listener
                },
            }
        },
    );
    LISTENER.any(special)
}

/// Names, each once, with one route per pool.
fn routes(names: Vec<(NamePattern, usize)>) -> Vec<RouteConfig> {
    let mut seen = HashSet::new();
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

//! Pools of every shape.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::config::scalar::host;

use super::{address, host_name, label, milliseconds};
use crate::config::defaults::labelled;
use crate::config::model::*;

/// So many pools.
pub(super) fn pools(count: usize) -> impl Strategy<Value = Vec<PoolConfig>> {
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

fn pool() -> impl Strategy<Value = PoolConfig> {
    let balance = prop_oneof![
        Just(Balance::LeastConnections),
        Just(Balance::RoundRobin),
        Just(Balance::RandomTwo),
        Just(Balance::SourceHash),
    ];
    let on_down = prop_oneof![Just(OnDown::Close), Just(OnDown::Keep)];
    let slow_start = prop_oneof![Just(Duration::ZERO), milliseconds(10, 24 * 3_600_000)];
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
        (slow_start, most),
    )
        .prop_map(
            |(
                name,
                mut backends,
                balance,
                affinity,
                health,
                on_down,
                (slow_start, max_connections),
            )| {
                let (mut names, mut addresses) = (BTreeSet::new(), HashSet::new());
                backends.retain(|backend| {
                    names.insert(backend.name.clone()) && addresses.insert(backend.address.clone())
                });
                PoolConfig {
                    name,
                    backends,
                    backup: None,
                    balance,
                    affinity,
                    health,
                    on_down,
                    slow_start,
                    max_connections,
                }
            },
        )
}

fn backend() -> impl Strategy<Value = BackendConfig> {
    let host = prop_oneof![
        address().prop_map(ServerHost::Address),
        host_name()
            .prop_filter("an address-like name", |name| host(name.as_str()).is_ok())
            .prop_map(ServerHost::Name),
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
            BackendConfig {
                name,
                address: ServerAddress { host, port },
                weight,
                check_ports,
            }
        },
    )
}

fn affinity() -> impl Strategy<Value = AffinitySettings> {
    let ttl = milliseconds(10, 720 * 3_600_000);
    let some = |by: &[bool; 3]| by.contains(&true);
    let by = any::<[bool; 3]>().prop_filter("a key of something", some);
    (
        by,
        0..=32_u8,
        0..=128_u8,
        ttl,
        label(),
        1..=100_000_000_usize,
    )
        .prop_map(
            |([by_source, by_name, by_session], ipv4, ipv6, ttl, group, max_entries)| {
                let source_prefix = SourcePrefix { ipv4, ipv6 };
                AffinitySettings {
                    by_source,
                    by_name,
                    by_session,
                    source_prefix,
                    ttl,
                    group,
                    max_entries,
                }
            },
        )
}

fn health() -> impl Strategy<Value = HealthSettings> {
    let checks = vec(
        (check_kind(), option::of(1..=u16::MAX), any::<bool>()),
        1..5,
    );
    let interval = || milliseconds(10, 24 * 3_600_000);
    let damping = option::of(interval());
    (
        interval(),
        interval(),
        1..=1000_u32,
        1..=1000_u32,
        damping,
        checks,
    )
        .prop_map(|(a, b, rise, fall, damping, checks)| {
            let (interval, timeout) = (a.max(b), a.min(b));
            HealthSettings {
                interval,
                timeout,
                rise,
                fall,
                damping,
                checks: labelled(checks),
            }
        })
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

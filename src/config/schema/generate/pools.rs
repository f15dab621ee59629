//! Pools of every shape.

use std::collections::{BTreeSet, HashSet};

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::strategy::Union;

use super::{address, host_name, label};
use crate::config::model::*;
use crate::config::scalar::host;
use crate::config::schema::check::{CHECK, CheckSettings, KINDS, labelled};
use crate::config::schema::{affinity, backend, health, pool, send_proxy_protocol};

/// So many pools.
pub(super) fn pools(count: usize) -> impl Strategy<Value = Vec<PoolConfig>> {
    let links = vec((option::of(0..count), any::<bool>()), count);
    (vec(any_pool(), count), links).prop_map(|(mut pools, links)| {
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

fn any_pool() -> impl Strategy<Value = PoolConfig> {
    let affinity = option::of(any_affinity());
    let health = option::of(any_health());
    let backends = vec(any_backend(), 1..5);
    let parts = (
        label(),
        backends,
        affinity,
        health,
        send_proxy_protocol::any_value(),
    );
    let special = parts.prop_map(|(name, mut backends, affinity, health, header)| {
        let (mut names, mut addresses) = (BTreeSet::new(), HashSet::new());
        backends.retain(|backend| {
            names.insert(backend.name.clone()) && addresses.insert(backend.address.clone())
        });
        PoolConfig {
            backends,
            affinity,
            health,
            send_proxy_protocol: header,
            ..pool::default(name)
        }
    });
    pool::POOL.any(special)
}

fn any_backend() -> impl Strategy<Value = BackendConfig> {
    let host = prop_oneof![
        address().prop_map(ServerHost::Address),
        host_name()
            .prop_filter("an address-like name", |name| host(name.as_str()).is_ok())
            .prop_map(ServerHost::Name),
    ];
    let check_ports = btree_map(1..=u16::MAX, 1..=u16::MAX, 0..3);
    let parts = (option::of(label()), host, 1..=u16::MAX, check_ports);
    let special = parts.prop_map(|(name, host, port, check_ports)| {
        let name = name.unwrap_or_else(|| backend::default_name(&host));
        BackendConfig {
            check_ports,
            ..backend::default(name, ServerAddress { host, port })
        }
    });
    // Most backends have the default weight, and are printed in the short notation.
    let special = special.boxed();
    prop_oneof![special.clone(), backend::BACKEND.any(special)]
}

fn any_affinity() -> impl Strategy<Value = AffinitySettings> {
    let has_part = |by: &[bool; 3]| by.contains(&true);
    let by = any::<[bool; 3]>().prop_filter("a key of something", has_part);
    let source_prefix = affinity::SOURCE_PREFIX.any(Just(SourcePrefix::WHOLE));
    let special = (by, source_prefix).prop_map(|(by, source_prefix)| {
        let [by_source, by_name, by_session] = by;
        AffinitySettings {
            by_source,
            by_name,
            by_session,
            source_prefix,
            ..affinity::default(&"".into())
        }
    });
    affinity::AFFINITY.any(special)
}

fn any_health() -> impl Strategy<Value = HealthSettings> {
    let special = vec(any_check(), 1..5).prop_map(|checks| HealthSettings {
        checks: labelled(checks),
        ..health::default()
    });
    health::HEALTH.any(special).prop_map(|mut health| {
        if health.timeout > health.interval {
            std::mem::swap(&mut health.timeout, &mut health.interval);
        }
        health
    })
}

fn any_check() -> impl Strategy<Value = CheckSettings> {
    let kinds = KINDS.iter().map(|kind| (kind.any)());
    let special = (Union::new(kinds), option::of(1..=u16::MAX));
    CHECK.any(special.prop_map(|(kind, port)| CheckSettings {
        port,
        ..CheckSettings::new(kind)
    }))
}

//! Valid configurations of every shape, for property tests.
//!
//! Owns what a test may assume of any [`Config`]; plain keys get their values from the tables of the schema. Must not know
//! what is tested. Invariant: a generated configuration satisfies the invariants of its types.

mod listeners;
mod pools;

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::format::{HostNameFormat, Label, ValueFormat};
use super::{limits, log, timeouts};
use crate::config::model::*;
use crate::types::host_name::HostName;

/// Any configuration.
pub(crate) fn config() -> impl Strategy<Value = Config> {
    let pools = (1..4_usize).prop_flat_map(pools::pools);
    pools.prop_flat_map(|pools| {
        let listeners = vec(listeners::listener(pools.len()), 1..4);
        (
            listeners,
            Just(pools),
            timeouts::TIMEOUTS.any(Just(timeouts::DEFAULT)),
            limits::LIMITS.any(Just(limits::DEFAULT)),
            option::of(1..64_usize),
            affinity_store(),
            admin(),
            log::LOG.any(Just(log::DEFAULT)),
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

fn label() -> impl Strategy<Value = std::sync::Arc<str>> {
    Label.any()
}

fn host_name() -> impl Strategy<Value = HostName> {
    HostNameFormat.any()
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

/// Printable text of any script, as a path may have it.
fn path() -> impl Strategy<Value = PathBuf> {
    "/[ -~\u{a1}-\u{24f}\u{4e00}-\u{4eff}\u{1f600}-\u{1f64f}]{1,20}".prop_map(PathBuf::from)
}

fn affinity_store() -> impl Strategy<Value = AffinityStore> {
    option::of(path()).prop_map(|path| path.map_or(AffinityStore::Memory, AffinityStore::File))
}

fn admin() -> impl Strategy<Value = AdminSettings> {
    let bind = prop_oneof![
        (address(), 1..1000_u16).prop_map(|(ip, port)| AdminBind::Tcp(SocketAddr::new(ip, port))),
        path().prop_map(AdminBind::Unix),
    ];
    let metrics = prop_oneof![
        (address(), 2000..3000_u16)
            .prop_map(|(ip, port)| AdminBind::Tcp(SocketAddr::new(ip, port))),
        path().prop_map(|path| AdminBind::Unix(path.with_extension("metrics"))),
    ];
    let host = |name: &str, domain: &str| {
        let name = format!("{name}.{domain}.test");
        HostName::parse(name.as_bytes()).unwrap()
    };
    let hosts = prop_oneof![
        Just(Vec::new()),
        "[a-z]{1,8}".prop_map(move |name| vec![host(&name, "one"), host(&name, "two")]),
    ];
    let parts = (bind, option::of(metrics), path(), hosts);
    parts.prop_map(|(bind, metrics_bind, token_file, hosts)| AdminSettings {
        bind,
        metrics_bind,
        token_file: Some(token_file),
        hosts,
    })
}

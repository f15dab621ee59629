//! Bounds, admin listeners and logs of every shape.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use proptest::option;
use proptest::prelude::*;

use super::{address, milliseconds};
use crate::config::model::*;
use crate::types::host_name::HostName;

pub(super) fn timeouts() -> impl Strategy<Value = Timeouts> {
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

pub(super) fn limits() -> impl Strategy<Value = LimitSettings> {
    let bound = || option::of(1..=u32::MAX);
    (bound(), bound(), bound()).prop_map(|(connections, per_source, new_per_source_per_second)| {
        LimitSettings {
            connections,
            per_source,
            new_per_source_per_second,
        }
    })
}

/// Printable text of any script, as a path may have it.
fn path() -> impl Strategy<Value = PathBuf> {
    "/[ -~\u{a1}-\u{24f}\u{4e00}-\u{4eff}\u{1f600}-\u{1f64f}]{1,20}".prop_map(PathBuf::from)
}

pub(super) fn affinity_store() -> impl Strategy<Value = AffinityStore> {
    option::of(path()).prop_map(|path| path.map_or(AffinityStore::Memory, AffinityStore::File))
}

pub(super) fn admin() -> impl Strategy<Value = AdminSettings> {
    let bind = prop_oneof![
        (address(), 1..1000_u16).prop_map(|(ip, port)| AdminBind::Tcp(SocketAddr::new(ip, port))),
        path().prop_map(AdminBind::Unix),
    ];
    let metrics = prop_oneof![
        (address(), 2000..3000_u16)
            .prop_map(|(ip, port)| AdminBind::Tcp(SocketAddr::new(ip, port))),
        path().prop_map(|path| AdminBind::Unix(path.with_extension("metrics"))),
    ];
    let hosts = prop_oneof![
        Just(Vec::new()),
        "[a-z]{1,8}".prop_map(|name| vec![host(&name, "one"), host(&name, "two")]),
    ];
    let parts = (bind, option::of(metrics), path(), hosts);
    parts.prop_map(|(bind, metrics_bind, token_file, hosts)| AdminSettings {
        bind,
        metrics_bind,
        token_file: Some(token_file),
        hosts,
    })
}

fn host(name: &str, domain: &str) -> HostName {
    let name = format!("{name}.{domain}.test");
    HostName::parse(name.as_bytes()).unwrap()
}

pub(super) fn log() -> impl Strategy<Value = LogSettings> {
    let format = prop_oneof![Just(LogFormat::Text), Just(LogFormat::Json)];
    let address = prop_oneof![Just(ClientAddress::Full), Just(ClientAddress::Prefix)];
    (format, any::<bool>(), address).prop_map(|(format, access, client_address)| LogSettings {
        format,
        access,
        client_address,
    })
}

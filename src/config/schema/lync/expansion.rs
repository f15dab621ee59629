//! What the short form expands to.
//!
//! Owns the listeners, pools, checks and names of a Lync or Skype for Business pool. A pure function: must not know how a
//! file is read. Invariant: the result could have been written in the long form, and every part of it has a location in
//! the short form.

use std::net::SocketAddr;
use std::sync::Arc;

use super::front_end::FrontEndSettings;
use super::{ParsedLync, SIP};
use crate::config::model::{
    AffinitySettings, BackendConfig, CheckConfig, CheckKind, HealthSettings, HttpCheck,
    ListenerConfig, NamePattern, PoolConfig, Protocol, ServerAddress,
};
use crate::config::schema::check::{CheckSettings, labelled};
use crate::config::schema::listener::{self, ParsedListener, TargetName};
use crate::config::schema::pool::{self, ParsedPool};
use crate::config::schema::route::ParsedRoute;
use crate::config::schema::{affinity, backend, health};
use crate::config::source::location::Located;

/// The names of the pools of the short form, backups last.
pub(crate) const POOLS: [&str; 4] = [
    "external-web-https",
    "external-web-http",
    "backup-web-https",
    "backup-web-http",
];

/// The group that pins a client to one Front End over all ports.
const GROUP: &str = "external-web";
/// The Autodiscover service returns 200 here.
const AUTODISCOVER_ROOT: &str = "/autodiscover/autodiscoverservice.svc/root";

/// Expands the short form.
pub(crate) fn expand(lync: &ParsedLync) -> (Vec<ParsedListener>, Vec<ParsedPool>) {
    let [https, http, backup_https, backup_http] = POOLS;
    let ports = &lync.ports;
    let listeners = [
        ("https", Protocol::Tls, &ports.https, https),
        ("http", Protocol::Http, &ports.http, http),
        ("https_direct", Protocol::Tls, &ports.https_direct, https),
        ("http_direct", Protocol::Http, &ports.http_direct, http),
    ];
    let listeners =
        listeners.map(|(name, protocol, port, pool)| listener(lync, name, protocol, port, pool));
    let backups = &lync.backup_front_ends;
    let backup = |name: &str| {
        let has_backup = !backups.is_empty();
        has_backup.then(|| Located::new(Arc::from(name), lync.at))
    };
    let mut pools = vec![
        ParsedPool {
            backup: backup(backup_https),
            ..pool(lync, https, WebPort::Https, &lync.front_ends)
        },
        ParsedPool {
            backup: backup(backup_http),
            ..pool(lync, http, WebPort::Http, &lync.front_ends)
        },
    ];
    if !backups.is_empty() {
        for (name, port) in [(backup_https, WebPort::Https), (backup_http, WebPort::Http)] {
            let mut pool = pool(lync, name, port, backups);
            // A backup makes no pins.
            pool.config.affinity = None;
            pools.push(pool);
        }
    }
    (listeners.into(), pools)
}

fn listener(
    lync: &ParsedLync,
    name: &str,
    protocol: Protocol,
    port: &Located<u16>,
    pool: &str,
) -> ParsedListener {
    let pool: Arc<str> = pool.into();
    let names = lync
        .names()
        .map(|name| Located::new(NamePattern::Exact(name.value.clone()), name.at));
    // Probes, old phones and Windows XP send no server name; every HTTP client sends a Host.
    let no_name = match protocol {
        Protocol::Tls => Some(Located::new(TargetName::Pool(Arc::clone(&pool)), lync.at)),
        Protocol::Http | Protocol::Tcp => None,
    };
    let bind = lync.listen.iter();
    ParsedListener {
        at: lync.at,
        config: ListenerConfig {
            bind: bind.map(|ip| SocketAddr::new(*ip, port.value)).collect(),
            protocol,
            ..listener::default(name.into())
        },
        from_short_form: true,
        protocol: Some(protocol),
        bind_at: vec![port.at; lync.listen.len()],
        allow_at: Vec::new(),
        refusal_at: None,
        routes: vec![ParsedRoute {
            at: lync.at,
            names: names.collect(),
            pool: Some(Located::new(pool, lync.at)),
        }],
        no_name,
        unknown_name: None,
        pool: None,
        complete: true,
    }
}

/// Which of the two ports of the web site a pool serves.
#[derive(Debug, Clone, Copy)]
enum WebPort {
    Https,
    Http,
}

fn pool(
    lync: &ParsedLync,
    name: &str,
    web: WebPort,
    front_ends: &[FrontEndSettings],
) -> ParsedPool {
    let backends = front_ends.iter().map(|front_end| backend(front_end, web));
    let name: Arc<str> = name.into();
    ParsedPool {
        at: lync.at,
        config: PoolConfig {
            backends: backends.collect(),
            affinity: Some(AffinitySettings {
                // Autodiscover links take a client from one name to another; it must stay where it signed in.
                by_name: false,
                // A phone that changes networks has a new address, and usually resumes its TLS session.
                by_session: true,
                group: GROUP.into(),
                ..affinity::default(&name)
            }),
            health: Some(HealthSettings {
                checks: checks(lync, web),
                ..health::default()
            }),
            ..pool::default(name)
        },
        backup: None,
        backends_at: front_ends.iter().map(|front_end| front_end.at).collect(),
        affinity_at: lync.at,
        health_at: lync.at,
        complete: true,
    }
}

fn backend(front_end: &FrontEndSettings, web: WebPort) -> BackendConfig {
    let port = match web {
        WebPort::Https => front_end.https,
        WebPort::Http => front_end.http,
    };
    let host = front_end.host.clone();
    let mut backend = backend::default(Arc::clone(&front_end.name), ServerAddress { host, port });
    if front_end.sip != SIP {
        backend.check_ports.insert(SIP, front_end.sip);
    }
    backend
}

/// A Front End whose SIP service is down must get no web traffic, even if its web site still responds.
fn checks(lync: &ParsedLync, web: WebPort) -> Vec<CheckConfig> {
    let root = HttpCheck {
        path: AUTODISCOVER_ROOT.to_owned(),
        host: Some(lync.external_web_fqdn.value.clone()),
        status: vec![200],
    };
    let root = match web {
        WebPort::Https => CheckKind::Https(root),
        WebPort::Http => CheckKind::Http(root),
    };
    labelled(vec![
        CheckSettings {
            port: Some(SIP),
            ..CheckSettings::new(CheckKind::Tcp)
        },
        CheckSettings::new(CheckKind::Tcp),
        CheckSettings {
            decides: false,
            ..CheckSettings::new(root)
        },
    ])
}

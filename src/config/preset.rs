//! The `lync:` short form and what it stands for.
//!
//! Owns the listeners, pools, checks and names that a Lync or Skype for Business pool needs. A pure function: it must
//! not know how a file is read, nor what becomes of what it makes. Invariant: what it makes could have been written in
//! the long form, and every part of it points to a place in the short form.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::config::defaults::{default_affinity, default_health, labelled};
use crate::config::diagnostics::FileLocation;
use crate::config::model::{
    AffinitySettings, BackendConfig, Balance, CheckKind, HttpCheck, NamePattern, OnDown, Protocol,
    ServerAddress, ServerHost, WhenPoolDown,
};
use crate::config::written::{At, TargetName, WrittenListener, WrittenPool, WrittenRoute};
use crate::types::host_name::HostName;

/// Where Front Ends have the web site External Web over TLS.
pub(crate) const HTTPS: u16 = 4443;
/// Where they have it in clear.
pub(crate) const HTTP: u16 = 8080;
/// Where they have SIP, which decides whether their web sites get traffic.
pub(crate) const SIP: u16 = 5061;
/// What clients put before a SIP domain to find its web services.
pub(crate) const LYNCDISCOVER: &str = "lyncdiscover.";
/// The names of the pools that the short form can make, backups last.
pub(crate) const POOLS: [&str; 4] = [
    "external-web-https",
    "external-web-http",
    "backup-web-https",
    "backup-web-http",
];

/// The group that holds a client on one Front End over all ports.
const GROUP: &str = "external-web";
/// What the Autodiscover service answers with 200.
const AUTODISCOVER_ROOT: &str = "/autodiscover/autodiscoverservice.svc/root";

/// The short form, read and sound by itself.
#[derive(Debug, Clone)]
pub(crate) struct Lync {
    /// Where `lync` stands.
    pub at: FileLocation,
    /// `lyncdiscover.` in each SIP domain, at the domain's place.
    pub lyncdiscover: Vec<At<HostName>>,
    /// The external web FQDN.
    pub external_web_fqdn: At<HostName>,
    /// meet, dialin and the like.
    pub simple_urls: Vec<At<HostName>>,
    /// At least one; their names are unique.
    pub front_ends: Vec<LyncFrontEnd>,
    /// Those of the paired pool.
    pub backup_front_ends: Vec<LyncFrontEnd>,
    /// The VIP; the addresses do not overlap.
    pub listen: Vec<IpAddr>,
    /// Where clients come; no port stands twice.
    pub ports: Ports,
}

/// A Front End.
#[derive(Debug, Clone)]
pub(crate) struct LyncFrontEnd {
    /// As a backend.
    pub name: Arc<str>,
    /// Where it is.
    pub host: ServerHost,
    /// External Web over TLS.
    pub https: u16,
    /// External Web in clear.
    pub http: u16,
    /// SIP.
    pub sip: u16,
    /// Where it stands in the file.
    pub at: FileLocation,
}

/// Where clients come.
#[derive(Debug, Clone)]
pub(crate) struct Ports {
    /// 443: clients.
    pub https: At<u16>,
    /// 80: clients that begin without TLS.
    pub http: At<u16>,
    /// 4443: Front Ends of other pools.
    pub https_direct: At<u16>,
    /// 8080: phones that fetch root certificates.
    pub http_direct: At<u16>,
}

impl Ports {
    /// The ports of Microsoft's table, at the place of what leaves them out.
    pub(crate) fn at(at: FileLocation) -> Self {
        let port = |number| At::new(number, at);
        Self {
            https: port(443),
            http: port(80),
            https_direct: port(HTTPS),
            http_direct: port(HTTP),
        }
    }
}

impl Lync {
    /// Every name that is routed.
    pub(crate) fn names(&self) -> impl Iterator<Item = &At<HostName>> {
        let external = std::iter::once(&self.external_web_fqdn);
        self.lyncdiscover
            .iter()
            .chain(external)
            .chain(&self.simple_urls)
    }
}

/// What the short form stands for.
pub(crate) fn expand(lync: &Lync) -> (Vec<WrittenListener>, Vec<WrittenPool>) {
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
        has_backup.then(|| At::new(Arc::from(name), lync.at))
    };
    let mut pools = vec![
        WrittenPool {
            backup: backup(backup_https),
            ..pool(lync, https, WebPort::Https, &lync.front_ends)
        },
        WrittenPool {
            backup: backup(backup_http),
            ..pool(lync, http, WebPort::Http, &lync.front_ends)
        },
    ];
    if !backups.is_empty() {
        // A backup makes no pins.
        let affinity = At::new(None, lync.at);
        let of_backup = pool(lync, backup_https, WebPort::Https, backups);
        pools.push(WrittenPool {
            affinity: affinity.clone(),
            ..of_backup
        });
        pools.push(WrittenPool {
            affinity,
            ..pool(lync, backup_http, WebPort::Http, backups)
        });
    }
    (listeners.into(), pools)
}

fn listener(
    lync: &Lync,
    name: &str,
    protocol: Protocol,
    port: &At<u16>,
    pool: &str,
) -> WrittenListener {
    let pool: Arc<str> = pool.into();
    let names = lync
        .names()
        .map(|name| At::new(NamePattern::Exact(name.value.clone()), name.at));
    // Probes, old phones and Windows XP send no server name; every HTTP client sends a Host.
    let no_name = match protocol {
        Protocol::Tls => Some(At::new(TargetName::Pool(Arc::clone(&pool)), lync.at)),
        Protocol::Http | Protocol::Tcp => None,
    };
    WrittenListener {
        name: At::new(name.into(), lync.at),
        of_short_form: true,
        bind: lync
            .listen
            .iter()
            .map(|ip| At::new(SocketAddr::new(*ip, port.value), port.at))
            .collect(),
        protocol: Some(protocol),
        routes: vec![WrittenRoute {
            at: lync.at,
            names: names.collect(),
            pool: Some(At::new(pool, lync.at)),
        }],
        no_name,
        unknown_name: None,
        pool: None,
        refusal: None,
        when_pool_down: WhenPoolDown::Close,
        allow: Vec::new(),
        deny: Vec::new(),
        whole: true,
    }
}

/// Which of the two ports of the web site a pool serves.
#[derive(Debug, Clone, Copy)]
enum WebPort {
    Https,
    Http,
}

fn pool(lync: &Lync, name: &str, web: WebPort, front_ends: &[LyncFrontEnd]) -> WrittenPool {
    let backend = |front_end: &LyncFrontEnd| {
        let port = match web {
            WebPort::Https => front_end.https,
            WebPort::Http => front_end.http,
        };
        let own_sip = (front_end.sip != SIP).then_some((SIP, front_end.sip));
        let backend = BackendConfig {
            name: Arc::clone(&front_end.name),
            address: ServerAddress {
                host: front_end.host.clone(),
                port,
            },
            weight: 1,
            check_ports: BTreeMap::from_iter(own_sip),
        };
        At::new(backend, front_end.at)
    };
    let name: Arc<str> = name.into();
    let affinity = AffinitySettings {
        // The links of Autodiscover lead a client from one name to another, and it must stay where it signed in.
        by_name: false,
        // A phone that changes networks comes from another address, and mostly resumes its session.
        by_session: true,
        group: GROUP.into(),
        ..default_affinity(&name)
    };
    let mut health = default_health();
    health.checks = checks(lync, web);
    WrittenPool {
        name: At::new(name, lync.at),
        backends: front_ends.iter().map(backend).collect(),
        backup: None,
        balance: Balance::LeastConnections,
        affinity: At::new(Some(affinity), lync.at),
        health: At::new(Some(health), lync.at),
        on_down: OnDown::Close,
        slow_start: Duration::ZERO,
        max_connections: None,
        whole: true,
    }
}

/// A Front End whose SIP service is down must get no web traffic, though its web site may still answer.
fn checks(lync: &Lync, web: WebPort) -> Vec<crate::config::model::CheckConfig> {
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
        (CheckKind::Tcp, Some(SIP), true),
        (CheckKind::Tcp, None, true),
        (root, None, false),
    ])
}

//! The monitor under test: its pools, its backends and its reports.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lyncpin::config::model::{self, CheckKind, HttpCheck, OnDown, ServerAddress, ServerHost};
use lyncpin::health::{Monitor, MonitoredPool, Resolver};
use lyncpin::telemetry::metrics::{BackendMetrics, Registry};
use lyncpin::types::backend_state::Health;
use lyncpin::types::host_name::HostName;
use lyncpin::upstream::backend::{Availability, Backend, CheckReport};
use tokio::runtime::Handle;

/// The check interval of most tests.
pub(super) const INTERVAL: Duration = Duration::from_millis(40);

/// The metrics and the availability that the backends of one test share.
pub(super) struct Fixture {
    pub(super) registry: Registry,
    pub(super) availability: Arc<Availability>,
}

impl Fixture {
    pub(super) fn new() -> Self {
        Self {
            registry: Registry::default(),
            availability: Arc::new(Availability::default()),
        }
    }

    /// A backend of `pool` at `host`: an address with a port, or a name, whose port is then 1.
    pub(super) fn backend(&self, pool: &str, name: &str, host: &str) -> Arc<Backend> {
        let (host, port) = match host.parse::<SocketAddr>() {
            Ok(address) => (ServerHost::Address(address.ip()), address.port()),
            Err(_) => {
                let (name, port) = host.split_once(':').unwrap_or((host, "1"));
                let name = HostName::parse(name.as_bytes()).unwrap();
                (ServerHost::Name(name), port.parse().unwrap())
            }
        };
        let configured = model::BackendConfig {
            name: name.into(),
            address: ServerAddress { host, port },
            weight: 1,
            check_ports: BTreeMap::new(),
        };
        let metrics = BackendMetrics::new(&self.registry, &pool.into(), &name.into());
        let availability = self.availability.clone();
        Arc::new(Backend::new(
            pool.into(),
            configured,
            None,
            metrics,
            availability,
        ))
    }

    pub(super) fn watch(&self, pools: Vec<MonitoredPool>) -> Monitor {
        self.watch_with(pools, Resolver::system())
    }

    pub(super) fn watch_with(&self, pools: Vec<MonitoredPool>, resolver: Resolver) -> Monitor {
        let availability = self.availability.subscribe();
        Monitor::start(&Handle::current(), pools, resolver, availability)
    }

    /// Number of checks of a pool, passed and failed together, according to the metrics.
    pub(super) fn counted(&self, pool: &str) -> u64 {
        let prefix = format!("lyncpin_health_checks_total{{pool=\"{pool}\"");
        let text = self.registry.render();
        let lines = text.lines().filter(|line| line.starts_with(&prefix));
        lines
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
            .sum()
    }
}

pub(super) fn pool(
    backends: &[&Arc<Backend>],
    health: Option<model::HealthSettings>,
) -> MonitoredPool {
    MonitoredPool {
        backends: backends.iter().map(|&backend| backend.clone()).collect(),
        health,
        on_down: OnDown::Close,
        proxy_header: None,
    }
}

/// Checks with `rise` and `fall` of 1.
pub(super) fn health(checks: impl IntoIterator<Item = CheckKind>) -> model::HealthSettings {
    let check = |(index, kind): (usize, CheckKind)| model::CheckConfig {
        label: format!("{}{index}", label(&kind)).into(),
        kind,
        port: None,
        decides: true,
    };
    model::HealthSettings {
        interval: INTERVAL,
        timeout: Duration::from_secs(5),
        rise: 1,
        fall: 1,
        damping: None,
        checks: checks.into_iter().enumerate().map(check).collect(),
    }
}

fn label(kind: &CheckKind) -> &'static str {
    match kind {
        CheckKind::Tcp => "tcp",
        CheckKind::Tls { .. } => "tls",
        CheckKind::Http(_) => "http",
        CheckKind::Https(_) => "https",
    }
}

pub(super) fn tls() -> CheckKind {
    CheckKind::Tls {
        name: Some(HostName::parse(b"fe01.contoso.test").unwrap()),
        warn_days_left: 14,
    }
}

/// A request for `/root`, expecting 200.
pub(super) fn request() -> HttpCheck {
    HttpCheck {
        path: "/root".into(),
        host: None,
        status: vec![200],
    }
}

/// The result of one check of `kind` of the server at `address`.
pub(super) async fn report(kind: CheckKind, address: SocketAddr) -> CheckReport {
    report_within(kind, address, Duration::from_secs(5)).await
}

pub(super) async fn report_within(
    kind: CheckKind,
    address: SocketAddr,
    timeout: Duration,
) -> CheckReport {
    let fixture = Fixture::new();
    let backend = fixture.backend("web", "fe01", &address.to_string());
    let health = model::HealthSettings {
        interval: Duration::from_secs(3600),
        timeout,
        ..health([kind])
    };
    let monitor = fixture.watch(vec![pool(&[&backend], Some(health))]);
    eventually("a result", || passing(&backend, 0).is_some()).await;
    let report = backend.checks().remove(0);
    let expected = if report.passing == Some(true) {
        Health::Up
    } else {
        Health::Down
    };
    assert_eq!(backend.health(), expected);
    monitor.stop().await;
    report
}

/// The last result of the check at this index.
pub(super) fn passing(backend: &Backend, index: usize) -> Option<bool> {
    backend.checks().get(index)?.passing
}

/// Waits until `holds` returns true, for 20 s at most.
pub(super) async fn eventually(condition: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "waited too long for {condition}");
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

pub(super) async fn becomes(backend: &Backend, health: Health) {
    let condition = format!("{backend:?} to be {}", health.as_str());
    eventually(&condition, || backend.health() == health).await;
}

pub(super) fn loopback(last: u8) -> IpAddr {
    IpAddr::from([127, 0, 0, last])
}

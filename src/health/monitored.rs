//! Owns one backend under watch: what results and addresses do to its health, and what is logged, shown and recalled
//! when that changes.
//!
//! Must not know how results come about or how many backends share them. Invariant: while a backend is in maintenance
//! its health stays as it was, and what the checks see meanwhile decides at once when it is back.

mod show;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tracing::{info, warn};

use super::damping::{Damping, DampingSettings};
use super::events::{HealthChangeEvent, HealthEvents};
use super::probe::{CheckResult, Finding, Probe};
use super::rise_fall::{self, RiseFall, RiseFallRule};
use super::schedule::ScheduledCheck;
use super::{LOG, WatchedPool};
use crate::config::model::{self, CheckKind, OnDown, ServerAddress, ServerHost};
use crate::types::backend_state::{AdminState, Health};
use crate::types::host_name::HostName;
use crate::upstream::backend::{Backend, CheckReport, Damped, Deadline, Disconnect};

/// When an `https` check warns, which has no setting of its own: the default of `tls` checks.
const WARN_DAYS_LEFT: u32 = 14;

/// One backend under watch.
pub(super) struct MonitoredBackend {
    backend: Arc<Backend>,
    /// Where it is configured to be, so that another configuration is noticed.
    server: ServerAddress,
    pool: Vec<Arc<Backend>>,
    on_down: OnDown,
    /// `None` is `health: none`.
    health: Option<model::HealthSettings>,
    /// Those of `health`, in its order.
    checks: Vec<MonitoredCheck>,
    address: Option<IpAddr>,
    /// Why there is no address.
    fault: Option<String>,
    /// Results have come during maintenance that have not decided yet.
    parked: bool,
    damping: Damping,
    /// Those of the backend, as far as they are heard.
    pardons: u32,
}

/// One check of the backend.
#[derive(Clone)]
struct MonitoredCheck {
    check: model::CheckConfig,
    judge: RiseFall,
    report: CheckReport,
    warned: Option<SystemTime>,
    /// The last check could not be made.
    unmade: bool,
}

impl MonitoredCheck {
    fn new(check: &model::CheckConfig) -> Self {
        let now = SystemTime::now();
        Self {
            check: check.clone(),
            judge: RiseFall::default(),
            report: CheckReport {
                label: check.label.clone(),
                decides: check.decides,
                passing: None,
                counts: None,
                against: 0,
                needed: 1,
                detail: "not checked yet".into(),
                since: now,
                at: now,
                took: Duration::ZERO,
                certificate_expiry: None,
            },
            warned: None,
            unmade: false,
        }
    }

    /// The same under another label or role; what it has seen stays.
    fn renamed(mut self, check: &model::CheckConfig) -> Self {
        self.report.label = check.label.clone();
        self.report.decides = check.decides;
        self.check = check.clone();
        self
    }

    fn asks_the_same(&self, check: &model::CheckConfig) -> bool {
        self.check.kind == check.kind && self.check.port == check.port
    }

    fn warn_days_left(&self) -> u32 {
        match &self.check.kind {
            CheckKind::Tls { warn_days_left, .. } => *warn_days_left,
            CheckKind::Tcp | CheckKind::Http(_) | CheckKind::Https(_) => WARN_DAYS_LEFT,
        }
    }
}

impl MonitoredBackend {
    /// `backend` of `pool`, with what is known of it from before.
    pub(super) fn new(backend: &Arc<Backend>, pool: &WatchedPool, known: Option<Self>) -> Self {
        // A process before this one has found it up: no single failure takes it down.
        let inherited = known.is_none() && backend.health() == Health::Up;
        let mut watched = known.unwrap_or_else(|| Self::unknown(backend));
        let configured = &backend.configured().address;
        if watched.server != *configured {
            watched.begin_anew(configured);
        }
        let mut before = std::mem::take(&mut watched.checks);
        let mut watch = |check: &model::CheckConfig| {
            let known = before.iter().position(|known| known.asks_the_same(check));
            match known {
                Some(place) => before.swap_remove(place).renamed(check),
                None => MonitoredCheck::new(check),
            }
        };
        let checks = pool.health.iter().flat_map(|health| &health.checks);
        let mut checks: Vec<MonitoredCheck> = checks.map(&mut watch).collect();
        if inherited {
            for watch in &mut checks {
                watch.judge = RiseFall::passing();
            }
        }
        backend.keep_checks(|label| checks.iter().any(|watch| *watch.check.label == *label));
        watched.checks = checks;
        watched.pool.clone_from(&pool.backends);
        watched.on_down = pool.on_down;
        watched.health.clone_from(&pool.health);
        for place in 0..watched.checks.len() {
            watched.report(place);
        }
        if let ServerHost::Address(address) = watched.server.host {
            watched.place(address);
        }
        watched
    }

    /// Another server stands behind the name now: what was seen of the one before counts no more.
    fn begin_anew(&mut self, server: &ServerAddress) {
        self.server = server.clone();
        self.backend.set_name_fault(None);
        self.checks.clear();
        (self.address, self.fault) = (None, None);
        self.parked = false;
        self.damping = Damping::default();
        self.backend.set_damped(None);
        let why = format!("its address is {server} now, and is not checked yet");
        self.backend.set_health(Health::Unknown, &why);
    }

    /// A backend that was not watched before.
    fn unknown(backend: &Arc<Backend>) -> Self {
        Self {
            backend: backend.clone(),
            server: backend.configured().address.clone(),
            pool: Vec::new(),
            on_down: OnDown::Close,
            health: None,
            checks: Vec::new(),
            address: backend.address().map(|address| address.ip()),
            fault: None,
            parked: false,
            damping: Damping::default(),
            pardons: backend.pardons(),
        }
    }

    /// Whether this is the watch over `backend`.
    pub(super) fn is(&self, backend: &Arc<Backend>) -> bool {
        Arc::ptr_eq(&self.backend, backend)
    }

    /// The name to resolve, if there is one.
    pub(super) fn name(&self) -> Option<&HostName> {
        match &self.server.host {
            ServerHost::Name(name) => Some(name),
            ServerHost::Address(_) => None,
        }
    }

    /// The rounds that its checks, by their places, are made in; none while its address is not known.
    pub(super) fn rounds(&self) -> impl Iterator<Item = (usize, ScheduledCheck)> {
        let known = self.health.as_ref().zip(self.address);
        known.into_iter().flat_map(move |(health, address)| {
            let round = move |check| ScheduledCheck {
                probe: Probe::of(check, health.timeout, &self.backend.configured(), address),
                interval: health.interval,
            };
            health.checks.iter().map(round).enumerate()
        })
    }

    /// Its name has this address now. What was seen at another one counts no more; health stays until the first result.
    pub(super) fn move_to(&mut self, address: IpAddr, events: &HealthEvents) {
        self.place(address);
        self.settle(events);
    }

    fn place(&mut self, address: IpAddr) {
        self.fault = None;
        if self.address == Some(address) {
            return;
        }
        self.address = Some(address);
        self.parked = false;
        self.damping = Damping::default();
        for watch in &mut self.checks {
            watch.judge = RiseFall::default();
            watch.report = MonitoredCheck::new(&watch.check).report;
        }
        for place in 0..self.checks.len() {
            self.report(place);
        }
        self.backend
            .set_address(SocketAddr::new(address, self.server.port));
    }

    /// Its name does not resolve any more, and its last address is kept; `None` when it does again.
    pub(super) fn keep_address(&self, fault: Option<&str>) {
        self.backend.set_name_fault(fault);
    }

    /// Its name has never been resolved.
    pub(super) fn lost(&mut self, fault: &str, events: &HealthEvents) {
        self.fault = Some(fault.to_owned());
        self.settle(events);
    }

    /// The check at this place has a first result, if it has none yet.
    pub(super) fn catch_up(&mut self, place: usize, finding: &Finding, events: &HealthEvents) {
        if self.checks[place].judge.verdict().is_none() {
            self.take(place, finding, events);
        }
    }

    /// The check at this place has a result.
    pub(super) fn take(&mut self, place: usize, finding: &Finding, events: &HealthEvents) {
        self.show(place, finding);
        let passed = match finding.result {
            CheckResult::Pass => true,
            CheckResult::Fail => false,
            CheckResult::Unmade => return self.report(place),
        };
        let Some(rule) = self.rule() else {
            return;
        };
        let maintained = self.backend.state() == AdminState::Maintain;
        let watch = &mut self.checks[place];
        if maintained {
            self.parked = true;
            watch.judge = RiseFall::default();
        }
        let before = watch.judge.verdict();
        watch.judge.take(passed, rule);
        self.report(place);
        let watch = &self.checks[place];
        if watch.check.decides {
            self.count_passes();
            self.settle(events);
        } else if before != watch.judge.verdict() && !maintained {
            self.log_observed(place, finding);
        }
    }

    fn rule(&self) -> Option<RiseFallRule> {
        let health = self.health.as_ref()?;
        Some(RiseFallRule {
            rise: health.rise,
            fall: health.fall,
        })
    }

    /// For how long all deciding checks have passed.
    fn count_passes(&mut self) {
        let mut deciding = self.checks.iter().filter(|watch| watch.check.decides);
        if deciding.all(|watch| watch.report.passing == Some(true)) {
            self.damping.passed(Instant::now());
        } else {
            self.damping.failed();
        }
    }

    /// Its administrative state may have changed, or what other backends of the pool can do, or its time is over.
    pub(super) fn reconsider(&mut self, events: &HealthEvents) {
        let pardons = self.backend.pardons();
        let pardoned = std::mem::replace(&mut self.pardons, pardons) != pardons;
        if pardoned {
            self.damping.forgive();
        }
        if pardoned || self.parked || self.kept_out_until().is_some() {
            self.settle(events);
        }
    }

    /// When the time is over for which it is kept out, though its checks pass.
    pub(super) fn kept_out_until(&self) -> Option<Instant> {
        self.backend.damped().map(|damped| damped.until.at)
    }

    /// Brings health to what is known now.
    pub(super) fn settle(&mut self, events: &HealthEvents) {
        if self.backend.state() == AdminState::Maintain {
            return self.show_damped(None);
        }
        self.parked = false;
        let deciding = || self.checks.iter().filter(|watch| watch.check.decides);
        let (health, mut why) = match (&self.address, &self.fault) {
            (None, None) => return self.show_damped(None),
            (None, Some(fault)) => (Health::Down, format!("its name does not resolve: {fault}")),
            (Some(_), _) => {
                let health = rise_fall::combine(deciding().map(|watch| watch.judge.verdict()));
                let counts =
                    |watch: &&MonitoredCheck| watch.judge.verdict() == Some(health == Health::Up);
                let said: Vec<String> = deciding().filter(counts).map(say).collect();
                let why = if said.is_empty() {
                    "nothing is checked".to_owned()
                } else {
                    said.join("; ")
                };
                (health, why)
            }
        };
        let comes_back = health == Health::Up && self.backend.health() == Health::Down;
        let until = self.damped_until(Instant::now()).filter(|_| comes_back);
        if until.is_some() && self.has_another() {
            return self.show_damped(until);
        }
        if until.is_some() {
            why += "; taken early, as no other backend of the pool is available";
        }
        self.show_damped(None);
        // Not all deciding checks have answered: what was known stays.
        if health != Health::Unknown && health != self.backend.health() {
            self.turn(health, &why, events);
        }
    }

    /// Until when it is kept out for its falls, should its checks pass.
    fn damped_until(&self, now: Instant) -> Option<Instant> {
        self.damping.until(now, self.terms()?)
    }

    /// `None` where the pool damps nobody.
    fn terms(&self) -> Option<DampingSettings> {
        let health = self.health.as_ref()?;
        Some(DampingSettings {
            usual: health.interval.saturating_mul(health.rise),
            most: health.damping?,
        })
    }

    fn show_damped(&self, until: Option<Instant>) {
        let known = self.backend.damped();
        let falls = self.damping.falls();
        if until == known.map(|known| known.until.at) {
            return;
        }
        let Some(at) = until else {
            return self.backend.set_damped(None);
        };
        let left = at.saturating_duration_since(Instant::now());
        let until = Deadline {
            at,
            shown: SystemTime::now() + left,
        };
        self.backend.set_damped(Some(Damped { until, falls }));
        if known.is_none() {
            let (pool, backend) = (&*self.backend.pool, &*self.backend.name);
            let seconds = left.as_secs_f64().ceil();
            warn!(target: LOG, pool, backend, falls, seconds, "backend passes its checks and is kept out: it has fallen again and again");
        }
    }

    /// Counts a fall or a return.
    fn count(&mut self, health: Health) {
        let now = Instant::now();
        match (self.backend.health(), health) {
            (Health::Up, Health::Down) => {
                self.backend.metrics.fell();
                if let Some(terms) = self.terms() {
                    self.damping.fell(now, terms);
                }
            }
            (_, Health::Up) => self.damping.returned(now),
            (_, Health::Down | Health::Unknown) => {}
        }
    }

    fn turn(&mut self, health: Health, why: &str, events: &HealthEvents) {
        self.count(health);
        let (pool, backend) = (&*self.backend.pool, &*self.backend.name);
        self.backend.set_health(health, why);
        events.push(HealthChangeEvent {
            at: SystemTime::now(),
            pool: self.backend.pool.clone(),
            backend: self.backend.name.clone(),
            health,
            why: why.to_owned(),
        });
        if health != Health::Down {
            info!(target: LOG, pool, backend, why, "backend is {}", health.as_str());
            return;
        }
        let held = self.backend.in_flight();
        let recalled = self.on_down == OnDown::Close && self.has_another();
        let action = match self.on_down {
            _ if held == 0 => "none",
            OnDown::Keep => "kept: on_down is keep",
            OnDown::Close if recalled => "reset",
            OnDown::Close => "kept: no other backend of the pool is available",
        };
        if recalled {
            self.backend.recall(Disconnect::Down);
        }
        warn!(target: LOG, pool, backend, why, connections = held, action, "backend is down");
    }

    /// Whether its clients could go to another backend of the pool.
    fn has_another(&self) -> bool {
        self.pool
            .iter()
            .any(|other| !self.is(other) && other.takes_new() && other.weight() > 0)
    }
}

fn say(watch: &MonitoredCheck) -> String {
    format!("{}: {}", watch.report.label, watch.report.detail)
}

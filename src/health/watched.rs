//! Owns one backend under watch: what results and addresses do to its health, and what is logged, shown and recalled
//! when that changes.
//!
//! Must not know how results come about or how many backends share them. Invariant: while a backend is in maintenance
//! its health stays as it was, and what the checks see meanwhile decides at once when it is back.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tracing::{debug, info, warn};

use super::events::{Event, Events};
use super::judge::{self, Judge, Rule};
use super::probe::{CheckResult, Finding, Probe, certificate};
use super::rounds::Round;
use super::{LOG, WatchedPool};
use crate::backend::{Backend, CheckReport, Recall};
use crate::config::model::{self, CheckKind, OnDown, ServerHost};
use crate::host_name::HostName;
use crate::state::{Health, State};

/// How often a certificate near its end is warned of.
const WARN_EVERY: Duration = Duration::from_secs(24 * 60 * 60);
/// When an `https` check warns, which has no setting of its own: the default of `tls` checks.
const WARN_DAYS_LEFT: u32 = 14;

/// One backend under watch.
pub(super) struct Watched {
    backend: Arc<Backend>,
    pool: Vec<Arc<Backend>>,
    on_down: OnDown,
    /// `None` is `health: none`.
    health: Option<model::Health>,
    /// Those of `health`, in its order.
    checks: Vec<Watch>,
    address: Option<IpAddr>,
    /// Why there is no address.
    fault: Option<String>,
    /// Results have come during maintenance that have not decided yet.
    parked: bool,
}

/// One check of the backend.
#[derive(Clone)]
struct Watch {
    check: model::Check,
    judge: Judge,
    report: CheckReport,
    warned: Option<SystemTime>,
    /// The last check could not be made.
    unmade: bool,
}

impl Watch {
    fn new(check: &model::Check) -> Self {
        let now = SystemTime::now();
        Self {
            check: check.clone(),
            judge: Judge::default(),
            report: CheckReport {
                label: check.label.clone(),
                decides: check.decides,
                passing: None,
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
    fn renamed(mut self, check: &model::Check) -> Self {
        self.report.label = check.label.clone();
        self.report.decides = check.decides;
        self.check = check.clone();
        self
    }

    fn asks_the_same(&self, check: &model::Check) -> bool {
        self.check.kind == check.kind && self.check.port == check.port
    }

    fn warn_days_left(&self) -> u32 {
        match &self.check.kind {
            CheckKind::Tls { warn_days_left, .. } => *warn_days_left,
            CheckKind::Tcp | CheckKind::Http(_) | CheckKind::Https(_) => WARN_DAYS_LEFT,
        }
    }
}

impl Watched {
    /// `backend` of `pool`, with what is known of it from before.
    pub(super) fn new(backend: &Arc<Backend>, pool: &WatchedPool, known: Option<Self>) -> Self {
        let (mut before, address, fault, parked) = match known {
            Some(known) => (known.checks, known.address, known.fault, known.parked),
            None => (Vec::new(), None, None, false),
        };
        let mut watch = |check: &model::Check| {
            let known = before.iter().position(|known| known.asks_the_same(check));
            match known {
                Some(place) => before.swap_remove(place).renamed(check),
                None => Watch::new(check),
            }
        };
        let checks = pool.health.iter().flat_map(|health| &health.checks);
        let checks: Vec<Watch> = checks.map(&mut watch).collect();
        backend.keep_checks(|label| checks.iter().any(|watch| *watch.check.label == *label));
        for watch in &checks {
            backend.report_check(watch.report.clone());
        }
        let mut watched = Self {
            backend: backend.clone(),
            pool: pool.backends.clone(),
            on_down: pool.on_down,
            health: pool.health.clone(),
            checks,
            address,
            fault,
            parked,
        };
        if let ServerHost::Address(address) = backend.configured.address.host {
            watched.place(address);
        }
        watched
    }

    /// Whether this is the watch over `backend`.
    pub(super) fn is(&self, backend: &Arc<Backend>) -> bool {
        Arc::ptr_eq(&self.backend, backend)
    }

    /// The name to resolve, if there is one.
    pub(super) fn name(&self) -> Option<&HostName> {
        match &self.backend.configured.address.host {
            ServerHost::Name(name) => Some(name),
            ServerHost::Address(_) => None,
        }
    }

    /// The rounds that its checks, by their places, are made in; none while its address is not known.
    pub(super) fn rounds(&self) -> impl Iterator<Item = (usize, Round)> {
        let known = self.health.as_ref().zip(self.address);
        known.into_iter().flat_map(move |(health, address)| {
            let round = move |check| Round {
                probe: Probe::of(check, health.timeout, &self.backend.configured, address),
                interval: health.interval,
            };
            health.checks.iter().map(round).enumerate()
        })
    }

    /// Its name has this address now. What was seen at another one counts no more; health stays until the first result.
    pub(super) fn move_to(&mut self, address: IpAddr, events: &Events) {
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
        for watch in &mut self.checks {
            watch.judge = Judge::default();
        }
        let port = self.backend.configured.address.port;
        self.backend.set_address(SocketAddr::new(address, port));
    }

    /// Its name has never been resolved.
    pub(super) fn lost(&mut self, fault: &str, events: &Events) {
        self.fault = Some(fault.to_owned());
        self.settle(events);
    }

    /// The check at this place has a first result, if it has none yet.
    pub(super) fn catch_up(&mut self, place: usize, finding: &Finding, events: &Events) {
        if self.checks[place].judge.verdict().is_none() {
            self.take(place, finding, events);
        }
    }

    /// The check at this place has a result.
    pub(super) fn take(&mut self, place: usize, finding: &Finding, events: &Events) {
        self.show(place, finding);
        let passed = match finding.result {
            CheckResult::Pass => true,
            CheckResult::Fail => false,
            CheckResult::Unmade => return,
        };
        let Some(health) = &self.health else {
            return;
        };
        let rule = Rule {
            rise: health.rise,
            fall: health.fall,
        };
        let maintained = self.backend.state() == State::Maintain;
        let watch = &mut self.checks[place];
        if maintained {
            self.parked = true;
            watch.judge = Judge::default();
        }
        let before = watch.judge.verdict();
        watch.judge.take(passed, rule);
        if watch.check.decides {
            self.settle(events);
        } else if before != watch.judge.verdict() && !maintained {
            self.log_observed(place, finding);
        }
    }

    /// Its administrative state may have changed.
    pub(super) fn reconsider(&mut self, events: &Events) {
        if self.parked {
            self.settle(events);
        }
    }

    /// Brings health to what is known now.
    pub(super) fn settle(&mut self, events: &Events) {
        if self.backend.state() == State::Maintain {
            return;
        }
        self.parked = false;
        let deciding = || self.checks.iter().filter(|watch| watch.check.decides);
        let (health, why) = match (&self.address, &self.fault) {
            (None, None) => return,
            (None, Some(fault)) => (Health::Down, format!("its name does not resolve: {fault}")),
            (Some(_), _) => {
                let health = judge::combine(deciding().map(|watch| watch.judge.verdict()));
                let counts = |watch: &&Watch| watch.judge.verdict() == Some(health == Health::Up);
                let said: Vec<String> = deciding().filter(counts).map(say).collect();
                let why = if said.is_empty() {
                    "nothing is checked".to_owned()
                } else {
                    said.join("; ")
                };
                (health, why)
            }
        };
        // Not all deciding checks have answered: what was known stays.
        if health != Health::Unknown && health != self.backend.health() {
            self.turn(health, &why, events);
        }
    }

    fn turn(&self, health: Health, why: &str, events: &Events) {
        let (pool, backend) = (&*self.backend.pool, &*self.backend.name);
        self.backend.set_health(health, why);
        events.push(Event {
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
        let connections = match self.on_down {
            _ if held == 0 => "none",
            OnDown::Keep => "kept: on_down is keep",
            OnDown::Close if recalled => "reset",
            OnDown::Close => "kept: no other backend of the pool is available",
        };
        if recalled {
            self.backend.recall(Recall::Down);
        }
        warn!(target: LOG, pool, backend, why, held, connections, "backend is down");
    }

    /// Whether its clients could go to another backend of the pool.
    fn has_another(&self) -> bool {
        self.pool
            .iter()
            .any(|other| !self.is(other) && other.takes_new() && other.configured.weight > 0)
    }

    /// Brings the result to status, metrics and log.
    fn show(&mut self, place: usize, finding: &Finding) {
        let (pool, backend) = (&*self.backend.pool, &*self.backend.name);
        let watch = &mut self.checks[place];
        let (check, detail) = (&*watch.check.label, &*finding.detail);
        let now = SystemTime::now();
        let report = &mut watch.report;
        report.at = now;
        report.took = finding.took;
        report.detail = finding.detail.clone();
        let passing = match finding.result {
            CheckResult::Pass => Some(true),
            CheckResult::Fail => Some(false),
            CheckResult::Unmade => None,
        };
        if let Some(passed) = passing {
            debug!(target: LOG, pool, backend, check, detail, passed, "checked");
            let took = finding.took.as_secs_f64();
            self.backend.metrics.checked(check, passed, took);
            if report.passing != passing {
                report.since = now;
            }
            report.passing = passing;
        } else if !watch.unmade {
            warn!(target: LOG, pool, backend, check, detail, "check could not be made, health stays as it is");
        }
        watch.unmade = passing.is_none();
        if let Some(expiry) = finding.certificate_expiry {
            report.certificate_expiry = Some(expiry);
        }
        self.backend.report_check(report.clone());
        if finding.certificate_expiry.is_some() {
            self.show_certificate(place, now);
        }
    }

    fn show_certificate(&mut self, place: usize, now: SystemTime) {
        let seen = self
            .checks
            .iter()
            .map(|watch| watch.report.certificate_expiry);
        if let Some(earliest) = seen.flatten().min() {
            self.backend.metrics.show_certificate_expiry(earliest);
        }
        let watch = &mut self.checks[place];
        let Some(expiry) = watch.report.certificate_expiry else {
            return;
        };
        let near = certificate::is_near(expiry, now, watch.warn_days_left());
        let due = watch.warned.is_none_or(|warned| {
            now.duration_since(warned)
                .is_ok_and(|since| since >= WARN_EVERY)
        });
        if !near {
            watch.warned = None;
        } else if due {
            watch.warned = Some(now);
            let (pool, backend) = (&*self.backend.pool, &*self.backend.name);
            let check = &*watch.check.label;
            let left = certificate::remaining(expiry, now);
            warn!(target: LOG, pool, backend, check, left, "certificate is near its end");
        }
    }

    fn log_observed(&self, place: usize, finding: &Finding) {
        let (pool, backend) = (&*self.backend.pool, &*self.backend.name);
        let check = &*self.checks[place].check.label;
        let detail = &*finding.detail;
        match finding.result {
            CheckResult::Fail => {
                warn!(target: LOG, pool, backend, check, detail, "observed check fails");
            }
            CheckResult::Pass | CheckResult::Unmade => {
                info!(target: LOG, pool, backend, check, detail, "observed check passes");
            }
        }
    }
}

fn say(watch: &Watch) -> String {
    format!("{}: {}", watch.report.label, watch.report.detail)
}

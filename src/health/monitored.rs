//! Owns one monitored backend: its address, and the results of its checks.
//!
//! Must not know how checks are run or how many backends share a check. Invariant: while a backend is in maintenance its health
//! does not change, and the results that arrive meanwhile take effect at once when it is ready again.

mod check;
mod report;
mod transition;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use super::MonitoredPool;
use super::damping::Damping;
use super::events::HealthEvents;
use super::probe::{CheckResult, Finding, Probe};
use super::rise_fall::{RiseFall, RiseFallRule};
use super::schedule::ScheduledCheck;
use crate::config::model::{self, OnDown, ServerAddress, ServerHost};
use crate::protocol::proxy::HeaderFormat;
use crate::types::backend_state::{AdminState, Health};
use crate::types::host_name::HostName;
use crate::upstream::backend::Backend;
use check::MonitoredCheck;
pub use transition::BACK_EARLY;

/// One monitored backend.
pub(super) struct MonitoredBackend {
    backend: Arc<Backend>,
    /// Its configured address, so that a change of the configuration is noticed.
    server: ServerAddress,
    /// All backends of its pool.
    pool: Vec<Arc<Backend>>,
    on_down: OnDown,
    proxy_header: Option<HeaderFormat>,
    /// `None`: `health: none`.
    health: Option<model::HealthSettings>,
    /// The checks of `health`, in the same order.
    checks: Vec<MonitoredCheck>,
    address: Option<IpAddr>,
    /// Why its name has never been resolved.
    resolve_error: Option<String>,
    /// Results arrived during maintenance and have not taken effect.
    has_unapplied_results: bool,
    damping: Damping,
    /// Those of the backend that were applied.
    damping_resets: u32,
}

impl MonitoredBackend {
    /// Monitors `backend` of `pool`; `known` is its state from before.
    pub(super) fn new(backend: &Arc<Backend>, pool: &MonitoredPool, known: Option<Self>) -> Self {
        // It was up in the process before this one: a single failure must not take it down.
        let inherited = known.is_none() && backend.health() == Health::Up;
        let mut monitored = known.unwrap_or_else(|| Self::unknown(backend));
        let configured = &backend.configured().address;
        if monitored.server != *configured {
            monitored.reset_for(configured);
        }
        let mut before = std::mem::take(&mut monitored.checks);
        let mut take_over = |check: &model::CheckConfig| {
            let known = before.iter().position(|known| known.is_same_request(check));
            match known {
                Some(index) => before.swap_remove(index).renamed(check),
                None => MonitoredCheck::new(check),
            }
        };
        let checks = pool.health.iter().flat_map(|health| &health.checks);
        let mut checks: Vec<MonitoredCheck> = checks.map(&mut take_over).collect();
        if inherited {
            for check in &mut checks {
                check.state = RiseFall::inherited();
            }
        }
        backend.retain_checks(|label| checks.iter().any(|known| *known.check.label == *label));
        monitored.checks = checks;
        monitored.pool.clone_from(&pool.backends);
        monitored.on_down = pool.on_down;
        monitored.proxy_header = pool.proxy_header;
        monitored.health.clone_from(&pool.health);
        for index in 0..monitored.checks.len() {
            monitored.report(index);
        }
        if let ServerHost::Address(address) = monitored.server.host {
            monitored.use_address(address);
        }
        monitored
    }

    /// The configured address has changed: results of the server before do not count.
    fn reset_for(&mut self, server: &ServerAddress) {
        self.server = server.clone();
        self.backend.set_resolve_error(None);
        self.checks.clear();
        (self.address, self.resolve_error) = (None, None);
        self.has_unapplied_results = false;
        self.damping = Damping::default();
        self.backend.set_damped(None);
        let why = format!("its address is now {server}, not checked yet");
        self.backend.set_health(Health::Unknown, &why);
    }

    /// A backend that was not monitored before.
    fn unknown(backend: &Arc<Backend>) -> Self {
        Self {
            backend: backend.clone(),
            server: backend.configured().address.clone(),
            pool: Vec::new(),
            on_down: OnDown::Close,
            proxy_header: None,
            health: None,
            checks: Vec::new(),
            address: backend.address().map(|address| address.ip()),
            resolve_error: None,
            has_unapplied_results: false,
            damping: Damping::default(),
            damping_resets: backend.damping_resets(),
        }
    }

    /// Whether this is the state of `backend`.
    pub(super) fn monitors(&self, backend: &Arc<Backend>) -> bool {
        Arc::ptr_eq(&self.backend, backend)
    }

    /// The name to resolve, if it is not an address.
    pub(super) fn name(&self) -> Option<&HostName> {
        match &self.server.host {
            ServerHost::Name(name) => Some(name),
            ServerHost::Address(_) => None,
        }
    }

    /// Its scheduled checks, with their indexes; none until its address is known.
    pub(super) fn scheduled_checks(&self) -> impl Iterator<Item = (usize, ScheduledCheck)> {
        let known = self.health.as_ref().zip(self.address);
        known.into_iter().flat_map(move |(health, address)| {
            let scheduled = move |check| ScheduledCheck {
                probe: Probe::new(
                    check,
                    health.timeout,
                    &self.backend.configured(),
                    address,
                    self.proxy_header,
                ),
                interval: health.interval,
            };
            health.checks.iter().map(scheduled).enumerate()
        })
    }

    /// Sets the resolved address. Results at another address do not count; the health stays until the first result.
    pub(super) fn set_address(&mut self, address: IpAddr, events: &HealthEvents) {
        self.use_address(address);
        self.update_health(events);
    }

    fn use_address(&mut self, address: IpAddr) {
        self.resolve_error = None;
        if self.address == Some(address) {
            return;
        }
        self.address = Some(address);
        self.has_unapplied_results = false;
        self.damping = Damping::default();
        for check in &mut self.checks {
            check.state = RiseFall::default();
            check.report = MonitoredCheck::new(&check.check).report;
        }
        for index in 0..self.checks.len() {
            self.report(index);
        }
        self.backend
            .set_address(SocketAddr::new(address, self.server.port));
    }

    /// Sets the error if its name no longer resolves while its last address is used; `None` when it resolves again.
    pub(super) fn set_resolve_error(&self, error: Option<&str>) {
        self.backend.set_resolve_error(error);
    }

    /// Sets the error of a name that has never been resolved.
    pub(super) fn set_unresolved(&mut self, error: &str, events: &HealthEvents) {
        self.resolve_error = Some(error.to_owned());
        self.update_health(events);
    }

    /// Records a first result of the check at `index`, unless it has one.
    pub(super) fn record_first(&mut self, index: usize, finding: &Finding, events: &HealthEvents) {
        if self.checks[index].state.passing().is_none() {
            self.record(index, finding, events);
        }
    }

    /// Records a result of the check at `index`.
    pub(super) fn record(&mut self, index: usize, finding: &Finding, events: &HealthEvents) {
        self.show(index, finding);
        let passed = match finding.result {
            CheckResult::Pass => true,
            CheckResult::Fail => false,
            CheckResult::NotRun => return self.report(index),
        };
        let Some(rule) = self.rule() else {
            return;
        };
        let in_maintenance = self.backend.state() == AdminState::Maintain;
        let check = &mut self.checks[index];
        if in_maintenance {
            self.has_unapplied_results = true;
            check.state = RiseFall::default();
        }
        let before = check.state.passing();
        check.state.add(passed, rule);
        self.report(index);
        let check = &self.checks[index];
        if check.check.decides {
            self.update_damping();
            self.update_health(events);
        } else if before != check.state.passing() && !in_maintenance {
            self.log_observed(index, finding);
        }
    }

    fn rule(&self) -> Option<RiseFallRule> {
        let health = self.health.as_ref()?;
        Some(RiseFallRule {
            rise: health.rise,
            fall: health.fall,
        })
    }

    /// Tells flap damping whether all deciding checks pass.
    fn update_damping(&mut self) {
        let mut deciding = self.checks.iter().filter(|check| check.check.decides);
        if deciding.all(|check| check.report.passing == Some(true)) {
            self.damping.passed(Instant::now());
        } else {
            self.damping.failed();
        }
    }

    /// To be called when its administrative state or other backends of the pool may have changed, or damping has ended.
    pub(super) fn reevaluate(&mut self, events: &HealthEvents) {
        let damping_resets = self.backend.damping_resets();
        let is_reset =
            std::mem::replace(&mut self.damping_resets, damping_resets) != damping_resets;
        if is_reset {
            self.damping.reset();
        }
        if is_reset || self.has_unapplied_results || self.held_out_until().is_some() {
            self.update_health(events);
        }
    }
}

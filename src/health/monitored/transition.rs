//! When the health of a backend changes, and what follows.
//!
//! Owns the change of health, flap damping and the order to end connections. Must not know how results arrive. Invariant: health
//! does not change during maintenance.

use std::time::{Instant, SystemTime};

use tracing::{info, warn};

use super::MonitoredBackend;
use super::check::MonitoredCheck;
use crate::config::model::OnDown;
use crate::health::LOG;
use crate::health::damping::DampingSettings;
use crate::health::events::{HealthChangeEvent, HealthEvents};
use crate::health::rise_fall;
use crate::types::backend_state::{AdminState, Health};
use crate::upstream::backend::{Damped, Deadline, Disconnect};

/// Ends the reason for the health of a backend that is used before its damping is over.
pub const BACK_EARLY: &str = "; back early, because no other backend of the pool is available";

impl MonitoredBackend {
    /// Until when it is held out of rotation although its checks pass.
    pub(in crate::health) fn held_out_until(&self) -> Option<Instant> {
        self.backend.damped().map(|damped| damped.until.at)
    }

    /// Updates the health from the current results.
    pub(in crate::health) fn update_health(&mut self, events: &HealthEvents) {
        if self.backend.state() == AdminState::Maintain {
            return self.set_held_out(None);
        }
        self.has_unapplied_results = false;
        let deciding = || self.checks.iter().filter(|check| check.check.decides);
        let (health, mut why) = match (&self.address, &self.resolve_error) {
            (None, None) => return self.set_held_out(None),
            (None, Some(error)) => (Health::Down, format!("its name does not resolve: {error}")),
            (Some(_), _) => {
                let health = rise_fall::combine(deciding().map(|check| check.state.passing()));
                let explains =
                    |check: &&MonitoredCheck| check.state.passing() == Some(health == Health::Up);
                let reasons: Vec<String> = deciding().filter(explains).map(describe).collect();
                let why = if reasons.is_empty() {
                    "no deciding check".to_owned()
                } else {
                    reasons.join("; ")
                };
                (health, why)
            }
        };
        let comes_back = health == Health::Up && self.backend.health() == Health::Down;
        let until = self.damping_until(Instant::now()).filter(|_| comes_back);
        if until.is_some() && self.has_alternative() {
            return self.set_held_out(until);
        }
        if until.is_some() {
            why += BACK_EARLY;
        }
        self.set_held_out(None);
        // `Unknown`: some deciding checks have no result yet, and the health stays as it is.
        if health != Health::Unknown && health != self.backend.health() {
            self.change_health(health, &why, events);
        }
    }

    /// Until when flap damping holds it out, if its checks keep passing.
    fn damping_until(&self, now: Instant) -> Option<Instant> {
        self.damping.until(now, self.damping_settings()?)
    }

    /// `None` if the pool has no flap damping.
    fn damping_settings(&self) -> Option<DampingSettings> {
        let health = self.health.as_ref()?;
        Some(DampingSettings {
            base: health.interval.saturating_mul(health.rise),
            max: health.damping?,
        })
    }

    fn set_held_out(&self, until: Option<Instant>) {
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
            wall_time: SystemTime::now() + left,
        };
        self.backend.set_damped(Some(Damped { until, falls }));
        if known.is_none() {
            let (pool, backend) = (&*self.backend.pool, &*self.backend.name);
            let seconds = left.as_secs_f64().ceil();
            warn!(target: LOG, pool, backend, falls, seconds, "checks pass, but the backend is held out of rotation (flap damping)");
        }
    }

    /// Counts a failure or a return.
    fn count_change(&mut self, health: Health) {
        let now = Instant::now();
        match (self.backend.health(), health) {
            (Health::Up, Health::Down) => {
                self.backend.metrics.record_fall();
                if let Some(settings) = self.damping_settings() {
                    self.damping.went_down(now, settings);
                }
            }
            (_, Health::Up) => self.damping.came_up(now),
            (_, Health::Down | Health::Unknown) => {}
        }
    }

    fn change_health(&mut self, health: Health, why: &str, events: &HealthEvents) {
        self.count_change(health);
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
        let connections = self.backend.in_flight();
        let disconnects = self.on_down == OnDown::Close && self.has_alternative();
        let action = match self.on_down {
            _ if connections == 0 => "none",
            OnDown::Keep => "kept: on_down is keep",
            OnDown::Close if disconnects => "reset",
            OnDown::Close => "kept: no other backend of the pool is available",
        };
        if disconnects {
            self.backend.disconnect_all(Disconnect::Down);
        }
        warn!(target: LOG, pool, backend, why, connections, action, "backend is down");
    }

    /// Whether another backend of the pool accepts new clients.
    fn has_alternative(&self) -> bool {
        self.pool
            .iter()
            .any(|other| !self.monitors(other) && other.accepts_new() && other.weight() > 0)
    }
}

fn describe(check: &MonitoredCheck) -> String {
    format!("{}: {}", check.report.label, check.report.detail)
}

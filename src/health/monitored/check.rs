//! One check of a monitored backend.
//!
//! Owns its rise-and-fall state and its report. Must not know the health of the backend. Invariant: a changed label or role
//! keeps the results.

use std::time::{Duration, SystemTime};

use crate::config::model::{self, CheckKind};
use crate::health::rise_fall::RiseFall;
use crate::upstream::backend::CheckReport;

/// When an `https` check warns of an expiring certificate, in days: the default of `tls` checks.
const WARN_DAYS_LEFT: u32 = 14;

/// One check of the backend.
#[derive(Clone)]
pub(super) struct MonitoredCheck {
    pub(super) check: model::CheckConfig,
    pub(super) state: RiseFall,
    pub(super) report: CheckReport,
    /// When its expiring certificate was last logged.
    pub(super) warned: Option<SystemTime>,
    /// The last check could not be run.
    pub(super) not_run: bool,
}

impl MonitoredCheck {
    pub(super) fn new(check: &model::CheckConfig) -> Self {
        let now = SystemTime::now();
        Self {
            check: check.clone(),
            state: RiseFall::default(),
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
            not_run: false,
        }
    }

    /// The same check with another label or role; its results stay.
    pub(super) fn renamed(mut self, check: &model::CheckConfig) -> Self {
        self.report.label = check.label.clone();
        self.report.decides = check.decides;
        self.check = check.clone();
        self
    }

    /// Whether both make the same request.
    pub(super) fn is_same_request(&self, check: &model::CheckConfig) -> bool {
        self.check.kind == check.kind && self.check.port == check.port
    }

    pub(super) fn warn_days_left(&self) -> u32 {
        match &self.check.kind {
            CheckKind::Tls { warn_days_left, .. } => *warn_days_left,
            CheckKind::Tcp | CheckKind::Http(_) | CheckKind::Https(_) => WARN_DAYS_LEFT,
        }
    }
}

//! Owns how the result of a check is published: status, metrics and log.
//!
//! Must not know the effect of results on health. Invariant: a warning that remains true is logged at most once a day.

use std::time::{Duration, SystemTime};

use tracing::{debug, info, warn};

use super::MonitoredBackend;
use crate::health::LOG;
use crate::health::probe::{CheckResult, Finding, certificate};

/// How often an expiring certificate is logged.
const WARN_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

impl MonitoredBackend {
    /// Publishes the report of a check to the status.
    pub(super) fn report(&mut self, index: usize) {
        let rule = self.rule();
        let check_state = &mut self.checks[index];
        check_state.report.counts = check_state.state.passing();
        if let Some(rule) = rule {
            (check_state.report.against, check_state.report.needed) =
                check_state.state.progress(rule);
        }
        self.backend.report_check(check_state.report.clone());
    }

    /// Publishes a result to metrics, log and the report.
    pub(super) fn show(&mut self, index: usize, finding: &Finding) {
        let (pool, backend) = (&*self.backend.pool, &*self.backend.name);
        let check_state = &mut self.checks[index];
        let (check, detail) = (&*check_state.check.label, &*finding.detail);
        let now = SystemTime::now();
        let report = &mut check_state.report;
        report.at = now;
        report.took = finding.took;
        report.detail = finding.detail.clone();
        let passing = match finding.result {
            CheckResult::Pass => Some(true),
            CheckResult::Fail => Some(false),
            CheckResult::NotRun => None,
        };
        if let Some(passed) = passing {
            debug!(target: LOG, pool, backend, check, detail, passed, "checked");
            let took = finding.took.as_secs_f64();
            self.backend.metrics.record_check(check, passed, took);
            if report.passing != passing {
                report.since = now;
            }
            report.passing = passing;
        } else if !check_state.not_run {
            warn!(target: LOG, pool, backend, check, detail, "check could not be run, health unchanged");
        }
        check_state.not_run = passing.is_none();
        if let Some(expiry) = finding.certificate_expiry {
            report.certificate_expiry = Some(expiry);
        }
        if finding.certificate_expiry.is_some() {
            self.show_certificate(index, now);
        }
    }

    fn show_certificate(&mut self, index: usize, now: SystemTime) {
        let expiries = self
            .checks
            .iter()
            .map(|check| check.report.certificate_expiry);
        if let Some(earliest) = expiries.flatten().min() {
            self.backend.metrics.set_certificate_expiry(earliest);
        }
        let check_state = &mut self.checks[index];
        let Some(expiry) = check_state.report.certificate_expiry else {
            return;
        };
        let near = certificate::is_near(expiry, now, check_state.warn_days_left());
        let due = check_state.warned.is_none_or(|warned| {
            now.duration_since(warned)
                .is_ok_and(|since| since >= WARN_EVERY)
        });
        if !near {
            check_state.warned = None;
        } else if due {
            check_state.warned = Some(now);
            let (pool, backend) = (&*self.backend.pool, &*self.backend.name);
            let check = &*check_state.check.label;
            let left = certificate::remaining(expiry, now);
            warn!(target: LOG, pool, backend, check, left, "certificate expires soon");
        }
    }

    pub(super) fn log_observed(&self, index: usize, finding: &Finding) {
        let (pool, backend) = (&*self.backend.pool, &*self.backend.name);
        let check = &*self.checks[index].check.label;
        let detail = &*finding.detail;
        match finding.result {
            CheckResult::Fail => {
                warn!(target: LOG, pool, backend, check, detail, "observed check fails");
            }
            CheckResult::Pass | CheckResult::NotRun => {
                info!(target: LOG, pool, backend, check, detail, "observed check passes");
            }
        }
    }
}

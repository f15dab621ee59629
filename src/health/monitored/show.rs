//! Owns what becomes of a check's result in status, metrics and log.
//!
//! Must not know what results do to health. Invariant: a warning that stays true is not told more than once a day.

use std::time::{Duration, SystemTime};

use tracing::{debug, info, warn};

use super::MonitoredBackend;
use crate::health::LOG;
use crate::health::probe::{CheckResult, Finding, certificate};

/// How often a certificate near its end is warned of.
const WARN_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

impl MonitoredBackend {
    /// Brings what is known of a check to the status.
    pub(super) fn report(&mut self, place: usize) {
        let rule = self.rule();
        let watch = &mut self.checks[place];
        watch.report.counts = watch.judge.verdict();
        if let Some(rule) = rule {
            (watch.report.against, watch.report.needed) = watch.judge.progress(rule);
        }
        self.backend.report_check(watch.report.clone());
    }

    /// Brings the result to metrics and log, and to the report.
    pub(super) fn show(&mut self, place: usize, finding: &Finding) {
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

    pub(super) fn log_observed(&self, place: usize, finding: &Finding) {
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

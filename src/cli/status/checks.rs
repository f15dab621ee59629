//! Lines about the checks and certificates of a backend.
//!
//! Owns which of them are shown. Invariant: nothing that came over the network reaches the terminal as a control sequence.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use crate::admin::view::{BackendView, CheckView};
use crate::cli::table::{ago, printable};
use crate::types::timestamp::short_duration;

/// A certificate is shown if it expires within this time.
const EXPIRES_SOON: Duration = Duration::from_secs(14 * 86_400);

/// Checks that fail or are about to change, and certificates that expire soon.
pub(super) fn checks(backend: &BackendView, now: SystemTime) -> String {
    let mut text = String::new();
    for check in &backend.checks {
        if check.passing == Some(false) || (check.decides && check.against > 0) {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "  {}", check_line(backend, check, now));
        }
        if let Some(end) = check.certificate_expiry {
            let name = printable(&backend.name);
            let label = printable(&check.label);
            let _ = match end.0.duration_since(now) {
                Ok(left) if left > EXPIRES_SOON => continue,
                Ok(left) => writeln!(
                    text,
                    "  {name}: certificate seen by check {label} expires in {}",
                    short_duration(left)
                ),
                Err(expired) => writeln!(
                    text,
                    "  {name}: certificate seen by check {label} expired {} ago",
                    short_duration(expired.duration())
                ),
            };
        }
    }
    text
}

fn check_line(backend: &BackendView, check: &CheckView, now: SystemTime) -> String {
    let passes = check.passing == Some(true);
    let progress = match (check.decides && check.against > 0, passes) {
        (false, _) => String::new(),
        (true, false) => format!(
            ", {} of {} until it counts as failing",
            check.against, check.needed
        ),
        (true, true) => format!(
            ", {} of {} until it counts as passing",
            check.against, check.needed
        ),
    };
    format!(
        "{}: {} check {} {} for {}{progress}: {}",
        printable(&backend.name),
        if check.decides {
            "deciding"
        } else {
            "observing"
        },
        printable(&check.label),
        if passes { "passes" } else { "fails" },
        ago(check.since, now),
        printable(&check.detail)
    )
}

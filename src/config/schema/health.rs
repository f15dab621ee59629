//! `health`: how a pool's backends are checked.
//!
//! Owns its keys, defaults and ranges. Must not know the kinds of check. Invariant: without an error, there is at least
//! one check, and the timeout is not longer than the interval.

use std::time::Duration;

use super::check::{self, CheckSettings, labelled};
use super::format::{DurationRange, NumberRange, OrNone};
use super::mapping::{Mapping, MappingKey::Special, plain};
use super::page::YamlPage;
use super::section::{Section, is_mapping_or_none};
use crate::config::diagnostics::{Diagnostic, Diagnostics, FileLocation};
use crate::config::model::{CheckKind, HealthSettings};
use crate::config::scalar::print_duration;
use crate::config::source::location::Located;

/// From one check to the next.
const INTERVAL: DurationRange = DurationRange::from_ms_to_hours(10, 24);
/// Consecutive results.
const CONSECUTIVE: NumberRange = NumberRange { min: 1, max: 1000 };

/// The keys of `health`.
pub(crate) static HEALTH: Mapping<HealthSettings> = Mapping {
    path: "pools.NAME.health",
    keys: &[
        plain!(HealthSettings, interval: INTERVAL),
        plain!(HealthSettings, timeout: INTERVAL),
        plain!(HealthSettings, rise: CONSECUTIVE),
        plain!(HealthSettings, fall: CONSECUTIVE),
        plain!(HealthSettings, damping: OrNone(INTERVAL)),
        Special("checks"),
    ],
};

/// The default: the traffic's port accepts connections.
pub(super) fn default() -> HealthSettings {
    HealthSettings {
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(2),
        rise: 2,
        fall: 3,
        damping: Some(Duration::from_secs(5 * 60)),
        checks: labelled(vec![CheckSettings::new(CheckKind::Tcp)]),
    }
}

/// Parses `health` of a pool whose name is at `pool_at`. The location is that of the key or, by default, of the name.
pub(super) fn parse(
    pool: &Section<'_>,
    pool_at: FileLocation,
    diagnostics: &mut Diagnostics,
) -> Located<Option<HealthSettings>> {
    let mut health = default();
    let Some(entry) = pool.get("health") else {
        return Located::new(Some(health), pool_at);
    };
    if !is_mapping_or_none(entry, diagnostics) {
        return Located::new(None, entry.at);
    }
    let section = HEALTH.open(entry.node, "`health`", entry.at, diagnostics);
    let locations = HEALTH.read(&section, &mut health, diagnostics);
    let is_invalid = |key| section.get(key).is_some() && locations.of(key).is_none();
    if health.timeout > health.interval && !is_invalid("interval") && !is_invalid("timeout") {
        let at = locations.of("timeout").or(locations.of("interval"));
        let (timeout, interval) = (health.timeout, health.interval);
        let (timeout, interval) = (print_duration(timeout), print_duration(interval));
        let message = format!("`timeout` ({timeout}) is longer than `interval` ({interval})");
        let hint = "a check must end before the next one begins";
        diagnostics.error(Diagnostic::new(at.unwrap_or(entry.at), message).hint(hint));
    }
    if let Some(checks) = check::parse_list(&section, diagnostics) {
        health.checks = checks;
    }
    Located::new(Some(health), entry.at)
}

/// Prints `health`.
pub(super) fn print(page: &mut YamlPage, health: &HealthSettings) {
    page.line(2, "health:");
    HEALTH.print(page, 3, health, |page, key| {
        page.line(3, format_args!("{key}:"));
        for check in &health.checks {
            check::print(page, check);
        }
    });
}

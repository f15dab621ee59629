//! `timeouts`: time limits.
//!
//! Owns their keys, defaults and ranges. Must not know what they are used for. Invariant: every value is within the range
//! of the kernel calls that use it.

use std::time::Duration;

use super::format::{DurationRange, WholeSeconds};
use super::mapping::{Locations, Mapping, plain};
use super::page::YamlPage;
use super::section::Section;
use crate::config::diagnostics::Diagnostics;
use crate::config::model::Timeouts;

/// The range of most timeouts.
const WAIT: DurationRange = DurationRange::from_ms_to_hours(10, 720);
/// A drain or a shutdown may be immediate.
const WAIT_OR_ZERO: DurationRange = DurationRange::from_ms_to_hours(0, 720);
/// tcp(7): `TCP_KEEPIDLE` accepts whole seconds up to 32767.
const KEEPALIVE: WholeSeconds = WholeSeconds(DurationRange {
    min: Duration::from_secs(1),
    max: Duration::from_secs(32767),
});
/// tcp(7): `TCP_USER_TIMEOUT` accepts milliseconds in 32 bits; 0 is the kernel's default.
const USER_TIMEOUT: DurationRange = DurationRange::from_ms_to_hours(10, 24);

/// The keys of `timeouts`.
pub(crate) static TIMEOUTS: Mapping<Timeouts> = Mapping {
    path: "timeouts",
    keys: &[
        plain!(Timeouts, client_hello: WAIT),
        plain!(Timeouts, connect: WAIT),
        plain!(Timeouts, idle: WAIT),
        plain!(Timeouts, half_close: WAIT),
        plain!(Timeouts, drain: WAIT_OR_ZERO),
        plain!(Timeouts, shutdown: WAIT_OR_ZERO),
        plain!(Timeouts, tcp_keepalive: KEEPALIVE),
        plain!(Timeouts, tcp_user: USER_TIMEOUT),
    ],
};

/// The defaults.
pub(crate) const DEFAULT: Timeouts = Timeouts {
    client_hello: Duration::from_secs(5),
    connect: Duration::from_secs(4),
    // The long polls of Lync clients last up to 1800 s.
    idle: Duration::from_secs(1900),
    half_close: Duration::from_secs(60),
    drain: Duration::from_secs(15 * 60),
    shutdown: Duration::from_secs(10),
    tcp_keepalive: Duration::from_secs(60),
    tcp_user: Duration::from_secs(60),
};

/// Time limits, with the locations that warnings refer to.
#[derive(Debug)]
pub(crate) struct ParsedTimeouts {
    /// The limits.
    pub values: Timeouts,
    /// Where the file sets them.
    pub locations: Locations,
}

/// Parses `timeouts`.
pub(super) fn parse(root: &Section<'_>, diagnostics: &mut Diagnostics) -> ParsedTimeouts {
    let mut values = DEFAULT;
    let section = TIMEOUTS.open_key(root, "timeouts", diagnostics);
    let locations = section.map(|section| TIMEOUTS.read(&section, &mut values, diagnostics));
    ParsedTimeouts {
        values,
        locations: locations.unwrap_or_default(),
    }
}

/// Prints `timeouts`.
pub(super) fn print(page: &mut YamlPage, timeouts: &Timeouts) {
    page.line(0, "timeouts:");
    TIMEOUTS.print(page, 1, timeouts, |_, _| {});
}

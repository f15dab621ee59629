//! `limits`: connection limits of the whole process.
//!
//! Owns their keys and defaults. Must not know how many file descriptors there are. Invariant: a limit is at least 1, or
//! absent.

use super::format::{Limit, OrAuto};
use super::mapping::{Mapping, plain};
use super::page::YamlPage;
use super::section::Section;
use crate::config::diagnostics::{Diagnostics, FileLocation};
use crate::config::model::LimitSettings;

/// The keys of `limits`.
pub(crate) static LIMITS: Mapping<LimitSettings> = Mapping {
    path: "limits",
    keys: &[
        plain!(LimitSettings, connections: OrAuto::LIMIT),
        plain!(LimitSettings, per_source: Limit),
        plain!(LimitSettings, new_per_source_per_second: Limit),
    ],
};

/// The defaults: unlimited.
pub(crate) const DEFAULT: LimitSettings = LimitSettings {
    connections: None,
    per_source: None,
    new_per_source_per_second: None,
};

/// Connection limits, with the location that a warning refers to.
#[derive(Debug)]
pub(crate) struct ParsedLimits {
    /// The limits.
    pub values: LimitSettings,
    /// The location of `connections`, or the start of the file.
    pub connections_at: FileLocation,
}

/// Parses `limits`.
pub(super) fn parse(root: &Section<'_>, diagnostics: &mut Diagnostics) -> ParsedLimits {
    let mut values = DEFAULT;
    let section = LIMITS.open_key(root, "limits", diagnostics);
    let locations = section.map(|section| LIMITS.read(&section, &mut values, diagnostics));
    let connections_at = locations.and_then(|locations| locations.of("connections"));
    ParsedLimits {
        values,
        connections_at: connections_at.unwrap_or(FileLocation::START),
    }
}

/// Prints `limits`.
pub(super) fn print(page: &mut YamlPage, limits: &LimitSettings) {
    page.line(0, "limits:");
    LIMITS.print(page, 1, limits, |_, _| {});
}

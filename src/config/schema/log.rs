//! `log`: the log on standard error.
//!
//! Owns its keys and defaults. Must not know what is logged. Invariant: every combination of values is valid.

use super::format::{Boolean, Choice};
use super::mapping::{Mapping, plain};
use super::page::YamlPage;
use super::section::Section;
use crate::config::diagnostics::Diagnostics;
use crate::config::model::{ClientAddress, LogFormat, LogSettings};

const FORMATS: Choice<LogFormat> = Choice(&[("text", LogFormat::Text), ("json", LogFormat::Json)]);
const CLIENT_ADDRESSES: Choice<ClientAddress> = Choice(&[
    ("full", ClientAddress::Full),
    ("prefix", ClientAddress::Prefix),
]);

/// The keys of `log`.
pub(crate) static LOG: Mapping<LogSettings> = Mapping {
    path: "log",
    keys: &[
        plain!(LogSettings, format: FORMATS),
        plain!(LogSettings, access: Boolean),
        plain!(LogSettings, client_address: CLIENT_ADDRESSES),
    ],
};

/// The defaults.
pub(crate) const DEFAULT: LogSettings = LogSettings {
    format: LogFormat::Text,
    access: true,
    client_address: ClientAddress::Full,
};

/// Parses `log`.
pub(super) fn parse(root: &Section<'_>, diagnostics: &mut Diagnostics) -> LogSettings {
    let mut log = DEFAULT;
    if let Some(section) = LOG.open_key(root, "log", diagnostics) {
        LOG.read(&section, &mut log, diagnostics);
    }
    log
}

/// Prints `log`.
pub(super) fn print(page: &mut YamlPage, log: &LogSettings) {
    page.line(0, "log:");
    LOG.print(page, 1, log, |_, _| {});
}

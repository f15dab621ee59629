//! Warnings: settings that are valid but probably unintended.
//!
//! Owns the warnings of `check`. Must not reject anything. Invariant: every warning has a location and a hint on how to
//! avoid it, and a configuration that does what it looks like has none.

mod listeners;
mod pools;

use std::num::NonZeroUsize;
use std::time::Duration;

use super::capacity::{Capacity, DESCRIPTORS_PER_CONNECTION, DescriptorUses, FEW_CONNECTIONS};
use super::diagnostics::{self, Diagnostic, Diagnostics};
use super::model::{Config, NamePattern};
use super::scalar::print_duration;
use super::schema::ParsedFile;
use super::schema::listener::ParsedListener;
use super::{Lint, Loaded};
use crate::types::timestamp::pluralized;

/// Descriptors reserved for everything but connections: listening sockets, checks, the admin listener, pipes.
pub const DESCRIPTORS_RESERVED: u64 = 256;

/// The longest duration of a UCWA long poll.
const LONG_POLL: Duration = Duration::from_secs(1800);
/// The time limit of all connect attempts together.
const ALL_CONNECTS: Duration = Duration::from_secs(10);

/// The warnings of a file, and those that depend on the process' descriptor limit.
#[must_use]
pub fn lint(loaded: &Loaded, descriptors: u64) -> Vec<Lint> {
    let mut lints = loaded.lints.clone();
    let found = match loaded.config.limits.connections {
        Some(connections) => too_many_connections(connections, descriptors),
        None => few_connections(&loaded.config, descriptors),
    };
    if let Some((message, hint)) = found {
        let lint = Diagnostic::new(loaded.connections_at, message).hint(hint);
        lints.extend(diagnostics::lints(vec![lint], &loaded.source));
    }
    lints.sort_by_key(|lint| (lint.as_error().line, lint.as_error().column));
    lints
}

fn too_many_connections(connections: u32, descriptors: u64) -> Option<(String, &'static str)> {
    let needed = u64::from(connections) * DESCRIPTORS_PER_CONNECTION + DESCRIPTORS_RESERVED;
    let need = if connections == 1 {
        "1 connection needs".to_owned()
    } else {
        format!("{connections} connections need")
    };
    let message = format!("{need} {needed} descriptors, but the process' limit is {descriptors}");
    let hint = "raise the limit (LimitNOFILE=, ulimit -n), or write `auto`";
    (needed > descriptors).then_some((message, hint))
}

/// Assumes the configured number of workers, or one: more workers leave less for connections.
fn few_connections(config: &Config, descriptors: u64) -> Option<(String, &'static str)> {
    let workers = config.workers.map_or(1, NonZeroUsize::get);
    let binds = config.listeners.iter().map(|listener| listener.bind.len());
    let uses = DescriptorUses {
        listening: binds.sum::<usize>() * workers,
        workers,
        pipes: 0,
    };
    let Capacity { connections, .. } = Capacity::of(descriptors, uses, None);
    let max = pluralized(connections.into(), "connection");
    let message = format!("the process' limit of {descriptors} descriptors allows only {max}");
    let hint = "raise the limit (LimitNOFILE=, ulimit -n)";
    (connections < FEW_CONNECTIONS).then_some((message, hint))
}

/// Adds every warning that the file alone shows.
pub(super) fn find(parsed: &ParsedFile, config: &Config, diagnostics: &mut Diagnostics) {
    timeouts(parsed, diagnostics);
    for (listener, validated) in parsed.listeners.iter().zip(&config.listeners) {
        listeners::find(listener, &validated.pools(), config, diagnostics);
    }
    pools::find(&parsed.pools, config, diagnostics);
}

fn timeouts(parsed: &ParsedFile, diagnostics: &mut Diagnostics) {
    let timeouts = &parsed.timeouts.values;
    let location = |key| parsed.timeouts.locations.of(key);
    let lync = parsed.listeners.iter().find(|listener| is_lync(listener));
    if let (Some(at), Some(listener)) = (location("idle"), lync)
        && timeouts.idle < LONG_POLL
    {
        let idle = print_duration(timeouts.idle);
        let name = &listener.config.name;
        let message =
            format!("`idle` ({idle}) ends the long polls of Lync clients on listener `{name}`");
        let hint = "they last up to 1800s; the default is 1900s";
        diagnostics.lint(Diagnostic::new(at, message).hint(hint));
    }
    if let Some(at) = location("connect")
        && timeouts.connect > ALL_CONNECTS
    {
        let message = "`connect` is longer than the 10s that all attempts together may take";
        let hint = "with a few seconds there is time to try another backend";
        diagnostics.lint(Diagnostic::new(at, message).hint(hint));
    }
}

/// Whether a listener belongs to the short form, or routes the name by which Lync clients find their services.
fn is_lync(listener: &ParsedListener) -> bool {
    let names = listener.routes.iter().flat_map(|route| &route.names);
    let mut names = names.map(|name| match &name.value {
        NamePattern::Exact(name) | NamePattern::Suffix(name) => name.as_str(),
    });
    listener.from_short_form || names.any(|name| name.starts_with("lyncdiscover."))
}

//! What stands beside listeners and pools: bounds, workers, admin listener, log.
//!
//! Owns their keys and bounds. Must not know of listeners and pools. Invariant: every value is within what the kernel
//! calls behind it take.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::health::boolean;
use super::{duration, number};
use crate::config::defaults::{LOG as DEFAULT_LOG, TIMEOUTS as DEFAULT_TIMEOUTS, admin_bind};
use crate::config::diagnostics::{FileLocation, Note, Notes};
use crate::config::keys::{ADMIN, LIMITS, LOG, TIMEOUTS};
use crate::config::model::{ClientAddress, LimitSettings, LogFormat, LogSettings};
use crate::config::scalar::Parsed;
use crate::config::scalar::{self, ADMIN_BIND, print_duration};
use crate::config::section::{Section, integer, word_meant};
use crate::config::tree::{Inferred, NodeKind, Scalar};
use crate::config::written::{At, WrittenAdmin, WrittenTimeouts};
use crate::types::host_name::HostName;

/// The bounds of most durations.
const WAIT: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(720 * 3600));
/// A drain or shutdown may be told not to wait at all.
const WAIT_OR_NOT: (Duration, Duration) = (Duration::ZERO, Duration::from_secs(720 * 3600));
/// tcp(7): `TCP_KEEPIDLE` takes whole seconds up to 32767.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(32767));
/// tcp(7): `TCP_USER_TIMEOUT` takes milliseconds in 32 bits; the kernel means "the default" by 0.
const USER_TIMEOUT: (Duration, Duration) =
    (Duration::from_millis(10), Duration::from_secs(24 * 3600));
/// The most that a bound in 32 bits can name.
const MAX_COUNT: u64 = u32::MAX as u64;
/// The most workers.
const MAX_WORKERS: u64 = 1024;

/// Reads `timeouts`.
pub(super) fn timeouts(root: &Section<'_>, notes: &mut Notes) -> WrittenTimeouts {
    let mut values = DEFAULT_TIMEOUTS;
    let Some(section) = root.section("timeouts", TIMEOUTS, notes) else {
        return WrittenTimeouts {
            values,
            idle_at: None,
            connect_at: None,
        };
    };
    let mut read = |key, bounds, value: &mut Duration| {
        let found = duration(&section, key, bounds, notes)?;
        *value = found.value;
        Some(found.at)
    };
    read("client_hello", WAIT, &mut values.client_hello);
    let connect_at = read("connect", WAIT, &mut values.connect);
    let idle_at = read("idle", WAIT, &mut values.idle);
    read("half_close", WAIT, &mut values.half_close);
    read("drain", WAIT_OR_NOT, &mut values.drain);
    read("shutdown", WAIT_OR_NOT, &mut values.shutdown);
    let keepalive_at = read("tcp_keepalive", KEEPALIVE, &mut values.tcp_keepalive);
    read("tcp_user", USER_TIMEOUT, &mut values.tcp_user);
    if let Some(at) = keepalive_at.filter(|_| values.tcp_keepalive.subsec_nanos() != 0) {
        let shown = print_duration(values.tcp_keepalive);
        notes.fault(Note::new(
            at,
            format!("`tcp_keepalive` takes whole seconds, not `{shown}`"),
        ));
    }
    WrittenTimeouts {
        values,
        idle_at,
        connect_at,
    }
}

/// Reads `limits`; the place is that of `connections`.
pub(super) fn limits(root: &Section<'_>, notes: &mut Notes) -> At<LimitSettings> {
    let none = LimitSettings {
        connections: None,
        per_source: None,
        new_per_source_per_second: None,
    };
    let Some(section) = root.section("limits", LIMITS, notes) else {
        return At::new(none, FileLocation::START);
    };
    let takes = format!("`auto` or a whole number up to {MAX_COUNT}");
    let connections = section.optional("connections", &takes, notes, |scalar| match scalar.is {
        Inferred::Integer(0) => Ok(None),
        Inferred::Integer(_) | Inferred::Text | Inferred::Bool(_) | Inferred::Float => {
            auto_or(scalar, MAX_COUNT)
        }
    });
    let at = connections
        .as_ref()
        .map_or(FileLocation::START, |found| found.at);
    let mut bound = |key| {
        let found = number::<u32>(&section, key, (0, MAX_COUNT), notes);
        found.map(|found| found.value).filter(|most| *most != 0)
    };
    let limits = LimitSettings {
        connections: connections
            .and_then(|found| found.value)
            .and_then(|most| u32::try_from(most).ok()),
        per_source: bound("per_source"),
        new_per_source_per_second: bound("new_per_source_per_second"),
    };
    At::new(limits, at)
}

/// `auto`, which is `None`, or a number of at least 1.
fn auto_or(scalar: &Scalar, most: u64) -> Parsed<Option<u64>> {
    if scalar.text == "auto" {
        Ok(None)
    } else {
        let number = integer(scalar, 1, most).map(Some);
        number.map_err(|hint| hint.or_else(|| word_meant(&scalar.text, &["auto"])))
    }
}

/// Reads `workers`.
pub(super) fn workers(root: &Section<'_>, notes: &mut Notes) -> Option<NonZeroUsize> {
    let takes = format!("`auto` or a whole number from 1 to {MAX_WORKERS}");
    let workers = root.optional("workers", &takes, notes, |scalar| {
        auto_or(scalar, MAX_WORKERS)
    });
    let workers = workers.and_then(|found| found.value)?;
    usize::try_from(workers).ok().and_then(NonZeroUsize::new)
}

/// Reads `admin`.
pub(super) fn admin(root: &Section<'_>, notes: &mut Notes) -> WrittenAdmin {
    let default = At::new(admin_bind(), FileLocation::START);
    let Some(section) = root.section("admin", ADMIN, notes) else {
        return WrittenAdmin {
            bind: Some(default),
            bind_is_default: true,
            metrics_bind: None,
            token_file: None,
            has_token_file: false,
            hosts: Vec::new(),
        };
    };
    let bind = |scalar: &Scalar| scalar::admin_bind(&scalar.text);
    let bind_is_default = section.get("bind").is_none();
    let found = section.optional("bind", ADMIN_BIND, notes, bind);
    let file = |scalar: &Scalar| scalar::file_path(&scalar.text);
    let token_file = section.get("token_file");
    WrittenAdmin {
        bind: if bind_is_default {
            Some(default)
        } else {
            found
        },
        bind_is_default,
        metrics_bind: section.nullable("metrics_bind", ADMIN_BIND, notes, bind),
        token_file: section
            .nullable("token_file", "the path of a file", notes, file)
            .map(|found| found.value),
        has_token_file: token_file.is_some_and(|entry| entry.node.kind != NodeKind::Null),
        hosts: hosts(&section, notes),
    }
}

/// Names under which the admin listener may be asked, each once.
fn hosts(section: &Section<'_>, notes: &mut Notes) -> Vec<HostName> {
    let found = section.list("hosts", "host names", notes, |scalar| {
        scalar::host_name(&scalar.text)
    });
    let mut hosts: Vec<At<HostName>> = Vec::new();
    for host in found.unwrap_or_default() {
        if let Some(first) = hosts.iter().find(|known| known.value == host.value) {
            let hint = format!("the first is in line {}", first.at.line);
            let message = format!("`hosts` has `{}` twice", host.value);
            notes.fault(Note::new(host.at, message).hint(hint));
        } else {
            hosts.push(host);
        }
    }
    hosts.into_iter().map(|host| host.value).collect()
}

/// Reads `log`.
pub(super) fn log(root: &Section<'_>, notes: &mut Notes) -> LogSettings {
    let default = DEFAULT_LOG;
    let Some(section) = root.section("log", LOG, notes) else {
        return default;
    };
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let addresses = [
        ("full", ClientAddress::Full),
        ("prefix", ClientAddress::Prefix),
    ];
    let format = section.word("format", &formats, notes);
    let client_address = section.word("client_address", &addresses, notes);
    LogSettings {
        format: format.map_or(default.format, |found| found.value),
        access: section.value(
            "access",
            default.access,
            "`true` or `false`",
            notes,
            boolean,
        ),
        client_address: client_address.map_or(default.client_address, |found| found.value),
    }
}

//! A pool's health as written.
//!
//! Owns the keys of `pools.NAME.health` and of its checks. Must not know of backends. Invariant: what comes out without
//! a fault has at least one check, and a timeout that is no longer than the interval.

use std::collections::HashSet;
use std::time::Duration;

use super::{duration, filled, is_section_or_none, not_empty, number, port};
use crate::config::defaults::{WARN_DAYS_LEFT, default_health, labelled};
use crate::config::diagnostics::{FileLocation, Note, Notes};
use crate::config::keys::{CHECK, HEALTH, HTTP_CHECK, HTTPS_CHECK, TCP_CHECK, TLS_CHECK};
use crate::config::list::items;
use crate::config::model::{CheckConfig, CheckKind, HealthSettings, HttpCheck};
use crate::config::scalar::Parsed;
use crate::config::scalar::{self, HOST_NAME, print_duration};
use crate::config::section::{Section, SectionEntry, integer, word_meant};
use crate::config::tree::{Inferred, Node, NodeKind, Scalar};
use crate::config::written::At;

/// From one check to the next.
const INTERVAL: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(24 * 3600));
/// Results in a row.
const IN_A_ROW: (u64, u64) = (1, 1000);
/// Days before a certificate ends.
const DAYS: (u64, u64) = (0, 3650);
/// The longest path of a request.
const MAX_PATH: usize = 2048;

/// Reads `health` of a pool whose name stands at `pool_at`.
pub(super) fn read(
    pool: &Section<'_>,
    pool_at: FileLocation,
    notes: &mut Notes,
) -> At<Option<HealthSettings>> {
    let default = default_health();
    let Some(entry) = pool.get("health") else {
        return At::new(Some(default), pool_at);
    };
    if matches!(&entry.node.kind, NodeKind::Scalar(scalar) if scalar.text == "none") {
        return At::new(None, entry.at);
    }
    if !is_section_or_none(entry, notes) {
        return At::new(None, entry.at);
    }
    let section = Section::open(entry.node, HEALTH, "`health`", entry.at, notes);
    let (interval, timeout) = interval_and_timeout(&section, &default, entry.at, notes);
    let rise = number(&section, "rise", IN_A_ROW, notes);
    let fall = number(&section, "fall", IN_A_ROW, notes);
    let health = HealthSettings {
        interval,
        timeout,
        rise: rise.map_or(default.rise, |found| found.value),
        fall: fall.map_or(default.fall, |found| found.value),
        damping: damping(&section, default.damping, notes),
        checks: checks(&section, notes).unwrap_or(default.checks),
    };
    At::new(Some(health), entry.at)
}

fn interval_and_timeout(
    section: &Section<'_>,
    default: &HealthSettings,
    at: FileLocation,
    notes: &mut Notes,
) -> (Duration, Duration) {
    let interval = duration(section, "interval", INTERVAL, notes);
    let timeout = duration(section, "timeout", INTERVAL, notes);
    let faulty = |key, found: &Option<_>| found.is_none() && section.get(key).is_some();
    let unsure = faulty("interval", &interval) || faulty("timeout", &timeout);
    let place = timeout
        .as_ref()
        .or(interval.as_ref())
        .map_or(at, |found| found.at);
    let interval = interval.map_or(default.interval, |found| found.value);
    let timeout = timeout.map_or(default.timeout, |found| found.value);
    if timeout > interval && !unsure {
        let (timeout, interval) = (print_duration(timeout), print_duration(interval));
        let message = format!("`timeout` ({timeout}) is longer than `interval` ({interval})");
        notes.fault(Note::new(place, message).hint("a check ends before the next begins"));
    }
    (interval, timeout)
}

/// `none`, or the longest that a backend may be kept out.
fn damping(
    section: &Section<'_>,
    default: Option<Duration>,
    notes: &mut Notes,
) -> Option<Duration> {
    let (least, most) = INTERVAL;
    let takes = format!(
        "`none`, or a duration from {} to {}",
        print_duration(least),
        print_duration(most)
    );
    let found = section.optional("damping", &takes, notes, |scalar| {
        if scalar.text == "none" {
            return Ok(None);
        }
        let value = scalar::duration(&scalar.text, |value| (least..=most).contains(&value));
        value
            .map(Some)
            .map_err(|hint| word_meant(&scalar.text, &["none"]).or(hint))
    });
    found.map_or(default, |found| found.value)
}

fn checks(section: &Section<'_>, notes: &mut Notes) -> Option<Vec<CheckConfig>> {
    let entry = section.get("checks")?;
    not_empty(
        entry,
        "leave it out for one tcp check, or write `health: none`",
        notes,
    );
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    for item in items(entry, "checks", notes, &mut |_| Err(None))? {
        let Some(check) = check(item, notes) else {
            continue;
        };
        if !seen.insert(check.clone()) {
            notes.lint(Note::new(item.at, "the same check stands twice"));
        }
        found.push(check);
    }
    Some(labelled(found))
}

fn check(node: &Node, notes: &mut Notes) -> Option<(CheckKind, Option<u16>, bool)> {
    let kinds = ["tcp", "tls", "http", "https"];
    if let NodeKind::Scalar(Scalar { text, .. }) = &node.kind
        && kinds.contains(&text.as_str())
    {
        let message = format!("a check takes a mapping of keys, not `{text}`");
        notes.fault(Note::new(node.at, message).hint(format!("write `{text}: {{}}`")));
        return None;
    }
    let before = notes.faults.len();
    let section = Section::open(node, CHECK, "a check", node.at, notes);
    let decides = section.value("decides", true, "`true` or `false`", notes, boolean);
    let asked: Vec<SectionEntry<'_>> = kinds.iter().filter_map(|kind| section.get(kind)).collect();
    match asked.as_slice() {
        [entry] => {
            let (kind, port) = ask(*entry, notes);
            Some((kind, port, decides))
        }
        [] if notes.faults.len() > before => None,
        [] => {
            notes.fault(Note::new(
                node.at,
                "a check needs one of `tcp`, `tls`, `http` and `https`",
            ));
            None
        }
        [first, second, ..] => {
            let message = format!(
                "a check cannot be both `{}` and `{}`",
                first.name, second.name
            );
            notes.fault(Note::new(second.at, message).hint("begin a second check with `- `"));
            None
        }
    }
}

fn ask(entry: SectionEntry<'_>, notes: &mut Notes) -> (CheckKind, Option<u16>) {
    let keys = match entry.name {
        "tcp" => TCP_CHECK,
        "tls" => TLS_CHECK,
        "http" => HTTP_CHECK,
        _ => HTTPS_CHECK,
    };
    let what = format!("`{}`", entry.name);
    let section = Section::open(entry.node, keys, &what, entry.at, notes);
    let kind = match entry.name {
        "tcp" => CheckKind::Tcp,
        "tls" => {
            let days = number(&section, "warn_days_left", DAYS, notes);
            let name = |scalar: &Scalar| scalar::host_name(&scalar.text);
            CheckKind::Tls {
                name: section
                    .nullable("name", HOST_NAME, notes, name)
                    .map(|found| found.value),
                warn_days_left: days.map_or(WARN_DAYS_LEFT, |found| found.value),
            }
        }
        "http" => CheckKind::Http(request(&section, notes)),
        _ => CheckKind::Https(request(&section, notes)),
    };
    (kind, port(&section, "port", notes).map(|found| found.value))
}

fn request(section: &Section<'_>, notes: &mut Notes) -> HttpCheck {
    let host = |scalar: &Scalar| scalar::host_name(&scalar.text);
    let takes = "statuses from 100 to 599";
    let status = filled(section, "status", takes, notes, |scalar| {
        u16::try_from(integer(scalar, 100, 599)?).map_err(|_| None)
    });
    HttpCheck {
        path: section.value(
            "path",
            "/".to_owned(),
            "a path such as `/health`",
            notes,
            path,
        ),
        host: section
            .nullable("host", HOST_NAME, notes, host)
            .map(|found| found.value),
        status: status.map_or_else(
            || vec![200],
            |status| status.into_iter().map(|found| found.value).collect(),
        ),
    }
}

fn path(scalar: &Scalar) -> Parsed<String> {
    let text = &scalar.text;
    if text.len() > MAX_PATH {
        return Err(Some(format!("a path has at most {MAX_PATH} bytes")));
    }
    if !text.starts_with('/') {
        return Err(Some("a path begins with `/`".into()));
    }
    if !text
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'#')
    {
        return Err(Some(
            "write spaces and other such characters as `%20`".into(),
        ));
    }
    Ok(text.clone())
}

/// `true` or `false`.
pub(super) fn boolean(scalar: &Scalar) -> Parsed<bool> {
    match (scalar.is, scalar.text.as_str()) {
        (Inferred::Bool(value), _) => Ok(value),
        (_, "true" | "false") => Err(Some("write it without quotes".into())),
        (_, text) => Err(match text.to_ascii_lowercase().as_str() {
            "yes" | "on" | "y" | "true" | "1" => Some("write `true`".into()),
            "no" | "off" | "n" | "false" | "0" | "none" => Some("write `false`".into()),
            _ => None,
        }),
    }
}

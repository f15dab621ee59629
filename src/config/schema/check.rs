//! `checks[]`: the health checks of a pool.
//!
//! Owns the kinds of check, their keys, defaults and labels. Must not know how a check is run. Invariant: labels are unique
//! in a pool.

use std::collections::{HashMap, HashSet};

#[cfg(test)]
use proptest::prelude::*;

#[cfg(test)]
use super::format::ValueFormat;
use super::format::{Boolean, Custom, HostNameFormat, NumberRange, Port, Text, ValueParser};
use super::list::items;
use super::mapping::{Mapping, MappingKey::Special, plain};
use super::page::{YamlPage, text};
use super::section::{Section, SectionEntry, not_empty};
use crate::config::diagnostics::{Diagnostic, Diagnostics};
use crate::config::model::{CheckConfig, CheckKind, HttpCheck};
use crate::config::scalar::Parsed;
use crate::config::source::tree::{Node, NodeKind, Scalar};

/// The keys of a check: one of its kinds, and `decides`.
pub(crate) static CHECK: Mapping<CheckSettings> = Mapping {
    path: "pools.NAME.health.checks[]",
    keys: &[
        Special("tcp"),
        Special("tls"),
        Special("http"),
        Special("https"),
        plain!(CheckSettings, decides: Boolean),
    ],
};

/// The keys of a check that connects.
static TCP_CHECK: Mapping = Mapping {
    path: "pools.NAME.health.checks[].tcp",
    keys: &[Special("port")],
};

/// The keys of a check that reads the certificate.
static TLS_CHECK: Mapping = Mapping {
    path: "pools.NAME.health.checks[].tls",
    keys: &[Special("port"), Special("name"), Special("warn_days_left")],
};

/// The keys of a check that requests a page.
static HTTP_CHECK: Mapping = Mapping {
    path: "pools.NAME.health.checks[].http",
    keys: HTTP_KEYS,
};

/// The keys of a check that requests a page over TLS.
static HTTPS_CHECK: Mapping = Mapping {
    path: "pools.NAME.health.checks[].https",
    keys: HTTP_KEYS,
};

const HTTP_KEYS: &[super::mapping::MappingKey<()>] = &[
    Special("port"),
    Special("path"),
    Special("host"),
    Special("status"),
];

/// A kind of check; [`settings`] prints it.
pub(super) struct CheckFormat {
    key: &'static str,
    /// Its keys.
    pub mapping: &'static Mapping,
    parse: fn(&Section<'_>, &mut Diagnostics) -> CheckKind,
    /// Any check of this kind.
    #[cfg(test)]
    pub any: fn() -> BoxedStrategy<CheckKind>,
}

/// The kinds of check.
pub(super) const KINDS: [CheckFormat; 4] = [
    CheckFormat {
        key: "tcp",
        mapping: &TCP_CHECK,
        parse: |_, _| CheckKind::Tcp,
        #[cfg(test)]
        any: || Just(CheckKind::Tcp).boxed(),
    },
    CheckFormat {
        key: "tls",
        mapping: &TLS_CHECK,
        parse: parse_tls,
        #[cfg(test)]
        any: any_tls,
    },
    CheckFormat {
        key: "http",
        mapping: &HTTP_CHECK,
        parse: |section, diagnostics| CheckKind::Http(parse_request(section, diagnostics)),
        #[cfg(test)]
        any: || any_request().prop_map(CheckKind::Http).boxed(),
    },
    CheckFormat {
        key: "https",
        mapping: &HTTPS_CHECK,
        parse: |section, diagnostics| CheckKind::Https(parse_request(section, diagnostics)),
        #[cfg(test)]
        any: || any_request().prop_map(CheckKind::Https).boxed(),
    },
];

/// The longest path of a request.
const MAX_PATH: usize = 2048;
/// The default of `warn_days_left`.
const WARN_DAYS_LEFT: u32 = 14;
const DAYS: NumberRange = NumberRange { min: 0, max: 3650 };

const PATH: Text<String> = Text {
    expects: "a path such as `/health`",
    parse: path,
};

/// A check before it has a label.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct CheckSettings {
    /// The kind of check and its settings.
    pub kind: CheckKind,
    /// The port; `None` is the traffic's own.
    pub port: Option<u16>,
    /// Whether it takes backends up and down.
    pub decides: bool,
}

impl CheckSettings {
    /// A check of the traffic's port that decides.
    pub(crate) fn new(kind: CheckKind) -> Self {
        Self {
            kind,
            port: None,
            decides: true,
        }
    }
}

/// Labels checks for metrics, status and log.
pub(crate) fn labelled(checks: Vec<CheckSettings>) -> Vec<CheckConfig> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let with_label = |check: CheckSettings| {
        let CheckSettings {
            kind,
            port,
            decides,
        } = check;
        let name = kind.as_str();
        let label = port.map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"));
        let count = seen.entry(label.clone()).or_default();
        *count += 1;
        let label = match *count {
            1 => label,
            count => format!("{label}#{count}"),
        };
        CheckConfig {
            label: label.into(),
            kind,
            port,
            decides,
        }
    };
    checks.into_iter().map(with_label).collect()
}

/// Parses `checks`; `None` if the file has none.
pub(super) fn parse_list(
    health: &Section<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<Vec<CheckConfig>> {
    let entry = health.get("checks")?;
    let hint = "leave it out for one tcp check, or write `health: none`";
    not_empty(entry, hint, diagnostics);
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    for item in items(entry, "checks", diagnostics, &mut |_| Err(None))? {
        let Some(check) = parse(item, diagnostics) else {
            continue;
        };
        if !seen.insert(check.clone()) {
            diagnostics.lint(Diagnostic::new(item.at, "this check is configured twice"));
        }
        found.push(check);
    }
    Some(labelled(found))
}

fn parse(node: &Node, diagnostics: &mut Diagnostics) -> Option<CheckSettings> {
    if let NodeKind::Scalar(Scalar { text, .. }) = &node.kind
        && KINDS.iter().any(|kind| kind.key == text)
    {
        let message = format!("a check expects a mapping of keys, not `{text}`");
        let hint = format!("write `{text}: {{}}`");
        diagnostics.error(Diagnostic::new(node.at, message).hint(hint));
        return None;
    }
    let before = diagnostics.errors.len();
    let section = CHECK.open(node, "a check", node.at, diagnostics);
    let mut check = CheckSettings::new(CheckKind::Tcp);
    CHECK.read(&section, &mut check, diagnostics);
    let kinds = KINDS
        .iter()
        .filter_map(|kind| Some((section.get(kind.key)?, kind)));
    match kinds.collect::<Vec<_>>().as_slice() {
        [(entry, kind)] => {
            let SectionEntry { name, at, node } = *entry;
            let what = format!("`{name}`");
            let section = kind.mapping.open(node, &what, at, diagnostics);
            let port = section.optional("port", &Port, diagnostics);
            check.port = port.map(|found| found.value);
            check.kind = (kind.parse)(&section, diagnostics);
            return Some(check);
        }
        [] if diagnostics.errors.len() > before => {}
        [] => {
            let message = "a check requires one of `tcp`, `tls`, `http` and `https`";
            diagnostics.error(Diagnostic::new(node.at, message));
        }
        [(first, ..), (second, ..), ..] => {
            let (first, name) = (first.name, second.name);
            let message = format!("a check cannot be both `{first}` and `{name}`");
            let hint = "begin a second check with `- `";
            diagnostics.error(Diagnostic::new(second.at, message).hint(hint));
        }
    }
    None
}

fn parse_tls(section: &Section<'_>, diagnostics: &mut Diagnostics) -> CheckKind {
    let name = section.nullable("name", &HostNameFormat, diagnostics);
    let days = section.optional("warn_days_left", &DAYS, diagnostics);
    CheckKind::Tls {
        name: name.map(|found| found.value),
        warn_days_left: days.map_or(WARN_DAYS_LEFT, |found| found.value),
    }
}

#[cfg(test)]
fn any_tls() -> BoxedStrategy<CheckKind> {
    let name = proptest::option::of(HostNameFormat.any());
    let days = ValueFormat::<u32>::any(&DAYS);
    let check = (name, days).prop_map(|(name, warn_days_left)| CheckKind::Tls {
        name,
        warn_days_left,
    });
    check.boxed()
}

fn parse_request(section: &Section<'_>, diagnostics: &mut Diagnostics) -> HttpCheck {
    let statuses = NumberRange { min: 100, max: 599 };
    let status = Custom {
        expects: "statuses from 100 to 599".to_owned(),
        parse: |scalar: &Scalar| ValueParser::<u16>::parse(&statuses, scalar),
    };
    let path = section.optional("path", &PATH, diagnostics);
    let host = section.nullable("host", &HostNameFormat, diagnostics);
    let status = section.non_empty_list("status", &status, diagnostics);
    HttpCheck {
        path: path.map_or_else(|| "/".to_owned(), |found| found.value),
        host: host.map(|found| found.value),
        status: match status {
            Some(status) => status.into_iter().map(|found| found.value).collect(),
            None => vec![200],
        },
    }
}

#[cfg(test)]
fn any_request() -> impl Strategy<Value = HttpCheck> {
    let host = proptest::option::of(HostNameFormat.any());
    let status = proptest::collection::vec(100..600_u16, 1..4);
    let parts = ("/[!\"$-~]{0,20}", host, status);
    parts.prop_map(|(path, host, status)| HttpCheck { path, host, status })
}

fn path(text: &str) -> Parsed<String> {
    let is_allowed = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
    if text.len() > MAX_PATH {
        Err(Some(format!("a path has at most {MAX_PATH} bytes")))
    } else if !text.starts_with('/') {
        Err(Some("a path begins with `/`".into()))
    } else if !text.bytes().all(is_allowed) {
        Err(Some(
            "write spaces and other special characters as `%20`".into(),
        ))
    } else {
        Ok(text.to_owned())
    }
}

/// Prints one check.
pub(super) fn print(page: &mut YamlPage, check: &CheckConfig) {
    let settings = match settings(check).as_slice() {
        [] => "{}".to_owned(),
        settings => format!("{{ {} }}", settings.join(", ")),
    };
    page.line(4, format_args!("- {}: {settings}", check.kind.as_str()));
    if !check.decides {
        page.entry(5, "decides", false);
    }
}

fn settings(check: &CheckConfig) -> Vec<String> {
    let port = check.port.iter().map(|port| format!("port: {port}"));
    let mut settings: Vec<String> = port.collect();
    match &check.kind {
        CheckKind::Tcp => {}
        CheckKind::Tls {
            name,
            warn_days_left,
        } => {
            settings.extend(name.iter().map(|name| format!("name: {}", text(name))));
            settings.push(format!("warn_days_left: {warn_days_left}"));
        }
        CheckKind::Http(HttpCheck { path, host, status })
        | CheckKind::Https(HttpCheck { path, host, status }) => {
            settings.push(format!("path: {}", text(path)));
            settings.extend(host.iter().map(|host| format!("host: {}", text(host))));
            let status: Vec<String> = status.iter().map(ToString::to_string).collect();
            settings.push(format!("status: [{}]", status.join(", ")));
        }
    }
    settings
}

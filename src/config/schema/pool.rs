//! `pools.NAME`: a pool of servers.
//!
//! Owns its keys, defaults and ranges. Must not know of other pools. Invariant: a complete pool has at least one backend.

use std::sync::Arc;
use std::time::Duration;

use super::backend::{self, DefaultPort};
use super::format::{Choice, DurationRange, Limit, OrZero, Port, Text};
use super::list::{items, suggest_splitting};
use super::mapping::{Mapping, MappingKey::Special, plain};
use super::page::{YamlPage, text};
use super::section::{Section, SectionEntry, not_empty};
use super::{affinity, health, name, not_supported, send_proxy_protocol};
use crate::config::diagnostics::{Diagnostic, Diagnostics, FileLocation, any_of, quoted};
use crate::config::model::{BackendConfig, Balance, Config, OnDown, PoolConfig};
use crate::config::scalar::{self, LABEL, Parsed, hints};
use crate::config::source::location::Located;
use crate::config::source::tree::{Node, NodeKind, Scalar};

const BALANCE: Choice<Balance> = Choice(&[
    (
        Balance::LeastConnections.as_str(),
        Balance::LeastConnections,
    ),
    (Balance::RoundRobin.as_str(), Balance::RoundRobin),
    (Balance::RandomTwo.as_str(), Balance::RandomTwo),
    (Balance::SourceHash.as_str(), Balance::SourceHash),
]);
const ON_DOWN: Choice<OnDown> = Choice(&[("close", OnDown::Close), ("keep", OnDown::Keep)]);
const SLOW_START: OrZero = OrZero(DurationRange::from_ms_to_hours(10, 24));

/// The keys of a pool.
pub(crate) static POOL: Mapping<PoolConfig> = Mapping {
    path: "pools.NAME",
    keys: &[
        Special("port"),
        Special("backends"),
        Special("backup"),
        plain!(PoolConfig, balance: BALANCE),
        Special("affinity"),
        Special("health"),
        plain!(PoolConfig, on_down: ON_DOWN),
        plain!(PoolConfig, slow_start: SLOW_START),
        plain!(PoolConfig, max_connections: Limit),
        Special(send_proxy_protocol::KEY),
        Special("source_address"),
    ],
};

/// A pool with the defaults of its keys, and without backends.
pub(super) fn default(name: Arc<str>) -> PoolConfig {
    PoolConfig {
        backends: Vec::new(),
        backup: None,
        balance: Balance::LeastConnections,
        affinity: Some(affinity::default(&name)),
        health: Some(health::default()),
        on_down: OnDown::Close,
        slow_start: Duration::ZERO,
        max_connections: None,
        send_proxy_protocol: None,
        name,
    }
}

/// The name of a pool, as the value of a key.
pub(super) const POOL_NAME: Text<Arc<str>> = Text {
    expects: "the name of a pool",
    parse: pool_name,
};

/// The parser of [`POOL_NAME`].
pub(super) fn pool_name(text: &str) -> Parsed<Arc<str>> {
    scalar::label(text).map_err(|_| Some(format!("the name of a pool consists of {LABEL}")))
}

/// A pool as parsed.
#[derive(Debug, Clone)]
pub(crate) struct ParsedPool {
    /// The location of its name, or of `lync`.
    pub at: FileLocation,
    /// Everything but `backup`, which is a reference.
    pub config: PoolConfig,
    /// The name of the backup.
    pub backup: Option<Located<Arc<str>>>,
    /// The locations of the backends, in their order.
    pub backends_at: Vec<FileLocation>,
    /// The location of `affinity` or, by default, of the pool's name.
    pub affinity_at: FileLocation,
    /// The location of `health` or, by default, of the pool's name.
    pub health_at: FileLocation,
    /// No error was found in it.
    pub complete: bool,
}

impl ParsedPool {
    /// The backends with their locations.
    pub(crate) fn backends(&self) -> impl Iterator<Item = (&BackendConfig, FileLocation)> {
        let locations = self.backends_at.iter().copied();
        self.config.backends.iter().zip(locations)
    }
}

/// Parses the pool in `entry`.
pub(super) fn parse(entry: SectionEntry<'_>, diagnostics: &mut Diagnostics) -> ParsedPool {
    let before = diagnostics.errors.len();
    let name = name(entry, "pool", diagnostics);
    if &*name.value == "refuse" {
        let diagnostic = Diagnostic::new(name.at, "a pool cannot be named `refuse`");
        let hint = "in `no_name` and `unknown_name` it stands for a rejection";
        diagnostics.error(diagnostic.hint(hint));
    }
    let what = format!("pool `{}`", name.value);
    let section = POOL.open(entry.node, &what, entry.at, diagnostics);
    let mut config = default(Arc::clone(&name.value));
    POOL.read(&section, &mut config, diagnostics);
    let backends = backends(&section, diagnostics);
    let affinity = affinity::parse(&section, &name, diagnostics);
    let health = health::parse(&section, name.at, diagnostics);
    source_address(&section, diagnostics);
    ParsedPool {
        at: name.at,
        backup: section.nullable("backup", &POOL_NAME, diagnostics),
        backends_at: backends.iter().map(|backend| backend.at).collect(),
        affinity_at: affinity.at,
        health_at: health.at,
        config: PoolConfig {
            backends: backends.into_iter().map(|backend| backend.value).collect(),
            affinity: affinity.value,
            health: health.value,
            send_proxy_protocol: send_proxy_protocol::parse(&section, diagnostics),
            ..config
        },
        complete: diagnostics.errors.len() == before,
    }
}

fn backends(section: &Section<'_>, diagnostics: &mut Diagnostics) -> Vec<Located<BackendConfig>> {
    let port = section.optional("port", &Port, diagnostics);
    let default_port = match port {
        Some(port) => DefaultPort::Port(port.value),
        None if section.get("port").is_some() => DefaultPort::Invalid,
        None => DefaultPort::Missing,
    };
    let Some(entry) = section.require("backends", diagnostics) else {
        return Vec::new();
    };
    not_empty(entry, "list at least one", diagnostics);
    let mut parse_item = |item: &Node| {
        let mut diagnostics = Diagnostics::default();
        backend::parse(item, DefaultPort::Invalid, &mut diagnostics);
        match diagnostics.errors.pop() {
            None => Ok(()),
            Some(diagnostic) => Err(diagnostic.hint),
        }
    };
    let items = items(entry, "backends", diagnostics, &mut parse_item).unwrap_or_default();
    let mut backends = Vec::new();
    for item in items {
        let before = diagnostics.errors.len();
        backends.extend(backend::parse(item, default_port, diagnostics));
        suggest_splitting(item, before, diagnostics, &mut parse_item);
    }
    backends
}

/// Not implemented yet: only the default is accepted.
fn source_address(section: &Section<'_>, diagnostics: &mut Diagnostics) {
    const WORDS: [&str; 2] = ["balancer", "client"];
    let Some(node) = section.get("source_address").map(|entry| entry.node) else {
        return;
    };
    let expects = format!(
        "{} or a list of addresses",
        any_of(&WORDS).replace(" or ", ", ")
    );
    let instead = "leave it out or write `balancer`";
    match &node.kind {
        NodeKind::Scalar(scalar) if scalar.text == "balancer" => {}
        NodeKind::Scalar(scalar) if scalar.text == "client" => {
            not_supported(diagnostics, node.at, "`source_address: client`", instead);
        }
        NodeKind::List(_) => {
            let what = "a list of addresses in `source_address`";
            not_supported(diagnostics, node.at, what, instead);
        }
        NodeKind::Scalar(Scalar { text, .. }) => {
            let message = format!("`source_address` expects {expects}, not {}", quoted(text));
            diagnostics.error(
                Diagnostic::new(node.at, message).optional_hint(hints::suggest_word(text, &WORDS)),
            );
        }
        NodeKind::Null | NodeKind::Map(_) => {
            let message = format!("`source_address` expects {expects}");
            diagnostics.error(Diagnostic::new(node.at, message));
        }
    }
}

/// Prints a pool.
pub(super) fn print(page: &mut YamlPage, pool: &PoolConfig, config: &Config) {
    page.line(1, format_args!("{}:", text(&pool.name)));
    POOL.print(page, 2, pool, |page, key| match key {
        "backends" => {
            page.line(2, format_args!("{key}:"));
            for backend in &pool.backends {
                page.line(3, format_args!("- {}", backend::print(backend)));
            }
        }
        "backup" => {
            if let Some(id) = pool.backup {
                page.entry(2, key, text(&config.pool(id).name));
            }
        }
        "affinity" => match &pool.affinity {
            None => page.entry(2, key, "none"),
            Some(affinity) => affinity::print(page, affinity),
        },
        "health" => match &pool.health {
            None => page.entry(2, key, "none"),
            Some(health) => health::print(page, health),
        },
        send_proxy_protocol::KEY => {
            page.entry(2, key, send_proxy_protocol::print(pool.send_proxy_protocol));
        }
        _ => {}
    });
}

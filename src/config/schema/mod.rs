//! The format of the file: one module for each mapping, with its keys, defaults, parsing and printing side by side.
//!
//! Owns which key is allowed where, its type, default and range. Must not follow a reference from one part of the file
//! to another; `validate` does. Invariant: parsing continues to the end of the file, whatever it finds on the way.
//!
//! A plain key (a single value in one field) is one line in its module's table: see `mapping`.

pub(crate) mod admin;
mod affinity;
mod backend;
mod check;
mod format;
#[cfg(test)]
pub(crate) mod generate;
mod health;
pub(crate) mod limits;
mod list;
pub(crate) mod listener;
pub(crate) mod log;
mod lync;
mod mapping;
pub(crate) mod page;
pub(crate) mod pool;
mod route;
mod section;
mod send_proxy_protocol;
pub(crate) mod store;
pub(crate) mod timeouts;

use std::num::NonZeroUsize;
use std::sync::Arc;

use admin::ParsedAdmin;
use format::{NumberRange, OrAuto, ValueFormat};
use limits::ParsedLimits;
use listener::ParsedListener;
use mapping::{Mapping, MappingKey::Special};
use page::YamlPage;
use pool::ParsedPool;
use section::{Section, SectionEntry, named_entries};
use timeouts::ParsedTimeouts;

use super::diagnostics::{Diagnostic, Diagnostics, FileLocation, quoted};
use super::model::{AffinityStore, Config, LogSettings};
use super::scalar::{self, LABEL};
use super::source::location::Located;
use super::source::tree::{Node, NodeKind};

/// The top level of the file.
static ROOT: Mapping = Mapping {
    path: "",
    keys: &[
        Special("lync"),
        Special("listeners"),
        Special("pools"),
        Special("timeouts"),
        Special("limits"),
        Special("workers"),
        Special("affinity_store"),
        Special("admin"),
        Special("log"),
    ],
};

/// The number of workers, or `auto`.
const WORKERS: OrAuto = OrAuto(NumberRange { min: 1, max: 1024 });

/// Every mapping of the file: its path and its keys.
fn mappings() -> Vec<(&'static str, Vec<&'static str>)> {
    fn entry<S>(mapping: &Mapping<S>) -> (&'static str, Vec<&'static str>) {
        (mapping.path, mapping.names())
    }
    let mut mappings = vec![
        entry(&ROOT),
        entry(&lync::LYNC),
        entry(&lync::front_end::FRONT_END),
        entry(&lync::front_end::BACKUP_FRONT_END),
        entry(&lync::PORTS),
        entry(&listener::LISTENER),
        entry(&route::ROUTE),
        entry(&pool::POOL),
        entry(&send_proxy_protocol::SEND_PROXY_PROTOCOL),
        entry(&backend::BACKEND),
        entry(&affinity::AFFINITY),
        entry(&affinity::SOURCE_PREFIX),
        entry(&health::HEALTH),
        entry(&check::CHECK),
        entry(&timeouts::TIMEOUTS),
        entry(&limits::LIMITS),
        entry(&store::AFFINITY_STORE),
        entry(&admin::ADMIN),
        entry(&log::LOG),
    ];
    mappings.extend(check::KINDS.iter().map(|kind| entry(kind.mapping)));
    mappings
}

/// Whether [`mappings`] has the mapping of this path.
fn is_listed(path: &str) -> bool {
    mappings().iter().any(|(listed, _)| *listed == path)
}

/// The path of every key: `pools.NAME.backends[].weight` and so on, `NAME` for a name of the user's choice and `[]`
/// for the entries of a list.
#[must_use]
pub fn keys() -> Vec<String> {
    let join = |path: &str, name: &str| match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    };
    let paths = mappings().into_iter().flat_map(|(path, names)| {
        let paths = names.into_iter().map(move |name| join(path, name));
        paths.collect::<Vec<_>>()
    });
    paths.collect()
}

/// A file as parsed: every value is read, no reference is resolved. The short form is expanded.
#[derive(Debug)]
pub(crate) struct ParsedFile {
    /// Those of the short form first.
    pub listeners: Vec<ParsedListener>,
    /// Those of the short form first.
    pub pools: Vec<ParsedPool>,
    /// Pools that an invalid short form would have defined, so that references to them are not reported.
    pub missing_pools: Vec<Arc<str>>,
    /// Time limits.
    pub timeouts: ParsedTimeouts,
    /// Connection limits.
    pub limits: ParsedLimits,
    /// Worker threads.
    pub workers: Option<NonZeroUsize>,
    /// Where pins are stored.
    pub affinity_store: AffinityStore,
    /// The admin listener.
    pub admin: ParsedAdmin,
    /// The log.
    pub log: LogSettings,
}

/// Parses the whole file.
pub(crate) fn parse(root: &Node, diagnostics: &mut Diagnostics) -> ParsedFile {
    if root.kind == NodeKind::Null {
        let diagnostic = Diagnostic::new(FileLocation::START, "the file is empty");
        diagnostics.error(diagnostic.hint("begin with `lync:`, or with `listeners:` and `pools:`"));
    }
    let root = open_root(root, diagnostics);
    let lync = root
        .get("lync")
        .map(|entry| lync::parse(entry, diagnostics));
    let (mut listeners, mut pools, mut missing_pools) = (Vec::new(), Vec::new(), Vec::new());
    match &lync {
        Some(Some(lync)) => (listeners, pools) = lync::expansion::expand(lync),
        Some(None) => missing_pools.extend(lync::expansion::POOLS.map(Arc::from)),
        None => {}
    }
    let entries = |key, diagnostics: &mut Diagnostics| match root.get(key) {
        Some(entry) => named_entries(entry, diagnostics),
        None => Vec::new(),
    };
    for entry in entries("listeners", diagnostics) {
        listeners.push(listener::parse(entry, diagnostics));
    }
    for entry in entries("pools", diagnostics) {
        pools.push(pool::parse(entry, diagnostics));
    }
    ParsedFile {
        listeners,
        pools,
        missing_pools,
        timeouts: timeouts::parse(&root, diagnostics),
        limits: limits::parse(&root, diagnostics),
        workers: workers(&root, diagnostics),
        affinity_store: store::parse(&root, diagnostics),
        admin: admin::parse(&root, diagnostics),
        log: log::parse(&root, diagnostics),
    }
}

/// Parses `admin` only.
pub(crate) fn parse_admin(root: &Node, diagnostics: &mut Diagnostics) -> ParsedAdmin {
    let is_admin = |(key, _): &&(Node, Node)| matches!(&key.kind, NodeKind::Scalar(scalar) if scalar.text == "admin");
    let entries = match &root.kind {
        NodeKind::Map(entries) => entries.iter().filter(is_admin).cloned().collect(),
        NodeKind::Null | NodeKind::Scalar(_) | NodeKind::List(_) => Vec::new(),
    };
    let admin_only = Node {
        at: root.at,
        kind: NodeKind::Map(entries),
    };
    let root = open_root(&admin_only, diagnostics);
    admin::parse(&root, diagnostics)
}

fn open_root<'a>(root: &'a Node, diagnostics: &mut Diagnostics) -> Section<'a> {
    let what = "the configuration";
    ROOT.open(root, what, FileLocation::START, diagnostics)
}

fn workers(root: &Section<'_>, diagnostics: &mut Diagnostics) -> Option<NonZeroUsize> {
    let workers = root.optional::<Option<usize>>("workers", &WORKERS, diagnostics);
    workers?.value.and_then(NonZeroUsize::new)
}

/// Prints a configuration in the long form.
pub(crate) fn print(config: &Config) -> String {
    let mut page = YamlPage::default();
    let page_mut = &mut page;
    page_mut.line(0, "listeners:");
    for listener in &config.listeners {
        listener::print(page_mut, listener, config);
    }
    page_mut.line(0, "pools:");
    for pool in &config.pools {
        pool::print(page_mut, pool, config);
    }
    timeouts::print(page_mut, &config.timeouts);
    limits::print(page_mut, &config.limits);
    let workers = config.workers.map(NonZeroUsize::get);
    page_mut.entry(0, "workers", WORKERS.print(&workers));
    store::print(page_mut, &config.affinity_store);
    admin::print(page_mut, &config.admin);
    log::print(page_mut, &config.log);
    page.into_text()
}

/// The name that the user gave a listener or pool.
fn name(entry: SectionEntry<'_>, what: &str, diagnostics: &mut Diagnostics) -> Located<Arc<str>> {
    if let Err(hint) = scalar::label(entry.name) {
        let found = quoted(entry.name);
        let message = format!("the name of a {what} consists of {LABEL}, not {found}");
        diagnostics.error(Diagnostic::new(entry.at, message).optional_hint(hint));
    }
    Located::new(Arc::from(entry.name), entry.at)
}

/// Reports a value that is part of the format and not implemented yet.
fn not_supported(diagnostics: &mut Diagnostics, at: FileLocation, what: &str, instead: &str) {
    let message = format!("{what} is not supported yet");
    diagnostics.error(Diagnostic::new(at, message).hint(instead));
}

//! One listener as written.
//!
//! Owns the keys of `listeners.NAME` and of its routes. Must not know which pools there are, nor what its protocol asks
//! for. Invariant: a listener whose `whole` is true has every required key.

use super::{filled, name, not_in_force};
use crate::config::diagnostics::{FileLocation, Note, Notes};
use crate::config::keys::{LISTENER, ROUTE};
use crate::config::list::items;
use crate::config::model::{Protocol, RejectionMode, WhenPoolDown};
use crate::config::scalar::Parsed;
use crate::config::scalar::{self, BIND, LABEL, NETWORK, PATTERN};
use crate::config::section::{Section, SectionEntry};
use crate::config::tree::Scalar;
use crate::config::written::{At, TargetName, WrittenListener, WrittenRoute};

const PROTOCOLS: [(&str, Protocol); 3] = [
    ("tls", Protocol::Tls),
    ("http", Protocol::Http),
    ("tcp", Protocol::Tcp),
];
const REFUSALS: [(&str, RejectionMode); 3] = [
    ("alert", RejectionMode::Alert),
    ("reset", RejectionMode::Reset),
    ("close", RejectionMode::Close),
];
const WHEN_POOL_DOWN: [(&str, WhenPoolDown); 2] = [
    ("close", WhenPoolDown::Close),
    ("refuse", WhenPoolDown::Refuse),
];
const TARGET: &str = "the name of a pool, or `refuse`";
/// What keys take that name a pool.
pub(super) const POOL_NAME: &str = "the name of a pool";

/// Reads the listener under `entry`.
pub(super) fn read(entry: SectionEntry<'_>, notes: &mut Notes) -> WrittenListener {
    let before = notes.faults.len();
    let name = name(entry, "listener", notes);
    let what = format!("listener `{}`", name.value);
    let section = Section::open(entry.node, LISTENER, &what, entry.at, notes);
    section.require("bind", notes);
    section.require("protocol", notes);
    proxy_protocol(&section, notes);
    let networks = |key, notes: &mut Notes| {
        section
            .list(key, NETWORK, notes, |scalar| scalar::network(&scalar.text))
            .unwrap_or_default()
    };
    WrittenListener {
        of_short_form: false,
        bind: filled(&section, "bind", BIND, notes, |scalar| {
            scalar::bind_address(&scalar.text)
        })
        .unwrap_or_default(),
        protocol: section
            .word("protocol", &PROTOCOLS, notes)
            .map(|found| found.value),
        routes: routes(&section, notes),
        no_name: section.optional("no_name", TARGET, notes, target),
        unknown_name: section.optional("unknown_name", TARGET, notes, target),
        pool: section.nullable("pool", POOL_NAME, notes, pool_name),
        refusal: section.word("refusal", &REFUSALS, notes),
        when_pool_down: section
            .word("when_pool_down", &WHEN_POOL_DOWN, notes)
            .map_or(WhenPoolDown::Close, |found| found.value),
        allow: networks("allow", notes),
        deny: networks("deny", notes),
        whole: notes.faults.len() == before,
        name,
    }
}

fn proxy_protocol(section: &Section<'_>, notes: &mut Notes) {
    let key = "accept_proxy_protocol_from";
    let networks = section.list(key, NETWORK, notes, |scalar| scalar::network(&scalar.text));
    if let Some(At { at, .. }) = networks.unwrap_or_default().first() {
        not_in_force(
            notes,
            *at,
            &format!("`{key}`"),
            "leave it out or write `[]`",
        );
    }
}

fn routes(section: &Section<'_>, notes: &mut Notes) -> Vec<WrittenRoute> {
    let Some(entry) = section.get("routes") else {
        return Vec::new();
    };
    let items = items(entry, "routes", notes, &mut |_| Err(None)).unwrap_or_default();
    items
        .iter()
        .map(|item| route(item, item.at, notes))
        .collect()
}

fn route(node: &super::Node, at: FileLocation, notes: &mut Notes) -> WrittenRoute {
    let section = Section::open(node, ROUTE, "a route", at, notes);
    section.require("names", notes);
    section.require("pool", notes);
    WrittenRoute {
        at,
        names: filled(&section, "names", PATTERN, notes, |scalar| {
            scalar::pattern(&scalar.text)
        })
        .unwrap_or_default(),
        pool: section.optional("pool", POOL_NAME, notes, pool_name),
    }
}

/// The name of a pool.
pub(super) fn pool_name(scalar: &Scalar) -> Parsed<std::sync::Arc<str>> {
    scalar::label(&scalar.text).map_err(|_| Some(format!("the name of a pool takes {LABEL}")))
}

fn target(scalar: &Scalar) -> Parsed<TargetName> {
    match scalar.text.as_str() {
        "refuse" => Ok(TargetName::Refuse),
        _ => pool_name(scalar).map(TargetName::Pool),
    }
}

/// Notes a pool whose name has a meaning of its own.
pub(super) fn reserved(name: &At<std::sync::Arc<str>>, notes: &mut Notes) {
    if &*name.value == "refuse" {
        let note = Note::new(name.at, "a pool cannot be called `refuse`");
        notes.fault(note.hint("`no_name` and `unknown_name` take the word for none"));
    }
}

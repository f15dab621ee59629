//! From the tree to the configuration as written.
//!
//! Owns which key stands where, its type, default and bounds. Must not follow a reference from one part of the file to
//! another. Invariant: the walk goes on to the end of the file, whatever it finds on the way.

mod affinity;
mod health;
mod listener;
mod lync;
mod pool;
mod settings;
mod store;

use std::sync::Arc;
use std::time::Duration;

use super::diagnostics::{FileLocation, Note, Notes};
use super::keys::ROOT;
use super::scalar::{self, LABEL, print_duration};
use super::section::{Section, SectionEntry, integer, named, word_meant};
use super::tree::{Node, NodeKind};
use super::written::{At, WrittenAdmin, WrittenFile};
use crate::config::preset;

/// Reads the whole file.
pub(crate) fn walk(root: &Node, notes: &mut Notes) -> WrittenFile {
    if root.kind == NodeKind::Null {
        let note = Note::new(FileLocation::START, "the file is empty");
        notes.fault(note.hint("begin with `lync:`, or with `listeners:` and `pools:`"));
    }
    let root = Section::open(root, ROOT, "the configuration", FileLocation::START, notes);
    let lync = root.get("lync").map(|entry| lync::read(entry, notes));
    let (mut listeners, mut pools, mut unread_pools) = (Vec::new(), Vec::new(), Vec::new());
    match &lync {
        Some(Some(lync)) => (listeners, pools) = preset::expand(lync),
        Some(None) => unread_pools.extend(preset::POOLS.map(Arc::from)),
        None => {}
    }
    let entries = |key, notes: &mut Notes| {
        root.get(key)
            .map(|entry| named(entry, notes))
            .unwrap_or_default()
    };
    listeners.extend(
        entries("listeners", notes)
            .into_iter()
            .map(|e| listener::read(e, notes)),
    );
    pools.extend(
        entries("pools", notes)
            .into_iter()
            .map(|entry| pool::read(entry, notes)),
    );
    WrittenFile {
        listeners,
        pools,
        unread_pools,
        timeouts: settings::timeouts(&root, notes),
        limits: settings::limits(&root, notes),
        workers: settings::workers(&root, notes),
        affinity_store: store::affinity_store(&root, notes),
        admin: settings::admin(&root, notes),
        log: settings::log(&root, notes),
    }
}

/// Reads `admin` alone.
pub(crate) fn walk_admin(root: &Node, notes: &mut Notes) -> WrittenAdmin {
    let of_admin = |(key, _): &&(Node, Node)| matches!(&key.kind, NodeKind::Scalar(scalar) if scalar.text == "admin");
    let entries = match &root.kind {
        NodeKind::Map(entries) => entries.iter().filter(of_admin).cloned().collect(),
        NodeKind::Null | NodeKind::Scalar(_) | NodeKind::List(_) => Vec::new(),
    };
    let alone = Node {
        at: root.at,
        kind: NodeKind::Map(entries),
    };
    let root = Section::open(
        &alone,
        ROOT,
        "the configuration",
        FileLocation::START,
        notes,
    );
    settings::admin(&root, notes)
}

/// The name that the user gave a listener or pool.
fn name(entry: SectionEntry<'_>, what: &str, notes: &mut Notes) -> At<Arc<str>> {
    if let Err(hint) = scalar::label(entry.name) {
        let message = format!(
            "the name of a {what} takes {LABEL}, not {}",
            super::diagnostics::quoted(entry.name)
        );
        notes.fault(Note {
            at: entry.at,
            message,
            hint,
        });
    }
    At::new(Arc::from(entry.name), entry.at)
}

/// Notes that a key's value is known, and that what it asks for is not built yet.
fn not_in_force(notes: &mut Notes, at: FileLocation, what: &str, instead: &str) {
    notes.fault(Note::new(at, format!("{what} is not in force yet")).hint(instead));
}

/// A duration in bounds.
fn duration(
    section: &Section<'_>,
    key: &str,
    (least, most): (Duration, Duration),
    notes: &mut Notes,
) -> Option<At<Duration>> {
    let takes = format!(
        "a duration from {} to {}",
        print_duration(least),
        print_duration(most)
    );
    section.optional(key, &takes, notes, |scalar| {
        scalar::duration(&scalar.text, |value| (least..=most).contains(&value))
    })
}

/// A whole number in bounds, which must be within those of the type.
fn number<T: TryFrom<u64>>(
    section: &Section<'_>,
    key: &str,
    (least, most): (u64, u64),
    notes: &mut Notes,
) -> Option<At<T>> {
    let takes = format!("a whole number from {least} to {most}");
    section.optional(key, &takes, notes, |scalar| {
        T::try_from(integer(scalar, least, most)?).map_err(|_| None)
    })
}

/// A port.
fn port(section: &Section<'_>, key: &str, notes: &mut Notes) -> Option<At<u16>> {
    section.optional(key, PORT, notes, port_number)
}

const PORT: &str = "a port from 1 to 65535";

fn port_number(scalar: &super::tree::Scalar) -> scalar::Parsed<u16> {
    let number = integer(scalar, 1, 65535).map_err(|hint| {
        let meant = super::scalar::advice::port(&scalar.text);
        let meant = meant.filter(|meant| meant.to_string() != scalar.text);
        hint.or_else(|| meant.map(|port| format!("write the number alone: `{port}`")))
    });
    u16::try_from(number?).map_err(|_| None)
}

/// A list with at least one item, or nothing and the fault noted.
fn filled<T>(
    section: &Section<'_>,
    key: &str,
    takes: &str,
    notes: &mut Notes,
    parse: impl FnMut(&super::tree::Scalar) -> scalar::Parsed<T>,
) -> Option<Vec<At<T>>> {
    let entry = section.get(key)?;
    not_empty(entry, "name at least one", notes);
    section.list(key, takes, notes, parse)
}

/// Whether a key that also takes `none` has a mapping. Nothing at all could be meant as either, so it is a fault.
fn is_section_or_none(entry: SectionEntry<'_>, notes: &mut Notes) -> bool {
    let SectionEntry { name, node, .. } = entry;
    let note = match &node.kind {
        NodeKind::Map(_) => return true,
        NodeKind::Null => Note::new(entry.at, format!("`{name}` has no value"))
            .hint("leave it out for the defaults, or write `none`"),
        NodeKind::Scalar(scalar) => {
            let found = super::diagnostics::quoted(&scalar.text);
            let message = format!("`{name}` takes a mapping of keys or `none`, not {found}");
            Note {
                hint: word_meant(&scalar.text, &["none"]),
                ..Note::new(node.at, message)
            }
        }
        NodeKind::List(_) => Note::new(
            node.at,
            format!("`{name}` takes a mapping of keys or `none`, not a list"),
        ),
    };
    notes.fault(note);
    false
}

/// Notes a list that has nothing in it.
fn not_empty(entry: SectionEntry<'_>, hint: &str, notes: &mut Notes) {
    if matches!(&entry.node.kind, NodeKind::List(items) if items.is_empty()) {
        notes.fault(Note::new(entry.node.at, format!("`{}` is empty", entry.name)).hint(hint));
    }
}

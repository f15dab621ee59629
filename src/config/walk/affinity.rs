//! A pool's affinity as written.
//!
//! Owns the keys of `pools.NAME.affinity`. Must not know which pools share a group. Invariant: what comes out without a
//! fault has something in its key.

use std::sync::Arc;
use std::time::Duration;

use super::{duration, is_section_or_none, not_empty, number};
use crate::config::defaults::default_affinity;
use crate::config::diagnostics::{Note, Notes};
use crate::config::keys::{AFFINITY, SOURCE_PREFIX};
use crate::config::model::{AffinitySettings, SourcePrefix};
use crate::config::scalar::{self, LABEL};
use crate::config::section::{Section, one_of};
use crate::config::tree::NodeKind;
use crate::config::written::At;

/// How long a pin can outlive its last connection.
const TTL: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(720 * 3600));
/// How many pins a table can hold: at some 64 bytes each, 6 GiB.
const MAX_ENTRIES: (u64, u64) = (1, 100_000_000);

/// What a key can be made of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum KeyPart {
    Source,
    Name,
    TlsSession,
}

const BY: [(&str, KeyPart); 3] = [
    ("source", KeyPart::Source),
    ("name", KeyPart::Name),
    ("tls_session", KeyPart::TlsSession),
];

/// Reads `affinity` of the pool of that name.
pub(super) fn read(
    pool: &Section<'_>,
    name: &At<Arc<str>>,
    notes: &mut Notes,
) -> At<Option<AffinitySettings>> {
    let default = default_affinity(&name.value);
    let Some(entry) = pool.get("affinity") else {
        return At::new(Some(default), name.at);
    };
    if matches!(&entry.node.kind, NodeKind::Scalar(scalar) if scalar.text == "none") {
        return At::new(None, entry.at);
    }
    if !is_section_or_none(entry, notes) {
        return At::new(None, entry.at);
    }
    let section = Section::open(entry.node, AFFINITY, "`affinity`", entry.at, notes);
    let by = by(&section, notes).unwrap_or_else(|| vec![KeyPart::Source, KeyPart::Name]);
    let affinity = AffinitySettings {
        by_source: by.contains(&KeyPart::Source),
        by_name: by.contains(&KeyPart::Name),
        by_session: by.contains(&KeyPart::TlsSession),
        source_prefix: source_prefix(&section, default.source_prefix, notes),
        ttl: duration(&section, "ttl", TTL, notes).map_or(default.ttl, |found| found.value),
        group: section.value("group", default.group, LABEL, notes, |s| {
            scalar::label(&s.text)
        }),
        max_entries: number(&section, "max_entries", MAX_ENTRIES, notes)
            .map_or(default.max_entries, |found| found.value),
    };
    At::new(Some(affinity), entry.at)
}

fn by(section: &Section<'_>, notes: &mut Notes) -> Option<Vec<KeyPart>> {
    let entry = section.get("by")?;
    not_empty(
        entry,
        "name `source`, `name` and `tls_session`, or some of them, or write `affinity: none`",
        notes,
    );
    let takes = "`source`, `name` and `tls_session`";
    let words = section.list("by", takes, notes, |scalar| one_of(scalar, &BY))?;
    for (index, word) in words.iter().enumerate() {
        if words[..index]
            .iter()
            .any(|earlier| earlier.value == word.value)
        {
            notes.fault(Note::new(word.at, "`by` has this twice"));
        }
    }
    Some(words.iter().map(|word| word.value).collect())
}

fn source_prefix(section: &Section<'_>, default: SourcePrefix, notes: &mut Notes) -> SourcePrefix {
    let Some(section) = section.section("source_prefix", SOURCE_PREFIX, notes) else {
        return default;
    };
    let ipv4 = number(&section, "ipv4", (0, 32), notes);
    let ipv6 = number(&section, "ipv6", (0, 128), notes);
    SourcePrefix {
        ipv4: ipv4.map_or(default.ipv4, |found| found.value),
        ipv6: ipv6.map_or(default.ipv6, |found| found.value),
    }
}

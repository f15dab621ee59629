//! `affinity`: how a pool's clients are pinned to a backend.
//!
//! Owns its keys, defaults and ranges. Must not know which pools share a group. Invariant: without an error, the key of a
//! pin has at least one part.

use std::sync::Arc;
use std::time::Duration;

use super::format::{Choice, DurationRange, Label, NumberRange};
use super::mapping::{Mapping, MappingKey::Special, plain};
use super::page::YamlPage;
use super::section::{Section, is_mapping_or_none, not_empty, report_duplicates};
use crate::config::diagnostics::Diagnostics;
use crate::config::model::{AffinitySettings, SourcePrefix};
use crate::config::source::location::Located;

/// How long a pin may outlive its last connection.
const TTL: DurationRange = DurationRange::from_ms_to_hours(10, 720);
/// How many pins a table may hold: 6 GiB at about 64 bytes each.
const MAX_ENTRIES: NumberRange = NumberRange {
    min: 1,
    max: 100_000_000,
};

/// The keys of `affinity`.
pub(crate) static AFFINITY: Mapping<AffinitySettings> = Mapping {
    path: "pools.NAME.affinity",
    keys: &[
        Special("by"),
        Special("source_prefix"),
        plain!(AffinitySettings, ttl: TTL),
        plain!(AffinitySettings, group: Label),
        plain!(AffinitySettings, max_entries: MAX_ENTRIES),
    ],
};

/// The keys of `source_prefix`.
pub(crate) static SOURCE_PREFIX: Mapping<SourcePrefix> = Mapping {
    path: "pools.NAME.affinity.source_prefix",
    keys: &[
        plain!(SourcePrefix, ipv4: NumberRange { min: 0, max: 32 }),
        plain!(SourcePrefix, ipv6: NumberRange { min: 0, max: 128 }),
    ],
};

/// A part of the key of a pin.
#[derive(Clone, Copy, PartialEq, Eq)]
enum KeyPart {
    Source,
    Name,
    TlsSession,
}

const BY: Choice<KeyPart> = Choice(&[
    ("source", KeyPart::Source),
    ("name", KeyPart::Name),
    ("tls_session", KeyPart::TlsSession),
]);

/// The default of a pool.
pub(super) fn default(pool: &Arc<str>) -> AffinitySettings {
    AffinitySettings {
        by_source: true,
        by_name: true,
        by_session: false,
        source_prefix: SourcePrefix::WHOLE,
        ttl: Duration::from_secs(20 * 60),
        group: Arc::clone(pool),
        max_entries: 1_000_000,
    }
}

/// Parses `affinity` of the pool of that name. The location is that of the key or, by default, of the pool's name.
pub(super) fn parse(
    pool: &Section<'_>,
    name: &Located<Arc<str>>,
    diagnostics: &mut Diagnostics,
) -> Located<Option<AffinitySettings>> {
    let mut affinity = default(&name.value);
    let Some(entry) = pool.get("affinity") else {
        return Located::new(Some(affinity), name.at);
    };
    if !is_mapping_or_none(entry, diagnostics) {
        return Located::new(None, entry.at);
    }
    let section = AFFINITY.open(entry.node, "`affinity`", entry.at, diagnostics);
    AFFINITY.read(&section, &mut affinity, diagnostics);
    if let Some(by) = by(&section, diagnostics) {
        affinity.by_source = by.contains(&KeyPart::Source);
        affinity.by_name = by.contains(&KeyPart::Name);
        affinity.by_session = by.contains(&KeyPart::TlsSession);
    }
    if let Some(section) = SOURCE_PREFIX.open_key(&section, "source_prefix", diagnostics) {
        SOURCE_PREFIX.read(&section, &mut affinity.source_prefix, diagnostics);
    }
    Located::new(Some(affinity), entry.at)
}

fn by(section: &Section<'_>, diagnostics: &mut Diagnostics) -> Option<Vec<KeyPart>> {
    let entry = section.get("by")?;
    let hint = "list at least one of `source`, `name` and `tls_session`, or write `affinity: none`";
    not_empty(entry, hint, diagnostics);
    let words = section.list("by", &BY, diagnostics)?;
    report_duplicates("by", &words, diagnostics);
    Some(words.iter().map(|word| word.value).collect())
}

/// Prints `affinity`.
pub(super) fn print(page: &mut YamlPage, affinity: &AffinitySettings) {
    page.line(2, "affinity:");
    AFFINITY.print(page, 3, affinity, |page, key| match key {
        "by" => {
            let parts = [
                (affinity.by_source, "source"),
                (affinity.by_name, "name"),
                (affinity.by_session, "tls_session"),
            ];
            let parts = parts.iter().filter(|(is_part, _)| *is_part);
            let parts: Vec<&str> = parts.map(|(_, word)| *word).collect();
            page.list(3, key, &parts);
        }
        "source_prefix" => {
            let prefix = SOURCE_PREFIX.print_plain(&affinity.source_prefix);
            page.entry(3, key, format_args!("{{ {} }}", prefix.join(", ")));
        }
        _ => {}
    });
}

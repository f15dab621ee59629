//! Where pins are kept, as written.
//!
//! Owns the keys of `affinity_store`. Must not look at the file that it names. Invariant: what comes out without a fault
//! names one place.

use super::not_in_force;
use crate::config::diagnostics::{Note, Notes, quoted};
use crate::config::keys::AFFINITY_STORE;
use crate::config::model::AffinityStore;
use crate::config::scalar;
use crate::config::section::{Section, SectionEntry};
use crate::config::tree::NodeKind;

const TAKES: &str = "`memory`, `{ file: PATH }` or `{ redis: URL }`";

/// Reads `affinity_store`.
pub(super) fn affinity_store(root: &Section<'_>, notes: &mut Notes) -> AffinityStore {
    let Some(entry) = root.get("affinity_store") else {
        return AffinityStore::Memory;
    };
    let node = entry.node;
    let message = match &node.kind {
        NodeKind::Scalar(scalar) if scalar.text == "memory" => return AffinityStore::Memory,
        NodeKind::Scalar(scalar) => format!(
            "`affinity_store` takes {TAKES}, not {}",
            quoted(&scalar.text)
        ),
        NodeKind::Map(entries) if !entries.is_empty() => return read(entry, notes),
        NodeKind::Map(_) | NodeKind::Null | NodeKind::List(_) => {
            format!("`affinity_store` takes {TAKES}")
        }
    };
    notes.fault(Note::new(node.at, message));
    AffinityStore::Memory
}

fn read(entry: SectionEntry<'_>, notes: &mut Notes) -> AffinityStore {
    let section = Section::open(
        entry.node,
        AFFINITY_STORE,
        "`affinity_store`",
        entry.at,
        notes,
    );
    for entry in ["redis", "password_file"]
        .into_iter()
        .filter_map(|key| section.get(key))
    {
        let what = format!("`affinity_store` with `{}`", entry.name);
        let instead = "write `affinity_store: { file: PATH }` or `affinity_store: memory`";
        not_in_force(notes, entry.at, &what, instead);
    }
    let path = section.optional("file", "the path of a file", notes, |scalar| {
        scalar::file_path(&scalar.text)
    });
    path.map_or(AffinityStore::Memory, |path| {
        AffinityStore::File(path.value)
    })
}

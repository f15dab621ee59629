//! Where pins are kept, as written.
//!
//! Owns the keys of `affinity_store`. Must not look at the file that it names. Invariant: what comes out without a fault
//! names one place.

use super::not_in_force;
use crate::config::diagnostics::{Note, Notes, quoted};
use crate::config::keys::AFFINITY_STORE;
use crate::config::model::AffinityStore;
use crate::config::scalar;
use crate::config::section::{Section, SectionEntry, word_meant};
use crate::config::tree::NodeKind;

const TAKES: &str = "`memory`, `{ file: PATH }` or `{ redis: URL }`";

/// Reads `affinity_store`.
pub(super) fn affinity_store(root: &Section<'_>, notes: &mut Notes) -> AffinityStore {
    let Some(entry) = root.get("affinity_store") else {
        return AffinityStore::Memory;
    };
    let node = entry.node;
    let mut hint = None;
    let message = match &node.kind {
        NodeKind::Scalar(scalar) if scalar.text == "memory" => return AffinityStore::Memory,
        NodeKind::Scalar(scalar) => {
            hint = word_meant(&scalar.text, &["memory"]).or_else(|| path_alone(&scalar.text));
            let found = quoted(&scalar.text);
            format!("`affinity_store` takes {TAKES}, not {found}")
        }
        NodeKind::Map(entries) if !entries.is_empty() => return read(entry, notes),
        NodeKind::Map(_) | NodeKind::Null | NodeKind::List(_) => {
            format!("`affinity_store` takes {TAKES}")
        }
    };
    notes.fault(Note {
        hint,
        ..Note::new(node.at, message)
    });
    AffinityStore::Memory
}

/// A path without its key.
fn path_alone(text: &str) -> Option<String> {
    let is_path = text.starts_with('/') && scalar::file_path(text).is_ok() && !text.contains('"');
    is_path.then(|| format!("write `{{ file: \"{text}\" }}`"))
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

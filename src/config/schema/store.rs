//! `affinity_store`: where pins and administrative states are stored.
//!
//! Owns its keys. Must not access the file that it names. Invariant: without an error, the result names one store.

use super::format::Text;
use super::mapping::{Mapping, MappingKey::Special};
use super::not_supported;
use super::page::{YamlPage, text};
use super::section::{Section, SectionEntry};
use crate::config::diagnostics::{Diagnostic, Diagnostics, quoted};
use crate::config::model::AffinityStore;
use crate::config::scalar::{self, hints};
use crate::config::source::tree::NodeKind;

/// The keys of `affinity_store`.
pub(crate) static AFFINITY_STORE: Mapping = Mapping {
    path: "affinity_store",
    keys: &[Special("file"), Special("redis"), Special("password_file")],
};

const EXPECTS: &str = "`memory`, `{ file: PATH }` or `{ redis: URL }`";

/// Parses `affinity_store`.
pub(super) fn parse(root: &Section<'_>, diagnostics: &mut Diagnostics) -> AffinityStore {
    let Some(entry) = root.get("affinity_store") else {
        return AffinityStore::Memory;
    };
    let node = entry.node;
    let mut hint = None;
    let message = match &node.kind {
        NodeKind::Scalar(scalar) if scalar.text == "memory" => return AffinityStore::Memory,
        NodeKind::Scalar(scalar) => {
            hint =
                hints::suggest_word(&scalar.text, &["memory"]).or_else(|| path_only(&scalar.text));
            let found = quoted(&scalar.text);
            format!("`affinity_store` expects {EXPECTS}, not {found}")
        }
        NodeKind::Map(entries) if !entries.is_empty() => return parse_mapping(entry, diagnostics),
        NodeKind::Map(_) | NodeKind::Null | NodeKind::List(_) => {
            format!("`affinity_store` expects {EXPECTS}")
        }
    };
    diagnostics.error(Diagnostic::new(node.at, message).optional_hint(hint));
    AffinityStore::Memory
}

/// The hint for a path without its key.
fn path_only(text: &str) -> Option<String> {
    let is_path = text.starts_with('/') && scalar::file_path(text).is_ok() && !text.contains('"');
    is_path.then(|| format!("write `{{ file: \"{text}\" }}`"))
}

fn parse_mapping(entry: SectionEntry<'_>, diagnostics: &mut Diagnostics) -> AffinityStore {
    let SectionEntry { node, at, .. } = entry;
    let section = AFFINITY_STORE.open(node, "`affinity_store`", at, diagnostics);
    let unsupported = ["redis", "password_file"];
    for entry in unsupported.into_iter().filter_map(|key| section.get(key)) {
        let what = format!("`affinity_store` with `{}`", entry.name);
        let instead = "write `affinity_store: { file: PATH }` or `affinity_store: memory`";
        not_supported(diagnostics, entry.at, &what, instead);
    }
    let path = Text {
        expects: "the path of a file",
        parse: scalar::file_path,
    };
    let path = section.optional("file", &path, diagnostics);
    path.map_or(AffinityStore::Memory, |path| {
        AffinityStore::File(path.value)
    })
}

/// Prints `affinity_store`.
pub(super) fn print(page: &mut YamlPage, store: &AffinityStore) {
    match store {
        AffinityStore::Memory => page.entry(0, "affinity_store", "memory"),
        AffinityStore::File(file) => {
            page.line(0, "affinity_store:");
            page.entry(1, "file", text(file.display()));
        }
    }
}

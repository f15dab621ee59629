//! The file as a tree of values with their locations.
//!
//! Owns YAML: anchors, merge keys, limits, and the messages of the YAML parser. Must not know what any key means.
//! Invariant: every key and value of the file is in the tree, duplicates too, so that all errors can be reported at once;
//! depth and size of the tree are bounded, whatever the file holds.

use std::collections::HashSet;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Error, Location, MergeKeyPolicy, Options, Spanned};

use super::location::FileLocation;
use crate::config::diagnostics::Diagnostic;
use crate::config::scalar::{self, hints};

/// A value of the file and its location.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    /// Where the value begins; for an alias, where the anchored value does.
    pub at: FileLocation,
    /// Its kind and content.
    pub kind: NodeKind,
}

/// The kind and content of a node.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum NodeKind {
    /// `null`, `~` or nothing at all.
    Null,
    /// A single value.
    Scalar(Scalar),
    /// `[a, b]`, or lines of `- a`.
    List(Vec<Node>),
    /// `{ a: b }`, or lines of `a: b`, in the order of the file.
    Map(Vec<(Node, Node)>),
}

/// A scalar as it is in the file, and the type that YAML infers for it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scalar {
    /// The text, without quotes.
    pub text: String,
    /// The type that YAML infers.
    pub is: Inferred,
}

/// The type that YAML infers for a scalar without quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Inferred {
    /// None of the others, or quoted.
    Text,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i128),
    /// Another number.
    Float,
}

/// The maximum size of a configuration file in bytes.
pub const MAX_FILE_BYTES: usize = 1 << 20;
/// The maximum nesting of lists and mappings; a configuration needs eight levels.
const MAX_DEPTH: usize = 32;
/// The maximum number of values in a file, including those that aliases repeat.
const MAX_NODES: usize = 200_000;

/// A key and its value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SectionEntry<'a> {
    /// The key.
    pub name: &'a str,
    /// The location of the key.
    pub at: FileLocation,
    /// Its value.
    pub node: &'a Node,
}

/// Parses a file into a tree. An empty file is [`NodeKind::Null`].
pub(crate) fn parse(text: &str) -> Result<Node, Diagnostic> {
    if text.len() > MAX_FILE_BYTES {
        return Err(too_large());
    }
    match serde_saphyr::from_str_with_options::<Raw>(text, options()) {
        Ok(raw) => convert(raw, text),
        Err(error) => Err(explain(error.without_snippet(), text)),
    }
}

/// The error of a file of more than [`MAX_FILE_BYTES`].
pub(crate) fn too_large() -> Diagnostic {
    let message = format!("the file is larger than {} MiB", MAX_FILE_BYTES >> 20);
    Diagnostic::new(FileLocation::START, message)
}

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            max_nodes: MAX_NODES,
        },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: MergeKeyPolicy::AsOrdinary,
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_NODES },
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        strict_booleans: true,
        with_snippet: false,
    }
}

/// The YAML parser's error in terms of the file.
fn explain(error: &Error, source: &str) -> Diagnostic {
    let at = error.location().map_or(FileLocation::START, file_location);
    if matches!(error, Error::MultipleDocuments { .. }) {
        return Diagnostic::new(at, "a second YAML document begins here")
            .hint("write one configuration per file, without `---` in the middle");
    }
    if matches!(error, Error::UnknownAnchor { .. }) {
        return Diagnostic::new(
            at,
            "`*` begins a YAML alias, but there is no anchor of this name",
        )
        .hint(quote_star(source, at));
    }
    if matches!(error, Error::RecursiveReferencesRequireWeakTypes { .. }) {
        return Diagnostic::new(at, "this alias is inside the value that it repeats");
    }
    let text = error.to_string();
    let text = text.split(" at line ").next().unwrap_or_default();
    if matches!(error, Error::Budget { .. }) && text.contains("Depth")
        || text.contains("recursion limit")
    {
        return Diagnostic::new(
            at,
            format!("lists and mappings are nested deeper than {MAX_DEPTH} levels"),
        );
    }
    if matches!(error, Error::Budget { .. } | Error::AliasError { .. }) || text.contains("alias") {
        let message = format!("the file has more than {MAX_NODES} values, including aliases");
        return Diagnostic::new(at, message);
    }
    let message = format!("not valid YAML: {}", lower_case_start(text));
    let hint = hints::yaml(line(source, at.line), last_line_before(source, at.line));
    let hint = hint.or_else(|| syntax_hint(text, rest_of(source, at)).map(ToOwned::to_owned));
    Diagnostic::new(at, message).optional_hint(hint)
}

/// The hint for a syntax error by the YAML parser's text; `rest` is the rest of the line.
fn syntax_hint(error: &str, rest: &str) -> Option<&'static str> {
    let is = |part| error.contains(part);
    Some(match error {
        _ if is("tab") => "indent with spaces",
        _ if is("mapping values") => "check the indentation, and quote a value that contains `: `",
        _ if is("illegal placement") => "check for an unclosed bracket above",
        _ if is("misplaced bracket") => {
            "this bracket closes nothing; check for a missing opening bracket"
        }
        _ if is("trailing content") && rest.starts_with(',') => {
            "put several values in brackets: `[a, b]`"
        }
        _ if is("trailing content") => "check for an unclosed quote above",
        _ if is("expected") && is("block") => {
            "check the indentation of this line and the lines above"
        }
        _ if is("unexpected character") => "put the value in quotes",
        _ if is("unclosed quote") => "close the quote that begins here",
        _ => return None,
    })
}

/// The line of that number, from 1.
fn line(source: &str, number: usize) -> &str {
    source.lines().nth(number - 1).unwrap_or_default()
}

/// The rest of the line from a location on.
fn rest_of(source: &str, at: FileLocation) -> &str {
    let line = line(source, at.line);
    let start = line.char_indices().nth(at.column - 1);
    start.map_or("", |(start, _)| &line[start..])
}

/// The last line before a line that is not empty or a comment.
fn last_line_before(source: &str, number: usize) -> &str {
    let lines = source.lines().take(number - 1);
    let has_content = |line: &&str| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with('#')
    };
    lines.filter(has_content).last().unwrap_or_default()
}

/// The hint for a `*` without quotes.
fn quote_star(source: &str, at: FileLocation) -> String {
    let rest = rest_of(source, at);
    let end = rest.find(|c: char| c.is_whitespace() || ",]}".contains(c));
    let word = &rest[..end.unwrap_or(rest.len())];
    match word.strip_prefix("*:") {
        Some(port) if scalar::port(port).is_some() => {
            format!("for all IPv4 addresses, write `0.0.0.0:{port}`")
        }
        _ if scalar::pattern(word).is_ok() => {
            format!("put a wildcard name in quotes: `\"{word}\"`")
        }
        Some(_) | None => "put a wildcard name in quotes: `\"*.contoso.com\"`".into(),
    }
}

fn lower_case_start(text: &str) -> String {
    let mut chars = text.trim_end_matches('.').chars();
    let first = chars.next().map(|first| first.to_ascii_lowercase());
    first.into_iter().chain(chars).collect()
}

fn file_location(location: Location) -> FileLocation {
    let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX).max(1);
    FileLocation {
        line: count(location.line()),
        column: count(location.column()),
    }
}

type Raw = Spanned<RawKind>;

/// A value as serde passes it; the text of a number is read from the source afterwards.
enum RawKind {
    Null,
    Text(String),
    Bool(bool),
    Integer(i128),
    Float(f64),
    List(Vec<Raw>),
    Map(Vec<(Raw, Raw)>),
}

impl<'de> Deserialize<'de> for RawKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = RawKind;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("any value")
            }
            fn visit_unit<E>(self) -> Result<RawKind, E> {
                Ok(RawKind::Null)
            }
            fn visit_bool<E>(self, value: bool) -> Result<RawKind, E> {
                Ok(RawKind::Bool(value))
            }
            fn visit_i64<E>(self, value: i64) -> Result<RawKind, E> {
                Ok(RawKind::Integer(value.into()))
            }
            fn visit_u64<E>(self, value: u64) -> Result<RawKind, E> {
                Ok(RawKind::Integer(value.into()))
            }
            fn visit_f64<E>(self, value: f64) -> Result<RawKind, E> {
                Ok(RawKind::Float(value))
            }
            fn visit_str<E>(self, value: &str) -> Result<RawKind, E> {
                Ok(RawKind::Text(value.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<RawKind, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(RawKind::List(list))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<RawKind, A::Error> {
                let mut map = Vec::new();
                while let Some(entry) = entries.next_entry()? {
                    map.push(entry);
                }
                Ok(RawKind::Map(map))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// Converts serde's values into the tree: numbers get the text of the file, merge keys their entries.
fn convert(raw: Raw, text: &str) -> Result<Node, Diagnostic> {
    let at = file_location(raw.defined);
    let scalar = |text: String, is| NodeKind::Scalar(Scalar { text, is });
    let kind = match raw.value {
        RawKind::Null => NodeKind::Null,
        RawKind::Text(value) => scalar(value, Inferred::Text),
        RawKind::Bool(value) => scalar(source_of(raw.defined, text, &value), Inferred::Bool(value)),
        RawKind::Integer(value) => scalar(
            source_of(raw.defined, text, &value),
            Inferred::Integer(value),
        ),
        RawKind::Float(value) => scalar(source_of(raw.defined, text, &value), Inferred::Float),
        RawKind::List(items) => NodeKind::List(
            items
                .into_iter()
                .map(|item| convert(item, text))
                .collect::<Result<_, _>>()?,
        ),
        RawKind::Map(entries) => {
            let entries = entries
                .into_iter()
                .map(|(key, value)| Ok((convert(key, text)?, convert(value, text)?)))
                .collect::<Result<_, Diagnostic>>()?;
            NodeKind::Map(merge(entries)?)
        }
    };
    Ok(Node { at, kind })
}

/// The number or boolean as written in the file, so that a pool may be named `010` or `1.50`.
fn source_of(location: Location, text: &str, value: &impl ToString) -> String {
    let span = location.span();
    let slice = span
        .byte_offset()
        .zip(span.byte_len())
        .and_then(|(start, length)| {
            let start = usize::try_from(start).ok()?;
            let end = start.checked_add(usize::try_from(length).ok()?)?;
            text.get(start..end)
        });
    slice.map_or_else(
        || value.to_string(),
        |slice| slice.trim_matches(['"', '\'']).to_owned(),
    )
}

/// Adds the entries of `<<: *anchor` to their mapping; the mapping's own entries take precedence.
fn merge(entries: Vec<(Node, Node)>) -> Result<Vec<(Node, Node)>, Diagnostic> {
    if !entries.iter().any(|(key, _)| is_merge_key(key)) {
        return Ok(entries);
    }
    let (merges, mut own): (Vec<_>, Vec<_>) =
        entries.into_iter().partition(|(key, _)| is_merge_key(key));
    let word = |key: &Node| match &key.kind {
        NodeKind::Scalar(scalar) => Some((scalar.text.clone(), scalar.is)),
        NodeKind::Null | NodeKind::List(_) | NodeKind::Map(_) => None,
    };
    // A key that is not a scalar is an error wherever it is used, so it is never a duplicate.
    let mut words: HashSet<(String, Inferred)> =
        own.iter().filter_map(|(key, _)| word(key)).collect();
    for (key, value) in merges {
        let sources = match value.kind {
            NodeKind::List(items) => items,
            NodeKind::Null | NodeKind::Scalar(_) | NodeKind::Map(_) => vec![value],
        };
        for source in sources {
            let NodeKind::Map(entries) = source.kind else {
                return Err(Diagnostic::new(
                    key.at,
                    "`<<` expects a mapping or a list of mappings",
                )
                .hint("name an anchored mapping: `<<: *anchor`"));
            };
            for entry in entries {
                if word(&entry.0).is_none_or(|word| words.insert(word)) {
                    own.push(entry);
                }
            }
        }
    }
    Ok(own)
}

fn is_merge_key(key: &Node) -> bool {
    matches!(&key.kind, NodeKind::Scalar(scalar) if scalar.text == "<<")
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;

//! The file as a tree of nodes that know their places.
//!
//! Owns the reading of YAML: anchors, merge keys, limits, and what the YAML reader has to say. Must not know what any
//! key means. Invariant: every key and value of the file is in the tree, duplicates too, so that whoever walks it can
//! report every fault at once; the tree is bounded in depth and size whatever the file holds.

use std::collections::HashSet;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Error, Location, MergeKeyPolicy, Options, Spanned};

use super::diagnostics::{FileLocation, Note};
use super::scalar::advice;

/// A value of the file and its place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    /// Where the value begins; for an alias, where the anchored value does.
    pub at: FileLocation,
    /// What it is.
    pub kind: NodeKind,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum NodeKind {
    /// `null`, `~` or nothing at all.
    Null,
    /// One word or text.
    Scalar(Scalar),
    /// `[a, b]` or lines of `- a`.
    List(Vec<Node>),
    /// `{ a: b }` or lines of `a: b`, in the file's order.
    Map(Vec<(Node, Node)>),
}

/// A scalar as it stands in the file, and what YAML takes it for.
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
    /// Neither of the others, or quoted.
    Text,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i128),
    /// Another number.
    Float,
}

/// The most bytes that a configuration file may have.
pub const MAX_FILE_BYTES: usize = 1 << 20;
/// How deep lists and mappings may nest; the configuration itself needs eight.
const MAX_DEPTH: usize = 32;
/// How many values a file may hold, those that aliases repeat included.
const MAX_NODES: usize = 200_000;

/// A key and its value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SectionEntry<'a> {
    /// The key.
    pub name: &'a str,
    /// Where the key stands.
    pub at: FileLocation,
    /// Its value.
    pub node: &'a Node,
}

/// Reads a file into a tree. An empty one is [`NodeKind::Null`].
pub(crate) fn parse(text: &str) -> Result<Node, Note> {
    if text.len() > MAX_FILE_BYTES {
        return Err(too_large());
    }
    match serde_saphyr::from_str_with_options::<Raw>(text, options()) {
        Ok(raw) => convert(raw, text),
        Err(error) => Err(explain(error.without_snippet(), text)),
    }
}

/// What is wrong with a file of more than [`MAX_FILE_BYTES`].
pub(crate) fn too_large() -> Note {
    let message = format!("the file has more than {} MiB", MAX_FILE_BYTES >> 20);
    Note::new(FileLocation::START, message)
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

/// Says in the words of whoever has to mend the file what the YAML reader found.
fn explain(error: &Error, source: &str) -> Note {
    let at = error.location().map_or(FileLocation::START, place);
    if matches!(error, Error::MultipleDocuments { .. }) {
        return Note::new(at, "a second YAML document begins here")
            .hint("keep one configuration a file, without `---` in the middle");
    }
    if matches!(error, Error::UnknownAnchor { .. }) {
        return Note::new(at, "`*` begins a YAML alias, and no anchor has this name")
            .hint(star(source, at));
    }
    if matches!(error, Error::RecursiveReferencesRequireWeakTypes { .. }) {
        return Note::new(at, "this alias stands inside the value that it repeats");
    }
    let text = error.to_string();
    let text = text.split(" at line ").next().unwrap_or_default();
    if matches!(error, Error::Budget { .. }) && text.contains("Depth")
        || text.contains("recursion limit")
    {
        return Note::new(
            at,
            format!("lists and mappings nest deeper than {MAX_DEPTH}"),
        );
    }
    if matches!(error, Error::Budget { .. } | Error::AliasError { .. }) || text.contains("alias") {
        let message = format!("the file holds more than {MAX_NODES} values, aliases included");
        return Note::new(at, message);
    }
    let note = Note::new(at, format!("not valid YAML: {}", lower_case_start(text)));
    if let Some(hint) = advice::yaml(line(source, at.line), last_line_before(source, at.line)) {
        return note.hint(hint);
    }
    match text {
        _ if text.contains("tab") => note.hint("indent with spaces"),
        _ if text.contains("mapping values") => {
            note.hint("check the indentation, and quote a value that contains `: `")
        }
        _ if text.contains("illegal placement") => note.hint("is a bracket left open above?"),
        _ if text.contains("misplaced bracket") => {
            note.hint("no bracket was opened for this one to close")
        }
        _ if text.contains("trailing content") && rest_of(source, at).starts_with(',') => {
            note.hint("put several values in brackets: `[a, b]`")
        }
        _ if text.contains("trailing content") => note.hint("is a quote left open above?"),
        _ if text.contains("expected") && text.contains("block") => {
            note.hint("check the indentation of this line and of those above")
        }
        _ if text.contains("unexpected character") => note.hint("put the value in quotes"),
        _ if text.contains("unclosed quote") => note.hint("close the quote that begins here"),
        _ => note,
    }
}

/// The line of that number, from 1.
fn line(source: &str, number: usize) -> &str {
    source.lines().nth(number - 1).unwrap_or_default()
}

/// What stands in the line from a place on.
fn rest_of(source: &str, at: FileLocation) -> &str {
    let line = line(source, at.line);
    let start = line.char_indices().nth(at.column - 1);
    start.map_or("", |(start, _)| &line[start..])
}

/// The last line before that one which has more than a comment.
fn last_line_before(source: &str, number: usize) -> &str {
    let lines = source.lines().take(number - 1);
    let said = |line: &&str| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with('#')
    };
    lines.filter(said).last().unwrap_or_default()
}

/// What to write for a `*` without quotes.
fn star(source: &str, at: FileLocation) -> String {
    let rest = rest_of(source, at);
    let end = rest.find(|c: char| c.is_whitespace() || ",]}".contains(c));
    let word = &rest[..end.unwrap_or(rest.len())];
    match word.strip_prefix("*:") {
        Some(port) if super::scalar::port(port).is_some() => {
            format!("for every IPv4 address write `0.0.0.0:{port}`")
        }
        _ if super::scalar::pattern(word).is_ok() => {
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

fn place(location: Location) -> FileLocation {
    let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX).max(1);
    FileLocation {
        line: count(location.line()),
        column: count(location.column()),
    }
}

type Raw = Spanned<RawKind>;

/// What serde is told, before the source text is consulted for numbers.
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

/// Turns what serde was told into the tree: numbers get their text back, merge keys their entries.
fn convert(raw: Raw, text: &str) -> Result<Node, Note> {
    let at = place(raw.defined);
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
                .collect::<Result<_, Note>>()?;
            NodeKind::Map(merge(entries)?)
        }
    };
    Ok(Node { at, kind })
}

/// The number or boolean as the file has it, so that a pool may be called `010` or `1.50`.
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

/// Puts the entries of `<<: *anchor` in their mapping; what the mapping says itself wins.
fn merge(entries: Vec<(Node, Node)>) -> Result<Vec<(Node, Node)>, Note> {
    if !entries.iter().any(|(key, _)| is_merge_key(key)) {
        return Ok(entries);
    }
    let (merges, mut own): (Vec<_>, Vec<_>) =
        entries.into_iter().partition(|(key, _)| is_merge_key(key));
    let word = |key: &Node| match &key.kind {
        NodeKind::Scalar(scalar) => Some((scalar.text.clone(), scalar.is)),
        NodeKind::Null | NodeKind::List(_) | NodeKind::Map(_) => None,
    };
    // What is no word is no key of a configuration: its mapping is faulty, however often it comes.
    let mut words: HashSet<(String, Inferred)> =
        own.iter().filter_map(|(key, _)| word(key)).collect();
    for (key, value) in merges {
        let sources = match value.kind {
            NodeKind::List(items) => items,
            NodeKind::Null | NodeKind::Scalar(_) | NodeKind::Map(_) => vec![value],
        };
        for source in sources {
            let NodeKind::Map(entries) = source.kind else {
                return Err(
                    Note::new(key.at, "`<<` takes a mapping or a list of mappings")
                        .hint("name an anchored mapping: `<<: *anchor`"),
                );
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

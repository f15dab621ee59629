//! One mapping of the file, read key by key.
//!
//! Owns the errors that any key can have: unknown, duplicate, missing, without a value, of the wrong type. Must not know
//! what a value means; the caller passes its parser. Invariant: reading a value either returns it with its location or
//! reports why not.

use std::collections::HashMap;

use super::format::ValueParser;
use super::list::{items, suggest_splitting};
use crate::config::diagnostics::{
    Diagnostic, Diagnostics, FileLocation, SourceHint, did_you_mean, quoted,
};
use crate::config::scalar::{Parsed, hints};
use crate::config::source::location::Located;
pub(crate) use crate::config::source::tree::SectionEntry;
use crate::config::source::tree::{Inferred, Node, NodeKind, Scalar};

/// A mapping whose keys are all known and unique.
#[derive(Debug)]
pub(crate) struct Section<'a> {
    /// Its name in messages: "pool `web`".
    what: String,
    /// The location of the key that holds it.
    at: FileLocation,
    entries: Vec<SectionEntry<'a>>,
    /// Every key that it may have.
    known: Vec<&'static str>,
}

impl<'a> Section<'a> {
    /// The mapping in `node`, which is the value of the key at `at`; empty if the key has no value.
    pub(crate) fn new(
        node: &'a Node,
        known: Vec<&'static str>,
        what: &str,
        at: FileLocation,
        diagnostics: &mut Diagnostics,
    ) -> Self {
        let mut entries = entries(node, what, diagnostics);
        entries.retain(|entry| is_known(entry, &known, what, diagnostics));
        Self {
            what: what.to_owned(),
            at,
            entries,
            known,
        }
    }

    /// The key's entry, if the file has it.
    pub(crate) fn get(&self, key: &str) -> Option<SectionEntry<'a>> {
        debug_assert!(self.known.contains(&key), "{key} is in no table of keys");
        self.entries.iter().find(|entry| entry.name == key).copied()
    }

    /// The entry of a required key.
    pub(crate) fn require(
        &self,
        key: &str,
        diagnostics: &mut Diagnostics,
    ) -> Option<SectionEntry<'a>> {
        let entry = self.get(key);
        if entry.is_none() {
            let message = format!("{} requires `{key}`", self.what);
            diagnostics.error(Diagnostic::new(self.at, message));
        }
        entry
    }

    /// The key's value and location; `None` if it is missing or invalid.
    pub(crate) fn optional<T>(
        &self,
        key: &str,
        parser: &impl ValueParser<T>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Located<T>> {
        read_scalar(self.get(key)?.node, key, parser, diagnostics)
    }

    /// As [`Section::optional`]; `null` is the same as leaving the key out.
    pub(crate) fn nullable<T>(
        &self,
        key: &str,
        parser: &impl ValueParser<T>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Located<T>> {
        let node = self.get(key)?.node;
        if node.kind == NodeKind::Null {
            return None;
        }
        read_scalar(node, key, &OrNull(parser), diagnostics)
    }

    /// The values of a list of scalars, without the invalid ones.
    pub(crate) fn list<T>(
        &self,
        key: &str,
        parser: &impl ValueParser<T>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Vec<Located<T>>> {
        let entry = self.get(key)?;
        let mut parse_item = |item: &Node| match &item.kind {
            NodeKind::Scalar(found) => parser.parse(found).map(drop),
            NodeKind::Null | NodeKind::List(_) | NodeKind::Map(_) => Err(None),
        };
        let mut found = Vec::new();
        for item in items(entry, &parser.expects(), diagnostics, &mut parse_item)? {
            let before = diagnostics.errors.len();
            found.extend(read_scalar(item, key, parser, diagnostics));
            suggest_splitting(item, before, diagnostics, &mut parse_item);
        }
        Some(found)
    }

    /// As [`Section::list`]; an empty list is an error.
    pub(crate) fn non_empty_list<T>(
        &self,
        key: &str,
        parser: &impl ValueParser<T>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Vec<Located<T>>> {
        not_empty(self.get(key)?, "list at least one", diagnostics);
        self.list(key, parser, diagnostics)
    }
}

/// The parser of a key that also accepts `null`, with a hint for people who write `none`.
struct OrNull<'a, P>(&'a P);

impl<T, P: ValueParser<T>> ValueParser<T> for OrNull<'_, P> {
    fn expects(&self) -> String {
        self.0.expects()
    }

    fn parse(&self, scalar: &Scalar) -> Parsed<T> {
        self.0
            .parse(scalar)
            .map_err(|hint| match hints::suggest_word(&scalar.text, &["none"]) {
                Some(_) => Some("for none, write `null` or leave the key out".into()),
                None => hint,
            })
    }
}

/// Reports a list without items.
pub(crate) fn not_empty(entry: SectionEntry<'_>, hint: &str, diagnostics: &mut Diagnostics) {
    if matches!(&entry.node.kind, NodeKind::List(items) if items.is_empty()) {
        let message = format!("`{}` is empty", entry.name);
        diagnostics.error(Diagnostic::new(entry.node.at, message).hint(hint));
    }
}

/// Reports the values of a list that an earlier one is equal to.
pub(crate) fn report_duplicates<T: PartialEq>(
    key: &str,
    values: &[Located<T>],
    diagnostics: &mut Diagnostics,
) {
    for (index, value) in values.iter().enumerate() {
        let mut earlier = values[..index].iter();
        if let Some(first) = earlier.find(|earlier| earlier.value == value.value) {
            let diagnostic = Diagnostic::new(value.at, format!("`{key}` has this twice"));
            diagnostics.error(diagnostic.hint(first.at.first_hint()));
        }
    }
}

/// The entries of a mapping whose keys are names of the user's choice.
pub(crate) fn named_entries<'a>(
    entry: SectionEntry<'a>,
    diagnostics: &mut Diagnostics,
) -> Vec<SectionEntry<'a>> {
    entries(entry.node, &format!("`{}`", entry.name), diagnostics)
}

/// A scalar's value and location.
pub(crate) fn read_scalar<T>(
    node: &Node,
    key: &str,
    parser: &(impl ValueParser<T> + ?Sized),
    diagnostics: &mut Diagnostics,
) -> Option<Located<T>> {
    let expects = parser.expects();
    let wrong_type = |found: &str| {
        let message = format!("`{key}` expects {expects}, not {found}");
        Diagnostic::new(node.at, message).hint_from_source(SourceHint::IfMissing)
    };
    let diagnostic = match &node.kind {
        NodeKind::Scalar(scalar) => match parser.parse(scalar) {
            Ok(value) => return Some(Located::new(value, node.at)),
            Err(hint) => {
                let message = format!("`{key}` expects {expects}, not {}", shown(scalar));
                let without = hint_without_invisible(scalar, |scalar| parser.parse(scalar).is_ok());
                Diagnostic::new(node.at, message).optional_hint(without.or(hint))
            }
        },
        NodeKind::Null => Diagnostic::new(node.at, format!("`{key}` has no value"))
            .hint(format!("it expects {expects}")),
        NodeKind::List(items) => match items.as_slice() {
            [
                Node {
                    kind: NodeKind::Scalar(only),
                    ..
                },
            ] if parser.parse(only).is_ok() => wrong_type("a list")
                .hint(format!("write it without brackets: {}", quoted(&only.text))),
            _ => wrong_type("a list"),
        },
        NodeKind::Map(_) => wrong_type("a mapping"),
    };
    diagnostics.error(diagnostic);
    None
}

/// The hint for a text with an invisible character.
fn hint_without_invisible(scalar: &Scalar, is_valid: impl Fn(&Scalar) -> bool) -> Option<String> {
    let (hint, text) = hints::invisible(&scalar.text)?;
    let is = scalar.is;
    let without = Scalar { text, is };
    Some(match is_valid(&without) {
        true => format!("{hint}: {}", quoted(&without.text)),
        false => hint,
    })
}

/// A scalar in a message. Quotes are shown where they are the mistake.
fn shown(scalar: &Scalar) -> String {
    let text = scalar.text.as_str();
    let ambiguous = text.parse::<i128>().is_ok() || ["true", "false", ""].contains(&text);
    if scalar.is == Inferred::Text && ambiguous {
        return quoted(&format!("\"{text}\""));
    }
    quoted(text)
}

/// The entries of a mapping, each key once.
fn entries<'a>(node: &'a Node, what: &str, diagnostics: &mut Diagnostics) -> Vec<SectionEntry<'a>> {
    let mut entries: Vec<SectionEntry<'_>> = Vec::new();
    let mut seen: HashMap<&str, FileLocation> = HashMap::new();
    for (key, value) in mapping_entries(node, what, diagnostics) {
        let NodeKind::Scalar(Scalar { text: name, .. }) = &key.kind else {
            let message = format!("a key of {what} is not a plain word");
            let diagnostic = Diagnostic::new(key.at, message);
            diagnostics.error(diagnostic.hint_from_source(SourceHint::Preferred));
            continue;
        };
        if let Some(first) = seen.get(name.as_str()) {
            let message = format!("duplicate key {} in {what}", quoted(name));
            diagnostics.error(Diagnostic::new(key.at, message).hint(first.first_hint()));
            continue;
        }
        seen.insert(name, key.at);
        entries.push(SectionEntry {
            name,
            at: key.at,
            node: value,
        });
    }
    entries
}

/// The keys and values of a mapping; a missing value is an empty mapping.
fn mapping_entries<'a>(
    node: &'a Node,
    what: &str,
    diagnostics: &mut Diagnostics,
) -> &'a [(Node, Node)] {
    let (found, source_hint) = match &node.kind {
        NodeKind::Map(entries) => return entries,
        NodeKind::Null => return &[],
        NodeKind::Scalar(scalar) => (quoted(&scalar.text), SourceHint::Never),
        NodeKind::List(_) => ("a list".to_owned(), SourceHint::IfMissing),
    };
    let message = format!("{what} expects a mapping of keys, not {found}");
    diagnostics.error(Diagnostic::new(node.at, message).hint_from_source(source_hint));
    &[]
}

fn is_known(
    entry: &SectionEntry<'_>,
    known: &[&'static str],
    what: &str,
    diagnostics: &mut Diagnostics,
) -> bool {
    let is_known = known.contains(&entry.name);
    if !is_known {
        let message = format!("unknown key {} in {what}", quoted(entry.name));
        let hint = match hints::invisible(entry.name) {
            Some((hint, without)) if known.contains(&without.trim()) => {
                format!("{hint}: `{}`", without.trim())
            }
            Some((hint, _)) => hint,
            None => did_you_mean(entry.name, known.iter().copied())
                .unwrap_or_else(|| format!("the valid keys are {}", known.join(", "))),
        };
        let diagnostic = Diagnostic::new(entry.at, message).hint(hint);
        diagnostics.error(diagnostic.hint_from_source(SourceHint::Preferred));
    }
    is_known
}

/// Whether the value of a key that also accepts `none` is a mapping. A missing value is an error, since it could mean
/// either.
pub(crate) fn is_mapping_or_none(entry: SectionEntry<'_>, diagnostics: &mut Diagnostics) -> bool {
    let SectionEntry { name, node, .. } = entry;
    let diagnostic = match &node.kind {
        NodeKind::Map(_) => return true,
        NodeKind::Scalar(scalar) if scalar.text == "none" => return false,
        NodeKind::Null => Diagnostic::new(entry.at, format!("`{name}` has no value"))
            .hint("leave it out for the defaults, or write `none`"),
        NodeKind::Scalar(scalar) => {
            let found = quoted(&scalar.text);
            let message = format!("`{name}` expects a mapping of keys or `none`, not {found}");
            Diagnostic::new(node.at, message)
                .optional_hint(hints::suggest_word(&scalar.text, &["none"]))
        }
        NodeKind::List(_) => {
            let message = format!("`{name}` expects a mapping of keys or `none`, not a list");
            Diagnostic::new(node.at, message).hint_from_source(SourceHint::IfMissing)
        }
    };
    diagnostics.error(diagnostic);
    false
}

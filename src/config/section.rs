//! One mapping of the file, read key by key.
//!
//! Owns the faults that any key can have: unknown, twice, missing, without a value, of the wrong type. Must not know
//! what a value means; that is told by the parser that comes with the question. Invariant: reading a value either
//! gives it with its place or has noted why not.

use std::collections::HashMap;

use super::diagnostics::{FileLocation, Note, Notes, any_of, did_you_mean, quoted};
use super::keys::Keys;
use super::list::{items, several_in_one};
use super::scalar::Parsed;
pub(crate) use super::tree::SectionEntry;
use super::tree::{Inferred, Node, NodeKind, Scalar};
use super::written::At;

/// A mapping whose keys are all known and unique.
#[derive(Debug)]
pub(crate) struct Section<'a> {
    /// What it is, for messages: "pool `web`".
    what: String,
    /// Its place: that of the key that it stands under.
    at: FileLocation,
    entries: Vec<SectionEntry<'a>>,
    keys: Keys,
}

impl<'a> Section<'a> {
    /// The mapping in `node`, which stands under the key at `at`; one with nothing in it where there is nothing.
    pub(crate) fn open(
        node: &'a Node,
        keys: Keys,
        what: &str,
        at: FileLocation,
        notes: &mut Notes,
    ) -> Self {
        let entries = entries(node, what, notes);
        let entries = entries
            .into_iter()
            .filter(|entry| is_known(entry, keys, what, notes));
        Self {
            what: what.to_owned(),
            at,
            entries: entries.collect(),
            keys,
        }
    }

    /// The key's entry, where the file has it.
    pub(crate) fn get(&self, key: &str) -> Option<SectionEntry<'a>> {
        debug_assert!(
            self.keys.names.contains(&key),
            "{key} stands in no table of keys"
        );
        self.entries.iter().find(|entry| entry.name == key).copied()
    }

    /// The entry of a key without which nothing works.
    pub(crate) fn require(&self, key: &str, notes: &mut Notes) -> Option<SectionEntry<'a>> {
        let entry = self.get(key);
        if entry.is_none() {
            notes.fault(Note::new(self.at, format!("{} needs `{key}`", self.what)));
        }
        entry
    }

    /// The key's value, or the default where it is missing or faulty.
    pub(crate) fn value<T>(
        &self,
        key: &str,
        default: T,
        takes: &str,
        notes: &mut Notes,
        parse: impl FnMut(&Scalar) -> Parsed<T>,
    ) -> T {
        self.optional(key, takes, notes, parse)
            .map_or(default, |found| found.value)
    }

    /// The key's value and place; `None` where it is missing or faulty.
    pub(crate) fn optional<T>(
        &self,
        key: &str,
        takes: &str,
        notes: &mut Notes,
        parse: impl FnMut(&Scalar) -> Parsed<T>,
    ) -> Option<At<T>> {
        self.get(key)
            .and_then(|entry| scalar(entry.node, key, takes, notes, parse))
    }

    /// As [`Section::optional`], and `null` is a way to say nothing.
    pub(crate) fn nullable<T>(
        &self,
        key: &str,
        takes: &str,
        notes: &mut Notes,
        parse: impl FnMut(&Scalar) -> Parsed<T>,
    ) -> Option<At<T>> {
        let entry = self
            .get(key)
            .filter(|entry| entry.node.kind != NodeKind::Null)?;
        let mut parse = parse;
        scalar(entry.node, key, takes, notes, |found| {
            parse(found).map_err(|hint| match word_meant(&found.text, &["none"]) {
                Some(_) => Some("for none write `null`, or leave it out".into()),
                None => hint,
            })
        })
    }

    /// One of a few words.
    pub(crate) fn word<T: Copy>(
        &self,
        key: &str,
        words: &[(&'static str, T)],
        notes: &mut Notes,
    ) -> Option<At<T>> {
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        self.optional(key, &any_of(&known), notes, |scalar| one_of(scalar, words))
    }

    /// The key's value as a mapping of its own.
    pub(crate) fn section(&self, key: &str, keys: Keys, notes: &mut Notes) -> Option<Section<'a>> {
        let entry = self.get(key)?;
        Some(Section::open(
            entry.node,
            keys,
            &format!("`{key}`"),
            entry.at,
            notes,
        ))
    }

    /// The values of a list of scalars; those that are faulty are left out.
    pub(crate) fn list<T>(
        &self,
        key: &str,
        takes: &str,
        notes: &mut Notes,
        mut parse: impl FnMut(&Scalar) -> Parsed<T>,
    ) -> Option<Vec<At<T>>> {
        let entry = self.get(key)?;
        let mut is_sound = |item: &Node| match &item.kind {
            NodeKind::Scalar(found) => parse(found).map(drop),
            NodeKind::Null | NodeKind::List(_) | NodeKind::Map(_) => Err(None),
        };
        let items = items(entry, takes, notes, &mut is_sound)?.iter();
        let mut found = Vec::new();
        for item in items {
            let before = notes.faults.len();
            found.extend(scalar(item, key, takes, notes, &mut parse));
            let mut is_sound = |item: &Node| match &item.kind {
                NodeKind::Scalar(found) => parse(found).map(drop),
                NodeKind::Null | NodeKind::List(_) | NodeKind::Map(_) => Err(None),
            };
            several_in_one(item, before, notes, &mut is_sound);
        }
        Some(found)
    }
}

/// One of a few words.
pub(crate) fn one_of<T: Copy>(scalar: &Scalar, words: &[(&'static str, T)]) -> Parsed<T> {
    let found = words.iter().find(|(word, _)| *word == scalar.text);
    let known = words.iter().map(|(word, _)| *word);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let known: Vec<&'static str> = known.collect();
        word_meant(&scalar.text, &known)
    })
}

/// The word that was probably meant where a key takes one of a few, or one of them beside other values.
pub(crate) fn word_meant(text: &str, known: &[&'static str]) -> Option<String> {
    let same = super::scalar::advice::synonym(text, known);
    same.map(|word| format!("did you mean `{word}`?"))
        .or_else(|| did_you_mean(text, known.iter().copied()))
}

/// The entries of a mapping whose keys the user chose.
pub(crate) fn named<'a>(entry: SectionEntry<'a>, notes: &mut Notes) -> Vec<SectionEntry<'a>> {
    entries(entry.node, &format!("`{}`", entry.name), notes)
}

/// A scalar's value and place.
pub(crate) fn scalar<T>(
    node: &Node,
    key: &str,
    takes: &str,
    notes: &mut Notes,
    mut parse: impl FnMut(&Scalar) -> Parsed<T>,
) -> Option<At<T>> {
    let found = match &node.kind {
        NodeKind::Scalar(scalar) => match parse(scalar) {
            Ok(value) => return Some(At { value, at: node.at }),
            Err(hint) => {
                let message = format!("`{key}` takes {takes}, not {}", shown(scalar));
                let hint = seen(scalar, &mut |scalar| parse(scalar).is_ok()).or(hint);
                notes.fault(Note {
                    at: node.at,
                    message,
                    hint,
                });
                return None;
            }
        },
        NodeKind::Null => {
            let note = Note::new(node.at, format!("`{key}` has no value"));
            notes.fault(note.hint(format!("it takes {takes}")));
            return None;
        }
        NodeKind::List(items) => {
            let note = Note::new(node.at, format!("`{key}` takes {takes}, not a list"));
            notes.fault(match items.as_slice() {
                [
                    Node {
                        kind: NodeKind::Scalar(only),
                        ..
                    },
                ] if parse(only).is_ok() => {
                    note.hint(format!("write it without brackets: {}", quoted(&only.text)))
                }
                _ => note,
            });
            return None;
        }
        NodeKind::Map(_) => "a mapping",
    };
    notes.fault(Note::new(
        node.at,
        format!("`{key}` takes {takes}, not {found}"),
    ));
    None
}

/// What to do about a text that has an invisible character.
fn seen(scalar: &Scalar, is_sound: &mut dyn FnMut(&Scalar) -> bool) -> Option<String> {
    let (hint, text) = super::scalar::advice::invisible(&scalar.text)?;
    let is = scalar.is;
    let without = Scalar { text, is };
    Some(match is_sound(&without) {
        true => format!("{hint}: {}", quoted(&without.text)),
        false => hint,
    })
}

/// A scalar in a message, in quotes where these are what is wrong with it.
fn shown(scalar: &Scalar) -> String {
    let text = scalar.text.as_str();
    let mistakable = text.parse::<i128>().is_ok() || ["true", "false", ""].contains(&text);
    if scalar.is == Inferred::Text && mistakable {
        return quoted(&format!("\"{text}\""));
    }
    quoted(text)
}

/// The entries of a mapping, each key once.
fn entries<'a>(node: &'a Node, what: &str, notes: &mut Notes) -> Vec<SectionEntry<'a>> {
    let mut entries: Vec<SectionEntry<'_>> = Vec::new();
    let mut seen: HashMap<&str, FileLocation> = HashMap::new();
    for (key, value) in mapping(node, what, notes) {
        let NodeKind::Scalar(Scalar { text: name, .. }) = &key.kind else {
            let message = format!("{what} has a key that is no word");
            notes.fault(Note::new(key.at, message));
            continue;
        };
        if let Some(first) = seen.get(name.as_str()) {
            let message = format!("{what} has {} twice", quoted(name));
            let hint = format!("the first is in line {}", first.line);
            notes.fault(Note::new(key.at, message).hint(hint));
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

/// The keys and values of a mapping; nothing is an empty one.
fn mapping<'a>(node: &'a Node, what: &str, notes: &mut Notes) -> &'a [(Node, Node)] {
    let found = match &node.kind {
        NodeKind::Map(entries) => return entries,
        NodeKind::Null => return &[],
        NodeKind::Scalar(scalar) => quoted(&scalar.text),
        NodeKind::List(_) => "a list".to_owned(),
    };
    let message = format!("{what} takes a mapping of keys, not {found}");
    notes.fault(Note::new(node.at, message));
    &[]
}

fn is_known(entry: &SectionEntry<'_>, keys: Keys, what: &str, notes: &mut Notes) -> bool {
    let known = keys.names.contains(&entry.name);
    if !known {
        let message = format!("{what} has no key {}", quoted(entry.name));
        let known = keys.names.iter().copied();
        let invisible = super::scalar::advice::invisible(entry.name);
        let hint = invisible
            .map(
                |(hint, without)| match keys.names.contains(&without.trim()) {
                    true => format!("{hint}: `{}`", without.trim()),
                    false => hint,
                },
            )
            .or_else(|| did_you_mean(entry.name, known))
            .unwrap_or_else(|| format!("it takes {}", keys.names.join(", ")));
        notes.fault(Note::new(entry.at, message).hint(hint));
    }
    known
}

/// A whole number in bounds.
pub(crate) fn integer(scalar: &Scalar, least: u64, most: u64) -> Parsed<u64> {
    match scalar.is {
        Inferred::Integer(value) => {
            let value = u64::try_from(value).map_err(|_| None)?;
            if (least..=most).contains(&value) {
                Ok(value)
            } else {
                Err(None)
            }
        }
        Inferred::Text | Inferred::Float => {
            let meant = super::scalar::advice::number(&scalar.text);
            let meant = meant.filter(|meant| (least..=most).contains(meant));
            let how = if scalar.text.bytes().all(|byte| byte.is_ascii_digit()) {
                "write a number without quotes or leading zeros"
            } else {
                "write the number in digits alone"
            };
            Err(meant.map(|meant| format!("{how}: `{meant}`")))
        }
        Inferred::Bool(_) => Err(None),
    }
}

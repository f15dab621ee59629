//! What is wrong with a file, said to whoever has to mend it.
//!
//! Owns the printed form: place, message, the source line with a caret, a hint. Must not know what any key means.
//! Invariant: faults are printed in the order of the file, each once, and printing is bounded whatever the file
//! holds.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use super::excerpt::{Excerpt, Lines};
pub(crate) use super::location::FileLocation;
use crate::types::invisible::is_invisible;

/// Something to say about a place, before the file's text is at hand to print it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Note {
    /// Where.
    pub at: FileLocation,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Note {
    /// A note without a hint.
    pub(crate) fn new(at: FileLocation, message: impl Into<String>) -> Self {
        Self {
            at,
            message: message.into(),
            hint: None,
        }
    }

    /// Adds what to do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// What was found on the way through a file.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// What makes the file unusable.
    pub faults: Vec<Note>,
    /// What works, and is hardly meant.
    pub lints: Vec<Note>,
}

impl Notes {
    /// Notes a fault.
    pub(crate) fn fault(&mut self, note: Note) {
        self.faults.push(note);
    }

    /// Notes a lint.
    pub(crate) fn lint(&mut self, note: Note) {
        self.lints.push(note);
    }
}

/// The file that notes are about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SourceFile {
    /// Its name, as the user gave it.
    pub file: Arc<str>,
    /// Its whole text.
    pub text: Arc<str>,
}

/// One thing that makes a configuration invalid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file's name, as it was given.
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
    /// What is wrong: lower case, one line, no full stop.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    excerpt: Excerpt,
}

impl ConfigError {
    fn new(note: Note, source: &SourceFile, line: Option<&str>) -> Self {
        Self {
            file: Arc::clone(&source.file),
            line: note.at.line,
            column: note.at.column,
            message: note.message,
            hint: note.hint,
            excerpt: Excerpt::new(line, note.at.column),
        }
    }

    fn print(&self, f: &mut fmt::Formatter<'_>, severity: &str) -> fmt::Result {
        let Self {
            file,
            line,
            column,
            message,
            ..
        } = self;
        writeln!(f, "{file}:{line}:{column}: {severity}{message}")?;
        self.excerpt.print(f, self.hint.as_deref())
    }
}

/// `file:line:column: message`, the source line, and a caret under the column with the hint.
impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.print(f, "")
    }
}

/// Something that works and is hardly meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lint(ConfigError);

impl Lint {
    /// Where, what and what to do.
    #[must_use]
    pub fn as_fault(&self) -> &ConfigError {
        &self.0
    }
}

/// As a fault, with `warning:` before the message.
impl fmt::Display for Lint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.print(f, "warning: ")
    }
}

/// Everything that makes a configuration invalid, in the order of the file; at least one fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    list: Vec<ConfigError>,
    left_out: usize,
}

impl ConfigErrors {
    /// The most faults that are kept; the rest are counted.
    pub const MAX: usize = 200;

    pub(crate) fn new(notes: Vec<Note>, source: &SourceFile) -> Self {
        Self::looked_at(notes, source, |_, _| {})
    }

    /// The same after another look at those that are kept, and at their lines: where a file has a hundred thousand errors,
    /// a look at each would take minutes.
    pub(crate) fn looked_at(
        notes: Vec<Note>,
        source: &SourceFile,
        look: impl Fn(&mut Note, &str),
    ) -> Self {
        let mut notes = in_order(notes);
        let left_out = notes.len().saturating_sub(Self::MAX);
        notes.truncate(Self::MAX);
        let mut lines = Lines::of(&source.text);
        let kept = notes.into_iter().map(|mut note| {
            let line = lines.at(note.at.line);
            look(&mut note, line.unwrap_or_default());
            ConfigError::new(note, source, line)
        });
        Self {
            list: kept.collect(),
            left_out,
        }
    }

    /// The faults, at most [`ConfigErrors::MAX`].
    pub fn iter(&self) -> std::slice::Iter<'_, ConfigError> {
        self.list.iter()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.list.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{fault}")?;
        }
        if self.left_out > 0 {
            write!(f, "\nand {} more", self.left_out)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

impl<'a> IntoIterator for &'a ConfigErrors {
    type Item = &'a ConfigError;
    type IntoIter = std::slice::Iter<'a, ConfigError>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The lints of a file, in its order and bounded like its faults.
pub(crate) fn lints(notes: Vec<Note>, source: &SourceFile) -> Vec<Lint> {
    let notes = in_order(notes).into_iter().take(ConfigErrors::MAX);
    let mut lines = Lines::of(&source.text);
    notes
        .map(|note| {
            let line = lines.at(note.at.line);
            Lint(ConfigError::new(note, source, line))
        })
        .collect()
}

/// Sorts by place and drops repetitions, which come of aliases: one mapping that is read in several places.
fn in_order(mut notes: Vec<Note>) -> Vec<Note> {
    let mut seen = HashSet::new();
    notes.retain(|note| seen.insert(note.clone()));
    notes.sort_by_key(|note| note.at);
    notes
}

/// `word` as a message shows it: in backquotes, on one line, not too long.
pub(crate) fn quoted(word: &str) -> String {
    const MOST: usize = 60;
    let mut shown = String::new();
    for c in word.chars().take(MOST) {
        if is_invisible(c) {
            shown.extend(c.escape_unicode());
        } else if c.is_control() {
            shown.extend(c.escape_debug());
        } else {
            shown.push(c);
        }
    }
    if word.chars().nth(MOST).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

/// `a`, `b` or `c`.
pub(crate) fn any_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        None => String::new(),
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
    }
}

/// The word of `known` that `word` was probably meant to be, as a hint.
pub(crate) fn did_you_mean<'a>(
    word: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    const LONGEST: usize = 64;
    if word.len() > LONGEST {
        return None;
    }
    let folded = word.to_lowercase().replace('-', "_");
    let length = folded.chars().count();
    // One letter for another is no near word.
    let limit = (length / 3).max(1).min(length.saturating_sub(1));
    known
        .into_iter()
        .filter(|candidate| candidate.chars().count().abs_diff(length) <= limit)
        .map(|candidate| (distance(&folded, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| format!("did you mean `{candidate}`?"))
}

/// Optimal string alignment: insertions, deletions, substitutions and swaps of neighbours.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let substituted = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = substituted.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> SourceFile {
        SourceFile {
            file: "f.yaml".into(),
            text: text.into(),
        }
    }

    #[test]
    fn faults_print_in_order_once_and_with_their_hint() {
        let at = |line, column| FileLocation { line, column };
        let notes = vec![
            Note::new(at(2, 4), "second"),
            Note::new(at(1, 1), "first").hint("mend it"),
            Note::new(at(2, 4), "second"),
        ];
        let printed = ConfigErrors::new(notes, &source("one\ntwo: 2\n")).to_string();
        let expected = "f.yaml:1:1: first\n  | one\n  | ^ mend it\n\
                        f.yaml:2:4: second\n  | two: 2\n  |    ^";
        assert_eq!(printed, expected);
    }

    #[test]
    fn the_number_of_faults_is_bounded() {
        let notes: Vec<Note> = (0..ConfigErrors::MAX + 5)
            .map(|n| Note::new(FileLocation::START, format!("fault {n}")))
            .collect();
        let faults = ConfigErrors::new(notes, &source("x"));
        assert_eq!(faults.iter().count(), ConfigErrors::MAX);
        assert!(faults.to_string().ends_with("\nand 5 more"));
    }

    #[test]
    fn near_words_are_proposed_and_far_ones_are_not() {
        let known = ["balance", "backup", "health", "on_down"];
        let hint = |word| did_you_mean(word, known);
        assert_eq!(hint("balence").as_deref(), Some("did you mean `balance`?"));
        assert_eq!(hint("on-down").as_deref(), Some("did you mean `on_down`?"));
        assert_eq!(hint("Health").as_deref(), Some("did you mean `health`?"));
        assert_eq!(hint("abckup").as_deref(), Some("did you mean `backup`?"));
        assert_eq!(hint("retries"), None);
        assert_eq!(hint(&"x".repeat(100_000)), None);
    }

    #[test]
    fn quoted_words_stay_on_one_line() {
        assert_eq!(quoted("a\nb\u{1b}[0m"), "`a\\nb\\u{1b}[0m`");
        assert_eq!(
            quoted("fe\u{200b}01\u{202e}\u{a0}"),
            "`fe\\u{200b}01\\u{202e}\\u{a0}`"
        );
        assert_eq!(quoted(&"é".repeat(100)).chars().count(), 63);
    }
}

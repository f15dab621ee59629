//! Errors and warnings about a configuration file.
//!
//! Owns their printed form: location, message, the source line with a caret, a hint. Must not know what any key means.
//! Invariant: errors are printed in the order of the file, each once, and the output is bounded whatever the file holds.

mod excerpt;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use super::scalar::hints;
pub(crate) use super::source::location::FileLocation;
pub(crate) use super::suggestion::{any_of, did_you_mean, quoted};
use excerpt::{Excerpt, Lines};

/// An error or a warning before it is combined with the text of the file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Diagnostic {
    /// Where.
    pub at: FileLocation,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    source_hint: SourceHint,
}

/// Whether the source line may show a mistake that the tree does not, such as an IPv6 address without quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum SourceHint {
    /// The line is not consulted.
    Never,
    /// The line is consulted if there is no other hint.
    IfMissing,
    /// A hint from the line replaces any other.
    Preferred,
}

impl Diagnostic {
    /// A diagnostic without a hint.
    pub(crate) fn new(at: FileLocation, message: impl Into<String>) -> Self {
        Self {
            at,
            message: message.into(),
            hint: None,
            source_hint: SourceHint::Never,
        }
    }

    /// Adds what to do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Sets what to do about it, if that is known.
    pub(crate) fn optional_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }

    /// Allows a hint from the source line.
    pub(crate) fn hint_from_source(mut self, when: SourceHint) -> Self {
        self.source_hint = when;
        self
    }

    fn consult_source(&mut self, line: &str) {
        let consult = match self.source_hint {
            SourceHint::Never => false,
            SourceHint::IfMissing => self.hint.is_none(),
            SourceHint::Preferred => true,
        };
        if consult {
            let found = hints::not_a_value(line, self.at.column - 1);
            self.hint = found.or(self.hint.take());
        }
    }
}

/// The errors and warnings of a file.
#[derive(Debug, Default)]
pub(crate) struct Diagnostics {
    /// What makes the file invalid.
    pub errors: Vec<Diagnostic>,
    /// What is valid but probably unintended.
    pub lints: Vec<Diagnostic>,
}

impl Diagnostics {
    /// Adds an error.
    pub(crate) fn error(&mut self, diagnostic: Diagnostic) {
        self.errors.push(diagnostic);
    }

    /// Adds a warning.
    pub(crate) fn lint(&mut self, diagnostic: Diagnostic) {
        self.lints.push(diagnostic);
    }
}

/// The file that diagnostics refer to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SourceFile {
    /// Its name, as the user gave it.
    pub file: Arc<str>,
    /// Its whole text.
    pub text: Arc<str>,
}

/// One error of a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file's name, as the user gave it.
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
    fn new(diagnostic: Diagnostic, source: &SourceFile, line: Option<&str>) -> Self {
        Self {
            file: Arc::clone(&source.file),
            line: diagnostic.at.line,
            column: diagnostic.at.column,
            message: diagnostic.message,
            hint: diagnostic.hint,
            excerpt: Excerpt::new(line, diagnostic.at.column),
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

/// A warning: something that is valid but probably unintended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lint(ConfigError);

impl Lint {
    /// Its location, message and hint.
    #[must_use]
    pub fn as_error(&self) -> &ConfigError {
        &self.0
    }
}

/// As an error, with `warning:` before the message.
impl fmt::Display for Lint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.print(f, "warning: ")
    }
}

/// All errors of a configuration file, at least one, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    list: Vec<ConfigError>,
    omitted: usize,
}

impl ConfigErrors {
    /// The maximum number of errors that are listed; the rest are counted.
    pub const MAX: usize = 200;

    /// Only the listed errors are combined with their source lines: a file with a hundred thousand errors would take
    /// minutes otherwise.
    pub(crate) fn new(errors: Vec<Diagnostic>, source: &SourceFile) -> Self {
        let mut errors = in_order(errors);
        let omitted = errors.len().saturating_sub(Self::MAX);
        errors.truncate(Self::MAX);
        let mut lines = Lines::of(&source.text);
        let list = errors.into_iter().map(|mut error| {
            let line = lines.at(error.at.line);
            error.consult_source(line.unwrap_or_default());
            ConfigError::new(error, source, line)
        });
        Self {
            list: list.collect(),
            omitted,
        }
    }

    /// The errors, at most [`ConfigErrors::MAX`].
    pub fn iter(&self) -> std::slice::Iter<'_, ConfigError> {
        self.list.iter()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.list.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{error}")?;
        }
        if self.omitted > 0 {
            write!(f, "\nand {} more", self.omitted)?;
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

/// The warnings of a file, in its order; as many as errors at most.
pub(crate) fn lints(lints: Vec<Diagnostic>, source: &SourceFile) -> Vec<Lint> {
    let lints = in_order(lints).into_iter().take(ConfigErrors::MAX);
    let mut lines = Lines::of(&source.text);
    let with_line = lints.map(|lint| {
        let line = lines.at(lint.at.line);
        Lint(ConfigError::new(lint, source, line))
    });
    with_line.collect()
}

/// Sorts by location and drops repetitions. An alias repeats: its mapping is parsed once for each use.
fn in_order(mut diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let mut seen = HashSet::new();
    diagnostics.retain(|diagnostic| seen.insert(diagnostic.clone()));
    diagnostics.sort_by_key(|diagnostic| diagnostic.at);
    diagnostics
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
    fn errors_print_in_order_once_and_with_their_hint() {
        let at = |line, column| FileLocation { line, column };
        let errors = vec![
            Diagnostic::new(at(2, 4), "second"),
            Diagnostic::new(at(1, 1), "first").hint("correct it"),
            Diagnostic::new(at(2, 4), "second"),
        ];
        let printed = ConfigErrors::new(errors, &source("one\ntwo: 2\n")).to_string();
        let expected = "f.yaml:1:1: first\n  | one\n  | ^ correct it\n\
                        f.yaml:2:4: second\n  | two: 2\n  |    ^";
        assert_eq!(printed, expected);
    }

    #[test]
    fn the_number_of_listed_errors_is_bounded() {
        let errors: Vec<Diagnostic> = (0..ConfigErrors::MAX + 5)
            .map(|n| Diagnostic::new(FileLocation::START, format!("error {n}")))
            .collect();
        let errors = ConfigErrors::new(errors, &source("x"));
        assert_eq!(errors.iter().count(), ConfigErrors::MAX);
        assert!(errors.to_string().ends_with("\nand 5 more"));
    }
}

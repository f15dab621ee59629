//! Lines of YAML.
//!
//! Owns indentation and quoting. Must not know a key. Invariant: a printed text parses to the same text.

use std::fmt::{Display, Write};

/// The widest line on which a list is printed.
const WIDTH: usize = 100;

/// A file that is being printed.
#[derive(Default)]
pub(crate) struct YamlPage {
    text: String,
}

impl YamlPage {
    /// The whole text.
    pub(crate) fn into_text(self) -> String {
        self.text
    }

    /// One line, indented by `depth` levels.
    pub(crate) fn line(&mut self, depth: usize, line: impl Display) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{:width$}{line}", "", width = 2 * depth);
    }

    /// A key and its value.
    pub(crate) fn entry(&mut self, depth: usize, key: &str, value: impl Display) {
        self.line(depth, format_args!("{key}: {value}"));
    }

    /// A list on one line, or with one item per line if it is too wide; nothing if it is empty.
    pub(crate) fn list(&mut self, depth: usize, key: &str, items: &[impl Display]) {
        let items: Vec<String> = items.iter().map(text).collect();
        let joined = items.join(", ");
        if items.is_empty() {
        } else if 2 * depth + key.len() + joined.len() + 4 <= WIDTH {
            self.entry(depth, key, format_args!("[{joined}]"));
        } else {
            self.line(depth, format_args!("{key}:"));
            for item in items {
                self.line(depth + 1, format_args!("- {item}"));
            }
        }
    }
}

/// A text as a YAML scalar: in quotes unless it is a word that cannot be taken for another type.
pub(crate) fn text(value: impl Display) -> String {
    let value = value.to_string();
    if is_plain(&value) {
        return value;
    }
    let mut quoted = String::from("\"");
    for c in value.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            ' '..='~' => quoted.push(c),
            _ => {
                let _ = write!(quoted, "\\U{:08x}", u32::from(c));
            }
        }
    }
    quoted + "\""
}

fn is_plain(text: &str) -> bool {
    const WORDS: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    let simple = |c: char| c.is_ascii_alphanumeric() || "_./-:".contains(c);
    begins
        && text.chars().all(simple)
        && !text.ends_with(':')
        && !WORDS.contains(&text.to_ascii_lowercase().as_str())
}

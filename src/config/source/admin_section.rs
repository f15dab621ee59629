//! The `admin` section of a file that may be invalid elsewhere.
//!
//! Owns how the section is found in a file that is not valid YAML as a whole, in block or flow style. Must not know the
//! keys of the section. Invariant: the result is what the whole file would contain if the rest were valid, or an error.

use super::location::FileLocation;
use super::tree::{self, Node, NodeKind};
use crate::config::diagnostics::Diagnostic;

/// The key of the section.
const KEY: &str = "admin";

/// The file as a tree or, if it is not valid YAML, a tree of its `admin` section only.
pub(crate) fn parse(text: &str) -> Result<Node, Diagnostic> {
    let error = match tree::parse(text) {
        Ok(root) => return Ok(root),
        Err(error) => error,
    };
    match find_section(text) {
        AdminSection::Found(section) => tree::parse(&section).map_err(|_| error),
        AdminSection::Missing => Ok(Node {
            at: FileLocation::START,
            kind: NodeKind::Null,
        }),
        AdminSection::Unclear => Err(error),
    }
}

/// The section as found in a file that is not valid YAML.
#[derive(Debug, PartialEq, Eq)]
enum AdminSection {
    /// The text of the section, at its location: what comes before it is blank.
    Found(String),
    /// The file does not mention it.
    Missing,
    /// The file mentions it, but not as one section.
    Unclear,
}

/// Finds the section in a file whose root is a mapping in block or flow style.
fn find_section(text: &str) -> AdminSection {
    let first = text
        .lines()
        .map(str::trim_start)
        .find(|line| is_content(line));
    match first {
        Some(line) if line.starts_with('{') => find_in_flow_style(text),
        Some(_) | None => find_in_block_style(text),
    }
}

/// Whether a line, without its indentation, is part of a mapping.
fn is_content(line: &str) -> bool {
    !line.is_empty() && !line.starts_with(['#', '%']) && !line.starts_with("---")
}

/// The lines from the key at the margin to the next key at the margin, with an empty line for each line before them. The
/// margin is the indentation of the file's first key.
fn find_in_block_style(text: &str) -> AdminSection {
    let is_first = |line: &&str| is_content(line.trim_start());
    let first = text.lines().find(is_first).unwrap_or_default();
    let margin = &first[..first.len() - first.trim_start_matches(' ').len()];
    let mut section = String::new();
    let (mut inside, mut found) = (false, 0);
    for line in text.lines() {
        // A line with less indentation does not belong to a key of the root.
        let rest = line.strip_prefix(margin).unwrap_or(line.trim_start());
        let is_margin = !rest.is_empty() && !rest.starts_with([' ', '\t', '#', '\r', '}', ']']);
        if is_margin {
            inside = is_key(rest);
            found += usize::from(inside);
        }
        if inside {
            section.push_str(line);
        }
        section.push('\n');
    }
    let is_mentioned = || text.lines().any(mentions_key);
    match found {
        1 => AdminSection::Found(section),
        0 if !is_mentioned() => AdminSection::Missing,
        _ => AdminSection::Unclear,
    }
}

/// The key and its value in a mapping in flow style, at their location: what comes before is blank.
fn find_in_flow_style(text: &str) -> AdminSection {
    let mut scanner = FlowScanner::default();
    let (mut section, mut found) = (String::new(), 0);
    let mut inside = false;
    for (at, c) in text.char_indices() {
        let begins = scanner.is_at_key();
        let (depth, is_outside) = (scanner.depth, scanner.is_outside());
        scanner.advance(c);
        let ends = is_outside && depth == 1 && matches!(c, ',' | '}');
        if ends {
            inside = false;
        } else if begins && is_key(&text[at..]) {
            found += 1;
            inside = true;
        }
        match c {
            _ if inside => section.push(c),
            '\n' => section.push(c),
            // The braces of the mapping that holds the section.
            '{' if depth == 0 && section.trim().is_empty() => section.push('{'),
            _ if found == 0 => section.push(' '),
            _ => {}
        }
    }
    match found {
        1 => AdminSection::Found(format!("{section}}}")),
        0 if !text.lines().any(mentions_key) => AdminSection::Missing,
        _ => AdminSection::Unclear,
    }
}

/// The state of a scan through a mapping in flow style.
#[derive(Debug, Default)]
struct FlowScanner {
    /// Number of open braces and brackets.
    depth: usize,
    quote: Option<char>,
    is_escaped: bool,
    is_comment: bool,
    /// Only white space and comments since the last `{` or `,` of the root.
    expects_key: bool,
    /// The last character: `#` begins a comment only after a space, and a quote begins a text only after a delimiter.
    last: char,
}

impl FlowScanner {
    fn is_outside(&self) -> bool {
        self.quote.is_none() && !self.is_comment
    }

    fn is_at_key(&self) -> bool {
        self.is_outside() && self.depth == 1 && self.expects_key
    }

    fn advance(&mut self, c: char) {
        let last = std::mem::replace(&mut self.last, c);
        if self.is_comment {
            self.is_comment = c != '\n';
            return;
        }
        if let Some(quote) = self.quote {
            if self.is_escaped {
                self.is_escaped = false;
            } else if c == quote {
                self.quote = None;
            } else {
                self.is_escaped = quote == '"' && c == '\\';
            }
            return;
        }
        let after_delimiter = last.is_whitespace() || matches!(last, '{' | '[' | ',' | ':' | '\0');
        match c {
            '#' if after_delimiter => self.is_comment = true,
            '"' | '\'' if after_delimiter => self.quote = Some(c),
            '{' | '[' => self.depth += 1,
            '}' | ']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        self.expects_key = match c {
            '{' | ',' => self.depth == 1,
            _ => self.expects_key && (c.is_whitespace() || c == '#'),
        };
    }
}

/// Whether a line at the margin begins the section.
fn is_key(line: &str) -> bool {
    let after = line
        .strip_prefix(KEY)
        .or_else(|| line.strip_prefix(&format!("\"{KEY}\"")))
        .or_else(|| line.strip_prefix(&format!("'{KEY}'")));
    after.is_some_and(|after| after.trim_start().starts_with(':'))
}

/// Whether a line mentions the key outside of a comment.
fn mentions_key(line: &str) -> bool {
    !line.trim_start().starts_with('#') && line.contains(KEY)
}

//! A line of the file and a caret under one of its characters.
//!
//! Owns how text is laid out on a terminal. Must not know what is wrong with the line. Invariant: the caret is under
//! its character on a terminal with a fixed-width font, whatever tabs, wide or invisible characters precede it; no control
//! byte of the file reaches the terminal; no line is longer than a screen can show.

use std::fmt;

use crate::types::invisible::is_invisible;

/// The maximum number of columns that are shown of a source line.
const MAX_COLUMNS: usize = 120;
/// The number of columns before the caret when the line is cut.
const BEFORE_CARET: usize = 60;
/// How a tab is shown.
const TAB: &str = "    ";

/// A source line, ready to print.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Excerpt {
    /// `None` if the location is past the end of the file.
    line: Option<String>,
    /// Columns before the caret.
    indent: usize,
}

impl Excerpt {
    /// A line of the file, with the caret at a column.
    pub(crate) fn new(line: Option<&str>, column: usize) -> Self {
        let Some(line) = line else {
            return Self {
                line: None,
                indent: 0,
            };
        };
        // A line may have a megabyte: only the part around the caret is processed.
        let mut ends = line.char_indices().map(|(at, _)| at);
        let caret = ends.nth(column.saturating_sub(1)).unwrap_or(line.len());
        let (before, after) = line.split_at(caret);
        let from = before
            .char_indices()
            .rev()
            .nth(MAX_COLUMNS)
            .map_or(0, |(at, _)| at);
        let to = after
            .char_indices()
            .nth(MAX_COLUMNS + 1)
            .map_or(after.len(), |(at, _)| at);
        let shown = visible(&before[from..]);
        let mut indent = width(&shown);
        let mut rest = shown + &visible(&after[..to]);
        if from > 0 || indent > BEFORE_CARET && width(&rest) > MAX_COLUMNS {
            let cut = cut_front(&rest, indent.saturating_sub(BEFORE_CARET));
            indent = indent + 1 - (width(&rest) - width(cut));
            rest = format!("…{cut}");
        }
        if width(&rest) > MAX_COLUMNS {
            rest = format!("{}…", take_columns(&rest, MAX_COLUMNS - 1));
        }
        Self {
            line: Some(rest.trim_end().to_owned()),
            indent,
        }
    }

    /// Prints the line, the caret and, after it, the hint.
    pub(crate) fn print(&self, f: &mut fmt::Formatter<'_>, hint: Option<&str>) -> fmt::Result {
        let hint = hint.map(|hint| format!(" {hint}")).unwrap_or_default();
        match &self.line {
            Some(line) if line.is_empty() => {
                write!(f, "  |\n  | {}^{hint}", " ".repeat(self.indent))
            }
            Some(line) => write!(f, "  | {line}\n  | {}^{hint}", " ".repeat(self.indent)),
            None => write!(f, "  | ^{hint}"),
        }
    }
}

/// The lines of a text, without their line breaks, read in order. YAML 1.2, section 5.4: LF, CR LF and CR are line breaks.
pub(crate) struct Lines<'a> {
    /// The text from the current line on.
    rest: Option<&'a str>,
    number: usize,
    /// The end of the current line in `rest`, once it is known.
    end: Option<usize>,
}

impl<'a> Lines<'a> {
    pub(crate) fn of(text: &'a str) -> Self {
        Self {
            rest: Some(text),
            number: 1,
            end: None,
        }
    }

    /// The line of that number, which must not be less than that of the call before.
    pub(crate) fn at(&mut self, number: usize) -> Option<&'a str> {
        debug_assert!(self.number <= number.max(1), "lines are read in order");
        while self.number < number {
            let rest = self.rest?;
            let end = self.end.take().or_else(|| end_of_line(rest));
            self.rest = end
                .filter(|end| *end < rest.len())
                .map(|end| rest[end..].strip_prefix("\r\n").unwrap_or(&rest[end + 1..]));
            self.number += 1;
        }
        let rest = self.rest?;
        let end = || end_of_line(rest).unwrap_or(rest.len());
        Some(&rest[..*self.end.get_or_insert_with(end)])
    }
}

fn end_of_line(text: &str) -> Option<usize> {
    text.bytes().position(|byte| byte == b'\n' || byte == b'\r')
}

/// Shows tabs as spaces, invisible characters by number and control characters as U+FFFD.
fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' => shown.push_str(TAB),
            _ if is_invisible(c) => shown.extend(c.escape_unicode()),
            _ if c.is_control() => shown.push('\u{fffd}'),
            _ => shown.push(c),
        }
    }
    shown
}

fn width(text: &str) -> usize {
    text.chars().map(columns).sum()
}

/// The rest of `text` after its first `skip` columns.
fn cut_front(text: &str, skip: usize) -> &str {
    let mut skipped = 0;
    for (at, c) in text.char_indices() {
        if skipped >= skip {
            return &text[at..];
        }
        skipped += columns(c);
    }
    ""
}

fn take_columns(text: &str, max: usize) -> &str {
    let mut taken = 0;
    for (at, c) in text.char_indices() {
        taken += columns(c);
        if taken > max {
            return &text[..at];
        }
    }
    text
}

/// The width of a character on a terminal: a simplification of Unicode Standard Annex 11 that is enough for the caret.
fn columns(c: char) -> usize {
    match u32::from(c) {
        0x0300..=0x036f | 0x200b..=0x200f | 0x20d0..=0x20ff | 0xfe00..=0xfe0f | 0xfeff => 0,
        0x1100..=0x115f
        | 0x2e80..=0x303e
        | 0x3041..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1f64f
        | 0x1f680..=0x1f6ff
        | 0x1f900..=0x1f9ff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Printed<'a>(&'a str, usize, usize);

    impl fmt::Display for Printed<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let line = Lines::of(self.0).at(self.1);
            Excerpt::new(line, self.2).print(f, None)
        }
    }

    #[track_caller]
    fn check(text: &str, line: usize, column: usize, expected: &str) {
        assert_eq!(Printed(text, line, column).to_string(), expected);
    }

    #[test]
    fn the_caret_is_under_its_character() {
        check("a: b", 1, 4, "  | a: b\n  |    ^");
        check("a:\tb", 1, 4, "  | a:    b\n  |       ^");
        check("漢字: b", 1, 5, "  | 漢字: b\n  |       ^");
        check("e\u{301}: b", 1, 5, "  | e\u{301}: b\n  |    ^");
    }

    #[test]
    fn lines_end_as_yaml_ends_them() {
        check("a\r\nb\r\nc", 2, 1, "  | b\n  | ^");
        check("a\rb\nc", 3, 1, "  | c\n  | ^");
        check("a\n", 2, 1, "  |\n  | ^");
        check("a", 9, 9, "  | ^");
    }

    #[test]
    fn control_bytes_do_not_reach_the_terminal() {
        check("a: \u{1b}[2J", 1, 1, "  | a: \u{fffd}[2J\n  | ^");
    }

    #[test]
    fn invisible_characters_are_shown_by_number() {
        check(
            "a\u{200b}: \u{202e}b",
            1,
            6,
            "  | a\\u{200b}: \\u{202e}b\n  |                    ^",
        );
    }

    #[test]
    fn long_lines_are_cut_around_the_caret() {
        let line = format!("{}x{}", "a".repeat(5000), "b".repeat(5000));
        let printed = Printed(&line, 1, 5001).to_string();
        let lines: Vec<&str> = printed.lines().collect();
        let caret = lines[1].chars().position(|c| c == '^').unwrap();
        assert_eq!(lines[0].chars().nth(caret), Some('x'));
        assert!(lines[0].chars().count() <= MAX_COLUMNS + 4);
        assert!(lines[0].contains('…'));
    }
}

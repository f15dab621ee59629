//! Tables and text for terminals.
//!
//! Invariant: nothing that came over the network reaches the terminal as a control sequence.

use std::time::SystemTime;

use crate::types::invisible::escape_invisible;
use crate::types::timestamp::Timestamp;
pub(super) use crate::types::timestamp::{pluralized, short_duration};

/// Aligns columns; those in `right` hold numbers.
pub(super) fn table(heads: &[&str], right: &[usize], rows: Vec<Vec<String>>) -> String {
    let heads: Vec<String> = heads.iter().map(|head| (*head).to_owned()).collect();
    let mut lines = vec![heads];
    lines.extend(
        rows.into_iter()
            .map(|row| row.iter().map(|cell| printable(cell)).collect()),
    );
    let width = |column: usize| {
        let widths = lines.iter().filter_map(|line| line.get(column));
        widths
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let cells = line
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, &width))| {
                if right.contains(&column) {
                    format!("{cell:>width$}")
                } else {
                    format!("{cell:<width$}")
                }
            });
        let cells: Vec<String> = cells.collect();
        text += cells.join("  ").trim_end();
        text.push('\n');
    }
    text
}

/// The text with control characters replaced, and invisible characters written as their code points.
pub(super) fn printable(text: &str) -> String {
    let shown = |character: char| {
        if character.is_control() {
            '\u{fffd}'
        } else {
            character
        }
    };
    escape_invisible(text).chars().map(shown).collect()
}

/// The time since a point in the past.
pub(super) fn ago(then: Timestamp, now: SystemTime) -> String {
    short_duration(now.duration_since(then.0).unwrap_or_default())
}

/// A number of bytes in its largest unit.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // 1023.95 would be shown as 1024.0.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_show_one_decimal() {
        for (count, expected) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_048_575, "1.0 MiB"),
            (7 << 30, "7.0 GiB"),
            (u64::MAX, "16384.0 PiB"),
        ] {
            assert_eq!(bytes(count), expected);
        }
    }

    #[test]
    fn columns_are_aligned_and_have_no_control_characters() {
        let rows = vec![
            vec!["a".to_owned(), "10".to_owned(), "x\u{1b}[2J".to_owned()],
            vec![
                "long".to_owned(),
                "7".to_owned(),
                "\u{202e}y\u{200b}".to_owned(),
            ],
        ];
        let text = table(&["NAME", "N", "WHY"], &[1], rows);
        assert_eq!(
            text,
            "NAME   N  WHY\na     10  x\u{fffd}[2J\nlong   7  \\u{202e}y\\u{200b}\n"
        );
    }
}

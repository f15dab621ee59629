//! Words in messages: quoted, listed, and suggested for a misspelt one.
//!
//! Owns how a word is shown. Must not know which words there are. Invariant: a quoted word has one line, no control
//! character and a bounded length.

use crate::types::invisible::is_invisible;

/// A word in backquotes, on one line, cut if it is long.
pub(crate) fn quoted(word: &str) -> String {
    const MAX_CHARS: usize = 60;
    let mut shown = String::new();
    for c in word.chars().take(MAX_CHARS) {
        if is_invisible(c) {
            shown.extend(c.escape_unicode());
        } else if c.is_control() {
            shown.extend(c.escape_debug());
        } else {
            shown.push(c);
        }
    }
    if word.chars().nth(MAX_CHARS).is_some() {
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

/// The hint that suggests the word of `known` nearest to a misspelt one, if any is near.
pub(crate) fn did_you_mean<'a>(
    word: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    const MAX_BYTES: usize = 64;
    if word.len() > MAX_BYTES {
        return None;
    }
    let folded = word.to_lowercase().replace('-', "_");
    let length = folded.chars().count();
    // A word with every letter replaced is not near.
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

    #[test]
    fn near_words_are_suggested_and_far_ones_are_not() {
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

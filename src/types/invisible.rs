//! Characters that a terminal does not show as they are.
//!
//! Owns which they are, and how they are escaped. Must not know where a text comes from. Invariant: an escaped text is
//! visible, on one line, and read from left to right.

/// Whether a character is invisible or looks like a plain space: zero-width characters, characters that change the
/// direction of a text, and spaces other than U+0020.
#[must_use]
pub fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{a0}'
            | '\u{ad}'
            | '\u{61c}'
            | '\u{1680}'
            | '\u{180e}'
            | '\u{2000}'..='\u{200f}'
            | '\u{2028}'..='\u{202f}'
            | '\u{205f}'..='\u{206f}'
            | '\u{3000}'
            | '\u{feff}'
    )
}

/// Replaces each invisible character with an escape such as `\u{200b}`.
#[must_use]
pub fn escape_invisible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if is_invisible(character) {
            shown.extend(character.escape_unicode());
        } else {
            shown.push(character);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invisible_characters_are_escaped_and_letters_are_not() {
        assert_eq!(
            escape_invisible("fe\u{200b}01\u{202e}\u{a0}"),
            "fe\\u{200b}01\\u{202e}\\u{a0}"
        );
        assert_eq!(
            escape_invisible("b\u{fc}cher 漢字 e\u{301}"),
            "b\u{fc}cher 漢字 e\u{301}"
        );
        for invisible in ["\u{200f}", "\u{202a}", "\u{2066}", "\u{2069}", "\u{feff}"] {
            assert!(escape_invisible(invisible).is_ascii(), "{invisible:?}");
        }
    }
}

//! Texts with an invisible character.
//!
//! Owns their hint. Must not know the key. Invariant: as in the parent module.

use crate::types::invisible::is_invisible;

/// The hint for the first invisible character, and the text without such characters.
pub(crate) fn invisible(text: &str) -> Option<(String, String)> {
    let at = text.chars().position(is_invisible)?;
    let found = text.chars().nth(at)?;
    let what = match found {
        '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}' => {
            "an unusual space"
        }
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            "an invisible direction mark"
        }
        _ => "an invisible character",
    };
    let hint = format!(
        "character {} is {what}, U+{:04X}; leave it out",
        at + 1,
        u32::from(found)
    );
    Some((hint, text.chars().filter(|c| !is_invisible(*c)).collect()))
}

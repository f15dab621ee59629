//! Texts that hold a character which cannot be seen.
//!
//! Invariant: as of the module above.

use crate::types::invisible::is_invisible;

/// Where the first invisible character is, what it is, and the text without any of them.
pub(crate) fn invisible(text: &str) -> Option<(String, String)> {
    let at = text.chars().position(is_invisible)?;
    let found = text.chars().nth(at)?;
    let what = match found {
        '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}' => {
            "a space that is not a plain one"
        }
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            "an invisible mark of direction"
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

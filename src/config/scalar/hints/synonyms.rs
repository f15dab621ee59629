//! Words of other programs, and their equivalents here.
//!
//! Owns the table of synonyms. Must not know a key. Invariant: a suggested word is one that the key accepts.

use crate::config::suggestion::did_you_mean;

/// The hint for a text where a key accepts one of `known`, or one of them beside other values.
pub(crate) fn suggest_word(text: &str, known: &[&'static str]) -> Option<String> {
    match synonym(text, known) {
        Some(word) => Some(format!("did you mean `{word}`?")),
        None => did_you_mean(text, known.iter().copied()),
    }
}

/// The equivalent of `text` where a key accepts one of `known`.
pub(crate) fn synonym(text: &str, known: &[&'static str]) -> Option<&'static str> {
    let folded: String = text
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect();
    let same = |word: &&str| word.replace('_', "") == folded;
    if let Some(word) = known.iter().copied().find(same) {
        return Some(word);
    }
    let (_, equivalents) = SYNONYMS
        .iter()
        .find(|(words, _)| words.contains(&&*folded))?;
    equivalents
        .iter()
        .find_map(|equivalent| known.iter().copied().find(|word| word == equivalent))
}

/// Words in lower case, letters and digits only, and their equivalents; the first that a key accepts is used.
const SYNONYMS: [(&[&str], &[&str]); 10] = [
    (
        &[
            "https",
            "ssl",
            "sni",
            "tlspassthrough",
            "sslpassthrough",
            "passthrough",
            "tls12",
            "tls13",
            "httpssni",
        ],
        &["tls"],
    ),
    (&["http1", "http11", "web", "h2c"], &["http"]),
    (
        &[
            "tcp4", "tcp6", "tcpip", "raw", "stream", "sip", "sips", "l4",
        ],
        &["tcp"],
    ),
    (
        &["leastconn", "leastconns", "leastconnection", "lc", "wlc"],
        &["least_connections"],
    ),
    (&["rr", "wrr", "robin"], &["round_robin"]),
    (&["random", "p2c", "twochoices", "rand"], &["random_two"]),
    (
        &["source", "iphash", "sourceip", "hash", "sh", "clientip"],
        &["source_hash"],
    ),
    (&["rst", "tcpreset", "drop"], &["reset", "refuse", "close"]),
    (
        &["reject", "deny", "denied", "refused"],
        &["refuse", "alert"],
    ),
    (
        &[
            "off", "no", "false", "disabled", "disable", "null", "nil", "never", "nothing", "0",
        ],
        &["none"],
    ),
];

//! Words of other programs, and those of this one that mean the same.

/// The word that `text` means where the key takes one of `known`.
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
    let meant = MEANT.iter().find(|(words, _)| words.contains(&&*folded));
    meant.and_then(|(_, meant)| {
        meant
            .iter()
            .find_map(|meant| known.iter().copied().find(|word| word == meant))
    })
}

/// Words, without what is no letter or digit, and the words that they mean, for whichever key takes one of them.
const MEANT: [(&[&str], &[&str]); 10] = [
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

//! What only the source shows: YAML that reads in another way than it looks.
//!
//! Owns the hints on quotes, colons and indentation. Must not know keys. Invariant: as of the module above.

use std::net::Ipv6Addr;

use crate::config::scalar;

/// An IPv6 address in brackets, perhaps with a port, that begins `text`; for YAML, brackets without quotes are a list.
fn bracketed(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('[')?;
    let end = inner.find(']')?;
    let address = inner[..end]
        .split_once('%')
        .map_or(&inner[..end], |(address, _)| address);
    address.parse::<Ipv6Addr>().ok()?;
    let after = &inner[end + 1..];
    let digits = after.strip_prefix(':').map_or(0, |port| {
        1 + port.bytes().take_while(u8::is_ascii_digit).count()
    });
    Some(&text[..end + 2 + digits])
}

/// What is wrong where a list or a mapping was read in place of one value; `line` is the source, which was read at the
/// character `at` (from 0).
pub(crate) fn no_value(line: &str, at: usize) -> Option<String> {
    let start = line.char_indices().nth(at).map(|(start, _)| start)?;
    let (before, rest) = line.split_at(start);
    let bracket = before.ends_with('[').then(|| &line[start - 1..]);
    if let Some(address) = bracketed(rest).or_else(|| bracketed(bracket?)) {
        return Some(in_quotes(address));
    }
    // `0.0.0.0: 443`, which is a mapping.
    let value = rest.split([',', ']', '}', '#']).next()?.trim();
    let bare: String = value.split_whitespace().collect();
    let is_place = scalar::host_and_port(&bare).is_ok_and(|(_, port)| port.is_some());
    let is_place = is_place && bare.contains('.') || scalar::bind_address(&bare).is_ok();
    (bare != value && is_place).then(|| format!("leave out the space: `{bare}`"))
}

fn in_quotes(address: &str) -> String {
    format!("put an IPv6 address in quotes: `\"{address}\"`")
}

/// What may be wrong with the YAML of a line in which, or behind which, the reader was lost; `before` is the last line
/// before it that has something.
pub(crate) fn yaml(line: &str, before: &str) -> Option<String> {
    for line in [line, before] {
        let content = line.split(" #").next().unwrap_or_default();
        let starts = content.match_indices('[').map(|(start, _)| start);
        for start in starts {
            let is_quoted = content[..start].ends_with(['"', '\'']);
            if let Some(address) = bracketed(&content[start..]).filter(|_| !is_quoted)
                && address.contains("]:")
            {
                return Some(in_quotes(address));
            }
        }
        let indent = &line[..line.len() - line.trim_start().len()];
        if indent.contains('\t') {
            return Some("indent with spaces, not with tabs".into());
        }
    }
    let key = before.trim_start().trim_start_matches("- ");
    let word = key.find(|c: char| !(c.is_ascii_alphanumeric() || "_-".contains(c)));
    let (word, after) = key.split_at(word?);
    let after_space = after.trim_start();
    if word.is_empty() || key.contains(": ") || key.ends_with(':') {
        return None;
    }
    match after.chars().next()? {
        ':' => Some(format!("write a space behind the colon: `{word}: ...`")),
        _ if after_space.starts_with('=') => {
            Some(format!("write a colon for the `=`: `{word}: ...`"))
        }
        ' ' => Some(format!("is the colon behind `{word}` missing?")),
        _ => None,
    }
}

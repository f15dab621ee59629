//! Mistakes that only the source line shows: YAML that is parsed differently than it looks.
//!
//! Owns the hints on quotes, colons and indentation. Must not know keys. Invariant: as in the parent module.

use std::net::Ipv6Addr;

use crate::config::scalar;

/// An IPv6 address in brackets, perhaps with a port, at the start of `text`. For YAML, brackets without quotes are a list.
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

/// The hint for a list or a mapping in place of a single value, which begins at character `at` (from 0) of the source
/// line.
pub(crate) fn not_a_value(line: &str, at: usize) -> Option<String> {
    let start = line.char_indices().nth(at).map(|(start, _)| start)?;
    let (before, rest) = line.split_at(start);
    let bracket = before.ends_with('[').then(|| &line[start - 1..]);
    if let Some(address) = bracketed(rest).or_else(|| bracketed(bracket?)) {
        return Some(in_quotes(address));
    }
    // `0.0.0.0: 443`, which is a mapping.
    let value = rest.split([',', ']', '}', '#']).next()?.trim();
    let bare: String = value.split_whitespace().collect();
    let is_address = scalar::host_and_port(&bare).is_ok_and(|(_, port)| port.is_some());
    let is_address = is_address && bare.contains('.') || scalar::bind_address(&bare).is_ok();
    (bare != value && is_address).then(|| format!("leave out the space: `{bare}`"))
}

fn in_quotes(address: &str) -> String {
    format!("put an IPv6 address in quotes: `\"{address}\"`")
}

/// The hint for a YAML syntax error in a line; `before` is the last line with content before it.
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
        ':' => Some(format!("write a space after the colon: `{word}: ...`")),
        _ if after_space.starts_with('=') => {
            Some(format!("write a colon instead of `=`: `{word}: ...`"))
        }
        ' ' => Some(format!("check for a missing colon after `{word}`")),
        _ => None,
    }
}

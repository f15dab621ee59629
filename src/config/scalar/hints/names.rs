//! Names of hosts, patterns of routes, and names of listeners, pools and backends.
//!
//! Owns what to leave out of a URL or an address to make it a name. Must not know the key. Invariant: as in the parent
//! module.

use super::without_url;
use crate::types::host_name::{HostName, HostNameError};

/// The hint for an invalid host name where wildcards are not accepted.
pub(crate) fn host_name(text: &str, error: HostNameError) -> String {
    match error {
        HostNameError::NonAscii => "write the name as clients send it, in its `xn--` form".into(),
        HostNameError::BadCharacter if text.contains("://") => {
            with_name("leave out the scheme", without_url(text).1)
        }
        HostNameError::BadCharacter if text.contains('*') => {
            "write one name; `*` is only accepted in the names of routes".into()
        }
        HostNameError::BadCharacter if text.contains('@') => {
            let domain = text.rsplit('@').next().unwrap_or_default();
            with_name("write only the part after the `@`", domain)
        }
        HostNameError::BadCharacter if text.contains('/') => {
            with_name("leave out the path", without_url(text).1)
        }
        HostNameError::BadCharacter if text.contains(':') => with_name("leave out the port", text),
        HostNameError::BadCharacter if text.trim() != text => {
            with_name("leave out the spaces", text.trim())
        }
        HostNameError::EmptyLabel if text.starts_with('.') => {
            with_name("leave out the dot in front", text.trim_start_matches('.'))
        }
        HostNameError::Empty
        | HostNameError::TooLong
        | HostNameError::EmptyLabel
        | HostNameError::LabelTooLong
        | HostNameError::ControlByte
        | HostNameError::BadCharacter
        | HostNameError::IpLiteral => error.to_string(),
    }
}

/// The instruction, with the resulting name if that is valid.
fn with_name(instruction: &str, text: &str) -> String {
    let name = text.split_once(':').map_or(text, |(name, _)| name).trim();
    match HostName::parse(name.as_bytes()) {
        Ok(_) => format!("{instruction}: `{name}`"),
        Err(_) => instruction.to_owned(),
    }
}

/// The hint for a name of a route with a misplaced `*`.
pub(crate) fn stars(text: &str) -> String {
    let rule = "`*` stands for whole labels, only at the start";
    let (_, host) = without_url(text);
    let host = host.split_once(':').map_or(host, |(host, _)| host);
    let suffix = host
        .rsplit('*')
        .next()
        .unwrap_or_default()
        .trim_start_matches(|c: char| c != '.' && host.starts_with("*"))
        .trim_start_matches('.');
    let suffix = match host.strip_prefix('*') {
        // `*contoso.com`
        Some(rest) if !rest.contains('*') => rest.trim_start_matches('.'),
        _ => suffix,
    };
    match HostName::parse(suffix.as_bytes()) {
        Ok(_) if suffix.contains('.') && format!("*.{suffix}") != text => {
            format!("{rule}: `*.{suffix}`")
        }
        Ok(_) | Err(_) => rule.to_owned(),
    }
}

/// The hint for an invalid label: one with its invalid characters replaced.
pub(crate) fn label(text: &str) -> Option<String> {
    if let Some((hint, without)) = super::invisible(text) {
        return Some(match super::super::label(&without) {
            Ok(_) => format!("{hint}: `{without}`"),
            Err(_) => hint,
        });
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    let suggested: String = text
        .trim()
        .chars()
        .map(|c| if fits(c) { c } else { '-' })
        .collect();
    let is_name = suggested.contains(|c: char| c.is_ascii_alphanumeric());
    is_name.then(|| format!("such as `{suggested}`"))
}

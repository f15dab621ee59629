//! Names of hosts, patterns of routes, and names of the user's own.
//!
//! Owns what is left out of an address to make it a name. Invariant: as of the module above.

use super::without_url;
use crate::types::host_name::{HostName, HostNameError};

/// What is wrong with the name of a host; `*` is taken by nobody who asks here.
pub(crate) fn host_name(text: &str, fault: HostNameError) -> String {
    match fault {
        HostNameError::NonAscii => "write the name as clients send it, in its `xn--` form".into(),
        HostNameError::BadCharacter if text.contains("://") => {
            meant_name("leave out the scheme", without_url(text).1)
        }
        HostNameError::BadCharacter if text.contains('*') => {
            "write one name; `*` is taken in the names of routes alone".into()
        }
        HostNameError::BadCharacter if text.contains('@') => {
            let domain = text.rsplit('@').next().unwrap_or_default();
            meant_name("write the part behind the `@` alone", domain)
        }
        HostNameError::BadCharacter if text.contains('/') => {
            meant_name("leave out the path", without_url(text).1)
        }
        HostNameError::BadCharacter if text.contains(':') => meant_name("leave out the port", text),
        HostNameError::BadCharacter if text.trim() != text => {
            meant_name("leave out the spaces", text.trim())
        }
        HostNameError::EmptyLabel if text.starts_with('.') => {
            meant_name("leave out the dot in front", text.trim_start_matches('.'))
        }
        HostNameError::Empty
        | HostNameError::TooLong
        | HostNameError::EmptyLabel
        | HostNameError::LabelTooLong
        | HostNameError::ControlByte
        | HostNameError::BadCharacter
        | HostNameError::IpLiteral => fault.to_string(),
    }
}

/// The advice, with the name that comes of it, without its port, if that is one.
fn meant_name(advice: &str, text: &str) -> String {
    let name = text.split_once(':').map_or(text, |(name, _)| name).trim();
    match HostName::parse(name.as_bytes()) {
        Ok(_) => format!("{advice}: `{name}`"),
        Err(_) => advice.to_owned(),
    }
}

/// What is wrong with a name of a route that has a `*`.
pub(crate) fn stars(text: &str) -> String {
    let rule = "`*` stands for whole labels, at the front and nowhere else";
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

/// A name of the user's own, with what it may not have replaced.
pub(crate) fn label(text: &str) -> Option<String> {
    if let Some((hint, without)) = super::invisible(text) {
        return Some(match super::super::label(&without) {
            Ok(_) => format!("{hint}: `{without}`"),
            Err(_) => hint,
        });
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    let meant: String = text
        .trim()
        .chars()
        .map(|c| if fits(c) { c } else { '-' })
        .collect();
    let is_name = meant.contains(|c: char| c.is_ascii_alphanumeric());
    is_name.then(|| format!("such as `{meant}`"))
}

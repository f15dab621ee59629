//! What a person probably meant by a text that stands for no value.
//!
//! Owns the hints. Must not decide what is taken. Invariant: a value that a hint proposes is one that the parser of such
//! values takes, and never the text that it is about.

mod brackets;
mod duration;
mod invisible;
mod names;
mod network;
mod synonyms;
mod yaml;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::types::host_name::HostName;

pub(crate) use duration::duration;
pub(crate) use invisible::invisible;
pub(crate) use names::{host_name, label, stars};
pub(crate) use network::network;
pub(crate) use synonyms::synonym;
pub(crate) use yaml::{no_value, yaml};

/// Said of a port that is none.
pub(crate) const PORTS: &str = "ports are 1 to 65535";
/// Said of numbers and dots that are no address.
pub(crate) const FOUR_NUMBERS: &str = "the numbers of an IPv4 address are four, each 0 to 255";

/// The whole number that a text means: `1_000`, `"64"`, `0100`, `1e6`, `443/tcp`.
pub(crate) fn number(text: &str) -> Option<u64> {
    let separators = |c: &char| !matches!(c, '_' | ',' | '\'' | ' ');
    let bare: String = text.chars().filter(separators).collect();
    if !bare.is_empty() && bare.bytes().all(|byte| byte.is_ascii_digit()) {
        return bare.parse().ok();
    }
    let (digits, power) = bare.split_once(['e', 'E'])?;
    let power: u32 = power.parse().ok().filter(|power| *power <= 12)?;
    digits.parse::<u64>().ok()?.checked_mul(10_u64.pow(power))
}

/// The port that a text means which is no number: `443/tcp`, `https`.
pub(crate) fn port(text: &str) -> Option<u16> {
    match text.to_ascii_lowercase().as_str() {
        "https" => return Some(443),
        "http" => return Some(80),
        "sips" | "sip-tls" => return Some(5061),
        _ => {}
    }
    let text = text.strip_prefix(':').unwrap_or(text);
    let number = text.split_once('/').map_or(text, |(number, _)| number);
    super::port(number)
}

/// `http://host:1/path` as host and what follows; what is left out, in words.
fn without_url(text: &str) -> (Option<String>, &str) {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, text),
    };
    let (host, path) = match rest.find(['/', '?', '#']) {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let left_out = match (scheme, path) {
        (Some(scheme), "" | "/") => Some(format!("leave out `{scheme}://`")),
        (Some(_), _) => Some("leave out the scheme and the path".into()),
        (None, "") => None,
        (None, path) if is_protocol(path) => Some(format!("leave out `{path}`")),
        (None, _) => Some("leave out the path".into()),
    };
    (left_out, host)
}

fn is_protocol(path: &str) -> bool {
    matches!(path.to_ascii_lowercase().as_str(), "/tcp" | "/udp" | "/tls")
}

/// An IPv6 address with a zone, with or without brackets and a port.
fn has_zone(text: &str) -> bool {
    let inner = text.strip_prefix('[').unwrap_or(text);
    inner
        .split_once('%')
        .is_some_and(|(address, _)| address.parse::<Ipv6Addr>().is_ok())
}

/// What an IPv6 address without brackets means, perhaps with a port behind it, which nothing sets apart there.
fn ipv6_and_port(text: &str) -> Option<(Ipv6Addr, Option<u16>)> {
    let with_port = text.rsplit_once(':').and_then(|(address, number)| {
        let address = if address == ":" { "::" } else { address };
        let number = super::port(number).filter(|_| number.len() > 1)?;
        Some((address.parse().ok()?, Some(number)))
    });
    with_port.or_else(|| Some((text.parse().ok()?, None)))
}

/// An address to bind, or an address at which something is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AddressUse {
    /// For clients; names are not looked up, and the port is 443 where none is said.
    Bind,
    /// For an admin listener, the same with 9900.
    AdminBind,
    /// Where an admin listener is asked, which may be a name.
    AdminAddress,
}

impl AddressUse {
    fn port(self) -> u16 {
        match self {
            Self::Bind => 443,
            Self::AdminBind | Self::AdminAddress => 9900,
        }
    }

    /// Whether the hint would be taken.
    fn takes(self, text: &str) -> bool {
        match self {
            Self::Bind | Self::AdminBind => super::bind_address(text).is_ok(),
            Self::AdminAddress => super::admin_address(text).is_ok(),
        }
    }
}

/// What is wrong with an address and port.
pub(crate) fn place(text: &str, place: AddressUse) -> Option<String> {
    let (left_out, rest) = without_url(text);
    if let Some(left_out) = left_out {
        if place.takes(rest) {
            return Some(format!("{left_out}: `{rest}`"));
        }
        let with_port = format!("{rest}:{}", place.port());
        if place.takes(&with_port) {
            return Some(format!("{left_out}, and add the port: `{with_port}`"));
        }
        return Some(self::place(rest, place).unwrap_or(left_out));
    }
    if text.contains(char::is_whitespace) {
        let bare: String = text.split_whitespace().collect();
        let rule = "write one address and its port, without spaces";
        return Some(match place.takes(&bare) {
            true => format!("{rule}: `{bare}`"),
            false => rule.into(),
        });
    }
    if has_zone(text) {
        return Some(zone(text, place));
    }
    let alone = text.strip_prefix('*').unwrap_or(text);
    if let Some(port) = super::port(alone.strip_prefix(':').unwrap_or(alone)) {
        return Some(match place {
            AddressUse::Bind => format!("for every IPv4 address write `0.0.0.0:{port}`"),
            AddressUse::AdminBind => format!("for this machine alone write `127.0.0.1:{port}`"),
            AddressUse::AdminAddress => format!("for this machine write `localhost:{port}`"),
        });
    }
    let inner = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    if let Some(Ok(address)) = inner.map(str::parse::<Ipv6Addr>) {
        return Some(format!("add the port: `[{address}]:{}`", place.port()));
    }
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return Some(format!("add the port: `{address}:{}`", place.port()));
    }
    if text.matches(':').count() > 1 || text.starts_with('[') {
        return brackets::brackets(text, Some(place.port()));
    }
    if let Some(two) = brackets::two_ports(text) {
        return Some(two);
    }
    named_place(text, place)
}

/// What is wrong with an IPv6 address that has a zone.
fn zone(text: &str, place: AddressUse) -> String {
    let port = place.port();
    if place != AddressUse::AdminAddress {
        return format!("write the zone as the interface's number: `[fe80::1%2]:{port}`");
    }
    let address = text.trim_matches(['[', ']']);
    format!("write it in brackets with its port: `[{address}]:{port}`")
}

/// The same for a name, perhaps with a port.
fn named_place(text: &str, place: AddressUse) -> Option<String> {
    let (host, after) = text.split_once(':').unwrap_or((text, ""));
    let is_address = host.parse::<Ipv4Addr>().is_ok();
    if !is_address && host.contains('.') && host.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Some(FOUR_NUMBERS.into());
    }
    if !is_address && HostName::parse(host.as_bytes()).is_err() {
        return None;
    }
    let is_number = !after.is_empty() && after.bytes().all(|byte| byte.is_ascii_digit());
    let names_are_taken = is_address || place == AddressUse::AdminAddress;
    if !names_are_taken {
        if host == "localhost" && place == AddressUse::AdminBind {
            let port = super::port(after).unwrap_or(place.port());
            return Some(format!("write the address: `127.0.0.1:{port}`"));
        }
        return Some("write an IP address; names are not resolved here".into());
    }
    if is_number {
        return Some(PORTS.into());
    }
    if after.is_empty() {
        return Some(format!("add the port: `{host}:{}`", place.port()));
    }
    Some(match port(after) {
        Some(port) => format!("write the port as a number: `{host}:{port}`"),
        None => "ports are numbers from 1 to 65535".into(),
    })
}

/// What is wrong with an address that has no port.
pub(crate) fn listen(text: &str) -> Option<String> {
    if text.parse::<SocketAddr>().is_ok() {
        return Some("leave the port out; ports stand under `ports`".into());
    }
    if text == "*" {
        return Some("for every IPv4 address write `0.0.0.0`".into());
    }
    if has_zone(text) {
        return Some("an address with a zone is not supported".into());
    }
    if let Some((address, _)) = text.split_once('/')
        && address.parse::<IpAddr>().is_ok()
    {
        return Some(format!("write one address, not a network: `{address}`"));
    }
    if let Some(address) = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .filter(|inner| inner.parse::<Ipv4Addr>().is_ok())
    {
        return Some(format!("brackets are for IPv6 addresses: `{address}`"));
    }
    let (left_out, rest) = without_url(text);
    if let Some(left_out) = left_out {
        return Some(match super::listen_address(rest) {
            Ok(_) => format!("{left_out}: `{rest}`"),
            Err(_) => left_out,
        });
    }
    named_place(text, AddressUse::Bind).filter(|hint| !hint.contains("port"))
}

/// What is wrong with a host and its port.
pub(crate) fn host_and_port(text: &str) -> Option<String> {
    let takes = |text: &str| super::host_and_port(text).is_ok();
    if has_zone(text) {
        return Some("an address with a zone is not supported".into());
    }
    let (left_out, rest) = without_url(text);
    if let Some(left_out) = left_out {
        return Some(match takes(rest) {
            true => format!("{left_out}: `{rest}`"),
            false => left_out,
        });
    }
    if text.trim() != text && takes(text.trim()) {
        return Some(format!("leave out the spaces: `{}`", text.trim()));
    }
    if text.starts_with('[') || text.matches(':').count() > 1 {
        return brackets::brackets(text, None);
    }
    if let Some(two) = brackets::two_ports(text) {
        return Some(two);
    }
    let (host, after) = text.split_once(':')?;
    if host.is_empty() || host == "*" {
        return Some("write the server's name or address before the port".into());
    }
    if !takes(host) {
        return None;
    }
    Some(match port(after) {
        _ if after.is_empty() => {
            format!("write the port behind the colon, or leave it out: `{host}`")
        }
        Some(port) => format!("write the port as a number: `{host}:{port}`"),
        None if after.bytes().all(|byte| byte.is_ascii_digit()) => PORTS.into(),
        None => "ports are numbers from 1 to 65535".into(),
    })
}

#[cfg(test)]
#[path = "advice_tests.rs"]
mod tests;

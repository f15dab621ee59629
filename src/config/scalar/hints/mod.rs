//! Hints for texts that are not valid values: what the user probably intended.
//!
//! Owns the hints. Must not decide what is valid. Invariant: a value that a hint suggests is valid, and differs from the
//! text that it replaces.

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
pub(crate) use synonyms::{suggest_word, synonym};
pub(crate) use yaml::{not_a_value, yaml};

/// The hint for an invalid port.
pub(crate) const PORTS: &str = "ports are 1 to 65535";
/// The hint for numbers and dots that are not an address.
pub(crate) const FOUR_NUMBERS: &str = "an IPv4 address has four numbers from 0 to 255";

/// The whole number that was probably intended: `1_000`, `"64"`, `0100`, `1e6`, `443/tcp`.
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

/// The port that was probably intended by a text that is not a number: `443/tcp`, `https`.
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

/// The host and port in `http://host:1/path`, and the hint on what to leave out.
fn without_url(text: &str) -> (Option<String>, &str) {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, text),
    };
    let (host, path) = match rest.find(['/', '?', '#']) {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let instruction = match (scheme, path) {
        (Some(scheme), "" | "/") => Some(format!("leave out `{scheme}://`")),
        (Some(_), _) => Some("leave out the scheme and the path".into()),
        (None, "") => None,
        (None, path) if is_protocol(path) => Some(format!("leave out `{path}`")),
        (None, _) => Some("leave out the path".into()),
    };
    (instruction, host)
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

/// An IPv6 address without brackets, perhaps followed by a port, which nothing separates from it.
fn ipv6_and_port(text: &str) -> Option<(Ipv6Addr, Option<u16>)> {
    let with_port = text.rsplit_once(':').and_then(|(address, number)| {
        let address = if address == ":" { "::" } else { address };
        let number = super::port(number).filter(|_| number.len() > 1)?;
        Some((address.parse().ok()?, Some(number)))
    });
    with_port.or_else(|| Some((text.parse().ok()?, None)))
}

/// The use of an address with a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AddressUse {
    /// A listener binds it; names are not accepted, and the suggested port is 443.
    Bind,
    /// An admin listener binds it; the same with port 9900.
    AdminBind,
    /// A client connects to an admin listener; names are accepted.
    AdminAddress,
}

impl AddressUse {
    fn port(self) -> u16 {
        match self {
            Self::Bind => 443,
            Self::AdminBind | Self::AdminAddress => 9900,
        }
    }

    /// Whether a text is a valid address for this use.
    fn accepts(self, text: &str) -> bool {
        match self {
            Self::Bind | Self::AdminBind => super::bind_address(text).is_ok(),
            Self::AdminAddress => super::admin_address(text).is_ok(),
        }
    }
}

/// The hint for an invalid address with a port.
pub(crate) fn socket_address(text: &str, address_use: AddressUse) -> Option<String> {
    if let (Some(instruction), rest) = without_url(text) {
        return Some(without_extras(instruction, rest, address_use));
    }
    if text.contains(char::is_whitespace) {
        let bare: String = text.split_whitespace().collect();
        let rule = "write one address and its port, without spaces";
        return Some(match address_use.accepts(&bare) {
            true => format!("{rule}: `{bare}`"),
            false => rule.into(),
        });
    }
    if has_zone(text) {
        return Some(zone(text, address_use));
    }
    let port_only = text.strip_prefix('*').unwrap_or(text);
    if let Some(port) = super::port(port_only.strip_prefix(':').unwrap_or(port_only)) {
        return Some(match address_use {
            AddressUse::Bind => format!("for all IPv4 addresses, write `0.0.0.0:{port}`"),
            AddressUse::AdminBind => format!("for this machine only, write `127.0.0.1:{port}`"),
            AddressUse::AdminAddress => format!("for this machine, write `localhost:{port}`"),
        });
    }
    let inner = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    if let Some(Ok(address)) = inner.map(str::parse::<Ipv6Addr>) {
        return Some(format!(
            "add the port: `[{address}]:{}`",
            address_use.port()
        ));
    }
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return Some(format!("add the port: `{address}:{}`", address_use.port()));
    }
    if text.matches(':').count() > 1 || text.starts_with('[') {
        return brackets::brackets(text, Some(address_use.port()));
    }
    if let Some(two) = brackets::two_ports(text) {
        return Some(two);
    }
    name_for_address(text, address_use)
}

/// The hint for an address after leaving out a scheme or a path.
fn without_extras(instruction: String, rest: &str, address_use: AddressUse) -> String {
    if address_use.accepts(rest) {
        return format!("{instruction}: `{rest}`");
    }
    let with_port = format!("{rest}:{}", address_use.port());
    if address_use.accepts(&with_port) {
        return format!("{instruction}, and add the port: `{with_port}`");
    }
    socket_address(rest, address_use).unwrap_or(instruction)
}

/// The hint for an IPv6 address with a zone.
fn zone(text: &str, address_use: AddressUse) -> String {
    let port = address_use.port();
    if address_use != AddressUse::AdminAddress {
        return format!("write the zone as the interface's number: `[fe80::1%2]:{port}`");
    }
    let address = text.trim_matches(['[', ']']);
    format!("write it in brackets with its port: `[{address}]:{port}`")
}

/// The hint for a name in place of an address, perhaps with a port.
fn name_for_address(text: &str, address_use: AddressUse) -> Option<String> {
    let (host, after) = text.split_once(':').unwrap_or((text, ""));
    let is_address = host.parse::<Ipv4Addr>().is_ok();
    if !is_address && host.contains('.') && host.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Some(FOUR_NUMBERS.into());
    }
    if !is_address && HostName::parse(host.as_bytes()).is_err() {
        return None;
    }
    let is_number = !after.is_empty() && after.bytes().all(|byte| byte.is_ascii_digit());
    let names_are_accepted = is_address || address_use == AddressUse::AdminAddress;
    if !names_are_accepted {
        if host == "localhost" && address_use == AddressUse::AdminBind {
            let port = super::port(after).unwrap_or(address_use.port());
            return Some(format!("write the address: `127.0.0.1:{port}`"));
        }
        return Some("write an IP address; host names are not accepted here".into());
    }
    if is_number {
        return Some(PORTS.into());
    }
    if after.is_empty() {
        return Some(format!("add the port: `{host}:{}`", address_use.port()));
    }
    Some(match port(after) {
        Some(port) => format!("write the port as a number: `{host}:{port}`"),
        None => "ports are numbers from 1 to 65535".into(),
    })
}

/// The hint for an invalid address without a port.
pub(crate) fn listen(text: &str) -> Option<String> {
    if text.parse::<SocketAddr>().is_ok() {
        return Some("leave out the port; ports are set under `ports`".into());
    }
    if text == "*" {
        return Some("for all IPv4 addresses, write `0.0.0.0`".into());
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
    let (instruction, rest) = without_url(text);
    if let Some(instruction) = instruction {
        return Some(match super::listen_address(rest) {
            Ok(_) => format!("{instruction}: `{rest}`"),
            Err(_) => instruction,
        });
    }
    name_for_address(text, AddressUse::Bind).filter(|hint| !hint.contains("port"))
}

/// The hint for an invalid host, with or without a port.
pub(crate) fn host_and_port(text: &str) -> Option<String> {
    let accepts = |text: &str| super::host_and_port(text).is_ok();
    if has_zone(text) {
        return Some("an address with a zone is not supported".into());
    }
    let (instruction, rest) = without_url(text);
    if let Some(instruction) = instruction {
        return Some(match accepts(rest) {
            true => format!("{instruction}: `{rest}`"),
            false => instruction,
        });
    }
    if text.trim() != text && accepts(text.trim()) {
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
    if !accepts(host) {
        return None;
    }
    Some(match port(after) {
        _ if after.is_empty() => {
            format!("write the port after the colon, or leave out the colon: `{host}`")
        }
        Some(port) => format!("write the port as a number: `{host}:{port}`"),
        None if after.bytes().all(|byte| byte.is_ascii_digit()) => PORTS.into(),
        None => "ports are numbers from 1 to 65535".into(),
    })
}

#[cfg(test)]
mod tests;

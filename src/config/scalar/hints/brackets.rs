//! Addresses with misplaced brackets, or with more than one port.
//!
//! Owns their hints. Must not know the key. Invariant: as in the parent module.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{PORTS, ipv6_and_port, port};
use crate::config::scalar;

/// The hint for an address with brackets or more than one colon. `default` is the port to suggest, or `None` if a port is
/// not required.
pub(super) fn brackets(text: &str, default: Option<u16>) -> Option<String> {
    let opened = text.strip_prefix('[');
    let closed = opened.and_then(|rest| rest.split_once(']'));
    let Some((inner, after)) = closed else {
        return unbracketed(opened.unwrap_or(text), default);
    };
    let behind = after.strip_prefix(':').unwrap_or(after);
    if let Ok(address) = inner.parse::<Ipv4Addr>() {
        let rule = "brackets are for IPv6 addresses";
        return Some(match (number(behind), default) {
            (Some(port), _) => format!("{rule}: `{address}:{port}`"),
            (None, Some(default)) if behind.is_empty() => format!("{rule}: `{address}:{default}`"),
            (None, None) if behind.is_empty() => format!("{rule}: `{address}`"),
            (None, _) => rule.to_owned(),
        });
    }
    Some(
        match (inner.parse::<Ipv6Addr>(), inner.parse::<SocketAddr>()) {
            (Ok(address), _) => ipv6_port(address, after, default),
            (Err(_), Ok(inside)) if after.is_empty() => {
                format!("brackets are for IPv6 addresses: `{inside}`")
            }
            (Err(_), _) if behind.is_empty() => example(default),
            (Err(_), _) => "the brackets must contain an IPv6 address".into(),
        },
    )
}

/// The hint for what follows an IPv6 address in brackets.
fn ipv6_port(address: Ipv6Addr, after: &str, default: Option<u16>) -> String {
    let behind = after.strip_prefix(':').unwrap_or(after);
    match (port(behind), default) {
        (Some(port), _) if after.starts_with(':') => {
            format!("write the port as a number: `[{address}]:{port}`")
        }
        (Some(port), _) => format!("write a colon before the port: `[{address}]:{port}`"),
        (None, Some(default)) if behind.is_empty() => {
            format!("add the port: `[{address}]:{default}`")
        }
        (None, None) if behind.is_empty() => format!("leave out the colon: `[{address}]`"),
        (None, _) if behind.contains([':', ',', '-']) => match first_port(behind) {
            Some(port) => format!("write one port: `[{address}]:{port}`"),
            None => PORTS.into(),
        },
        (None, _) => PORTS.into(),
    }
}

fn unbracketed(text: &str, default: Option<u16>) -> Option<String> {
    let text = text.trim_matches(['[', ']']);
    if let Some((address, port)) = ipv6_and_port(text) {
        let rule = "write an IPv6 address in brackets";
        return Some(match port.or(default) {
            Some(port) => format!("{rule}: `[{address}]:{port}`"),
            None => format!("{rule}: `[{address}]`"),
        });
    }
    two_ports(text).or_else(|| Some(example(default)))
}

fn example(default: Option<u16>) -> String {
    format!(
        "write an IPv6 address with a port as `[2001:db8::1]:{}`",
        default.unwrap_or(4443)
    )
}

/// The hint for a host with more than one port: `127.0.0.1:443:444`, `fe01:443-444`, `0.0.0.0:80,443`.
pub(super) fn two_ports(text: &str) -> Option<String> {
    let (host, ports) = text.split_once(':')?;
    let is_host = scalar::host_and_port(host).is_ok() || host == "0.0.0.0";
    let several = ports.split([':', ',', '-']).count() > 1;
    let numbers = ports
        .split([':', ',', '-'])
        .all(|port| number(port.trim()).is_some());
    if !is_host || !several || !numbers {
        return None;
    }
    let port = first_port(ports)?;
    Some(format!(
        "this has more than one port; write one: `{host}:{port}`"
    ))
}

fn first_port(ports: &str) -> Option<u16> {
    number(ports.split([':', ',', '-']).next()?)
}

fn number(text: &str) -> Option<u16> {
    scalar::port(text)
}

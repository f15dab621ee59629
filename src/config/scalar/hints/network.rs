//! Networks in other notations: shortened, with a mask, with wildcards, as a range.
//!
//! Owns their hints. Must not know the key. Invariant: as in the parent module.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{FOUR_NUMBERS, has_zone};
use crate::config::scalar;
use crate::types::host_name::HostName;

/// The hint for an invalid network.
pub(crate) fn network(text: &str) -> Option<String> {
    let bare: String = text
        .chars()
        .filter(|c| !matches!(c, '[' | ']') && !c.is_whitespace())
        .collect();
    if bare != text && scalar::network(&bare).is_ok() {
        return Some(format!("write `{bare}`"));
    }
    if ["any", "all", "*"].contains(&text.to_ascii_lowercase().as_str()) {
        return Some("for all clients, write `0.0.0.0/0` and `::/0`".into());
    }
    if has_zone(text) {
        return Some("an address with a zone is not supported".into());
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(format!("leave out the port: `{}`", address.ip()));
    }
    if let Some(range) = range(text) {
        return Some(range);
    }
    let (address, after) = match text.split_once('/') {
        Some((address, after)) => (address, Some(after)),
        None => (text, None),
    };
    match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => after.map(|after| ipv4_mask(address, after)),
        Ok(IpAddr::V6(address)) => after.map(|after| ipv6_mask(address, after)),
        Err(_) => shortened(address, after).or_else(|| {
            let is_name = HostName::parse(address.as_bytes())
                .is_ok_and(|name| name.as_str().contains(|c: char| c.is_ascii_alphabetic()));
            is_name.then(|| "write addresses; host names are not accepted here".into())
        }),
    }
}

/// The hint for `10.0.0.0-10.0.0.255`.
fn range(text: &str) -> Option<String> {
    let (first, last) = text.split_once('-')?;
    let (first, last): (Ipv4Addr, Ipv4Addr) =
        (first.trim().parse().ok()?, last.trim().parse().ok()?);
    let rule = "write networks, not a range";
    let differing = u32::from(first) ^ u32::from(last);
    let length = u8::try_from(differing.leading_zeros()).ok()?;
    let net = Ipv4Net::new(first, length).ok()?;
    Some(match (net.network(), net.broadcast()) == (first, last) {
        true => format!("{rule}: `{net}`"),
        false => rule.into(),
    })
}

/// The hint for an IPv4 address followed by a slash and something that is not a prefix length.
fn ipv4_mask(address: Ipv4Addr, after: &str) -> String {
    let Ok(mask) = after.parse::<Ipv4Addr>() else {
        return "the prefix length of an IPv4 network is 0 to 32".into();
    };
    let inverted = Ipv4Addr::from(!u32::from(mask));
    let net = [mask, inverted]
        .into_iter()
        .find_map(|mask| Ipv4Net::with_netmask(address, mask).ok());
    let rule = "write the prefix length, not a mask";
    match net {
        Some(net) => format!("{rule}: `{}`", net.trunc()),
        None => format!("{rule}; this mask is not a prefix"),
    }
}

fn ipv6_mask(address: Ipv6Addr, after: &str) -> String {
    let mask = after.parse::<Ipv6Addr>();
    match mask.map(|mask| Ipv6Net::with_netmask(address, mask)) {
        Ok(Ok(net)) => format!("write the prefix length, not a mask: `{}`", net.trunc()),
        Ok(Err(_)) | Err(_) => "the prefix length of an IPv6 network is 0 to 128".into(),
    }
}

/// The hint for the first numbers of an address: `192.168/16`, `10.1.2.*`, `2001:db8/32`.
fn shortened(address: &str, after: Option<&str>) -> Option<String> {
    if address.contains(':') {
        let begin = address.trim_end_matches(':');
        let whole: Ipv6Addr = format!("{begin}::").parse().ok()?;
        let net = Ipv6Net::new(whole, after?.parse().ok()?).ok()?;
        return Some(format!("write the whole address: `{}`", net.trunc()));
    }
    let begin = address.trim_end_matches(['.', '*', 'x']);
    let is_short = !begin.is_empty() && begin.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    // A single number is not an address.
    if !is_short || (after.is_none() && !address.contains('.')) {
        return None;
    }
    let numbers: Vec<u8> = begin
        .split('.')
        .map(|number| number.parse().ok())
        .collect::<Option<_>>()
        .unwrap_or_default();
    if numbers.is_empty() || numbers.len() > 3 {
        return Some(FOUR_NUMBERS.into());
    }
    let mut whole = [0; 4];
    whole[..numbers.len()].copy_from_slice(&numbers);
    let whole = Ipv4Addr::from(whole);
    let rule = "write all four numbers of the address";
    let net = match after {
        None => Ipv4Net::new(whole, u8::try_from(numbers.len() * 8).ok()?).ok(),
        Some(after) => match after.parse::<Ipv4Addr>() {
            Ok(mask) => Ipv4Net::with_netmask(whole, mask).ok(),
            Err(_) => after
                .parse()
                .ok()
                .and_then(|length| Ipv4Net::new(whole, length).ok()),
        },
    };
    Some(match net {
        Some(net) => format!("{rule}: `{}`", IpNet::V4(net.trunc())),
        None => format!("{rule}, and a prefix length from 0 to 32"),
    })
}

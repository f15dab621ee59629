//! Single values as text: durations, addresses, networks, names.
//!
//! Owns how each is parsed and printed. Must not know the key that it belongs to. Invariant: an accepted value is usable;
//! an error that is not obvious has a hint.

pub(crate) mod hints;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::model::{AdminAddress, AdminBind, NamePattern, ServerHost};
use crate::types::host_name::{HostName, is_ip_literal};
use hints::AddressUse;

/// The result of a parser: the value, or a hint on why the text is not one.
pub(crate) type Parsed<T> = Result<T, Option<String>>;

/// What [`bind_address`] expects.
pub(crate) const BIND: &str = "addresses with a port such as `0.0.0.0:443`";
/// What [`host_name`] expects.
pub(crate) const HOST_NAME: &str = "a host name such as `lyncweb.contoso.com`";
/// What [`pattern`] expects.
pub(crate) const PATTERN: &str = "host names such as `lyncweb.contoso.com` or `*.contoso.com`";
/// What [`network`] expects.
pub(crate) const NETWORK: &str = "networks such as `10.0.0.0/8` or `2001:db8::/32`";
/// What [`label`] expects.
pub(crate) const LABEL: &str = "letters, digits, `-`, `_`, `.` and `:`";
/// What [`host`] expects.
pub(crate) const HOST: &str = "a host name or an IP address";
/// What [`host_and_port`] expects.
pub(crate) const HOST_AND_PORT: &str = "a host or host:port such as `fe01.contoso.local:4443`";
/// What [`admin_bind`] expects.
pub(crate) const ADMIN_BIND: &str = "an address and port such as `127.0.0.1:9900`, or `unix:PATH`";

/// What [`admin_address`] expects.
pub(crate) const ADMIN_ADDRESS: &str =
    "a name or an address with its port such as `localhost:9900`, or `unix:PATH`";

/// The longest name of a listener, pool, backend or group.
const MAX_LABEL: usize = 253;
/// unix(7): `sun_path` has 108 bytes, including the terminating NUL.
const MAX_UNIX_PATH: usize = 107;
/// The longest path of a file (`PATH_MAX` without its NUL).
const MAX_PATH: usize = 4095;

fn hint<T>(text: impl Into<String>) -> Parsed<T> {
    Err(Some(text.into()))
}

/// `250ms`, `5s`, `20m`, `1h30m`, if it fits the key.
pub(crate) fn duration(text: &str, fits: impl Fn(Duration) -> bool) -> Parsed<Duration> {
    match whole_units(text) {
        Some(value) if fits(value) => Ok(value),
        Some(_) => Err(None),
        None => Err(hints::duration(text, &|proposed| {
            whole_units(proposed).is_some_and(&fits)
        })),
    }
}

/// Numbers with their units, the largest first and each once.
fn whole_units(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
    let (mut rest, mut milliseconds, mut units) = (text, 0_u64, UNITS.as_slice());
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let letters = rest[digits..]
            .bytes()
            .take_while(u8::is_ascii_alphabetic)
            .count();
        let number: u64 = rest[..digits].parse().ok()?;
        let unit = &rest[digits..digits + letters];
        let at = units.iter().position(|(name, _)| *name == unit)?;
        let part = number.checked_mul(units[at].1)?;
        milliseconds = milliseconds.checked_add(part)?;
        units = &units[at + 1..];
        rest = &rest[digits + letters..];
    }
    (!text.is_empty()).then(|| Duration::from_millis(milliseconds))
}

/// A duration in the largest unit of which it is a whole number.
pub(crate) fn print_duration(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    for (unit, size) in [("h", 3_600_000), ("m", 60_000), ("s", 1000)] {
        if milliseconds > 0 && milliseconds.is_multiple_of(size) {
            return format!("{}{unit}", milliseconds / size);
        }
    }
    if milliseconds == 0 {
        "0s".to_owned()
    } else {
        format!("{milliseconds}ms")
    }
}

/// A port in decimal digits.
pub(crate) fn port(text: &str) -> Option<u16> {
    let decimal = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| decimal && *port != 0)
}

/// An address that a socket can be bound to.
pub(crate) fn bind_address(text: &str) -> Parsed<SocketAddr> {
    bind_for(text, AddressUse::Bind)
}

fn bind_for(text: &str, address_use: AddressUse) -> Parsed<SocketAddr> {
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => hint(hints::PORTS),
        Ok(address) => bindable(address.ip()).map(|_| address),
        Err(_) => Err(hints::socket_address(text, address_use)),
    }
}

/// An address without a port that a socket can be bound to; IPv6 with or without brackets.
pub(crate) fn listen_address(text: &str) -> Parsed<IpAddr> {
    let inner = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    match inner.unwrap_or(text).parse::<IpAddr>() {
        Ok(ip) if inner.is_none() || ip.is_ipv6() => bindable(ip),
        Ok(_) | Err(_) => Err(hints::listen(text)),
    }
}

fn bindable(ip: IpAddr) -> Parsed<IpAddr> {
    if let IpAddr::V6(v6) = ip
        && let Some(v4) = v6.to_ipv4_mapped()
    {
        return hint(format!("write the IPv4 address: `{v4}`"));
    }
    if ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST) {
        return hint("a multicast or broadcast address cannot accept connections");
    }
    Ok(ip)
}

/// The bind address of the admin listener.
pub(crate) fn admin_bind(text: &str) -> Parsed<AdminBind> {
    match text.strip_prefix("unix:") {
        Some(path) if path.len() > MAX_UNIX_PATH => hint(format!(
            "the path of a Unix socket has at most {MAX_UNIX_PATH} bytes"
        )),
        Some(path) if path.starts_with(char::is_whitespace) && !path.trim().is_empty() => {
            hint(format!("leave out the spaces: `unix:{}`", path.trim()))
        }
        Some("") => hint("write the path of the socket: `unix:/run/lyncpin/admin.sock`"),
        Some(path) => file_path(path).map(AdminBind::Unix),
        None if text.starts_with('/') => hint(format!("write `unix:{text}`")),
        None => match unix_path(text) {
            Some(path) => hint(format!(
                "write it without spaces, in lower case: `unix:{path}`"
            )),
            None => bind_for(text, AddressUse::AdminBind).map(AdminBind::Tcp),
        },
    }
}

/// The path in ` unix:PATH`, `unix :PATH` and `UNIX:PATH`, which are nearly correct.
fn unix_path(text: &str) -> Option<&str> {
    let (scheme, path) = text.split_once(':')?;
    let path = path.trim();
    (scheme.trim().eq_ignore_ascii_case("unix") && !path.is_empty()).then_some(path)
}

/// The address of a running admin listener: a bind address, or a name with a port.
pub(crate) fn admin_address(text: &str) -> Parsed<AdminAddress> {
    if unix_path(text).is_some() || text.starts_with("unix:") || text.starts_with('/') {
        return admin_bind(text).map(AdminAddress::Bound);
    }
    if text.parse::<SocketAddr>().is_ok() {
        let address = bind_for(text, AddressUse::AdminAddress)?;
        return Ok(AdminAddress::Bound(AdminBind::Tcp(address)));
    }
    let (host, number) = text.rsplit_once(':').unwrap_or_default();
    let zoned = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .filter(|inner| inner.contains('%') && is_ip_literal(inner.as_bytes()));
    if is_almost_an_address(host) {
        return hint(hints::FOUR_NUMBERS);
    }
    let named = HostName::parse(host.as_bytes()).is_ok().then_some(host);
    match (zoned.or(named), port(number)) {
        (Some(host), Some(port)) => Ok(AdminAddress::Named {
            host: host.into(),
            port,
        }),
        (Some(_) | None, Some(_) | None) => {
            Err(hints::socket_address(text, AddressUse::AdminAddress))
        }
    }
}

/// The path of a file.
pub(crate) fn file_path(text: &str) -> Parsed<PathBuf> {
    match text {
        "" => Err(None),
        _ if text.len() > MAX_PATH => hint(format!("a path has at most {MAX_PATH} bytes")),
        _ if text.starts_with(char::is_whitespace) => hint(match text.trim() {
            "" => "write the path of a file".to_owned(),
            path => format!("leave out the spaces: `{path}`"),
        }),
        _ if text.chars().any(char::is_control) => hint("a path must not have control characters"),
        _ => Ok(PathBuf::from(text)),
    }
}

/// A network, or an address as the network of that address only.
pub(crate) fn network(text: &str) -> Parsed<IpNet> {
    let net = match (text.parse::<IpNet>(), text.parse::<IpAddr>()) {
        (Ok(net), _) => net,
        (Err(_), Ok(ip)) => IpNet::from(ip),
        (Err(_), Err(_)) => return Err(hints::network(text)),
    };
    if let IpAddr::V6(v6) = net.addr()
        && let Some(v4) = v6.to_ipv4_mapped()
    {
        let length = net.prefix_len().saturating_sub(96);
        return hint(format!(
            "IPv4 clients are matched by their IPv4 address: `{v4}/{length}`"
        ));
    }
    if net.trunc() == net {
        Ok(net)
    } else {
        hint(format!("did you mean `{}`?", net.trunc()))
    }
}

/// The name of a listener, pool, backend or group, usable in commands, URLs, metrics and log lines.
pub(crate) fn label(text: &str) -> Parsed<Arc<str>> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    match text {
        "" => Err(None),
        _ if text.len() > MAX_LABEL => hint(format!("a name has at most {MAX_LABEL} bytes")),
        _ if text.bytes().all(fits) => Ok(Arc::from(text)),
        _ => Err(hints::label(text)),
    }
}

/// A host name.
pub(crate) fn host_name(text: &str) -> Parsed<HostName> {
    HostName::parse(text.as_bytes()).map_err(|error| Some(hints::host_name(text, error)))
}

/// A name of a route.
pub(crate) fn pattern(text: &str) -> Parsed<NamePattern> {
    if text == "*" {
        return hint("for all names without a route, set `unknown_name`");
    }
    let stars = |hint| match text.contains('*') && HostName::parse(text.as_bytes()).is_err() {
        true if text.is_ascii() => Some(hints::stars(text)),
        _ => hint,
    };
    match text.strip_prefix("*.") {
        Some(suffix) => host_name(suffix).map(NamePattern::Suffix).map_err(stars),
        None => match host_name(text).map_err(stars) {
            Err(_) if is_ip_literal(text.as_bytes()) => {
                hint("clients that request an address get `unknown_name`")
            }
            name => name.map(NamePattern::Exact),
        },
    }
}

/// A host to connect to, without a port.
pub(crate) fn host(text: &str) -> Parsed<ServerHost> {
    match host_and_port(text)? {
        (host, None) => Ok(host),
        (_, Some(_)) => hint("leave out the port"),
    }
}

/// A host to connect to, with or without a port.
pub(crate) fn host_and_port(text: &str) -> Parsed<(ServerHost, Option<u16>)> {
    let inner = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    if let Ok(ip) = inner.unwrap_or(text).parse::<IpAddr>() {
        return connectable(ip).map(|host| (host, None));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        if matches!(address, SocketAddr::V6(v6) if v6.scope_id() != 0) {
            return hint("an address with a zone is not supported");
        }
        if address.port() == 0 {
            return hint(hints::PORTS);
        }
        return connectable(address.ip()).map(|host| (host, Some(address.port())));
    }
    let (name, number) = match text.rsplit_once(':') {
        None => (text, None),
        Some((name, digits)) => match port(digits) {
            Some(number) => (name, Some(number)),
            None => return Err(hints::host_and_port(text)),
        },
    };
    if is_almost_an_address(name) {
        return hint(hints::FOUR_NUMBERS);
    }
    match HostName::parse(name.as_bytes()) {
        Ok(name) => Ok((ServerHost::Name(name), number)),
        Err(error) => {
            let found = hints::host_and_port(text);
            Err(found.or_else(|| Some(hints::host_name(name, error))))
        }
    }
}

/// Numbers and dots that are not an IPv4 address: resolvers read them as an unexpected address (inet_aton(3)).
fn is_almost_an_address(text: &str) -> bool {
    let is_number = |label: &str| {
        let hexadecimal = label
            .strip_prefix("0x")
            .or_else(|| label.strip_prefix("0X"));
        match hexadecimal {
            Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
            None => !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_digit()),
        }
    };
    let text = text.strip_suffix('.').unwrap_or(text);
    text.split('.').all(is_number) && text.parse::<Ipv4Addr>().is_err()
}

fn connectable(ip: IpAddr) -> Parsed<ServerHost> {
    if ip.is_unspecified() {
        return hint("this is the unspecified address; write the address of the server");
    }
    bindable(ip).map(ServerHost::Address)
}

#[cfg(test)]
mod tests;

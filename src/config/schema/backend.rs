//! `backends[]`: the servers of a pool.
//!
//! Owns the keys of a backend and its short notation, `host:port`. Must not know the other backends. Invariant: every
//! backend has a host and a port.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::format::{Label, NumberRange, Port, Text, ValueParser};
use super::mapping::{Mapping, MappingKey::Special, plain};
use super::page::text;
use super::section::{Section, named_entries, read_scalar};
use crate::config::diagnostics::{Diagnostic, Diagnostics, quoted};
use crate::config::model::{BackendConfig, ServerAddress, ServerHost};
use crate::config::scalar::{self, HOST_AND_PORT, Parsed};
use crate::config::source::location::Located;
use crate::config::source::tree::{Node, NodeKind, Scalar};

/// The keys of a backend.
pub(crate) static BACKEND: Mapping<BackendConfig> = Mapping {
    path: "pools.NAME.backends[]",
    keys: &[
        Special("name"),
        Special("address"),
        plain!(BackendConfig, weight: NumberRange { min: 0, max: 256 }),
        Special("check_ports"),
    ],
};

const ADDRESS: Text<(ServerHost, Option<u16>)> = Text {
    expects: HOST_AND_PORT,
    parse: scalar::host_and_port,
};

/// The short notation.
struct AddressOrMapping;

impl ValueParser<(ServerHost, Option<u16>)> for AddressOrMapping {
    fn expects(&self) -> String {
        format!("{HOST_AND_PORT}, or a mapping with `address`")
    }

    fn parse(&self, scalar: &Scalar) -> Parsed<(ServerHost, Option<u16>)> {
        ADDRESS.parse(scalar)
    }
}

/// The `port` of a pool, for its backends without one.
#[derive(Debug, Clone, Copy)]
pub(super) enum DefaultPort {
    /// This one.
    Port(u16),
    /// The pool has none.
    Missing,
    /// The pool has one that is invalid and already reported.
    Invalid,
}

/// The address of a backend whose own one is invalid and already reported.
const UNKNOWN_ADDRESS: ServerAddress = ServerAddress {
    host: ServerHost::Address(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
    port: 0,
};

/// A backend with the defaults of its keys.
pub(super) fn default(name: Arc<str>, address: ServerAddress) -> BackendConfig {
    BackendConfig {
        name,
        address,
        weight: 1,
        check_ports: BTreeMap::new(),
    }
}

/// Parses a backend. The location is that of its name or, by default, of its address.
pub(super) fn parse(
    node: &Node,
    default_port: DefaultPort,
    diagnostics: &mut Diagnostics,
) -> Option<Located<BackendConfig>> {
    if !matches!(node.kind, NodeKind::Map(_)) {
        let address = read_scalar(node, "backends", &AddressOrMapping, diagnostics)?;
        let (name, address) = name_and_address(None, address, default_port, diagnostics)?;
        return Some(Located::new(default(name.value, address), name.at));
    }
    let before = diagnostics.errors.len();
    let section = BACKEND.open(node, "a backend", node.at, diagnostics);
    explain_port_key(node, &mut diagnostics.errors[before..]);
    section.require("address", diagnostics);
    let address = section.optional("address", &ADDRESS, diagnostics);
    let name = section.optional("name", &Label, diagnostics);
    let found =
        address.and_then(|address| name_and_address(name, address, default_port, diagnostics));
    // The other keys are also checked if there is no address.
    let mut config = default("".into(), UNKNOWN_ADDRESS);
    BACKEND.read(&section, &mut config, diagnostics);
    config.check_ports = check_ports(&section, diagnostics);
    let (name, address) = found?;
    config.name = name.value;
    config.address = address;
    Some(Located::new(config, name.at))
}

/// The name of the backend at an address, and that address with the pool's port if it has none of its own.
fn name_and_address(
    name: Option<Located<Arc<str>>>,
    address: Located<(ServerHost, Option<u16>)>,
    default_port: DefaultPort,
    diagnostics: &mut Diagnostics,
) -> Option<(Located<Arc<str>>, ServerAddress)> {
    let Located {
        value: (host, port),
        at,
    } = address;
    let name = name.unwrap_or_else(|| Located::new(default_name(&host), at));
    let port = match (port, default_port) {
        (Some(port), _) | (None, DefaultPort::Port(port)) => port,
        (None, DefaultPort::Invalid) => return None,
        (None, DefaultPort::Missing) => {
            let message = format!("backend `{}` has no port", name.value);
            let hint = "write host:port, or set `port` for the whole pool";
            diagnostics.error(Diagnostic::new(name.at, message).hint(hint));
            return None;
        }
    };
    Some((name, ServerAddress { host, port }))
}

/// The name of a backend or Front End without one: its host.
pub(super) fn default_name(host: &ServerHost) -> Arc<str> {
    host.to_string().into()
}

/// Replaces the hint of an unknown key `port`: the port is part of the address.
fn explain_port_key(node: &Node, errors: &mut [Diagnostic]) {
    let NodeKind::Map(entries) = &node.kind else {
        return;
    };
    let entry = |wanted: &str| {
        entries
            .iter()
            .find_map(|(key, value)| match (&key.kind, &value.kind) {
                (NodeKind::Scalar(name), NodeKind::Scalar(value)) if name.text == wanted => {
                    Some((key.at, value.text.as_str()))
                }
                _ => None,
            })
    };
    let Some((at, number)) = entry("port") else {
        return;
    };
    let Some(diagnostic) = errors.iter_mut().find(|diagnostic| diagnostic.at == at) else {
        return;
    };
    let address = entry("address").map(|(_, address)| scalar::host_and_port(address));
    let address = match (address, scalar::port(number)) {
        (Some(Ok((host, None))), Some(port)) => ServerAddress { host, port }.to_string(),
        _ => "HOST:PORT".to_owned(),
    };
    diagnostic.hint = Some(format!(
        "the port is part of the address: `address: \"{address}\"`"
    ));
}

fn check_ports(section: &Section<'_>, diagnostics: &mut Diagnostics) -> BTreeMap<u16, u16> {
    let mut ports = BTreeMap::new();
    let Some(entry) = section.get("check_ports") else {
        return ports;
    };
    for pair in named_entries(entry, diagnostics) {
        let own = read_scalar(pair.node, "check_ports", &Port, diagnostics);
        let Some(port) = scalar::port(pair.name) else {
            let found = quoted(pair.name);
            let message = format!("`check_ports` expects ports as keys, not {found}");
            diagnostics.error(Diagnostic::new(pair.at, message).hint("write `5061: 15061`"));
            continue;
        };
        ports.extend(own.map(|own| (port, own.value)));
    }
    ports
}

/// A backend on one line; in the short notation if that says everything.
pub(super) fn print(backend: &BackendConfig) -> String {
    let BackendConfig {
        name,
        address,
        weight,
        check_ports,
    } = backend;
    let is_default = *backend == default(default_name(&address.host), address.clone());
    let address = text(address);
    if is_default {
        return address;
    }
    let mut line = format!("{{ name: {}, address: {address}", text(name));
    if *weight != 1 {
        line += &format!(", weight: {weight}");
    }
    if !check_ports.is_empty() {
        let ports = check_ports
            .iter()
            .map(|(port, own)| format!("{port}: {own}"));
        let ports: Vec<String> = ports.collect();
        line += &format!(", check_ports: {{ {} }}", ports.join(", "));
    }
    line + " }"
}

//! One pool as written.
//!
//! Owns the keys of `pools.NAME` and of its backends. Must not know of other pools. Invariant: every backend that comes
//! out has a host and a port.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::listener::{POOL_NAME, pool_name, reserved};
use super::{PORT, affinity, health, name, not_empty, not_in_force, number, port, port_number};
use crate::config::diagnostics::{Note, Notes, quoted};
use crate::config::keys::{BACKEND, POOL};
use crate::config::list::{items, several_in_one};
use crate::config::model::{BackendConfig, Balance, OnDown, ServerAddress, ServerHost};
use crate::config::scalar::Parsed;
use crate::config::scalar::{self, HOST_AND_PORT, LABEL, print_duration};
use crate::config::section::{Section, SectionEntry, named, scalar as read_scalar, word_meant};
use crate::config::tree::{Node, NodeKind, Scalar};
use crate::config::written::{At, WrittenPool};

const BALANCES: [(&str, Balance); 4] = [
    ("least_connections", Balance::LeastConnections),
    ("round_robin", Balance::RoundRobin),
    ("random_two", Balance::RandomTwo),
    ("source_hash", Balance::SourceHash),
];
const ON_DOWN: [(&str, OnDown); 2] = [("close", OnDown::Close), ("keep", OnDown::Keep)];

/// How long a weight may grow.
const SLOW_START: (Duration, Duration) =
    (Duration::from_millis(10), Duration::from_secs(24 * 3600));
/// The most that a backend can weigh.
const MAX_WEIGHT: u64 = 256;
/// The most connections that a bound can name.
const MAX_CONNECTIONS: u64 = u32::MAX as u64;

/// Reads the pool under `entry`.
pub(super) fn read(entry: SectionEntry<'_>, notes: &mut Notes) -> WrittenPool {
    let before = notes.faults.len();
    let name = name(entry, "pool", notes);
    reserved(&name, notes);
    let what = format!("pool `{}`", name.value);
    let section = Section::open(entry.node, POOL, &what, entry.at, notes);
    not_yet(&section, notes);
    let max_connections = number(&section, "max_connections", (0, MAX_CONNECTIONS), notes);
    WrittenPool {
        backends: backends(&section, notes),
        backup: section.nullable("backup", POOL_NAME, notes, pool_name),
        balance: section
            .word("balance", &BALANCES, notes)
            .map_or(Balance::LeastConnections, |found| found.value),
        affinity: affinity::read(&section, &name, notes),
        health: health::read(&section, name.at, notes),
        on_down: section
            .word("on_down", &ON_DOWN, notes)
            .map_or(OnDown::Close, |found| found.value),
        slow_start: slow_start(&section, notes),
        max_connections: max_connections
            .map(|found| found.value)
            .filter(|most| *most != 0),
        whole: notes.faults.len() == before,
        name,
    }
}

/// The keys whose machinery is not built yet: their defaults are accepted.
fn not_yet(section: &Section<'_>, notes: &mut Notes) {
    let versions = [("none", false), ("v1", true), ("v2", true)];
    let sent = section.word("send_proxy_protocol", &versions, notes);
    if let Some(At { at, .. }) = sent.filter(|sent| sent.value) {
        let instead = "leave it out or write `none`";
        not_in_force(notes, at, "`send_proxy_protocol`", instead);
    }
    if let Some(entry) = section.get("source_address") {
        source_address(entry.node, notes);
    }
}

fn slow_start(section: &Section<'_>, notes: &mut Notes) -> Duration {
    let takes = format!(
        "`0s`, or a duration from {} to {}",
        print_duration(SLOW_START.0),
        print_duration(SLOW_START.1)
    );
    let found = section.optional("slow_start", &takes, notes, |scalar| {
        let (least, most) = SLOW_START;
        scalar::duration(&scalar.text, |value| {
            value.is_zero() || (least..=most).contains(&value)
        })
    });
    found.map_or(Duration::ZERO, |found| found.value)
}

fn source_address(node: &Node, notes: &mut Notes) {
    let takes = "`balancer`, `client` or a list of addresses";
    let instead = "leave it out or write `balancer`";
    match &node.kind {
        NodeKind::Scalar(scalar) if scalar.text == "balancer" => {}
        NodeKind::Scalar(scalar) if scalar.text == "client" => {
            not_in_force(notes, node.at, "`source_address: client`", instead);
        }
        NodeKind::List(_) => {
            let what = "a list of addresses in `source_address`";
            not_in_force(notes, node.at, what, instead);
        }
        NodeKind::Scalar(Scalar { text, .. }) => {
            let message = format!("`source_address` takes {takes}, not {}", quoted(text));
            notes.fault(Note {
                hint: word_meant(text, &["balancer", "client"]),
                ..Note::new(node.at, message)
            });
        }
        NodeKind::Null | NodeKind::Map(_) => {
            notes.fault(Note::new(
                node.at,
                format!("`source_address` takes {takes}"),
            ));
        }
    }
}

fn backends(section: &Section<'_>, notes: &mut Notes) -> Vec<At<BackendConfig>> {
    let default_port = port(section, "port", notes).map(|found| found.value);
    let port_is_faulty = default_port.is_none() && section.get("port").is_some();
    let Some(entry) = section.require("backends", notes) else {
        return Vec::new();
    };
    not_empty(entry, "name at least one", notes);
    let mut backends = Vec::new();
    let mut is_sound = |item: &Node| {
        let mut notes = Notes::default();
        backend(item, &mut notes);
        match notes.faults.pop() {
            None => Ok(()),
            Some(note) => Err(note.hint),
        }
    };
    let items = items(entry, "backends", notes, &mut is_sound).unwrap_or_default();
    for item in items {
        let before = notes.faults.len();
        let draft = backend(item, notes);
        several_in_one(item, before, notes, &mut is_sound);
        let Some(draft) = draft else {
            continue;
        };
        match draft.port.or(default_port) {
            Some(port) => backends.push(draft.finish(port)),
            None if port_is_faulty => {}
            None => {
                let message = format!("backend `{}` has no port", draft.name.value);
                let hint = "write host:port, or set `port` for the whole pool";
                notes.fault(Note::new(draft.name.at, message).hint(hint));
            }
        }
    }
    backends
}

/// A backend whose port may have to come from its pool.
struct BackendDraft {
    name: At<Arc<str>>,
    host: ServerHost,
    port: Option<u16>,
    weight: u32,
    check_ports: BTreeMap<u16, u16>,
}

impl BackendDraft {
    fn finish(self, port: u16) -> At<BackendConfig> {
        let Self {
            name,
            host,
            weight,
            check_ports,
            ..
        } = self;
        let address = ServerAddress { host, port };
        At::new(
            BackendConfig {
                name: name.value,
                address,
                weight,
                check_ports,
            },
            name.at,
        )
    }
}

fn backend(node: &Node, notes: &mut Notes) -> Option<BackendDraft> {
    let host_and_port = |scalar: &Scalar| scalar::host_and_port(&scalar.text);
    if !matches!(node.kind, NodeKind::Map(_)) {
        let takes = format!("{HOST_AND_PORT}, or a mapping with `address`");
        let At {
            value: (host, port),
            at,
        } = read_scalar(node, "backends", &takes, notes, host_and_port)?;
        let name = At::new(host_label(&host), at);
        return Some(BackendDraft {
            name,
            host,
            port,
            weight: 1,
            check_ports: BTreeMap::new(),
        });
    }
    let before = notes.faults.len();
    let section = Section::open(node, BACKEND, "a backend", node.at, notes);
    port_of_its_own(node, &mut notes.faults[before..]);
    section.require("address", notes);
    let address = section.optional("address", HOST_AND_PORT, notes, host_and_port);
    let name = section.optional("name", LABEL, notes, |scalar| scalar::label(&scalar.text));
    let weight = number(&section, "weight", (0, MAX_WEIGHT), notes);
    let check_ports = check_ports(&section, notes);
    let At {
        value: (host, port),
        at,
    } = address?;
    Some(BackendDraft {
        name: name.unwrap_or_else(|| At::new(host_label(&host), at)),
        host,
        port,
        weight: weight.map_or(1, |found| found.value),
        check_ports,
    })
}

/// Says where a port belongs that is written as a key.
fn port_of_its_own(node: &Node, faults: &mut [Note]) {
    let NodeKind::Map(entries) = &node.kind else {
        return;
    };
    let entry = |wanted: &str| {
        entries
            .iter()
            .find_map(|(key, value)| match (&key.kind, &value.kind) {
                (NodeKind::Scalar(key_word), NodeKind::Scalar(value))
                    if key_word.text == wanted =>
                {
                    Some((key.at, value.text.as_str()))
                }
                _ => None,
            })
    };
    let Some((at, number)) = entry("port") else {
        return;
    };
    let Some(note) = faults.iter_mut().find(|note| note.at == at) else {
        return;
    };
    let address = entry("address").map(|(_, address)| scalar::host_and_port(address));
    let whole = match (address, scalar::port(number)) {
        (Some(Ok((ServerHost::Address(std::net::IpAddr::V6(ip)), None))), Some(port)) => {
            Some(format!("[{ip}]:{port}"))
        }
        (Some(Ok((host, None))), Some(port)) => Some(format!("{}:{port}", host_label(&host))),
        _ => None,
    };
    let rule = "the port stands behind the address";
    note.hint = Some(match whole {
        Some(whole) => format!("{rule}: `address: \"{whole}\"`"),
        None => format!("{rule}: `address: \"HOST:PORT\"`"),
    });
}

/// What a backend is called that was given no name: its host.
pub(super) fn host_label(host: &ServerHost) -> Arc<str> {
    match host {
        ServerHost::Address(ip) => ip.to_string().into(),
        ServerHost::Name(name) => name.as_str().into(),
    }
}

fn check_ports(section: &Section<'_>, notes: &mut Notes) -> BTreeMap<u16, u16> {
    let mut ports = BTreeMap::new();
    let Some(entry) = section.get("check_ports") else {
        return ports;
    };
    for pair in named(entry, notes) {
        let own: Option<At<u16>> = read_scalar(pair.node, "check_ports", PORT, notes, port_number);
        let Some(asked) = scalar::port(pair.name) else {
            let message = format!(
                "`check_ports` takes ports as keys, not {}",
                quoted(pair.name)
            );
            notes.fault(Note::new(pair.at, message).hint("write `5061: 15061`"));
            continue;
        };
        ports.extend(own.map(|own| (asked, own.value)));
    }
    ports
}

/// A host without a port, as the short form has it.
pub(super) fn host_alone(scalar: &Scalar) -> Parsed<ServerHost> {
    scalar::host(&scalar.text)
}

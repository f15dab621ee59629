//! The `lync:` short form as written.
//!
//! Owns its keys. Must not know what it stands for, but for the ports and the name prefix that it has by default.
//! Invariant: what comes out expands without a fault of its own.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::diagnostics::{Note, Notes};
use crate::config::keys::{BACKUP_FRONT_END, FRONT_END, Keys, LYNC, PORTS};
use crate::config::list::{items, several_in_one};
use crate::config::overlap::Binds;
use crate::config::preset::{self, Lync, LyncFrontEnd, Ports};
use crate::config::scalar::{self, HOST, HOST_NAME, LABEL};
use crate::config::section::{Section, SectionEntry, scalar as read_scalar};
use crate::config::tree::{Node, NodeKind, Scalar};
use crate::config::written::At;
use crate::types::host_name::HostName;

use super::pool::{host_alone, host_label};
use super::{filled, not_empty, port};

/// Reads the short form; nothing if it has a fault, so that no fault is found again in what it expands to.
pub(super) fn read(entry: SectionEntry<'_>, notes: &mut Notes) -> Option<Lync> {
    let before = notes.faults.len();
    let section = Section::open(entry.node, LYNC, "`lync`", entry.at, notes);
    for key in ["sip_domains", "external_web_fqdn", "front_ends"] {
        section.require(key, notes);
    }
    let sip_domains = sip_domains(&section, notes);
    let external = section.optional("external_web_fqdn", HOST_NAME, notes, host_name);
    let simple_urls = section.list("simple_urls", "host names", notes, host_name);
    let listen = listen(&section, notes);
    let front_ends_found = front_ends(&section, "front_ends", FRONT_END, notes);
    let backups = front_ends(&section, "backup_front_ends", BACKUP_FRONT_END, notes);
    let ports = ports(&section, entry, notes);
    let lync = Lync {
        at: entry.at,
        lyncdiscover: sip_domains.unwrap_or_default(),
        external_web_fqdn: external?,
        simple_urls: simple_urls.unwrap_or_default(),
        front_ends: front_ends_found,
        backup_front_ends: backups,
        ports,
        listen: listen
            .unwrap_or_else(|| vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()]),
    };
    names_are_unique(&lync, notes);
    (notes.faults.len() == before).then_some(lync)
}

fn host_name(scalar: &Scalar) -> crate::config::scalar::Parsed<HostName> {
    scalar::host_name(&scalar.text)
}

/// The names that Autodiscover has in each SIP domain.
fn sip_domains(section: &Section<'_>, notes: &mut Notes) -> Option<Vec<At<HostName>>> {
    let takes = "SIP domains such as `contoso.com`";
    filled(section, "sip_domains", takes, notes, |scalar| {
        let domain = scalar::host_name(&scalar.text)?;
        if let Some(rest) = domain.as_str().strip_prefix(preset::LYNCDISCOVER) {
            return Err(Some(format!(
                "write `{rest}`; `{}` comes by itself",
                preset::LYNCDISCOVER
            )));
        }
        scalar::host_name(&format!("{}{domain}", preset::LYNCDISCOVER))
    })
}

/// Notes a name that stands twice: it would be routed twice.
fn names_are_unique(lync: &Lync, notes: &mut Notes) {
    let mut seen = HashMap::new();
    for name in lync.names() {
        if let Some(first) = seen.insert(&name.value, name.at) {
            let message = format!("`{}` is routed twice", name.value);
            notes.fault(Note::new(name.at, message).hint(format!("first in line {}", first.line)));
        }
    }
}

fn listen(section: &Section<'_>, notes: &mut Notes) -> Option<Vec<IpAddr>> {
    let takes = "addresses such as `0.0.0.0` or `[::]`";
    let found = filled(section, "listen", takes, notes, |scalar| {
        scalar::listen_address(&scalar.text)
    })?;
    let mut binds = Binds::default();
    for ip in &found {
        // One port stands for all four: the addresses alone decide here.
        if let Some(first) = binds.add(SocketAddr::new(ip.value, 1), ip.at, "") {
            let first = first.address.ip();
            let note = if first == ip.value {
                Note::new(ip.at, format!("`listen` has `{first}` twice"))
            } else {
                Note::new(ip.at, format!("`{}` overlaps `{first}`", ip.value))
                    .hint("the unspecified address stands for all others of its family")
            };
            notes.fault(note);
        }
    }
    Some(found.into_iter().map(|found| found.value).collect())
}

fn ports(section: &Section<'_>, lync: SectionEntry<'_>, notes: &mut Notes) -> Ports {
    let mut ports = Ports::at(lync.at);
    let Some(section) = section.section("ports", PORTS, notes) else {
        return ports;
    };
    let mut seen = HashMap::new();
    for (key, place) in [
        ("https", &mut ports.https),
        ("http", &mut ports.http),
        ("https_direct", &mut ports.https_direct),
        ("http_direct", &mut ports.http_direct),
    ] {
        if let Some(found) = port(&section, key, notes) {
            *place = found;
        }
        if let Some((other, other_at)) = seen.insert(place.value, (key, place.at)) {
            let message = format!("`{key}` and `{other}` are both port {}", place.value);
            // One of the two may be a default, which has no place of its own.
            let at = if place.at == lync.at {
                other_at
            } else {
                place.at
            };
            notes.fault(Note::new(at, message).hint("each port leads to one place"));
        }
    }
    ports
}

fn front_ends(
    section: &Section<'_>,
    key: &str,
    keys: Keys,
    notes: &mut Notes,
) -> Vec<LyncFrontEnd> {
    let Some(entry) = section.get(key) else {
        return Vec::new();
    };
    if key == "front_ends" {
        not_empty(entry, "name at least one", notes);
    }
    let mut is_sound = |item: &Node| {
        let mut notes = Notes::default();
        front_end(item, key, keys, &mut notes);
        match notes.faults.pop() {
            None => Ok(()),
            Some(note) => Err(note.hint),
        }
    };
    let items = items(entry, "Front Ends", notes, &mut is_sound).unwrap_or_default();
    let mut found: Vec<LyncFrontEnd> = Vec::new();
    for item in items {
        let before = notes.faults.len();
        found.extend(front_end(item, key, keys, notes));
        several_in_one(item, before, notes, &mut is_sound);
    }
    let mut seen = HashMap::new();
    for front_end in &found {
        if let Some(first) = seen.insert(&front_end.name, front_end.at) {
            let message = format!("`{key}` has `{}` twice", front_end.name);
            let hint = format!(
                "the first is in line {}; a `name` of its own tells two apart",
                first.line
            );
            notes.fault(Note::new(front_end.at, message).hint(hint));
        }
    }
    found
}

fn front_end(node: &Node, key: &str, keys: Keys, notes: &mut Notes) -> Option<LyncFrontEnd> {
    let of = |name, host, at| LyncFrontEnd {
        name,
        host,
        at,
        https: preset::HTTPS,
        http: preset::HTTP,
        sip: preset::SIP,
    };
    if !matches!(node.kind, NodeKind::Map(_)) {
        let takes = format!("{HOST}, or a mapping with `address`");
        let host = read_scalar(node, key, &takes, notes, |scalar| {
            host_alone(scalar).map_err(|hint| match scalar::host_and_port(&scalar.text) {
                Ok(_) => {
                    Some("a port of its own is written `{ address: HOST, https: PORT }`".into())
                }
                Err(_) => hint,
            })
        })?;
        return Some(of(host_label(&host.value), host.value, host.at));
    }
    let section = Section::open(node, keys, "a Front End", node.at, notes);
    let name = section.optional("name", LABEL, notes, |scalar| scalar::label(&scalar.text));
    let key = if section.get("address").is_none() && name.is_some() {
        "name"
    } else {
        "address"
    };
    if key == "address" {
        section.require("address", notes);
    }
    let host = section.optional(key, HOST, notes, host_alone);
    let ports = ["https", "http", "sip"].map(|key| port(&section, key, notes));
    let [https, http, sip] = ports.map(|port| port.map(|found| found.value));
    let host = host?;
    let name = name.map_or_else(|| host_label(&host.value), |name| name.value);
    let default = of(name, host.value, node.at);
    Some(LyncFrontEnd {
        https: https.unwrap_or(default.https),
        http: http.unwrap_or(default.http),
        sip: sip.unwrap_or(default.sip),
        ..default
    })
}

//! `front_ends[]` and `backup_front_ends[]` of the short form.
//!
//! Owns the keys of a Front End and its short notation, a host. Must not know the rest of the short form. Invariant: names
//! are unique in a list.

use std::collections::HashMap;
use std::sync::Arc;

use super::{HTTP, HTTPS, SIP};
use crate::config::diagnostics::{Diagnostic, Diagnostics, FileLocation};
use crate::config::model::ServerHost;
use crate::config::scalar::{self, HOST, Parsed};
use crate::config::schema::backend::default_name;
use crate::config::schema::format::{Label, Port, Text, ValueParser};
use crate::config::schema::list::{items, suggest_splitting};
use crate::config::schema::mapping::{Mapping, MappingKey, MappingKey::Special};
use crate::config::schema::section::{Section, not_empty, read_scalar};
use crate::config::source::tree::{Node, NodeKind, Scalar};

/// The keys of a Front End.
pub(crate) static FRONT_END: Mapping = Mapping {
    path: "lync.front_ends[]",
    keys: KEYS,
};

/// The keys of a Front End of the paired pool.
pub(crate) static BACKUP_FRONT_END: Mapping = Mapping {
    path: "lync.backup_front_ends[]",
    keys: KEYS,
};

const KEYS: &[MappingKey<()>] = &[
    Special("name"),
    Special("address"),
    Special("https"),
    Special("http"),
    Special("sip"),
];

/// One of the two lists of Front Ends.
pub(super) struct FrontEndList {
    key: &'static str,
    mapping: &'static Mapping,
    is_required: bool,
}

/// The Front Ends.
pub(super) const FRONT_ENDS: FrontEndList = FrontEndList {
    key: "front_ends",
    mapping: &FRONT_END,
    is_required: true,
};

/// Those of the paired pool.
pub(super) const BACKUP_FRONT_ENDS: FrontEndList = FrontEndList {
    key: "backup_front_ends",
    mapping: &BACKUP_FRONT_END,
    is_required: false,
};

/// A Front End.
#[derive(Debug, Clone)]
pub(crate) struct FrontEndSettings {
    /// Its name as a backend.
    pub name: Arc<str>,
    /// Its address.
    pub host: ServerHost,
    /// The port of External Web over TLS.
    pub https: u16,
    /// The port of External Web without TLS.
    pub http: u16,
    /// The port of SIP.
    pub sip: u16,
    /// Its location in the file.
    pub at: FileLocation,
}

impl FrontEndSettings {
    fn default(name: Arc<str>, host: ServerHost, at: FileLocation) -> Self {
        Self {
            name,
            host,
            at,
            https: HTTPS,
            http: HTTP,
            sip: SIP,
        }
    }
}

const ADDRESS: Text<ServerHost> = Text {
    expects: HOST,
    parse: scalar::host,
};

/// The short notation.
struct HostOrMapping;

impl ValueParser<ServerHost> for HostOrMapping {
    fn expects(&self) -> String {
        format!("{HOST}, or a mapping with `address`")
    }

    fn parse(&self, scalar: &Scalar) -> Parsed<ServerHost> {
        ADDRESS
            .parse(scalar)
            .map_err(|hint| match scalar::host_and_port(&scalar.text) {
                Ok(_) => Some("to set a port, write `{ address: HOST, https: PORT }`".into()),
                Err(_) => hint,
            })
    }
}

/// Parses one of the two lists.
pub(super) fn parse_list(
    section: &Section<'_>,
    list: &FrontEndList,
    diagnostics: &mut Diagnostics,
) -> Vec<FrontEndSettings> {
    let Some(entry) = section.get(list.key) else {
        return Vec::new();
    };
    if list.is_required {
        not_empty(entry, "list at least one", diagnostics);
    }
    let mut parse_item = |item: &Node| {
        let mut diagnostics = Diagnostics::default();
        parse(item, list, &mut diagnostics);
        match diagnostics.errors.pop() {
            None => Ok(()),
            Some(diagnostic) => Err(diagnostic.hint),
        }
    };
    let items = items(entry, "Front Ends", diagnostics, &mut parse_item).unwrap_or_default();
    let mut found: Vec<FrontEndSettings> = Vec::new();
    for item in items {
        let before = diagnostics.errors.len();
        found.extend(parse(item, list, diagnostics));
        suggest_splitting(item, before, diagnostics, &mut parse_item);
    }
    check_unique_names(&found, list.key, diagnostics);
    found
}

fn check_unique_names(front_ends: &[FrontEndSettings], key: &str, diagnostics: &mut Diagnostics) {
    let mut seen = HashMap::new();
    for FrontEndSettings { name, at, .. } in front_ends {
        if let Some(first) = seen.insert(name, at) {
            let message = format!("`{key}` has `{name}` twice");
            let hint = format!("{}; set `name` to tell two apart", first.first_hint());
            diagnostics.error(Diagnostic::new(*at, message).hint(hint));
        }
    }
}

fn parse(
    node: &Node,
    list: &FrontEndList,
    diagnostics: &mut Diagnostics,
) -> Option<FrontEndSettings> {
    if !matches!(node.kind, NodeKind::Map(_)) {
        let host = read_scalar(node, list.key, &HostOrMapping, diagnostics)?;
        let name = default_name(&host.value);
        return Some(FrontEndSettings::default(name, host.value, host.at));
    }
    let section = list.mapping.open(node, "a Front End", node.at, diagnostics);
    let name = section.optional("name", &Label, diagnostics);
    let key = if section.get("address").is_none() && name.is_some() {
        "name"
    } else {
        section.require("address", diagnostics);
        "address"
    };
    let host = section.optional(key, &ADDRESS, diagnostics);
    let [https, http, sip] = ["https", "http", "sip"].map(|key| {
        let port = section.optional(key, &Port, diagnostics);
        port.map(|found| found.value)
    });
    let host = host?.value;
    let name = name.map_or_else(|| default_name(&host), |name| name.value);
    let default = FrontEndSettings::default(name, host, node.at);
    Some(FrontEndSettings {
        https: https.unwrap_or(default.https),
        http: http.unwrap_or(default.http),
        sip: sip.unwrap_or(default.sip),
        ..default
    })
}

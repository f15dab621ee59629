//! `admin`: the admin listener.
//!
//! Owns its keys and defaults. Must not know what the listener serves. Invariant: `bind` is absent only if the file has
//! an invalid one.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::format::Text;
use super::mapping::{Mapping, MappingKey::Special};
use super::page::{YamlPage, text};
use super::section::Section;
use crate::config::diagnostics::{Diagnostic, Diagnostics, FileLocation};
use crate::config::model::{AdminBind, AdminSettings};
use crate::config::scalar::{self, ADMIN_BIND};
use crate::config::source::location::Located;
use crate::config::source::tree::NodeKind;
use crate::types::host_name::HostName;

/// The keys of `admin`.
pub(crate) static ADMIN: Mapping = Mapping {
    path: "admin",
    keys: &[
        Special("bind"),
        Special("metrics_bind"),
        Special("token_file"),
        Special("hosts"),
    ],
};

/// The default of `bind`.
pub(crate) const DEFAULT_BIND: AdminBind = AdminBind::Tcp(SocketAddr::new(
    std::net::IpAddr::V4(Ipv4Addr::LOCALHOST),
    9900,
));

const BIND: Text<AdminBind> = Text {
    expects: ADMIN_BIND,
    parse: scalar::admin_bind,
};
const TOKEN_FILE: Text<PathBuf> = Text {
    expects: "the path of a file",
    parse: scalar::file_path,
};
const HOSTS: Text<HostName> = Text {
    expects: "host names",
    parse: scalar::host_name,
};

/// The admin listener as parsed.
#[derive(Debug)]
pub(crate) struct ParsedAdmin {
    /// Its address; `None` if the one in the file is invalid.
    pub bind: Option<Located<AdminBind>>,
    /// The file sets no address.
    pub bind_is_default: bool,
    /// The address of the separate metrics listener.
    pub metrics_bind: Option<Located<AdminBind>>,
    /// The file of the token.
    pub token_file: Option<PathBuf>,
    /// Whether the file has a `token_file`, even an invalid one.
    pub has_token_file: bool,
    /// Accepted host names.
    pub hosts: Vec<HostName>,
}

/// Parses `admin`.
pub(super) fn parse(root: &Section<'_>, diagnostics: &mut Diagnostics) -> ParsedAdmin {
    let default = Located::new(DEFAULT_BIND, FileLocation::START);
    let Some(section) = ADMIN.open_key(root, "admin", diagnostics) else {
        return ParsedAdmin {
            bind: Some(default),
            bind_is_default: true,
            metrics_bind: None,
            token_file: None,
            has_token_file: false,
            hosts: Vec::new(),
        };
    };
    let bind_is_default = section.get("bind").is_none();
    let bind = section.optional("bind", &BIND, diagnostics);
    let token_file = section.get("token_file");
    ParsedAdmin {
        bind: if bind_is_default { Some(default) } else { bind },
        bind_is_default,
        metrics_bind: section.nullable("metrics_bind", &BIND, diagnostics),
        token_file: section
            .nullable("token_file", &TOKEN_FILE, diagnostics)
            .map(|found| found.value),
        has_token_file: token_file.is_some_and(|entry| entry.node.kind != NodeKind::Null),
        hosts: hosts(&section, diagnostics),
    }
}

/// Accepted host names, each once.
fn hosts(section: &Section<'_>, diagnostics: &mut Diagnostics) -> Vec<HostName> {
    let found = section.list("hosts", &HOSTS, diagnostics);
    let mut hosts: Vec<Located<HostName>> = Vec::new();
    for host in found.unwrap_or_default() {
        if let Some(first) = hosts.iter().find(|known| known.value == host.value) {
            let message = format!("`hosts` has `{}` twice", host.value);
            diagnostics.error(Diagnostic::new(host.at, message).hint(first.at.first_hint()));
        } else {
            hosts.push(host);
        }
    }
    hosts.into_iter().map(|host| host.value).collect()
}

/// Prints `admin`.
pub(super) fn print(page: &mut YamlPage, admin: &AdminSettings) {
    page.line(0, "admin:");
    page.entry(1, "bind", text(&admin.bind));
    if let Some(bind) = &admin.metrics_bind {
        page.entry(1, "metrics_bind", text(bind));
    }
    if let Some(file) = &admin.token_file {
        page.entry(1, "token_file", text(file.display()));
    }
    page.list(1, "hosts", &admin.hosts);
}

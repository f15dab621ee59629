//! `listeners.NAME`: addresses, and how their connections are routed.
//!
//! Owns its keys and defaults. Must not know which pools there are, nor which keys a protocol requires. Invariant: a
//! complete listener has every required key.

use std::net::SocketAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::format::{Choice, Text, ValueFormat};
use super::mapping::{Mapping, MappingKey::Special, plain};
use super::page::{YamlPage, text};
use super::pool::{POOL_NAME, pool_name};
use super::route::{self, ParsedRoute};
use super::section::{Section, SectionEntry};
use super::{name, not_supported};
use crate::config::diagnostics::{Diagnostics, FileLocation};
use crate::config::model::{Config, ListenerConfig, Protocol, RejectionMode, Target, WhenPoolDown};
use crate::config::scalar::{self, BIND, NETWORK, Parsed};
use crate::config::source::location::Located;

const PROTOCOL: Choice<Protocol> = Choice(&[
    (Protocol::Tls.as_str(), Protocol::Tls),
    (Protocol::Http.as_str(), Protocol::Http),
    (Protocol::Tcp.as_str(), Protocol::Tcp),
]);
const REFUSAL: Choice<RejectionMode> = Choice(&[
    ("alert", RejectionMode::Alert),
    ("reset", RejectionMode::Reset),
    ("close", RejectionMode::Close),
]);
const WHEN_POOL_DOWN: Choice<WhenPoolDown> = Choice(&[
    ("close", WhenPoolDown::Close),
    ("refuse", WhenPoolDown::Refuse),
]);
const ADDRESSES: Text<SocketAddr> = Text {
    expects: BIND,
    parse: scalar::bind_address,
};
const NETWORKS: Text<IpNet> = Text {
    expects: NETWORK,
    parse: scalar::network,
};
const TARGET: Text<TargetName> = Text {
    expects: "the name of a pool, or `refuse`",
    parse: target_name,
};

/// The keys of a listener.
pub(crate) static LISTENER: Mapping<ListenerConfig> = Mapping {
    path: "listeners.NAME",
    keys: &[
        Special("bind"),
        Special("protocol"),
        Special("routes"),
        Special("no_name"),
        Special("unknown_name"),
        Special("pool"),
        Special("refusal"),
        plain!(ListenerConfig, when_pool_down: WHEN_POOL_DOWN),
        Special("accept_proxy_protocol_from"),
        Special("allow"),
        Special("deny"),
    ],
};

/// A listener with the defaults of its keys, without addresses and routes.
pub(super) fn default(name: Arc<str>) -> ListenerConfig {
    ListenerConfig {
        name,
        bind: Vec::new(),
        protocol: Protocol::Tcp,
        routes: Vec::new(),
        no_name: Target::Refuse,
        unknown_name: Target::Refuse,
        pool: None,
        refusal: RejectionMode::Alert,
        when_pool_down: WhenPoolDown::Close,
        allow: Vec::new(),
        deny: Vec::new(),
    }
}

/// The name of a pool, or `refuse`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum TargetName {
    /// This pool.
    Pool(Arc<str>),
    /// No pool.
    Refuse,
}

fn target_name(text: &str) -> Parsed<TargetName> {
    match text {
        "refuse" => Ok(TargetName::Refuse),
        _ => pool_name(text).map(TargetName::Pool),
    }
}

/// A listener as parsed.
#[derive(Debug, Clone)]
pub(crate) struct ParsedListener {
    /// The location of its name, or of `lync`.
    pub at: FileLocation,
    /// Everything but `routes`, `no_name`, `unknown_name` and `pool`, which are references.
    pub config: ListenerConfig,
    /// Defined by the short form.
    pub from_short_form: bool,
    /// The protocol; `None` if it is missing or invalid.
    pub protocol: Option<Protocol>,
    /// The locations of the addresses, in their order.
    pub bind_at: Vec<FileLocation>,
    /// The locations of the networks in `allow`, in their order.
    pub allow_at: Vec<FileLocation>,
    /// The location of `refusal`, if the file has it.
    pub refusal_at: Option<FileLocation>,
    /// The routes.
    pub routes: Vec<ParsedRoute>,
    /// The target of clients without a name, if the file has it.
    pub no_name: Option<Located<TargetName>>,
    /// The target of other names, if the file has it.
    pub unknown_name: Option<Located<TargetName>>,
    /// The name of the only pool.
    pub pool: Option<Located<Arc<str>>>,
    /// No error was found in it.
    pub complete: bool,
}

/// Parses the listener in `entry`.
pub(super) fn parse(entry: SectionEntry<'_>, diagnostics: &mut Diagnostics) -> ParsedListener {
    let before = diagnostics.errors.len();
    let name = name(entry, "listener", diagnostics);
    let what = format!("listener `{}`", name.value);
    let section = LISTENER.open(entry.node, &what, entry.at, diagnostics);
    section.require("bind", diagnostics);
    section.require("protocol", diagnostics);
    let mut config = default(name.value);
    LISTENER.read(&section, &mut config, diagnostics);
    let bind = section.non_empty_list("bind", &ADDRESSES, diagnostics);
    let (bind, bind_at) = unzip(bind);
    let protocol = section.optional("protocol", &PROTOCOL, diagnostics);
    let protocol = protocol.map(|found| found.value);
    let refusal = section.optional("refusal", &REFUSAL, diagnostics);
    accept_proxy_protocol_from(&section, diagnostics);
    let (allow, allow_at) = unzip(section.list("allow", &NETWORKS, diagnostics));
    let (deny, _) = unzip(section.list("deny", &NETWORKS, diagnostics));
    ParsedListener {
        at: name.at,
        from_short_form: false,
        protocol,
        bind_at,
        allow_at,
        refusal_at: refusal.as_ref().map(|found| found.at),
        routes: route::parse_list(&section, diagnostics),
        no_name: section.optional("no_name", &TARGET, diagnostics),
        unknown_name: section.optional("unknown_name", &TARGET, diagnostics),
        pool: section.nullable("pool", &POOL_NAME, diagnostics),
        config: ListenerConfig {
            bind,
            protocol: protocol.unwrap_or(config.protocol),
            refusal: refusal.map_or(config.refusal, |found| found.value),
            allow,
            deny,
            ..config
        },
        complete: diagnostics.errors.len() == before,
    }
}

/// The values of a list and their locations.
fn unzip<T>(list: Option<Vec<Located<T>>>) -> (Vec<T>, Vec<FileLocation>) {
    let list = list.unwrap_or_default().into_iter();
    list.map(|Located { value, at }| (value, at)).unzip()
}

/// Not implemented yet: only the default is accepted.
fn accept_proxy_protocol_from(section: &Section<'_>, diagnostics: &mut Diagnostics) {
    let key = "accept_proxy_protocol_from";
    let networks = section.list(key, &NETWORKS, diagnostics);
    if let Some(Located { at, .. }) = networks.unwrap_or_default().first() {
        let instead = "leave it out or write `[]`";
        not_supported(diagnostics, *at, &format!("`{key}`"), instead);
    }
}

/// Prints a listener, without the keys that its protocol does not have.
pub(super) fn print(page: &mut YamlPage, listener: &ListenerConfig, config: &Config) {
    let has_names = listener.protocol != Protocol::Tcp;
    let target = |target: Target| match target {
        Target::Pool(id) => text(&config.pool(id).name),
        Target::Refuse => "refuse".to_owned(),
    };
    page.line(1, format_args!("{}:", text(&listener.name)));
    LISTENER.print(page, 2, listener, |page, key| match key {
        "bind" => page.list(2, key, &listener.bind),
        "protocol" => page.entry(2, key, PROTOCOL.print(&listener.protocol)),
        "routes" => route::print_list(page, &listener.routes, config),
        "no_name" if has_names => page.entry(2, key, target(listener.no_name)),
        "unknown_name" if has_names => page.entry(2, key, target(listener.unknown_name)),
        "pool" => {
            if let Some(id) = listener.pool {
                page.entry(2, key, text(&config.pool(id).name));
            }
        }
        "refusal" if listener.protocol == Protocol::Tls => {
            page.entry(2, key, REFUSAL.print(&listener.refusal));
        }
        "allow" => page.list(2, key, &listener.allow),
        "deny" => page.list(2, key, &listener.deny),
        _ => {}
    });
}

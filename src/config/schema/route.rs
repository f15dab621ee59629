//! `routes[]`: the names of a listener that one pool serves.
//!
//! Owns the keys of a route. Must not know which pools there are. Invariant: every name is one that a client can send or
//! a wildcard.

use std::sync::Arc;

use super::format::Text;
use super::list::items;
use super::mapping::{Mapping, MappingKey::Special};
use super::page::{YamlPage, text};
use super::pool::POOL_NAME;
use super::section::Section;
use crate::config::diagnostics::{Diagnostics, FileLocation};
use crate::config::model::{Config, NamePattern, RouteConfig};
use crate::config::scalar::{self, PATTERN};
use crate::config::source::location::Located;
use crate::config::source::tree::Node;

/// The keys of a route.
pub(crate) static ROUTE: Mapping = Mapping {
    path: "listeners.NAME.routes[]",
    keys: &[Special("names"), Special("pool")],
};

const NAMES: Text<NamePattern> = Text {
    expects: PATTERN,
    parse: scalar::pattern,
};

/// A route as parsed.
#[derive(Debug, Clone)]
pub(crate) struct ParsedRoute {
    /// Its location.
    pub at: FileLocation,
    /// Its names.
    pub names: Vec<Located<NamePattern>>,
    /// The name of its pool.
    pub pool: Option<Located<Arc<str>>>,
}

/// Parses `routes`.
pub(super) fn parse_list(
    listener: &Section<'_>,
    diagnostics: &mut Diagnostics,
) -> Vec<ParsedRoute> {
    let Some(entry) = listener.get("routes") else {
        return Vec::new();
    };
    let items = items(entry, "routes", diagnostics, &mut |_| Err(None)).unwrap_or_default();
    let parse = |item| parse(item, diagnostics);
    items.iter().map(parse).collect()
}

fn parse(node: &Node, diagnostics: &mut Diagnostics) -> ParsedRoute {
    let section = ROUTE.open(node, "a route", node.at, diagnostics);
    section.require("names", diagnostics);
    section.require("pool", diagnostics);
    let names = section.non_empty_list("names", &NAMES, diagnostics);
    ParsedRoute {
        at: node.at,
        names: names.unwrap_or_default(),
        pool: section.optional("pool", &POOL_NAME, diagnostics),
    }
}

/// Prints `routes`.
pub(super) fn print_list(page: &mut YamlPage, routes: &[RouteConfig], config: &Config) {
    if !routes.is_empty() {
        page.line(2, "routes:");
    }
    for route in routes {
        let pool = text(&config.pool(route.pool).name);
        page.line(3, format_args!("- pool: {pool}"));
        page.list(4, "names", &route.names);
    }
}

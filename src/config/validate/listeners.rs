//! Listeners: the keys of each protocol, unique names, addresses without overlaps.
//!
//! Owns the rules between a listener and its protocol, the other listeners and the admin listener. Must not know the
//! settings of a pool. Invariant: without an error, a tcp listener has a pool and no routes, the others have a target,
//! and no two sockets need the same address.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::{PoolNames, also_in_short_form};
use crate::config::bind_overlap::Binds;
use crate::config::diagnostics::{Diagnostic, Diagnostics, FileLocation};
use crate::config::model::{
    AdminBind, ListenerConfig, NamePattern, Protocol, RejectionMode, RouteConfig, Target,
};
use crate::config::schema::ParsedFile;
use crate::config::schema::listener::{ParsedListener, TargetName};
use crate::config::source::location::Located;

/// Validates all listeners.
pub(super) fn validate(
    parsed: &ParsedFile,
    pools: &PoolNames<'_>,
    diagnostics: &mut Diagnostics,
) -> Vec<ListenerConfig> {
    if parsed.listeners.is_empty() && diagnostics.errors.is_empty() {
        let diagnostic = Diagnostic::new(FileLocation::START, "there is no listener");
        diagnostics.error(diagnostic.hint("add `lync:`, or an entry under `listeners:`"));
    }
    check_unique_names(&parsed.listeners, diagnostics);
    check_overlaps(parsed, diagnostics);
    let validate = |listener| validate_one(listener, pools, diagnostics);
    parsed.listeners.iter().map(validate).collect()
}

fn validate_one(
    listener: &ParsedListener,
    pools: &PoolNames<'_>,
    diagnostics: &mut Diagnostics,
) -> ListenerConfig {
    match listener.protocol {
        Some(Protocol::Tcp) => check_tcp(listener, diagnostics),
        Some(protocol @ (Protocol::Tls | Protocol::Http)) => {
            check_tls_or_http(listener, protocol, diagnostics);
        }
        None => {}
    }
    check_unique_patterns(listener, diagnostics);
    let target = |found: &Option<Located<TargetName>>, diagnostics: &mut Diagnostics| match found {
        Some(Located {
            value: TargetName::Pool(name),
            at,
        }) => {
            let name = Located::new(Arc::clone(name), *at);
            Target::Pool(pools.find(&name, &["refuse"], diagnostics))
        }
        Some(Located {
            value: TargetName::Refuse,
            ..
        })
        | None => Target::Refuse,
    };
    let routes = listener.routes.iter().filter_map(|route| {
        let pool = pools.find(route.pool.as_ref()?, &[], diagnostics);
        let names = route.names.iter().map(|name| name.value.clone()).collect();
        Some(RouteConfig { names, pool })
    });
    ListenerConfig {
        routes: routes.collect(),
        no_name: target(&listener.no_name, diagnostics),
        unknown_name: target(&listener.unknown_name, diagnostics),
        pool: listener
            .pool
            .as_ref()
            .map(|name| pools.find(name, &["none"], diagnostics)),
        ..listener.config.clone()
    }
}

/// A tcp listener has a pool, and none of the keys that need a name.
fn check_tcp(listener: &ParsedListener, diagnostics: &mut Diagnostics) {
    if listener.pool.is_none() && listener.complete {
        let message = format!("listener `{}` requires `pool`", listener.config.name);
        let hint = "a tcp listener forwards to one pool";
        diagnostics.error(Diagnostic::new(listener.at, message).hint(hint));
    }
    let mut reject_key = |at: FileLocation, key: &str| {
        let message = format!("a tcp listener has no `{key}`");
        let hint = "it does not read names; set `pool` instead";
        diagnostics.error(Diagnostic::new(at, message).hint(hint));
    };
    if let Some(route) = listener.routes.first() {
        reject_key(route.at, "routes");
    }
    for (key, target) in [
        ("no_name", &listener.no_name),
        ("unknown_name", &listener.unknown_name),
    ] {
        if let Some(at) = pool_location(target) {
            reject_key(at, key);
        }
    }
    if let Some(at) = unusual_refusal(listener) {
        let diagnostic = Diagnostic::new(at, "a tcp listener has no `refusal`");
        diagnostics.error(diagnostic.hint("it can only reset a connection"));
    }
}

/// A tls or http listener has a target, and not the key of a tcp listener.
fn check_tls_or_http(listener: &ParsedListener, protocol: Protocol, diagnostics: &mut Diagnostics) {
    if let Some(pool) = &listener.pool {
        let protocol = protocol.as_str();
        let message = format!("`pool` is for tcp listeners, but this is a {protocol} listener");
        let hint = "use `routes`, `unknown_name` and `no_name`, or `protocol: tcp`";
        diagnostics.error(Diagnostic::new(pool.at, message).hint(hint));
    }
    if let (Protocol::Http, Some(at)) = (protocol, unusual_refusal(listener)) {
        let diagnostic = Diagnostic::new(at, "an http listener has no `refusal`");
        diagnostics.error(diagnostic.hint("it responds with a status"));
    }
    let has_target = !listener.routes.is_empty()
        || listener.pool.is_some()
        || pool_location(&listener.no_name).is_some()
        || pool_location(&listener.unknown_name).is_some();
    if !has_target && listener.complete {
        let message = format!("listener `{}` rejects every client", listener.config.name);
        diagnostics.error(Diagnostic::new(listener.at, message).hint("add `routes`"));
    }
}

/// The location of a target that is a pool.
fn pool_location(target: &Option<Located<TargetName>>) -> Option<FileLocation> {
    let target = target.as_ref()?;
    matches!(target.value, TargetName::Pool(_)).then_some(target.at)
}

/// The location of `refusal` if it is not the default.
fn unusual_refusal(listener: &ParsedListener) -> Option<FileLocation> {
    match listener.config.refusal {
        RejectionMode::Alert => None,
        RejectionMode::Reset | RejectionMode::Close => listener.refusal_at,
    }
}

fn check_unique_patterns(listener: &ParsedListener, diagnostics: &mut Diagnostics) {
    let mut seen: HashMap<&NamePattern, FileLocation> = HashMap::new();
    for name in listener.routes.iter().flat_map(|route| &route.names) {
        if let Some(first) = seen.get(&name.value) {
            let owner = &listener.config.name;
            let message = format!("listener `{owner}` routes `{}` twice", name.value);
            diagnostics.error(Diagnostic::new(name.at, message).hint(first.first_hint()));
        } else {
            seen.insert(&name.value, name.at);
        }
    }
}

/// Duplicates within the long form are duplicate keys, which are found when the file is parsed.
fn check_unique_names(listeners: &[ParsedListener], diagnostics: &mut Diagnostics) {
    let (short_form, long_form): (Vec<_>, Vec<_>) = listeners
        .iter()
        .partition(|listener| listener.from_short_form);
    let in_short_form: HashMap<&str, FileLocation> = short_form
        .iter()
        .map(|listener| (&*listener.config.name, listener.at))
        .collect();
    for listener in long_form {
        let name = &listener.config.name;
        if let Some(lync) = in_short_form.get(&**name) {
            let what = format!("listener `{name}`");
            diagnostics.error(also_in_short_form(&what, listener.at, *lync));
        }
    }
}

const ADMIN: &str = "the admin listener";
const METRICS: &str = "the metrics listener";

fn check_overlaps(parsed: &ParsedFile, diagnostics: &mut Diagnostics) {
    let mut binds = Binds::default();
    for (Located { value: address, at }, owner) in all_binds(parsed) {
        let Some(first) = binds.add(address, at, &owner) else {
            continue;
        };
        let theirs = first.address;
        let message = if first.owner == owner {
            format!("{owner} binds `{address}` and `{theirs}`, which overlap")
        } else {
            format!("`{address}` overlaps `{theirs}` of {}", first.owner)
        };
        let hint = if parsed.admin.bind_is_default && first.owner == ADMIN {
            "this is its default address; set `admin.bind` to change it".to_owned()
        } else {
            first.at.first_hint()
        };
        diagnostics.error(Diagnostic::new(at, message).hint(hint));
    }
}

/// Every address of the file with its owner.
fn all_binds(parsed: &ParsedFile) -> Vec<(Located<SocketAddr>, String)> {
    let admin = &parsed.admin;
    let tcp = |bind: &Option<Located<AdminBind>>, owner: &str| match bind.as_ref()?.value {
        AdminBind::Tcp(address) => {
            let address = Located::new(address, bind.as_ref()?.at);
            Some((address, owner.to_owned()))
        }
        AdminBind::Unix(_) => None,
    };
    let mut all = Vec::new();
    for ParsedListener {
        config, bind_at, ..
    } in &parsed.listeners
    {
        let owner = format!("listener `{}`", config.name);
        let binds = config.bind.iter().zip(bind_at);
        all.extend(binds.map(|(bind, at)| (Located::new(*bind, *at), owner.clone())));
    }
    // A default has no location, so it comes first, and the error is reported where the file sets an address.
    let index = if admin.bind_is_default { 0 } else { all.len() };
    all.splice(index..index, tcp(&admin.bind, ADMIN));
    all.extend(tcp(&admin.metrics_bind, METRICS));
    all
}

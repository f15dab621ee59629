//! Warnings about one listener.
//!
//! Owns which names and sources no client can have, and which affinity a protocol cannot provide. Must not know the other
//! listeners. Invariant: as in the parent module.

use std::collections::HashSet;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::config::diagnostics::{Diagnostic, Diagnostics};
use crate::config::model::{
    AffinitySettings, Config, NamePattern, PoolConfig, PoolId, Protocol, WhenPoolDown,
};
use crate::config::schema::listener::ParsedListener;
use crate::config::source::location::Located;

/// The maximum length of a host name.
const MAX_NAME: usize = 253;

/// Adds the warnings about a listener that uses these pools.
pub(super) fn find(
    listener: &ParsedListener,
    pools: &[PoolId],
    config: &Config,
    diagnostics: &mut Diagnostics,
) {
    let pools: Vec<&PoolConfig> = pools.iter().map(|id| config.pool(*id)).collect();
    unreachable_names(listener, diagnostics);
    unreachable_sources(listener, diagnostics);
    same_pin_for_all(listener, &pools, diagnostics);
    no_pins(listener, &pools, diagnostics);
    never_closes(listener, &pools, diagnostics);
}

/// Names that no client can send. Precedence (exact, then the longest suffix) never hides a whole route.
fn unreachable_names(listener: &ParsedListener, diagnostics: &mut Diagnostics) {
    for Located { value: pattern, at } in listener.routes.iter().flat_map(|route| &route.names) {
        let (NamePattern::Exact(name) | NamePattern::Suffix(name)) = pattern;
        let last = name.as_str().rsplit('.').next().unwrap_or_default();
        if last.bytes().all(|byte| byte.is_ascii_digit()) {
            let message = format!("no client can request `{pattern}`");
            let hint = "clients treat a name whose last label is a number as an address";
            diagnostics.lint(Diagnostic::new(*at, message).hint(hint));
        }
        if matches!(pattern, NamePattern::Suffix(suffix) if suffix.as_str().len() + 2 > MAX_NAME) {
            let message = "this suffix is too long: no name can match it";
            let hint = "a name has at most 253 bytes";
            diagnostics.lint(Diagnostic::new(*at, message).hint(hint));
        }
    }
}

/// Sources that are both allowed and denied.
fn unreachable_sources(listener: &ParsedListener, diagnostics: &mut Diagnostics) {
    let ParsedListener {
        config, allow_at, ..
    } = listener;
    let denied: HashSet<IpNet> = config.deny.iter().copied().collect();
    // A network is denied by itself or by one of those that contain it, at most 128.
    let denied_by = |net: &IpNet| {
        let mut containing = std::iter::successors(Some(*net), IpNet::supernet);
        containing.find(|net| denied.contains(net))
    };
    for (allow, at) in config.allow.iter().zip(allow_at) {
        if let Some(deny) = denied_by(allow) {
            let message = format!("`allow` of {allow} has no effect");
            let hint = format!("`deny` of {deny} includes it and takes precedence");
            diagnostics.lint(Diagnostic::new(*at, message).hint(hint));
        }
    }
    let everyone = [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())];
    let allowed = match config.allow.as_slice() {
        [] => &everyone,
        some => some,
    };
    let is_reachable = |net: &IpNet| {
        let is_v4 = net.addr().is_ipv4();
        let is_bound = config.bind.iter().any(|bind| bind.is_ipv4() == is_v4);
        is_bound && denied_by(net).is_none()
    };
    if !allowed.iter().any(is_reachable) {
        let message = format!("no client can reach listener `{}`", config.name);
        let hint = "`allow` and `deny` leave no address of the families that it binds";
        diagnostics.lint(Diagnostic::new(listener.at, message).hint(hint));
    }
}

/// A tcp listener has no names, so a key of the name alone is the same for every client.
fn same_pin_for_all(
    listener: &ParsedListener,
    pools: &[&PoolConfig],
    diagnostics: &mut Diagnostics,
) {
    if listener.protocol != Some(Protocol::Tcp) {
        return;
    }
    let name_only = |affinity: &AffinitySettings| affinity.by_name && !affinity.by_source;
    for pool in pools {
        if pool.affinity.as_ref().is_some_and(name_only) {
            let message = format!(
                "every client of listener `{}` gets the same backend of pool `{}`",
                listener.config.name, pool.name
            );
            let hint = "a tcp listener has no names; add `source` to `affinity.by`";
            diagnostics.lint(Diagnostic::new(listener.at, message).hint(hint));
        }
    }
}

/// Only a tls listener reads TLS sessions.
fn no_pins(listener: &ParsedListener, pools: &[&PoolConfig], diagnostics: &mut Diagnostics) {
    if listener.protocol == Some(Protocol::Tls) {
        return;
    }
    let sessions_only = |affinity: &AffinitySettings| {
        affinity.by_session && !affinity.by_source && !affinity.by_name
    };
    for pool in pools {
        if pool.affinity.as_ref().is_some_and(sessions_only) {
            let message = format!(
                "no client of listener `{}` is pinned to a backend of pool `{}`",
                listener.config.name, pool.name
            );
            let hint = "only a tls listener reads TLS sessions; add `source` to `affinity.by`";
            diagnostics.lint(Diagnostic::new(listener.at, message).hint(hint));
        }
    }
}

fn never_closes(listener: &ParsedListener, pools: &[&PoolConfig], diagnostics: &mut Diagnostics) {
    if listener.config.when_pool_down != WhenPoolDown::Close {
        return;
    }
    if let Some(pool) = pools.iter().find(|pool| pool.health.is_none()) {
        let message = format!(
            "the port of listener `{}` never closes",
            listener.config.name
        );
        let hint = format!(
            "pool `{}` has `health: none`; write `when_pool_down: refuse` if this is intended",
            pool.name
        );
        diagnostics.lint(Diagnostic::new(listener.at, message).hint(hint));
    }
}

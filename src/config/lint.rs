//! What works and is hardly meant.
//!
//! Owns the warnings of `check`. Must not refuse anything. Invariant: every lint names a place and a way to be rid of
//! it, and none speaks about a configuration that does what its words say.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::num::NonZeroUsize;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::capacity::{Capacity, DESCRIPTORS_PER_CONNECTION, FEW_CONNECTIONS, Uses};
use super::diagnostics::{self, Note, Notes};
use super::model::{
    AffinitySettings, Config, NamePattern, PoolId, Protocol, ServerHost, WhenPoolDown,
};
use super::scalar::print_duration;
use super::written::{At, WrittenFile, WrittenListener, WrittenPool};
use super::{Lint, Loaded};
use crate::types::timestamp::counted;

/// Descriptors kept for what is no connection: listening sockets, checks, the admin listener, borrowed pipes.
pub const DESCRIPTORS_RESERVED: u64 = 256;

/// The longest that a long poll of UCWA lasts.
const LONG_POLL: Duration = Duration::from_secs(1800);
/// How long all tries to connect may take together.
const ALL_CONNECTS: Duration = Duration::from_secs(10);
/// The longest host name.
const MAX_NAME: usize = 253;

/// The lints of a file, and those that show only beside the process' limit of descriptors.
#[must_use]
pub fn lint(loaded: &Loaded, descriptors: u64) -> Vec<Lint> {
    let mut lints = loaded.lints.clone();
    let note = match loaded.config.limits.connections {
        Some(connections) => too_many(connections, descriptors),
        None => few(&loaded.config, descriptors),
    };
    if let Some((message, hint)) = note {
        let note = Note::new(loaded.connections_at, message).hint(hint);
        lints.extend(diagnostics::lints(vec![note], &loaded.source));
    }
    lints.sort_by_key(|lint| (lint.as_fault().line, lint.as_fault().column));
    lints
}

fn too_many(connections: u32, descriptors: u64) -> Option<(String, &'static str)> {
    let needed = u64::from(connections) * DESCRIPTORS_PER_CONNECTION + DESCRIPTORS_RESERVED;
    let need = if connections == 1 {
        "1 connection needs".to_owned()
    } else {
        format!("{connections} connections need")
    };
    let message = format!("{need} {needed} descriptors, and the process may have {descriptors}");
    let hint = "raise the limit (LimitNOFILE=, ulimit -n), or write `auto`";
    (needed > descriptors).then_some((message, hint))
}

/// With as many workers as are configured, or one: with more of them there is less left for connections.
fn few(config: &Config, descriptors: u64) -> Option<(String, &'static str)> {
    let workers = config.workers.map_or(1, NonZeroUsize::get);
    let binds = config.listeners.iter().map(|listener| listener.bind.len());
    let uses = Uses {
        listening: binds.sum::<usize>() * workers,
        workers,
        pipes: 0,
    };
    let Capacity { connections, .. } = Capacity::of(descriptors, uses, None);
    let most = counted(connections.into(), "connection");
    let message =
        format!("the {descriptors} descriptors that the process may have allow {most} at most");
    let hint = "raise the limit (LimitNOFILE=, ulimit -n)";
    (connections < FEW_CONNECTIONS).then_some((message, hint))
}

/// Notes everything about a file that the file alone shows.
pub(super) fn find(written: &WrittenFile, config: &Config, notes: &mut Notes) {
    timeouts(written, notes);
    for (listener, resolved) in written.listeners.iter().zip(&config.listeners) {
        unreachable_names(listener, notes);
        sources(listener, notes);
        one_pin_for_all(listener, &resolved.pools(), config, notes);
        nobody_is_kept(listener, &resolved.pools(), config, notes);
        never_closes(listener, &resolved.pools(), config, notes);
    }
    for pool in &written.pools {
        weights(pool, notes);
        numbered_names(pool, notes);
        no_check_decides(pool, notes);
    }
    unused_pools(written, config, notes);
    groups(written, notes);
}

fn timeouts(written: &WrittenFile, notes: &mut Notes) {
    let timeouts = &written.timeouts;
    let lync = written.listeners.iter().find(|listener| is_lync(listener));
    if let (Some(at), Some(listener)) = (timeouts.idle_at, lync)
        && timeouts.values.idle < LONG_POLL
    {
        let idle = print_duration(timeouts.values.idle);
        let name = &listener.name.value;
        let message =
            format!("`idle` ({idle}) cuts the long polls of Lync clients on listener `{name}`");
        notes.lint(Note::new(at, message).hint("they last up to 1800s; the default is 1900s"));
    }
    if let Some(at) = timeouts.connect_at
        && timeouts.values.connect > ALL_CONNECTS
    {
        let message = "`connect` is longer than the 10s that all tries have together";
        notes.lint(Note::new(at, message).hint("a few seconds leave time for another backend"));
    }
}

/// A listener of the short form, or one that routes the name by which Lync clients find their services.
fn is_lync(listener: &WrittenListener) -> bool {
    let names = listener.routes.iter().flat_map(|route| &route.names);
    let mut names = names.map(|name| match &name.value {
        NamePattern::Exact(name) | NamePattern::Suffix(name) => name.as_str(),
    });
    listener.of_short_form || names.any(|name| name.starts_with("lyncdiscover."))
}

/// Names that no client can send. Precedence (exact, then the longest suffix) hides no route from every name.
fn unreachable_names(listener: &WrittenListener, notes: &mut Notes) {
    for At { value: pattern, at } in listener.routes.iter().flat_map(|route| &route.names) {
        let (NamePattern::Exact(name) | NamePattern::Suffix(name)) = pattern;
        let last = name.as_str().rsplit('.').next().unwrap_or_default();
        if last.bytes().all(|byte| byte.is_ascii_digit()) {
            let message = format!("no client asks for `{pattern}`");
            let hint = "a name whose last label is a number is taken for an address";
            notes.lint(Note::new(*at, message).hint(hint));
        }
        if matches!(pattern, NamePattern::Suffix(suffix) if suffix.as_str().len() + 2 > MAX_NAME) {
            let message = "no name is short enough to end in this suffix";
            notes.lint(Note::new(*at, message).hint("a name has at most 253 bytes"));
        }
    }
}

/// Sources that may come and may not.
fn sources(listener: &WrittenListener, notes: &mut Notes) {
    let denied: HashSet<IpNet> = listener.deny.iter().map(|net| net.value).collect();
    // A network is denied by itself or by one of those that it is part of, at most 128.
    let denied = |net: &IpNet| {
        let mut around = std::iter::successors(Some(*net), IpNet::supernet);
        around.find(|net| denied.contains(net))
    };
    for allow in &listener.allow {
        if let Some(deny) = denied(&allow.value) {
            let message = format!("`allow` of {} has no effect", allow.value);
            let hint = format!("`deny` of {deny} covers it and wins");
            notes.lint(Note::new(allow.at, message).hint(hint));
        }
    }
    let everyone = [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())];
    let allowed: Vec<&IpNet> = match listener.allow.as_slice() {
        [] => everyone.iter().collect(),
        some => some.iter().map(|net| &net.value).collect(),
    };
    let can_come = |net: &IpNet| {
        let bound = listener.bind.iter().any(|bind| same_family(bind, net));
        bound && denied(net).is_none()
    };
    if !allowed.into_iter().any(can_come) {
        let message = format!("no client can reach listener `{}`", listener.name.value);
        let hint = "`allow` and `deny` leave no address of the families that it binds";
        notes.lint(Note::new(listener.name.at, message).hint(hint));
    }
}

fn same_family(bind: &At<std::net::SocketAddr>, net: &IpNet) -> bool {
    bind.value.is_ipv4() == net.addr().is_ipv4()
}

/// A tcp listener has no names, so a key made of the name alone is one key for everyone.
fn one_pin_for_all(
    listener: &WrittenListener,
    pools: &[PoolId],
    config: &Config,
    notes: &mut Notes,
) {
    if listener.protocol != Some(Protocol::Tcp) {
        return;
    }
    for pool in pools.iter().map(|id| config.pool(*id)) {
        if pool
            .affinity
            .as_ref()
            .is_some_and(|affinity| affinity.by_name && !affinity.by_source)
        {
            let message = format!(
                "every client of listener `{}` gets the same backend of pool `{}`",
                listener.name.value, pool.name
            );
            let hint = "a tcp listener has no names; let `affinity.by` have `source`";
            notes.lint(Note::new(listener.name.at, message).hint(hint));
        }
    }
}

/// Only a tls listener sees sessions.
fn nobody_is_kept(
    listener: &WrittenListener,
    pools: &[PoolId],
    config: &Config,
    notes: &mut Notes,
) {
    if listener.protocol == Some(Protocol::Tls) {
        return;
    }
    for pool in pools.iter().map(|id| config.pool(*id)) {
        let sessions_alone = |affinity: &AffinitySettings| {
            affinity.by_session && !affinity.by_source && !affinity.by_name
        };
        if pool.affinity.as_ref().is_some_and(sessions_alone) {
            let message = format!(
                "no client of listener `{}` is kept on its backend of pool `{}`",
                listener.name.value, pool.name
            );
            let hint = "only a tls listener sees TLS sessions; let `affinity.by` have `source`";
            notes.lint(Note::new(listener.name.at, message).hint(hint));
        }
    }
}

fn never_closes(listener: &WrittenListener, pools: &[PoolId], config: &Config, notes: &mut Notes) {
    if listener.when_pool_down != WhenPoolDown::Close {
        return;
    }
    let always_up = |id: &&PoolId| config.pool(**id).health.is_none();
    if let Some(id) = pools.iter().find(always_up) {
        let name = &listener.name.value;
        let message = format!("the port of listener `{name}` never closes");
        let pool = &config.pool(*id).name;
        let hint = format!(
            "pool `{pool}` has `health: none`; write `when_pool_down: refuse` if that is meant"
        );
        notes.lint(Note::new(listener.name.at, message).hint(hint));
    }
}

fn weights(pool: &WrittenPool, notes: &mut Notes) {
    if pool
        .backends
        .iter()
        .all(|backend| backend.value.weight == 0)
    {
        let message = format!("every backend of pool `{}` has weight 0", pool.name.value);
        notes.lint(Note::new(pool.name.at, message).hint("none takes a new client"));
    }
}

/// Names that what looks names up may take for an address.
fn numbered_names(pool: &WrittenPool, notes: &mut Notes) {
    for backend in &pool.backends {
        let ServerHost::Name(name) = &backend.value.address.host else {
            continue;
        };
        let last = name.as_str().rsplit('.').next().unwrap_or_default();
        if last.bytes().all(|byte| byte.is_ascii_digit()) {
            let message = format!("no server is called `{name}`");
            let hint = "a name whose last label is a number is taken for an address";
            notes.lint(Note::new(backend.at, message).hint(hint));
        }
    }
}

fn no_check_decides(pool: &WrittenPool, notes: &mut Notes) {
    let Some(health) = &pool.health.value else {
        return;
    };
    if !health.checks.iter().any(|check| check.decides) {
        let message = format!("no check of pool `{}` decides", pool.name.value);
        notes.lint(
            Note::new(pool.health.at, message).hint("its backends are up whatever the checks say"),
        );
    }
}

fn unused_pools(written: &WrittenFile, config: &Config, notes: &mut Notes) {
    let mut used: HashSet<PoolId> = HashSet::new();
    let mut next: Vec<PoolId> = config
        .listeners
        .iter()
        .flat_map(super::model::ListenerConfig::pools)
        .collect();
    while let Some(id) = next.pop() {
        if used.insert(id) {
            next.extend(config.pool(id).backup);
        }
    }
    for (index, pool) in written.pools.iter().enumerate() {
        if !used.contains(&PoolId(index)) {
            let message = format!("no listener leads to pool `{}`", pool.name.value);
            notes.lint(Note::new(pool.name.at, message).hint("it is checked and never used"));
        }
    }
}

/// Pins of a group name backends, so pools of one group had better have the same ones.
fn groups(written: &WrittenFile, notes: &mut Notes) {
    let names = |pool: &WrittenPool| -> BTreeSet<_> {
        pool.backends
            .iter()
            .map(|backend| backend.value.name.clone())
            .collect()
    };
    let mut firsts: HashMap<&str, &WrittenPool> = HashMap::new();
    for pool in &written.pools {
        let Some(affinity) = &pool.affinity.value else {
            continue;
        };
        let first = *firsts.entry(&affinity.group).or_insert(pool);
        let (ours, theirs) = (names(pool), names(first));
        let lacking = ours.symmetric_difference(&theirs).next();
        if let Some(lacking) = lacking {
            let message = format!(
                "pools `{}` and `{}` share affinity group `{}`, and only one has backend `{lacking}`",
                first.name.value, pool.name.value, affinity.group
            );
            let hint = "pins are shared by backend name; give one server one `name`";
            notes.lint(Note::new(pool.affinity.at, message).hint(hint));
        }
    }
}

//! Listeners: that each has what its protocol needs, and that names and addresses are taken once.
//!
//! Owns what a listener must fit: its protocol, the other listeners, the admin listener. Must not know how pools are
//! made. Invariant: without a fault, a tcp listener has its pool and no routes, the others lead somewhere, and no two
//! sockets want one address.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::PoolNames;
use crate::config::diagnostics::{FileLocation, Note, Notes};
use crate::config::model::{self, AdminBind, NamePattern, Protocol, RejectionMode, Target};
use crate::config::overlap::Binds;
use crate::config::written::{At, TargetName, WrittenFile, WrittenListener};

/// Resolves all listeners.
pub(super) fn resolve(
    written: &WrittenFile,
    names: &PoolNames<'_>,
    notes: &mut Notes,
) -> Vec<model::ListenerConfig> {
    if written.listeners.is_empty() && notes.faults.is_empty() {
        let note = Note::new(FileLocation::START, "there is no listener");
        notes.fault(note.hint("add `lync:`, or an entry under `listeners:`"));
    }
    names_are_unique(written, notes);
    binds_do_not_overlap(written, notes);
    written
        .listeners
        .iter()
        .map(|listener| resolve_one(listener, names, notes))
        .collect()
}

fn resolve_one(
    listener: &WrittenListener,
    names: &PoolNames<'_>,
    notes: &mut Notes,
) -> model::ListenerConfig {
    match listener.protocol {
        Some(Protocol::Tcp) => fits_tcp(listener, notes),
        Some(protocol @ (Protocol::Tls | Protocol::Http)) => fits_names(listener, protocol, notes),
        None => {}
    }
    patterns_are_unique(listener, notes);
    let target = |found: &Option<At<TargetName>>, notes: &mut Notes| match found {
        Some(At {
            value: TargetName::Pool(name),
            at,
        }) => Target::Pool(names.find(&At::new(Arc::clone(name), *at), &["refuse"], notes)),
        Some(At {
            value: TargetName::Refuse,
            ..
        })
        | None => Target::Refuse,
    };
    let routes = listener.routes.iter().filter_map(|route| {
        let pool = names.find(route.pool.as_ref()?, &[], notes);
        let names = route.names.iter().map(|name| name.value.clone()).collect();
        Some(model::RouteConfig { names, pool })
    });
    model::ListenerConfig {
        routes: routes.collect(),
        no_name: target(&listener.no_name, notes),
        unknown_name: target(&listener.unknown_name, notes),
        pool: listener
            .pool
            .as_ref()
            .map(|name| names.find(name, &["none"], notes)),
        name: Arc::clone(&listener.name.value),
        bind: listener.bind.iter().map(|bind| bind.value).collect(),
        protocol: listener.protocol.unwrap_or(Protocol::Tcp),
        refusal: listener
            .refusal
            .as_ref()
            .map_or(RejectionMode::Alert, |refusal| refusal.value),
        when_pool_down: listener.when_pool_down,
        allow: listener.allow.iter().map(|net| net.value).collect(),
        deny: listener.deny.iter().map(|net| net.value).collect(),
    }
}

/// A tcp listener has its pool and nothing that looks at names.
fn fits_tcp(listener: &WrittenListener, notes: &mut Notes) {
    let name = &listener.name;
    if listener.pool.is_none() && listener.whole {
        let message = format!("listener `{}` needs `pool`", name.value);
        notes.fault(Note::new(name.at, message).hint("a tcp listener leads to one pool"));
    }
    let mut refuse = |at: FileLocation, key: &str| {
        let message = format!("a tcp listener has no `{key}`");
        notes.fault(Note::new(at, message).hint("it sees no names; it takes `pool` alone"));
    };
    if let Some(route) = listener.routes.first() {
        refuse(route.at, "routes");
    }
    for (key, target) in [
        ("no_name", &listener.no_name),
        ("unknown_name", &listener.unknown_name),
    ] {
        if let Some(At {
            value: TargetName::Pool(_),
            at,
        }) = target
        {
            refuse(*at, key);
        }
    }
    if let Some(At {
        value: RejectionMode::Reset | RejectionMode::Close,
        at,
    }) = listener.refusal
    {
        let note = Note::new(at, "a tcp listener has no `refusal`");
        notes.fault(note.hint("it can only reset"));
    }
}

/// A tls or http listener leads somewhere, and not by the key of a tcp listener.
fn fits_names(listener: &WrittenListener, protocol: Protocol, notes: &mut Notes) {
    let word = protocol.as_str();
    if let Some(pool) = &listener.pool {
        let message = format!("`pool` is for tcp listeners, and this one is {word}");
        let hint = "use `routes`, `unknown_name` and `no_name`, or `protocol: tcp`";
        notes.fault(Note::new(pool.at, message).hint(hint));
    }
    if let (
        Protocol::Http,
        Some(At {
            value: RejectionMode::Reset | RejectionMode::Close,
            at,
        }),
    ) = (protocol, &listener.refusal)
    {
        let note = Note::new(*at, "an http listener has no `refusal`");
        notes.fault(note.hint("it answers with a status"));
    }
    let leads = |target: &Option<At<TargetName>>| {
        matches!(
            target,
            Some(At {
                value: TargetName::Pool(_),
                ..
            })
        )
    };
    let leads_somewhere = !listener.routes.is_empty()
        || listener.pool.is_some()
        || leads(&listener.no_name)
        || leads(&listener.unknown_name);
    if !leads_somewhere && listener.whole {
        let message = format!("listener `{}` refuses everyone", listener.name.value);
        notes.fault(Note::new(listener.name.at, message).hint("add `routes`"));
    }
}

fn patterns_are_unique(listener: &WrittenListener, notes: &mut Notes) {
    let mut seen: HashMap<&NamePattern, FileLocation> = HashMap::new();
    for name in listener.routes.iter().flat_map(|route| &route.names) {
        if let Some(first) = seen.get(&name.value) {
            let owner = &listener.name.value;
            let message = format!("listener `{owner}` routes `{}` twice", name.value);
            let hint = format!("the first is in line {}", first.line);
            notes.fault(Note::new(name.at, message).hint(hint));
        } else {
            seen.insert(&name.value, name.at);
        }
    }
}

/// Repeated keys are found earlier: here only a listener of the long form can meet one of the short form.
fn names_are_unique(written: &WrittenFile, notes: &mut Notes) {
    let of_short_form: HashMap<&str, FileLocation> = written
        .listeners
        .iter()
        .filter(|listener| listener.of_short_form)
        .map(|listener| (&*listener.name.value, listener.name.at))
        .collect();
    for listener in written
        .listeners
        .iter()
        .filter(|listener| !listener.of_short_form)
    {
        let At { value: name, at } = &listener.name;
        if let Some(first) = of_short_form.get(&**name) {
            let message = format!("listener `{name}` is also one that `lync` makes");
            let hint = format!("give it another name; `lync` is in line {}", first.line);
            notes.fault(Note::new(*at, message).hint(hint));
        }
    }
}

const ADMIN: &str = "the admin listener";
const METRICS: &str = "the metrics listener";

fn binds_do_not_overlap(written: &WrittenFile, notes: &mut Notes) {
    let mut binds = Binds::default();
    for (At { value: address, at }, owner) in all_binds(written) {
        let Some(first) = binds.add(address, at, &owner) else {
            continue;
        };
        let theirs = first.address;
        let message = if first.owner == owner {
            format!("{owner} binds `{address}` and `{theirs}`, which overlap")
        } else {
            format!("`{address}` overlaps `{theirs}` of {}", first.owner)
        };
        let hint = if written.admin.bind_is_default && first.owner == ADMIN {
            "that is where it listens by default; `admin.bind` moves it".to_owned()
        } else {
            format!("the first is in line {}", first.at.line)
        };
        notes.fault(Note::new(at, message).hint(hint));
    }
}

/// Every address of the file and whose it is.
fn all_binds(written: &WrittenFile) -> Vec<(At<SocketAddr>, String)> {
    let admin = &written.admin;
    let tcp = |bind: &Option<At<AdminBind>>, owner: &str| match bind.as_ref()?.value {
        AdminBind::Tcp(address) => Some((At::new(address, bind.as_ref()?.at), owner.to_owned())),
        AdminBind::Unix(_) => None,
    };
    let mut all = Vec::new();
    for listener in &written.listeners {
        let owner = format!("listener `{}`", listener.name.value);
        all.extend(
            listener
                .bind
                .iter()
                .map(|bind| (bind.clone(), owner.clone())),
        );
    }
    // A default has no place to point to, so it comes first and the fault falls on what was written.
    let index = if admin.bind_is_default { 0 } else { all.len() };
    all.splice(index..index, tcp(&admin.bind, ADMIN));
    all.extend(tcp(&admin.metrics_bind, METRICS));
    all
}

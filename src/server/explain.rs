//! What would become of a client, and why, without placing or pinning it.
//!
//! Owns the sentences. Invariant: it asks what the data path asks, in the same order.

use std::net::SocketAddr;
use std::sync::Arc;

use super::affinity::viewed;
use crate::admin::ExplainError;
use crate::admin::view::{ExplainQuery, Explanation, Pin};
use crate::affinity::Origin;
use crate::backend::Availability;
use crate::config::model::{self, Config, Protocol};
use crate::host_name::HostName;
use crate::metrics::Registry;
use crate::pins::Secret;
use crate::pool::{Client, NoPick, PickedBy, Pool};
use crate::snapshot::{Destination, Listener, Snapshot};
use crate::termination::Outcome;

/// What such a client would get.
pub(super) fn explain(listener: &Listener, query: &ExplainQuery) -> Explanation {
    let source = query.source.to_canonical();
    let mut told = Explanation {
        listener: query.listener.clone(),
        name: query.name.clone(),
        source,
        route: None,
        pool: None,
        backend: None,
        address: None,
        pick: None,
        refused: None,
        pin: None,
        steps: Vec::new(),
    };
    match follow(listener, query, &mut told) {
        Ok(()) => {}
        Err(outcome) => {
            told.steps.push(format!("refused: {}", outcome.meaning()));
            told.refused = Some(outcome.as_str().into());
        }
    }
    told
}

/// What `config` alone says of a client: nothing is bound or checked, and no backend's health is known.
///
/// # Errors
///
/// When the question names what does not exist.
pub fn explain_offline(config: Config, query: &ExplainQuery) -> Result<Explanation, ExplainError> {
    let snapshot = Snapshot::build(
        config,
        &Registry::default(),
        &Arc::new(Availability::default()),
        &Secret::random(),
    );
    for backend in snapshot.backends() {
        // Any address will do: an unresolved name would count as down.
        let port = backend.configured().address.port;
        backend.set_address(match backend.configured().address.host {
            model::ServerHost::Address(ip) => SocketAddr::new(ip, port),
            model::ServerHost::Name(_) => SocketAddr::from(([0, 0, 0, 0], port)),
        });
    }
    let unknown = || ExplainError::UnknownListener(query.listener.clone());
    let listener = snapshot.listener(&query.listener).ok_or_else(unknown)?;
    let mut told = explain(listener, query);
    told.address = told
        .address
        .filter(|address| !address.ip().is_unspecified());
    Ok(told)
}

fn follow(
    listener: &Listener,
    query: &ExplainQuery,
    told: &mut Explanation,
) -> Result<(), Outcome> {
    if !listener.admits(told.source) {
        return Err(Outcome::Denied);
    }
    let destination = route(listener, query.name.as_deref(), &mut told.steps)?;
    let pool = &destination.pool;
    told.route = Some(destination.matched.to_string());
    told.pool = Some(pool.name.to_string());
    let client = Client {
        source: told.source,
        name: destination.name,
    };
    told.pin = pin(pool, client, &destination.matched);
    let (pick, backend) = choose(pool, client, told)?;
    told.pick = Some(pick.as_str().into());
    told.backend = Some(backend.0);
    told.address = backend.1;
    Ok(())
}

fn route<'a>(
    listener: &'a Listener,
    name: Option<&str>,
    steps: &mut Vec<String>,
) -> Result<&'a Destination, Outcome> {
    if let Some(only) = listener.only_pool() {
        steps.push(format!(
            "the listener does not ask for a name: pool {:?}",
            only.pool.name
        ));
        return Ok(only);
    }
    let (found, refusal) = match name.map(|name| HostName::parse(name.as_bytes())) {
        None => (listener.route_no_name(), Outcome::NoName),
        Some(Ok(name)) => (listener.route(&name), Outcome::UnknownName),
        Some(Err(fault)) if is_address(name) => {
            steps.push(format!("{fault}: no route names it"));
            (listener.route_unknown(), Outcome::UnknownName)
        }
        Some(Err(fault)) => {
            steps.push(format!("no client can ask for this: {fault}"));
            return Err(Outcome::Malformed);
        }
    };
    let destination = found.ok_or(refusal)?;
    let what = if listener.config.protocol == Protocol::Http {
        "Host"
    } else {
        "server name"
    };
    let asked = name.map_or(format!("no {what}"), |name| format!("{what} {name}"));
    steps.push(format!(
        "{asked} matches {}: pool {:?}",
        destination.matched, destination.pool.name
    ));
    Ok(destination)
}

fn is_address(name: Option<&str>) -> bool {
    name.is_some_and(|name| crate::host_name::is_ip_literal(name.as_bytes()))
}

type Chosen = (String, Option<std::net::SocketAddr>);

/// The client's pin, whether it decides or not.
fn pin(pool: &Pool, client: Client, matched: &str) -> Option<Pin> {
    let (view, _) = pool.pin(client)?;
    viewed(&pool.affinity.as_ref()?.pins, &view, matched)
}

fn pin_step(pin: &Pin, origin: Origin) -> String {
    let origin = match origin {
        Origin::Policy => "the policy chose it",
        Origin::Failover => "another could not take it",
        Origin::Session => "it came with a TLS session of there",
        Origin::Administrator => "the administrator said so",
    };
    let life = match (pin.expires_in_seconds, pin.connections) {
        (Some(left), _) => format!("expires in {left} s unless it comes"),
        (None, 1) => "in use by 1 connection".to_owned(),
        (None, more) => format!("in use by {more} connections"),
    };
    format!(
        "pinned to {} for {} s, because {origin}; {life}",
        pin.backend, pin.age_seconds
    )
}

fn choose(
    pool: &Arc<Pool>,
    client: Client,
    told: &mut Explanation,
) -> Result<(PickedBy, Chosen), Outcome> {
    let steps = &mut told.steps;
    match pool.pin(client) {
        Some((view, Some(backend))) => {
            let step = told.pin.as_ref().map(|pin| pin_step(pin, view.origin));
            steps.extend(step);
            if backend.takes_pinned() && !backend.is_full() {
                return Ok((PickedBy::Pin, (backend.name.to_string(), backend.address())));
            }
            steps.push(format!(
                "{} cannot take it now: {}, {}{}",
                backend.name,
                backend.state().as_str(),
                backend.health().as_str(),
                if backend.is_full() { ", full" } else { "" }
            ));
        }
        Some((_, None)) => steps.push("pinned to a backend that this pool does not have".into()),
        None if pool.affinity.is_some() => steps.push("no pin".into()),
        None => steps.push("the pool has no affinity".into()),
    }
    for (backend, other) in pool.passed_over() {
        steps.push(format!(
            "{backend} is up and passed over: pool {other:?} of its affinity group cannot use it now"
        ));
    }
    let preview = pool.preview(client).map_err(|none| match none {
        NoPick::Down => Outcome::PoolDown,
        NoPick::Full => Outcome::PoolFull,
    })?;
    let (by, backend) = preview;
    match by {
        PickedBy::Backup => steps.push(format!(
            "nothing in the pool is available: its backup {:?} serves",
            backend.pool
        )),
        PickedBy::Pin | PickedBy::Session | PickedBy::Policy(_) | PickedBy::Redispatch => {
            steps.push(format!("{} says {} now", by.as_str(), backend.name));
        }
    }
    Ok((by, (backend.name.to_string(), backend.address())))
}

//! Explains how a client would be routed and why, without routing or pinning it.
//!
//! Owns the order of the steps. Must not change a pin or a counter. Invariant: it checks what the data path checks, in the
//! same order.

mod candidates;
mod pin;
mod why;

use std::net::SocketAddr;
use std::sync::Arc;

use crate::admin::view::{ExplainQuery, Explanation};
use crate::admin::{ExplainError, UnknownName};
use crate::affinity::table::Secret;
use crate::config::model::{self, Config, Protocol, WhenPoolDown};
use crate::protocol::http1::Host;
use crate::snapshot::{ActiveListener, Destination, Snapshot};
use crate::telemetry::metrics::Registry;
use crate::types::host_name::HostName;
use crate::types::outcome::Outcome;
use crate::upstream::backend::{Availability, Backend};
use crate::upstream::pool::{PickedBy, Pool, PoolClient};
pub(super) use why::{why_closed, why_health};

/// The state that the explanation is based on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Basis {
    /// That of the running balancer.
    Live,
    /// The file only: nothing is known of health, connections and pins.
    FileOnly,
}

/// How such a client would be routed now; `stopping` is whether the balancer is stopping.
pub(super) fn explain(
    listener: &ActiveListener,
    query: &ExplainQuery,
    stopping: bool,
) -> Explanation {
    let mut result = begin(query);
    if stopping {
        result.steps.push(
            "the balancer is stopping: its ports refuse connections; the following would apply otherwise"
                .into(),
        );
    } else if !is_open(listener) {
        result.steps.push(format!(
            "the port is closed: no pool behind listener {:?} can serve, and `when_pool_down` is `close`",
            listener.config.name
        ));
    }
    finish(listener, query, result, Basis::Live)
}

/// How `config` would route a client: nothing is bound or checked, and no backend's health is known.
///
/// # Errors
///
/// When the query names something that does not exist.
pub fn explain_offline(config: Config, query: &ExplainQuery) -> Result<Explanation, ExplainError> {
    let snapshot = Snapshot::build(
        config,
        &Registry::default(),
        &Arc::new(Availability::default()),
        &Secret::random(),
    );
    for backend in snapshot.backends() {
        // Any address serves: an unresolved name would count as down.
        let port = backend.configured().address.port;
        backend.set_address(match backend.configured().address.host {
            model::ServerHost::Address(ip) => SocketAddr::new(ip, port),
            model::ServerHost::Name(_) => SocketAddr::from(([0, 0, 0, 0], port)),
        });
    }
    let unknown = || unknown_listener(&snapshot, query);
    let listener = snapshot.listener(&query.listener).ok_or_else(unknown)?;
    let mut result = begin(query);
    result.steps.push(
        "from the file only: health, states, connections and pins are not known, and every backend counts as available"
            .into(),
    );
    let mut result = finish(listener, query, result, Basis::FileOnly);
    result.address = result
        .address
        .filter(|address| !address.ip().is_unspecified());
    Ok(result)
}

/// Whether its port should be open, by the state of its pools.
pub(super) fn is_open(listener: &ActiveListener) -> bool {
    match listener.config.when_pool_down {
        WhenPoolDown::Close => listener.can_serve(),
        WhenPoolDown::Refuse => true,
    }
}

fn begin(query: &ExplainQuery) -> Explanation {
    Explanation {
        listener: query.listener.clone(),
        name: query.name.clone(),
        source: query.source.to_canonical(),
        route: None,
        pool: None,
        backend: None,
        address: None,
        pick: None,
        refused: None,
        pin: None,
        steps: Vec::new(),
    }
}

fn finish(
    listener: &ActiveListener,
    query: &ExplainQuery,
    mut result: Explanation,
    basis: Basis,
) -> Explanation {
    if let Err(outcome) = follow(listener, query, &mut result, basis) {
        result
            .steps
            .push(format!("rejected: {}", outcome.meaning()));
        result.refused = Some(outcome.as_str().into());
    }
    result
}

/// The error that no listener has the name of the query.
pub(super) fn unknown_listener(snapshot: &Snapshot, query: &ExplainQuery) -> ExplainError {
    let names = snapshot.listeners.iter();
    let names = names.map(|listener| &*listener.config.name);
    ExplainError::UnknownListener(UnknownName::new(&query.listener, names))
}

fn follow(
    listener: &ActiveListener,
    query: &ExplainQuery,
    result: &mut Explanation,
    basis: Basis,
) -> Result<(), Outcome> {
    if !listener.admits(result.source) {
        let mut denied = listener.config.deny.iter();
        let denied = denied.find(|net| net.contains(&result.source));
        result.steps.push(match denied {
            Some(net) => format!("{} is in `deny`: {net}", result.source),
            None => format!("{} is in no network of `allow`", result.source),
        });
        return Err(Outcome::Denied);
    }
    let destination = route(listener, query.name.as_deref(), &mut result.steps)?;
    let pool = &destination.pool;
    result.route = Some(destination.matched.to_string());
    result.pool = Some(pool.name.to_string());
    let client = PoolClient {
        source: result.source,
        name_id: destination.name_id,
    };
    result.pin = pin::of(pool, client);
    let (pick, backend) = choose(pool, client, result, basis)?;
    let affinity = pool.affinity.as_ref();
    if listener.config.protocol == Protocol::Tls
        && affinity.is_some_and(|affinity| affinity.pins.settings().by_session)
    {
        result.steps.push(
            "a client that resumes a TLS session known here goes to the backend of that session instead"
                .into(),
        );
    }
    result.pick = Some(pick.as_str().into());
    result.backend = Some(backend.name.to_string());
    result.address = backend.address();
    Ok(())
}

fn route<'a>(
    listener: &'a ActiveListener,
    name: Option<&str>,
    steps: &mut Vec<String>,
) -> Result<&'a Destination, Outcome> {
    if let Some(only) = listener.only_pool() {
        steps.push(format!(
            "a tcp listener reads no name: pool {:?}",
            only.pool.name
        ));
        return Ok(only);
    }
    let field = match listener.config.protocol {
        Protocol::Http => "Host",
        Protocol::Tls | Protocol::Tcp => "server name",
    };
    let Some(name) = name else {
        let found = listener.route_no_name().ok_or(Outcome::NoName)?;
        steps.push(format!(
            "the client sends no {field}: `no_name` routes to pool {:?}",
            found.pool.name
        ));
        return Ok(found);
    };
    let parsed = if listener.config.protocol == Protocol::Http {
        host(name)
    } else {
        HostName::parse_sent(name.as_bytes()).map_err(|error| error.to_string())
    };
    let found = match parsed {
        Ok(Some(name)) => listener.route(&name),
        // An address, or something that is not a host name.
        Ok(None) => listener.route_unknown(),
        Err(error) => {
            steps.push(format!("no client can send this name: {error}"));
            return Err(Outcome::Malformed);
        }
    };
    let Some(found) = found else {
        steps.push(format!("{field} {name} is in no route"));
        return Err(Outcome::UnknownName);
    };
    steps.push(format!("{field} {name} {}", matched(listener, name, found)));
    Ok(found)
}

/// How `name` matches the route to `found`.
fn matched(listener: &ActiveListener, name: &str, found: &Destination) -> String {
    let pool = &found.pool.name;
    let unknown = listener.route_unknown();
    if unknown.is_some_and(|unknown| std::ptr::eq(unknown, found)) {
        format!("is in no route: `unknown_name` routes to pool {pool:?}")
    } else if *found.matched == *name {
        format!("is in a route: pool {pool:?}")
    } else {
        format!("matches route {}: pool {pool:?}", found.matched)
    }
}

/// Parses a name as in the Host field of a request.
fn host(name: &str) -> Result<Option<HostName>, String> {
    match Host::of_field(name.as_bytes()) {
        Ok(Host::Name(name)) => Ok(Some(name)),
        Ok(Host::Absent | Host::NoHostName) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

fn choose(
    pool: &Arc<Pool>,
    client: PoolClient,
    result: &mut Explanation,
    basis: Basis,
) -> Result<(PickedBy, Arc<Backend>), Outcome> {
    if basis == Basis::Live
        && let Some(pinned) = pin::decides(pool, client, result)
    {
        return Ok((PickedBy::Pin, pinned));
    }
    candidates::choose(pool, client, &mut result.steps, basis)
}

//! What would become of a client, and why, without placing or pinning it.
//!
//! Owns the order of the steps. Invariant: it asks what the data path asks, in the same order.

mod candidates;
mod pin;
mod why;

use std::net::SocketAddr;
use std::sync::Arc;

use crate::admin::view::{ExplainQuery, Explanation};
use crate::admin::{ExplainError, Unknown};
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

/// What is known of the backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KnownPin {
    /// As the running balancer sees them.
    Live,
    /// What the file says, and nothing of health, connections and pins.
    FileAlone,
}

/// What such a client would get; `stopping` is whether the balancer has been told to stop.
pub(super) fn explain(
    listener: &ActiveListener,
    query: &ExplainQuery,
    stopping: bool,
) -> Explanation {
    let mut told = begin(query);
    if stopping {
        told.steps.push(
            "the balancer is stopping: its ports refuse, and this would hold if they did not"
                .into(),
        );
    } else if !is_open(listener) {
        told.steps.push(format!(
            "the port refuses: no pool behind listener {:?} can serve, and `when_pool_down` is `close`",
            listener.config.name
        ));
    }
    finish(listener, query, told, KnownPin::Live)
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
    let unknown = || unknown_listener(&snapshot, query);
    let listener = snapshot.listener(&query.listener).ok_or_else(unknown)?;
    let mut told = begin(query);
    told.steps.push(
        "by the file alone: health, states, connections and pins are not known, and every backend counts as available"
            .into(),
    );
    let mut told = finish(listener, query, told, KnownPin::FileAlone);
    told.address = told
        .address
        .filter(|address| !address.ip().is_unspecified());
    Ok(told)
}

/// Whether its port takes connections, as far as its pools say.
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
    mut told: Explanation,
    known: KnownPin,
) -> Explanation {
    if let Err(outcome) = follow(listener, query, &mut told, known) {
        told.steps.push(format!("refused: {}", outcome.meaning()));
        told.refused = Some(outcome.as_str().into());
    }
    told
}

/// That no listener has the name that was asked for.
pub(super) fn unknown_listener(snapshot: &Snapshot, query: &ExplainQuery) -> ExplainError {
    let names = snapshot.listeners.iter();
    let names = names.map(|listener| &*listener.config.name);
    ExplainError::UnknownListener(Unknown::new(&query.listener, names))
}

fn follow(
    listener: &ActiveListener,
    query: &ExplainQuery,
    told: &mut Explanation,
    known: KnownPin,
) -> Result<(), Outcome> {
    if !listener.admits(told.source) {
        let mut denied = listener.config.deny.iter();
        let denied = denied.find(|net| net.contains(&told.source));
        told.steps.push(match denied {
            Some(net) => format!("{} is in `deny`: {net}", told.source),
            None => format!("{} is in no network of `allow`", told.source),
        });
        return Err(Outcome::Denied);
    }
    let destination = route(listener, query.name.as_deref(), &mut told.steps)?;
    let pool = &destination.pool;
    told.route = Some(destination.matched.to_string());
    told.pool = Some(pool.name.to_string());
    let client = PoolClient {
        source: told.source,
        name: destination.name,
    };
    told.pin = pin::of(pool, client);
    let (pick, backend) = choose(pool, client, told, known)?;
    let affinity = pool.affinity.as_ref();
    if listener.config.protocol == Protocol::Tls
        && affinity.is_some_and(|affinity| affinity.pins.settings().by_session)
    {
        told.steps.push(
            "a client that resumes a TLS session known here goes to the backend of that session instead"
                .into(),
        );
    }
    told.pick = Some(pick.as_str().into());
    told.backend = Some(backend.name.to_string());
    told.address = backend.address();
    Ok(())
}

fn route<'a>(
    listener: &'a ActiveListener,
    name: Option<&str>,
    steps: &mut Vec<String>,
) -> Result<&'a Destination, Outcome> {
    if let Some(only) = listener.only_pool() {
        steps.push(format!(
            "a tcp listener asks for no name: pool {:?}",
            only.pool.name
        ));
        return Ok(only);
    }
    let what = if listener.config.protocol == Protocol::Http {
        "Host"
    } else {
        "server name"
    };
    let Some(name) = name else {
        let found = listener.route_no_name().ok_or(Outcome::NoName)?;
        steps.push(format!(
            "the client sends no {what}: `no_name` leads to pool {:?}",
            found.pool.name
        ));
        return Ok(found);
    };
    let sent = if listener.config.protocol == Protocol::Http {
        host(name)
    } else {
        HostName::parse_sent(name.as_bytes()).map_err(|error| error.to_string())
    };
    let found = match sent {
        Ok(Some(name)) => listener.route(&name),
        // An address, or what is no host name.
        Ok(None) => listener.route_unknown(),
        Err(error) => {
            steps.push(format!("no client can ask for this: {error}"));
            return Err(Outcome::Malformed);
        }
    };
    let Some(found) = found else {
        steps.push(format!("{what} {name} is in no route"));
        return Err(Outcome::UnknownName);
    };
    let unknown = listener.route_unknown();
    let pool = &found.pool.name;
    steps.push(
        if unknown.is_some_and(|unknown| std::ptr::eq(unknown, found)) {
            format!("{what} {name} is in no route: `unknown_name` leads to pool {pool:?}")
        } else if *found.matched == *name {
            format!("{what} {name} is in a route: pool {pool:?}")
        } else {
            format!(
                "{what} {name} matches route {}: pool {pool:?}",
                found.matched
            )
        },
    );
    Ok(found)
}

/// A name as requests have it in their Host.
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
    told: &mut Explanation,
    known: KnownPin,
) -> Result<(PickedBy, Arc<Backend>), Outcome> {
    if known == KnownPin::Live
        && let Some(pinned) = pin::decides(pool, client, told)
    {
        return Ok((PickedBy::Pin, pinned));
    }
    candidates::choose(pool, client, &mut told.steps, known)
}

//! Who of the pool gets a client without a usable pin, and why each of the others does not.
//!
//! Owns the sentences about candidates. Must not know pins. Invariant: what is said of a backend holds now.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::KnownPin;
use crate::config::model::Balance;
use crate::types::backend_state::Health;
use crate::types::outcome::Outcome;
use crate::types::timestamp::{counted, span};
use crate::upstream::backend::Backend;
use crate::upstream::pool::{NoPick, Obstacle, PickedBy, Pool, PoolClient, Standing};

/// Whom the policy chooses; says it, and why it does not choose the others.
pub(super) fn choose(
    pool: &Arc<Pool>,
    client: PoolClient,
    steps: &mut Vec<String>,
    known: KnownPin,
) -> Result<(PickedBy, Arc<Backend>), Outcome> {
    let preview = pool.preview(client);
    let winner = preview.as_ref().ok().map(|(_, backend)| backend);
    let mut next = Some(pool);
    while let Some(of) = next {
        let serves = winner.is_some_and(|winner| winner.pool == of.name);
        compare(of, client, winner.filter(|_| serves), steps, known);
        next = of.backup.as_ref().filter(|_| !serves);
        if let Some(backup) = next {
            steps.push(format!(
                "no backend of pool {:?} can take the client: its backup {:?} is asked",
                of.name, backup.name
            ));
        }
    }
    preview.map_err(|none| match none {
        NoPick::Down => Outcome::PoolDown,
        NoPick::Full => Outcome::PoolFull,
    })
}

fn compare(
    pool: &Pool,
    client: PoolClient,
    winner: Option<&Arc<Backend>>,
    steps: &mut Vec<String>,
    known: KnownPin,
) {
    let foreign = matches!(pool.pin(client), Some((_, None)));
    let balance = if foreign {
        Balance::SourceHash
    } else {
        pool.balance
    };
    let standings = pool.standings();
    let best = winner.and_then(|winner| {
        let mut all = standings.iter();
        all.find(|standing| Arc::ptr_eq(&standing.backend, winner))
    });
    if let Some(best) = best {
        let rivals = standings
            .iter()
            .any(|other| other.obstacle.is_none() && !Arc::ptr_eq(&other.backend, &best.backend));
        steps.push(won(balance, best, rivals, known));
    }
    for standing in &standings {
        if best.is_some_and(|best| Arc::ptr_eq(&best.backend, &standing.backend)) {
            continue;
        }
        let why = match (&standing.obstacle, best) {
            (Some(obstacle), _) => reason(&standing.backend, obstacle),
            (None, Some(best)) => lost(balance, standing, best, known),
            // It came up between two looks.
            (None, None) => "available again at this moment".to_owned(),
        };
        steps.push(format!("not {}: {why}", standing.backend.name));
    }
}

/// Why the policy chooses `best`.
fn won(balance: Balance, best: &Standing, rivals: bool, known: KnownPin) -> String {
    let name = &best.backend.name;
    let policy = balance.as_str();
    let health = match (best.backend.health(), known) {
        (Health::Unknown, KnownPin::Live) => " (not checked yet)",
        _ => "",
    };
    if !rivals {
        return format!("{name}{health}: the only backend that can take the client");
    }
    match (balance, known) {
        (Balance::SourceHash, _) => {
            format!("{policy} says {name}{health}: its hash with this source is the highest")
        }
        (_, KnownPin::FileAlone) => format!("{policy} says {name} this time"),
        (Balance::LeastConnections, KnownPin::Live) => format!(
            "{policy} says {name}{health} now: the fewest for its weight, {}",
            load(best)
        ),
        (Balance::RoundRobin, KnownPin::Live) => {
            format!("{policy} says {name}{health} now: it is its turn")
        }
        (Balance::RandomTwo, KnownPin::Live) => format!(
            "{policy} says {name}{health} this time, with {}: of two that are drawn for each client, the one with fewer",
            load(best)
        ),
    }
}

/// Why the policy does not choose `other`, which could take the client too.
fn lost(balance: Balance, other: &Standing, best: &Standing, known: KnownPin) -> String {
    match (balance, known) {
        (Balance::SourceHash, _) => "its hash with this source is lower".to_owned(),
        (_, KnownPin::FileAlone) => {
            "it can take the client as well; connections and turns decide".to_owned()
        }
        (Balance::LeastConnections, KnownPin::Live) => {
            let ours = (f64::from(other.connections) + 1.0) * best.weight;
            let theirs = (f64::from(best.connections) + 1.0) * other.weight;
            if ours > theirs {
                format!("more for its weight, {}", load(other))
            } else {
                format!(
                    "as few for its weight, {}: among equals chance decides",
                    load(other)
                )
            }
        }
        (Balance::RoundRobin, KnownPin::Live) => "its turn comes later".to_owned(),
        (Balance::RandomTwo, KnownPin::Live) => {
            format!(
                "not drawn, or drawn with more for its weight, {}",
                load(other)
            )
        }
    }
}

fn load(standing: &Standing) -> String {
    let connections = counted(standing.connections.into(), "connection");
    let weight = format!("{:.2}", standing.weight);
    let weight = weight.trim_end_matches('0').trim_end_matches('.');
    format!("{connections} (weight {weight})")
}

/// What rules `backend` out, in words.
pub(super) fn reason(backend: &Backend, obstacle: &Obstacle) -> String {
    let left = |at: Instant| span(at.saturating_duration_since(Instant::now()));
    match obstacle {
        Obstacle::Unresolved => match backend.health() {
            Health::Down => backend.changed().why,
            Health::Unknown | Health::Up => "its name is not resolved yet".to_owned(),
        },
        Obstacle::Maintain => "in maintenance".to_owned(),
        Obstacle::Draining(deadline) => {
            let left = deadline.map(|deadline| format!(" for {} more", left(deadline.at)));
            format!(
                "draining{}: only clients pinned to it",
                left.unwrap_or_default()
            )
        }
        Obstacle::Drained => {
            "drained: its deadline is over, and it takes no client until `ready`".to_owned()
        }
        Obstacle::Damped(damped) => format!(
            "its checks pass, but it is kept out for {} more after {} (damping)",
            left(damped.until.at),
            counted(damped.falls.into(), "fall")
        ),
        Obstacle::Down => {
            let changed = backend.changed();
            let lasts = SystemTime::now().duration_since(changed.at);
            format!(
                "down for {}: {}",
                span(lasts.unwrap_or_default()),
                changed.why
            )
        }
        Obstacle::Full(most) => format!("full: it holds the {most} of `max_connections`"),
        Obstacle::NoWeight => "its weight is 0".to_owned(),
        Obstacle::NotChecked => "not checked yet, and another backend is up".to_owned(),
        Obstacle::NotInGroup(pool) => format!(
            "{} is up and passed over: pool {pool:?} of its affinity group cannot use it now, and another backend is \
             available in all",
            backend.name
        ),
    }
}

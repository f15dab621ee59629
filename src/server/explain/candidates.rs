//! Which backend of the pool gets a client without a usable pin, and why each of the others does not.
//!
//! Owns the texts about candidates. Must not know pins. Invariant: a text about a backend is true now.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::Basis;
use crate::config::model::Balance;
use crate::types::backend_state::Health;
use crate::types::outcome::Outcome;
use crate::types::timestamp::{pluralized, short_duration};
use crate::upstream::backend::Backend;
use crate::upstream::pool::{ExclusionReason, NoPick, PickedBy, Pool, PoolClient, RotationStatus};

/// The choice of the policy. Adds to `steps` why, and why it does not choose the others.
pub(super) fn choose(
    pool: &Arc<Pool>,
    client: PoolClient,
    steps: &mut Vec<String>,
    basis: Basis,
) -> Result<(PickedBy, Arc<Backend>), Outcome> {
    let preview = pool.preview(client);
    let winner = preview.as_ref().ok().map(|(_, backend)| backend);
    let mut next = Some(pool);
    while let Some(of) = next {
        let serves = winner.is_some_and(|winner| winner.pool == of.name);
        compare(of, client, winner.filter(|_| serves), steps, basis);
        next = of.backup.as_ref().filter(|_| !serves);
        if let Some(backup) = next {
            steps.push(format!(
                "no backend of pool {:?} can take the client: its backup {:?} is tried",
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
    basis: Basis,
) {
    let foreign = matches!(pool.pin(client), Some((_, None)));
    let balance = if foreign {
        Balance::SourceHash
    } else {
        pool.balance
    };
    let standings = pool.rotation();
    let best = winner.and_then(|winner| {
        let mut all = standings.iter();
        all.find(|standing| Arc::ptr_eq(&standing.backend, winner))
    });
    if let Some(best) = best {
        let rivals = standings
            .iter()
            .any(|other| other.excluded.is_none() && !Arc::ptr_eq(&other.backend, &best.backend));
        steps.push(won(balance, best, rivals, basis));
    }
    for standing in &standings {
        if best.is_some_and(|best| Arc::ptr_eq(&best.backend, &standing.backend)) {
            continue;
        }
        let why = match (&standing.excluded, best) {
            (Some(obstacle), _) => reason(&standing.backend, obstacle),
            (None, Some(best)) => lost(balance, standing, best, basis),
            // It became available in between.
            (None, None) => "available again at this moment".to_owned(),
        };
        steps.push(format!("not {}: {why}", standing.backend.name));
    }
}

/// Why the policy chooses `best`.
fn won(balance: Balance, best: &RotationStatus, rivals: bool, basis: Basis) -> String {
    let name = &best.backend.name;
    let policy = balance.as_str();
    let health = match (best.backend.health(), basis) {
        (Health::Unknown, Basis::Live) => " (not checked yet)",
        _ => "",
    };
    if !rivals {
        return format!("{name}{health}: the only backend that can take the client");
    }
    match (balance, basis) {
        (Balance::SourceHash, _) => {
            format!("{policy} chooses {name}{health}: its hash with this source is the highest")
        }
        (_, Basis::FileOnly) => format!("{policy} chooses {name} this time"),
        (Balance::LeastConnections, Basis::Live) => format!(
            "{policy} chooses {name}{health} now: the lowest load for its weight, {}",
            load(best)
        ),
        (Balance::RoundRobin, Basis::Live) => {
            format!("{policy} chooses {name}{health} now: it is its turn")
        }
        (Balance::RandomTwo, Basis::Live) => format!(
            "{policy} chooses {name}{health} this time, with {}: of two backends drawn at random, the one with the lower load",
            load(best)
        ),
    }
}

/// Why the policy does not choose `other`, which could take the client too.
fn lost(balance: Balance, other: &RotationStatus, best: &RotationStatus, basis: Basis) -> String {
    match (balance, basis) {
        (Balance::SourceHash, _) => "its hash with this source is lower".to_owned(),
        (_, Basis::FileOnly) => {
            "it can take the client as well; connections and turns decide".to_owned()
        }
        (Balance::LeastConnections, Basis::Live) => {
            let ours = (f64::from(other.connections) + 1.0) * best.weight;
            let theirs = (f64::from(best.connections) + 1.0) * other.weight;
            if ours > theirs {
                format!("a higher load for its weight, {}", load(other))
            } else {
                format!(
                    "the same load for its weight, {}: a tie is broken at random",
                    load(other)
                )
            }
        }
        (Balance::RoundRobin, Basis::Live) => "its turn comes later".to_owned(),
        (Balance::RandomTwo, Basis::Live) => {
            format!(
                "not drawn, or drawn with a higher load for its weight, {}",
                load(other)
            )
        }
    }
}

fn load(standing: &RotationStatus) -> String {
    let connections = pluralized(standing.connections.into(), "connection");
    let weight = format!("{:.2}", standing.weight);
    let weight = weight.trim_end_matches('0').trim_end_matches('.');
    format!("{connections} (weight {weight})")
}

/// Why `backend` cannot take the client.
pub(super) fn reason(backend: &Backend, obstacle: &ExclusionReason) -> String {
    let left = |at: Instant| short_duration(at.saturating_duration_since(Instant::now()));
    match obstacle {
        ExclusionReason::Unresolved => match backend.health() {
            Health::Down => backend.last_health_change().why,
            Health::Unknown | Health::Up => "its name is not resolved yet".to_owned(),
        },
        ExclusionReason::Maintain => "in maintenance".to_owned(),
        ExclusionReason::Draining(deadline) => {
            let left = deadline.map(|deadline| format!(" for {} more", left(deadline.at)));
            format!(
                "draining{}: only clients pinned to it",
                left.unwrap_or_default()
            )
        }
        ExclusionReason::Drained => {
            "drained: its deadline has passed, and it gets no clients until `ready`".to_owned()
        }
        ExclusionReason::Damped(damped) => format!(
            "its checks pass, but it is held out of rotation for {} more after {} (flap damping)",
            left(damped.until.at),
            pluralized(damped.falls.into(), "fall")
        ),
        ExclusionReason::Down => {
            let changed = backend.last_health_change();
            let lasts = SystemTime::now().duration_since(changed.at);
            format!(
                "down for {}: {}",
                short_duration(lasts.unwrap_or_default()),
                changed.why
            )
        }
        ExclusionReason::Full(most) => format!("full: `max_connections` ({most}) is reached"),
        ExclusionReason::NoWeight => "its weight is 0".to_owned(),
        ExclusionReason::NotChecked => "not checked yet, and another backend is up".to_owned(),
        ExclusionReason::NotInGroup(pool) => format!(
            "{} is up but not used: pool {pool:?} of its affinity group cannot use it now, and another backend is \
             available in all of them",
            backend.name
        ),
    }
}

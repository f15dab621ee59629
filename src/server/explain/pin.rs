//! What a client's pin does to it.
//!
//! Owns the sentences about pins. Invariant: as the data path has it, a pin decides before any policy.

use std::sync::Arc;

use super::candidates::reason;
use crate::admin::view::{Explanation, PinEntry};
use crate::affinity::shard::Origin;
use crate::server::affinity::view_entry;
use crate::types::timestamp::{counted, span};
use crate::upstream::backend::Backend;
use crate::upstream::pool::{Obstacle, Pool, PoolClient, obstacle_to_pinned};

/// The client's pin, whether it decides or not.
pub(super) fn of(pool: &Pool, client: PoolClient) -> Option<PinEntry> {
    let (view, _) = pool.pin(client)?;
    view_entry(&pool.affinity.as_ref()?.pins, &view)
}

/// The backend that the client's pin sends it to, if that takes it; says what there is to say of the pin.
pub(super) fn decides(
    pool: &Arc<Pool>,
    client: PoolClient,
    told: &mut Explanation,
) -> Option<Arc<Backend>> {
    let steps = &mut told.steps;
    let Some(affinity) = &pool.affinity else {
        steps.push(format!("pool {:?} has no affinity: no pins", pool.name));
        return None;
    };
    let settings = affinity.pins.settings();
    let Some((view, backend)) = pool.pin(client) else {
        if settings.by_source || settings.by_name {
            steps.push(format!(
                "the client has no pin in affinity group {:?}",
                affinity.pins.group()
            ));
        }
        return None;
    };
    if let Some(pin) = &told.pin {
        steps.push(sentence(pin, view.origin));
    }
    let Some(backend) = backend else {
        steps.push(format!(
            "pool {:?} has no backend of that name: the client is placed here by source_hash, and its pin stays",
            pool.name
        ));
        return None;
    };
    let Some(obstacle) = obstacle_to_pinned(backend) else {
        let others: Vec<&str> = pool.backends.iter().map(|other| &*other.name).collect();
        if others.len() > 1 {
            let others = others.into_iter().filter(|other| *other != &*backend.name);
            steps.push(format!(
                "a pin goes before the policy: {} {} not compared",
                others.clone().collect::<Vec<_>>().join(", "),
                if others.count() == 1 { "is" } else { "are" }
            ));
        }
        return Some(backend.clone());
    };
    let becomes = if matches!(obstacle, Obstacle::Full(_)) {
        "this connection goes elsewhere, and the pin stays"
    } else {
        "the pin moves when another backend has answered"
    };
    let why = reason(backend, &obstacle);
    steps.push(format!(
        "{} cannot take the client now: {why}; {becomes}",
        backend.name
    ));
    None
}

/// Where a pin leads, who said so, how old it is and how long it lasts.
fn sentence(pin: &PinEntry, origin: Origin) -> String {
    let backend = &pin.backend;
    let made = span(std::time::Duration::from_secs(pin.age_seconds));
    let origin = match origin {
        Origin::Policy => format!("chosen by the policy {made} ago"),
        Origin::Session => format!("learned from a TLS session {made} ago"),
        Origin::Failover => format!(
            "moved there when another backend could not take it; the pin was made {made} ago"
        ),
        Origin::Administrator => {
            format!("an administrator pinned or moved it there; the pin was made {made} ago")
        }
    };
    let lasts = match pin.expires_in_seconds {
        Some(left) => {
            let left = span(std::time::Duration::from_secs(left));
            format!("it expires in {left} unless it comes into use again")
        }
        None => format!(
            "in use by {}, and it does not expire meanwhile",
            counted(pin.connections, "connection")
        ),
    };
    format!("pinned to {backend}: {origin}; {lasts}")
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::types::timestamp::Timestamp;

    fn pin(connections: u64, expires_in_seconds: Option<u64>) -> PinEntry {
        PinEntry {
            group: "web".into(),
            client: Some("192.0.2.7/32".into()),
            name: None,
            backend: "fe01".into(),
            origin: "administrator".into(),
            created: Timestamp(SystemTime::UNIX_EPOCH),
            age_seconds: 117,
            connections,
            expires_in_seconds,
        }
    }

    #[test]
    fn a_pin_tells_its_age_its_reason_and_its_end_apart() {
        assert_eq!(
            sentence(&pin(1, None), Origin::Administrator),
            "pinned to fe01: an administrator pinned or moved it there; the pin was made 1m57s ago; \
             in use by 1 connection, and it does not expire meanwhile"
        );
        assert_eq!(
            sentence(&pin(0, Some(1_083)), Origin::Policy),
            "pinned to fe01: chosen by the policy 1m57s ago; it expires in 18m3s unless it comes into use again"
        );
        assert!(sentence(&pin(2, None), Origin::Failover).contains("in use by 2 connections,"));
    }
}

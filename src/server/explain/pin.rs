//! How a client's pin routes it.
//!
//! Owns the texts about pins. Must not know policies. Invariant: as on the data path, a pin decides before any policy.

use std::sync::Arc;

use super::candidates::reason;
use crate::admin::view::{Explanation, PinEntry};
use crate::affinity::shard::Origin;
use crate::server::affinity::view_entry;
use crate::types::timestamp::{pluralized, short_duration};
use crate::upstream::backend::Backend;
use crate::upstream::pool::{ExclusionReason, Pool, PoolClient, pinned_exclusion};

/// The client's pin, whether it decides or not.
pub(super) fn of(pool: &Pool, client: PoolClient) -> Option<PinEntry> {
    let (view, _) = pool.pin(client)?;
    view_entry(&pool.affinity.as_ref()?.pins, &view)
}

/// The backend of the client's pin, if it takes the client. Adds the texts about the pin to `result`.
pub(super) fn decides(
    pool: &Arc<Pool>,
    client: PoolClient,
    result: &mut Explanation,
) -> Option<Arc<Backend>> {
    let steps = &mut result.steps;
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
    if let Some(pin) = &result.pin {
        steps.push(sentence(pin, view.origin));
    }
    let Some(backend) = backend else {
        steps.push(format!(
            "pool {:?} has no backend of that name: source_hash chooses one in this pool, and the pin stays",
            pool.name
        ));
        return None;
    };
    match pinned_exclusion(backend) {
        None => {
            steps.extend(precedence(pool, backend));
            Some(backend.clone())
        }
        Some(obstacle) => {
            steps.push(unusable(backend, &obstacle));
            None
        }
    }
}

/// That the pin decides, and not the policy, if there are other backends.
fn precedence(pool: &Pool, backend: &Backend) -> Option<String> {
    let others = pool.backends.iter().map(|other| &*other.name);
    let others: Vec<&str> = others.filter(|other| *other != &*backend.name).collect();
    let verb = match others.len() {
        0 => return None,
        1 => "is",
        _ => "are",
    };
    let others = others.join(", ");
    Some(format!(
        "a pin takes precedence over the policy: {others} {verb} not compared"
    ))
}

/// Why the backend of the pin cannot take the client, and what becomes of the pin.
fn unusable(backend: &Backend, obstacle: &ExclusionReason) -> String {
    let pin = if matches!(obstacle, ExclusionReason::Full(_)) {
        "this connection goes elsewhere, and the pin stays"
    } else {
        "the pin moves once another backend has responded"
    };
    let (name, why) = (&backend.name, reason(backend, obstacle));
    format!("{name} cannot take the client now: {why}; {pin}")
}

/// The backend of a pin, its origin, its age and its expiry.
fn sentence(pin: &PinEntry, origin: Origin) -> String {
    let backend = &pin.backend;
    let made = short_duration(std::time::Duration::from_secs(pin.age_seconds));
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
            let left = short_duration(std::time::Duration::from_secs(left));
            format!("it expires in {left} unless it is used again")
        }
        None => format!(
            "in use by {}, and does not expire meanwhile",
            pluralized(pin.connections, "connection")
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
    fn the_text_of_a_pin_has_its_age_its_origin_and_its_expiry() {
        assert_eq!(
            sentence(&pin(1, None), Origin::Administrator),
            "pinned to fe01: an administrator pinned or moved it there; the pin was made 1m57s ago; \
             in use by 1 connection, and does not expire meanwhile"
        );
        assert_eq!(
            sentence(&pin(0, Some(1_083)), Origin::Policy),
            "pinned to fe01: chosen by the policy 1m57s ago; it expires in 18m3s unless it is used again"
        );
        assert!(sentence(&pin(2, None), Origin::Failover).contains("in use by 2 connections,"));
    }
}

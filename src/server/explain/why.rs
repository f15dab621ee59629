//! Why a port is closed and why a backend has the health that it has, as things are now.
//!
//! Owns these sentences. Must not know clients. Invariant: what is said follows from the last results of the checks, never
//! from what was said when something changed.

use super::candidates::reason;
use crate::snapshot::ActiveListener;
use crate::types::backend_state::{AdminState, Health};
use crate::upstream::backend::{Backend, CheckReport};
use crate::upstream::pool::{Pool, obstacle_to_pinned};

/// Backends that one line names.
const NAMED: usize = 8;

/// How health says that it took a backend back before its time.
const EARLY: &str = "; back early, because no other backend of the pool is available";

/// What keeps each backend behind a listener from serving.
pub(in crate::server) fn why_closed(listener: &ActiveListener) -> String {
    let mut reasons = Vec::new();
    let mut pools: Vec<&Pool> = listener.pools().iter().rev().map(AsRef::as_ref).collect();
    while let Some(pool) = pools.pop() {
        for backend in &pool.backends {
            if let Some(obstacle) = obstacle_to_pinned(backend) {
                let why = reason(backend, &obstacle);
                reasons.push(format!("{}/{}: {why}", pool.name, backend.name));
            }
        }
        pools.extend(pool.backup.as_deref());
    }
    let more = reasons.len().saturating_sub(NAMED);
    reasons.truncate(NAMED);
    if more > 0 {
        reasons.push(format!("and {more} more"));
    }
    reasons.join("; ")
}

/// Why `backend` is up, down or unknown, by what its checks have last seen.
pub(in crate::server) fn why_health(backend: &Backend, checks: &[CheckReport]) -> String {
    let changed = backend.changed();
    let health = backend.health();
    let deciding: Vec<&CheckReport> = checks.iter().filter(|check| check.decides).collect();
    let answered = deciding.iter().any(|check| check.passing.is_some());
    let said = if !answered || backend.address().is_none() {
        changed.why
    } else {
        let says = |check: &&CheckReport| say(check);
        let mut matter = deciding.clone();
        matter.retain(|check| matters(check, health, &deciding));
        if matter.is_empty() {
            // In maintenance health is from before, and the checks may say otherwise.
            matter.clone_from(&deciding);
        }
        let said: Vec<String> = matter.iter().map(says).collect();
        let early = changed.why.ends_with(EARLY) && health == Health::Up;
        said.join("; ") + if early { EARLY } else { "" }
    };
    let said = match backend.name_fault() {
        Some(fault) => format!(
            "{said}; its name does not resolve any more, and its last address is kept: {fault}"
        ),
        None => said,
    };
    if backend.state() == AdminState::Maintain {
        return format!("in maintenance, checks count for nothing: {said}");
    }
    said
}

/// Whether a deciding check belongs to the reason: those that speak against the health that there is, or make it what it is.
fn matters(check: &CheckReport, health: Health, all: &[&CheckReport]) -> bool {
    let fails = |check: &CheckReport| check.passing == Some(false);
    match health {
        Health::Up => fails(check) || !all.iter().any(|other| fails(other)),
        Health::Down => fails(check) || check.counts == Some(false),
        Health::Unknown => check.passing.is_none() || fails(check),
    }
}

fn say(check: &CheckReport) -> String {
    let (label, detail) = (&check.label, &check.detail);
    let (against, needed) = (check.against, check.needed);
    match (check.passing, check.counts) {
        (Some(false), Some(true)) => {
            format!("{label}: failing {against} of {needed}: {detail}")
        }
        (Some(true), Some(false)) => {
            format!("{label}: passing {against} of {needed}: {detail}")
        }
        (None, _) => format!("{label}: no result yet"),
        _ => format!("{label}: {detail}"),
    }
}

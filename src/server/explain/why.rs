//! Why a port is closed, and why a backend is up, down or unknown.
//!
//! Owns these texts. Must not know clients. Invariant: a text follows from the last results of the checks, never from the
//! text at the time of a change.

use super::candidates::reason;
use crate::health::BACK_EARLY;
use crate::snapshot::ActiveListener;
use crate::types::backend_state::{AdminState, Health};
use crate::upstream::backend::{Backend, CheckReport};
use crate::upstream::pool::{Pool, pinned_exclusion};

/// Backends in one line.
const MAX_BACKENDS: usize = 8;

/// Why each backend behind a listener cannot serve.
pub(in crate::server) fn why_closed(listener: &ActiveListener) -> String {
    let mut reasons = Vec::new();
    let mut pools: Vec<&Pool> = listener.pools().iter().rev().map(AsRef::as_ref).collect();
    while let Some(pool) = pools.pop() {
        for backend in &pool.backends {
            if let Some(obstacle) = pinned_exclusion(backend) {
                let why = reason(backend, &obstacle);
                reasons.push(format!("{}/{}: {why}", pool.name, backend.name));
            }
        }
        pools.extend(pool.backup.as_deref());
    }
    let more = reasons.len().saturating_sub(MAX_BACKENDS);
    reasons.truncate(MAX_BACKENDS);
    if more > 0 {
        reasons.push(format!("and {more} more"));
    }
    reasons.join("; ")
}

/// Why `backend` is up, down or unknown, by the last results of its checks.
pub(in crate::server) fn why_health(backend: &Backend, checks: &[CheckReport]) -> String {
    let changed = backend.last_health_change();
    let health = backend.health();
    let deciding: Vec<&CheckReport> = checks.iter().filter(|check| check.decides).collect();
    let has_results = deciding.iter().any(|check| check.passing.is_some());
    let text = if !has_results || backend.address().is_none() {
        changed.why
    } else {
        let mut relevant = deciding.clone();
        relevant.retain(|check| is_relevant(check, health, &deciding));
        if relevant.is_empty() {
            // In maintenance the health is older than the checks, and may contradict them.
            relevant.clone_from(&deciding);
        }
        let texts: Vec<String> = relevant.iter().map(|check| check_text(check)).collect();
        let is_early = changed.why.ends_with(BACK_EARLY) && health == Health::Up;
        texts.join("; ") + if is_early { BACK_EARLY } else { "" }
    };
    let text = match backend.resolve_error() {
        Some(error) => format!(
            "{text}; its name does not resolve any more, and its last address stays in use: {error}"
        ),
        None => text,
    };
    if backend.state() == AdminState::Maintain {
        return format!("in maintenance, checks are ignored: {text}");
    }
    text
}

/// Whether a deciding check belongs to the reason: it contradicts the present health, or causes it.
fn is_relevant(check: &CheckReport, health: Health, all: &[&CheckReport]) -> bool {
    let fails = |check: &CheckReport| check.passing == Some(false);
    match health {
        Health::Up => fails(check) || !all.iter().any(|other| fails(other)),
        Health::Down => fails(check) || check.counts == Some(false),
        Health::Unknown => check.passing.is_none() || fails(check),
    }
}

fn check_text(check: &CheckReport) -> String {
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

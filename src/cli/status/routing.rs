//! What listeners and pools can do now: which pools a listener routes to, and which clients they can serve.
//!
//! Pure: from the status to short texts. Must not know tables.

use crate::admin::view::{BackendView, ListenerView, PoolView, StatusView};

/// Whether clients of a listener may reach a pool of `shown`, directly or as the backup of another.
pub(super) fn reaches(listener: &ListenerView, shown: &StatusView, status: &StatusView) -> bool {
    let is_shown = |name: &str| shown.pools.iter().any(|pool| pool.name == name);
    let direct = status
        .pools
        .iter()
        .filter(|pool| routes_to(listener, &pool.name));
    direct.into_iter().any(|pool| {
        let mut next = Some(pool);
        // A chain of backups has no cycle, so it is not longer than the number of pools.
        for _ in 0..=status.pools.len() {
            let Some(pool) = next else {
                return false;
            };
            if is_shown(&pool.name) {
                return true;
            }
            let backup = pool.backup.as_ref();
            next = backup.and_then(|name| status.pools.iter().find(|other| other.name == *name));
        }
        false
    })
}

fn routes_to(listener: &ListenerView, pool: &str) -> bool {
    let fallbacks = [&listener.no_name, &listener.unknown_name, &listener.pool];
    listener.routes.iter().any(|route| route.pool == pool)
        || fallbacks.into_iter().flatten().any(|name| name == pool)
}

/// The state of a listener's port.
pub(super) fn port(listener: &ListenerView, status: &StatusView) -> &'static str {
    let known = status
        .pools
        .iter()
        .filter(|pool| routes_to(listener, &pool.name));
    let known: Vec<&PoolView> = known.collect();
    if !listener.open {
        "closed"
    } else if known.is_empty() || known.iter().any(|pool| pool.can_serve) {
        "open"
    } else {
        // `when_pool_down: refuse`.
        "open, rejects all"
    }
}

/// Which clients a pool can serve now.
pub(super) fn serves(pool: &PoolView, status: &StatusView) -> &'static str {
    let has_room = |backend: &BackendView| {
        let full = backend
            .max_connections
            .is_some_and(|limit| backend.connections >= limit);
        backend.effective_weight > 0.0 && !full
    };
    let ready = |backend: &&BackendView| backend.effective_weight > 0.0;
    if !pool.can_serve {
        return "cannot serve";
    }
    if pool.backends.iter().any(has_room) {
        return "can serve";
    }
    let named = pool.backup.as_ref();
    let backup = named.map(|name| status.pools.iter().find(|other| other.name == *name));
    match backup {
        Some(Some(backup)) if backup.can_serve => "its backup serves",
        // The backup is not in this selection.
        Some(None) => "can serve",
        _ if pool.backends.iter().any(|backend| ready(&backend)) => "full: rejects new clients",
        _ => "serves pinned clients only",
    }
}

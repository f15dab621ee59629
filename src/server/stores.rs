//! How the affinity store begins to be written.
//!
//! Owns what a start has to know of it. Knows no file. Invariant: what is written is what is in force.

use std::sync::Arc;

use crate::affinity::table::Secret;
use crate::persistence::{OpenError, OpenedStore, Store};
use crate::proxy::acceptor::ProxyContext;
use crate::telemetry::metrics::Registry;

/// What hashes of sessions are made with, and where they are kept.
pub(super) struct Keeping {
    /// `None` also where another process has it still.
    pub(super) opened: Option<OpenedStore>,
    pub(super) secret: Secret,
}

/// Begins to write what is in force, where there is a store.
pub(super) fn start_store(
    opened: Option<OpenedStore>,
    shared: &Arc<ProxyContext>,
    registry: &Registry,
) -> Result<Option<Store>, OpenError> {
    let in_force = shared.clone();
    let start = |kept: OpenedStore| {
        let source = move || in_force.snapshot.load_full();
        kept.start(source, registry)
    };
    opened.map(start).transpose()
}

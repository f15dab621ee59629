//! How writing to the affinity store starts.
//!
//! Owns what the store writes. Knows no file. Invariant: what is written is the snapshot in force.

use std::sync::Arc;

use crate::persistence::{OpenError, OpenedStore, Store};
use crate::proxy::acceptor::ProxyContext;

/// Starts to write pins and states of the snapshot in force.
pub(super) fn start_store(
    opened: OpenedStore,
    proxy: &Arc<ProxyContext>,
) -> Result<Store, OpenError> {
    let in_force = proxy.clone();
    let source = move || in_force.snapshot.load_full();
    opened.start(source, &proxy.registry)
}

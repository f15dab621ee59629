//! Opening and closing ports with the pools behind them.
//!
//! Owns what a listener's ports are to do. Knows no worker and no socket. Invariant: at the start and when it is new a
//! port is bound and does not listen: it opens when it is known that something behind it may serve.

use std::sync::Arc;

use tokio::sync::watch;

use super::sockets::{Sockets, Wanted};
use crate::config::model::WhenPoolDown;
use crate::listener::Shared;

/// Keeps every port as the pools behind it want it, until the balancer stops.
pub(super) async fn keep(
    sockets: Arc<Sockets>,
    shared: Arc<Shared>,
    mut availability: watch::Receiver<u64>,
) {
    loop {
        availability.borrow_and_update();
        follow(&sockets, &shared);
        tokio::select! {
            changed = availability.changed() => if changed.is_err() { return },
            () = shared.stop.cancelled() => return,
        }
    }
}

/// Brings every port to what is wanted of it now.
pub(super) fn follow(sockets: &Sockets, shared: &Shared) {
    for listener in &shared.snapshot.load().listeners {
        let serves = match listener.config.when_pool_down {
            WhenPoolDown::Close => listener.can_serve(),
            WhenPoolDown::Refuse => true,
        };
        let wanted = if serves { Wanted::Open } else { Wanted::Closed };
        let changed = sockets.turn(&listener.config, wanted);
        listener.open.set(f64::from(u8::from(serves)));
        let name = &*listener.config.name;
        match wanted {
            _ if !changed => {}
            Wanted::Open => {
                tracing::info!(target: "lyncpin::listener", listener = name, "open");
            }
            Wanted::Closed => {
                tracing::warn!(target: "lyncpin::listener", listener = name, "closed: no pool behind it can serve");
            }
        }
    }
}

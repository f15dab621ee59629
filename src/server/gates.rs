//! Opening and closing ports with the pools behind them.
//!
//! Owns the listening sockets and whether they listen. Knows no worker. Invariant: the sockets of one listener listen
//! all or none, and the workers are told after the sockets have changed. At the start they are bound and do not listen:
//! a port opens when it is known that something behind it may serve.

use std::sync::Arc;

use tokio::sync::watch;

use crate::config::model::WhenPoolDown;
use crate::listener::{Gate, Shared};
use crate::socket::Listening;

/// The sockets of one listener.
pub(super) struct ListenerGate {
    pub(super) listener: Arc<str>,
    pub(super) sockets: Vec<Arc<Listening>>,
    pub(super) state: watch::Sender<Gate>,
}

/// Keeps every gate as the pools behind it want it, until the balancer stops.
pub(super) async fn keep(
    gates: Vec<ListenerGate>,
    shared: Arc<Shared>,
    mut availability: watch::Receiver<u64>,
) {
    let mut openings = 0;
    loop {
        availability.borrow_and_update();
        for gate in &gates {
            gate.follow(&shared, &mut openings);
        }
        tokio::select! {
            changed = availability.changed() => if changed.is_err() { return },
            () = shared.stop.cancelled() => return,
        }
    }
}

impl ListenerGate {
    fn follow(&self, shared: &Shared, openings: &mut u64) {
        let snapshot = shared.snapshot.load();
        let Some(listener) = snapshot.listener(&self.listener) else {
            return;
        };
        let wanted = match listener.config.when_pool_down {
            WhenPoolDown::Close => listener.can_serve(),
            WhenPoolDown::Refuse => true,
        };
        let open = matches!(*self.state.borrow(), Gate::Open(_));
        let state = match (open, wanted) {
            (true, false) => {
                self.each("close", Listening::close);
                tracing::warn!(target: "lyncpin::listener", listener = &*self.listener, "closed: no pool behind it can serve");
                Gate::Closed
            }
            (false, true) => {
                self.each("open", Listening::open);
                tracing::info!(target: "lyncpin::listener", listener = &*self.listener, "open");
                *openings += 1;
                Gate::Open(*openings)
            }
            (true, true) | (false, false) => return listener.open.set(f64::from(u8::from(open))),
        };
        listener.open.set(f64::from(u8::from(wanted)));
        self.state.send_replace(state);
    }

    fn each(&self, what: &str, change: impl Fn(&Listening) -> std::io::Result<()>) {
        for socket in &self.sockets {
            if let Err(error) = change(socket) {
                let (listener, address) = (&*self.listener, socket.address());
                tracing::error!(target: "lyncpin::listener", listener, %address, %error, "cannot {what} the port");
            }
        }
    }
}

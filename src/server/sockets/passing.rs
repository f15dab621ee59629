//! Sockets that two processes have at the same time, during an upgrade.
//!
//! Owns who of the two uses them. Invariant: they are the same sockets in both, so while the other process accepts, nothing
//! is done here that it would notice: none is shut down and nothing is taken from a queue.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;

use super::{PortSockets, Sockets};
use crate::config::model::Config;
use crate::net::socket::Listening;
use crate::proxy::acceptor::ListenState;
use crate::server::workers::WorkerChannels;

impl Sockets {
    /// Takes over what was inherited, each with the address that it was configured for, as far as `config` has that still;
    /// `count` sockets an address or more. Until [`Sockets::begin`] the other process has the use of them. Says which
    /// addresses are not configured any more.
    pub(in crate::server) fn adopt(
        &self,
        config: &Config,
        inherited: Vec<(SocketAddr, Listening)>,
        count: usize,
    ) -> Vec<SocketAddr> {
        let mut by_address: HashMap<SocketAddr, Vec<Arc<Listening>>> = HashMap::new();
        for (configured, socket) in inherited {
            by_address
                .entry(configured)
                .or_default()
                .push(socket.into());
        }
        let mut known = self.lock();
        known.left = true;
        for listener in &config.listeners {
            for &configured in &listener.bind {
                let Some(mut sockets) = by_address.remove(&configured) else {
                    continue;
                };
                let listens = sockets.iter().any(|socket| socket.is_listening());
                let missing = count.saturating_sub(sockets.len());
                let address = sockets[0].address();
                match Listening::bind_beside(address, missing) {
                    Ok(more) => sockets.extend(more),
                    Err(error) => {
                        tracing::warn!(target: "lyncpin::server", listener = &*listener.name, %address, %error, "not every worker has a socket of this address");
                    }
                }
                let mut port = PortSockets::new(configured, sockets);
                port.listens = listens;
                known.ports.push(port);
            }
        }
        known.foreign = by_address.into_keys().collect();
        known.foreign.clone()
    }

    /// Has the use of the sockets from now on: what listens is accepted from at once.
    pub(in crate::server) fn begin(&self) {
        let mut known = self.lock();
        known.left = false;
        known.foreign.clear();
        for port in &mut known.ports {
            if port.listens {
                port.each("inherited", "open", Listening::open);
                // Its own number: the ports that are opened later count from 1.
                port.gate.send_replace(ListenState::Open(0));
            }
        }
    }

    /// Every socket, with the address that it is configured for.
    pub(in crate::server) fn all(&self) -> Vec<(SocketAddr, Arc<Listening>)> {
        let known = self.lock();
        let of = |port: &PortSockets| {
            let configured = port.configured;
            let sockets = port.sockets.clone().into_iter();
            sockets.map(move |socket| (configured, socket))
        };
        known.ports.iter().flat_map(of).collect()
    }

    /// Leaves the use of the sockets to another process. What comes back completes when the last accept loop has ended.
    pub(in crate::server) fn leave(&self) -> Vec<watch::Sender<ListenState>> {
        let mut known = self.lock();
        known.left = true;
        let leave = |port: &mut PortSockets| {
            let now = *port.gate.borrow();
            let gate = std::mem::replace(&mut port.gate, watch::Sender::new(now));
            gate.send_replace(ListenState::Left);
            gate
        };
        known.ports.iter_mut().map(leave).collect()
    }

    /// Takes the use of the sockets back.
    pub(in crate::server) fn resume(&self, posts: &WorkerChannels) {
        let mut known = self.lock();
        known.left = false;
        for port in &known.ports {
            posts.assign(port);
        }
    }

    /// Lets go of everything after another process has taken over, which does not want these addresses: their queues are
    /// taken here.
    pub(in crate::server) fn give_up(&self, posts: &WorkerChannels, unwanted: &[SocketAddr]) {
        let mut known = self.lock();
        for port in known.ports.drain(..) {
            if unwanted.contains(&port.configured) {
                port.gate.send_replace(ListenState::Removed);
                posts.assign(&port);
            }
        }
    }

    /// Gives every worker its sockets.
    pub(in crate::server) fn assign(&self, posts: &WorkerChannels) {
        for port in &self.lock().ports {
            posts.assign(port);
        }
    }
}

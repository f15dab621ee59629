//! Sockets that two processes hold at the same time, during an upgrade.
//!
//! Owns which of the two processes uses them. Must not know the order of an upgrade. Invariant: both processes hold the same
//! sockets, so while the other one accepts, this one shuts none of them down and accepts from no queue.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;

use super::{PortSockets, Sockets};
use crate::config::model::Config;
use crate::net::socket::ListeningSocket;
use crate::proxy::acceptor::ListenState;
use crate::server::workers::WorkerChannels;

impl Sockets {
    /// Takes over inherited sockets, each with the address that it was configured for, if `config` still has that address;
    /// `count` sockets an address or more. Until [`Sockets::activate`] the other process uses them. Returns the addresses
    /// that are not configured any more.
    pub(in crate::server) fn adopt(
        &self,
        config: &Config,
        inherited: Vec<(SocketAddr, ListeningSocket)>,
        count: usize,
    ) -> Vec<SocketAddr> {
        let mut by_address: HashMap<SocketAddr, Vec<Arc<ListeningSocket>>> = HashMap::new();
        for (configured, socket) in inherited {
            by_address
                .entry(configured)
                .or_default()
                .push(socket.into());
        }
        let mut known = self.lock();
        known.is_suspended = true;
        for listener in &config.listeners {
            for &configured in &listener.bind {
                let Some(mut sockets) = by_address.remove(&configured) else {
                    continue;
                };
                let was_listening = sockets.iter().any(|socket| socket.is_listening());
                let missing = count.saturating_sub(sockets.len());
                let address = sockets[0].address();
                match ListeningSocket::bind_without_check(address, missing) {
                    Ok(more) => sockets.extend(more),
                    Err(error) => {
                        tracing::warn!(target: "lyncpin::server", listener = &*listener.name, %address, %error, "not every worker gets a socket of this address");
                    }
                }
                let mut port = PortSockets::new(configured, sockets);
                port.was_listening = was_listening;
                known.ports.push(port);
            }
        }
        known.unwanted = by_address.into_keys().collect();
        known.unwanted.clone()
    }

    /// Uses the sockets from now on: those that listen are accepted from immediately.
    pub(in crate::server) fn activate(&self) {
        let mut known = self.lock();
        known.is_suspended = false;
        known.unwanted.clear();
        for port in &mut known.ports {
            if port.was_listening {
                port.each("inherited", "open", ListeningSocket::open);
                // A number of its own: ports that are opened later count from 1.
                port.state.send_replace(ListenState::Open(0));
            }
        }
    }

    /// Every socket, with the address that it is configured for.
    pub(in crate::server) fn all(&self) -> Vec<(SocketAddr, Arc<ListeningSocket>)> {
        let known = self.lock();
        let of = |port: &PortSockets| {
            let configured = port.configured;
            let sockets = port.sockets.clone().into_iter();
            sockets.map(move |socket| (configured, socket))
        };
        known.ports.iter().flat_map(of).collect()
    }

    /// Leaves the use of the sockets to another process. A returned sender closes when the accept loops of its address have
    /// ended.
    pub(in crate::server) fn suspend(&self) -> Vec<watch::Sender<ListenState>> {
        let mut known = self.lock();
        known.is_suspended = true;
        let suspend = |port: &mut PortSockets| {
            let now = *port.state.borrow();
            let state = std::mem::replace(&mut port.state, watch::Sender::new(now));
            state.send_replace(ListenState::TakenOver);
            state
        };
        known.ports.iter_mut().map(suspend).collect()
    }

    /// Uses the sockets again, after [`Sockets::suspend`].
    pub(in crate::server) fn resume(&self, workers: &WorkerChannels) {
        let mut known = self.lock();
        known.is_suspended = false;
        for port in &known.ports {
            port.assign(workers);
        }
    }

    /// Releases all of them after another process has taken over. The queues of `unwanted` addresses, which that process
    /// does not have, are served here.
    pub(in crate::server) fn release_to_successor(
        &self,
        workers: &WorkerChannels,
        unwanted: &[SocketAddr],
    ) {
        let mut known = self.lock();
        for port in known.ports.drain(..) {
            if unwanted.contains(&port.configured) {
                port.state.send_replace(ListenState::Removed);
                port.assign(workers);
            }
        }
    }

    /// Distributes all of them to the workers.
    pub(in crate::server) fn assign_all(&self, workers: &WorkerChannels) {
        for port in &self.lock().ports {
            port.assign(workers);
        }
    }
}

//! The listening sockets, by the addresses that are configured.
//!
//! Owns binding and, for as long as an address stays configured, its sockets. The snapshot decides which listener an
//! address belongs to, so that an address can move to another listener without losing a connection. Must not know routes.
//! Invariant: either all sockets of an address listen or none does, and its accept loops are notified after the sockets
//! have changed.

mod transfer;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use tokio::sync::watch;

use crate::config::model::{self, Config};
use crate::net::socket::ListeningSocket;
use crate::proxy::acceptor::ListenState;
use crate::server::workers::WorkerChannels;

/// An address that cannot be bound.
#[derive(Debug)]
pub struct ListenError {
    /// The listener whose address it is.
    pub listener: Arc<str>,
    /// The address.
    pub address: SocketAddr,
    source: io::Error,
}

/// The sockets of one address.
pub(in crate::server) struct PortSockets {
    /// As configured; it is looked up by this address.
    configured: SocketAddr,
    bound: SocketAddr,
    sockets: Vec<Arc<ListeningSocket>>,
    state: watch::Sender<ListenState>,
    /// Its sockets were listening when they were inherited.
    was_listening: bool,
}

/// The wanted state of a listener's sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PortState {
    /// They listen.
    Open,
    /// They refuse connections.
    Closed,
}

/// Every address that is bound.
#[derive(Default)]
pub(in crate::server) struct Sockets {
    known: Mutex<BoundPorts>,
}

#[derive(Default)]
struct BoundPorts {
    ports: Vec<PortSockets>,
    openings: u64,
    /// Another process accepts on the same sockets, so this one opens and closes none.
    is_suspended: bool,
    /// Addresses that were inherited and are not configured any more.
    unwanted: Vec<SocketAddr>,
}

impl Sockets {
    /// Binds the addresses of `config` that are not bound yet, with `count` sockets for each, which do not listen. Changes
    /// no bound socket, and leaves the new ones to [`Sockets::add`].
    ///
    /// # Errors
    ///
    /// Every address that cannot be bound, at least one.
    pub(in crate::server) fn bind(
        &self,
        config: &Config,
        count: usize,
    ) -> Result<Vec<PortSockets>, Vec<ListenError>> {
        let known = self.lock();
        let bound: Vec<SocketAddr> = known.ports.iter().map(|port| port.configured).collect();
        let own = [&bound[..], &known.unwanted].concat();
        drop(known);
        let (mut ports, mut errors) = (Vec::new(), Vec::new());
        for listener in &config.listeners {
            let new = listener
                .bind
                .iter()
                .filter(|address| !bound.contains(address));
            for &address in new {
                let overlaps_own = own.iter().any(|&known| overlap(known, address));
                let sockets = if overlaps_own {
                    ListeningSocket::bind_without_check(address, count)
                } else {
                    ListeningSocket::bind(address, count)
                };
                match sockets {
                    Ok(sockets) => ports.push(PortSockets::new(address, sockets)),
                    Err(error) if is_missing_ipv6(&error, address, listener) => {
                        tracing::warn!(target: "lyncpin::server", listener = &*listener.name, %address, "no IPv6 on this machine: the address is left out");
                    }
                    Err(source) => errors.push(ListenError {
                        listener: listener.name.clone(),
                        address,
                        source,
                    }),
                }
            }
        }
        if errors.is_empty() {
            Ok(ports)
        } else {
            Err(errors)
        }
    }

    /// Adds what was bound.
    pub(in crate::server) fn add(&self, ports: Vec<PortSockets>) {
        self.lock().ports.extend(ports);
    }

    /// Removes every address that `config` does not have. A returned sender closes when the accept loops of its address have
    /// served what the kernel had queued, and have ended.
    pub(in crate::server) fn remove_all_but(
        &self,
        config: &Config,
    ) -> Vec<watch::Sender<ListenState>> {
        let mut known = self.lock();
        let wanted = |port: &PortSockets| {
            let mut binds = config.listeners.iter().flat_map(|listener| &listener.bind);
            binds.any(|&address| address == port.configured)
        };
        let (configured, removed) = known.ports.drain(..).partition(wanted);
        known.ports = configured;
        let end = |port: PortSockets| {
            // The loops then hold the sockets alone: when they end, no client can wait in a queue that is not served.
            drop(port.sockets);
            port.state.send_replace(ListenState::Removed);
            port.state
        };
        Vec::into_iter(removed).map(end).collect()
    }

    /// Releases all of them: they close when their accept loops have ended.
    pub(in crate::server) fn release(&self) {
        for port in &mut self.lock().ports {
            port.sockets.clear();
        }
    }

    /// Opens or closes the sockets of `listener`, unless another process has them.
    pub(super) fn set_state(&self, listener: &model::ListenerConfig, wanted: PortState) {
        let mut known = self.lock();
        let BoundPorts {
            ports,
            openings,
            is_suspended: false,
            ..
        } = &mut *known
        else {
            return;
        };
        for port in ports {
            if listener.bind.contains(&port.configured) {
                port.set_state(&listener.name, wanted, openings);
            }
        }
    }

    /// Whether another process opens and closes these sockets.
    pub(super) fn is_suspended(&self) -> bool {
        self.lock().is_suspended
    }

    /// The bound addresses of these configured ones, in their order.
    pub(in crate::server) fn bound(&self, configured: &[SocketAddr]) -> Vec<SocketAddr> {
        let known = self.lock();
        let find = |address: &SocketAddr| {
            let mut ports = known.ports.iter();
            Some(ports.find(|port| port.configured == *address)?.bound)
        };
        configured.iter().filter_map(find).collect()
    }

    /// The number of sockets.
    pub(in crate::server) fn count(&self) -> usize {
        self.lock()
            .ports
            .iter()
            .map(|port| port.sockets.len())
            .sum()
    }

    fn lock(&self) -> MutexGuard<'_, BoundPorts> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PortSockets {
    /// The sockets of an address, which do not listen yet.
    fn new(configured: SocketAddr, sockets: Vec<Arc<ListeningSocket>>) -> Self {
        let bound = sockets.first().map(|socket| socket.address());
        Self {
            configured,
            bound: bound.unwrap_or(configured),
            sockets,
            state: watch::Sender::new(ListenState::Closed),
            was_listening: false,
        }
    }

    /// Distributes the sockets to the workers.
    pub(in crate::server) fn assign(&self, workers: &WorkerChannels) {
        workers.assign(self.configured, &self.sockets, &self.state);
    }

    fn set_state(&self, listener: &str, wanted: PortState, openings: &mut u64) {
        let is_open = matches!(*self.state.borrow(), ListenState::Open(_));
        let state = match (is_open, wanted) {
            (true, PortState::Closed) => {
                self.each(listener, "close", ListeningSocket::close);
                ListenState::Closed
            }
            (false, PortState::Open) => {
                self.each(listener, "open", ListeningSocket::open);
                *openings += 1;
                ListenState::Open(*openings)
            }
            (true, PortState::Open) | (false, PortState::Closed) => return,
        };
        self.state.send_replace(state);
    }

    /// Changes each socket; `what` names the change in the log.
    fn each(
        &self,
        listener: &str,
        what: &str,
        change: impl Fn(&ListeningSocket) -> io::Result<()>,
    ) {
        for socket in &self.sockets {
            if let Err(error) = change(socket) {
                let address = socket.address();
                tracing::error!(target: "lyncpin::listener", listener, %address, %error, "cannot {what} the port");
            }
        }
    }
}

/// Whether the kernel treats the two addresses as equal (`inet_rcv_saddr_equal` of Linux).
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let any = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && one.is_ipv4() == other.is_ipv4() && (any || one == other)
}

/// Whether only IPv6 is missing: `[::]` beside other addresses means every IPv6 address of the machine, and having none is
/// worth a warning. Any other address has to be bound.
fn is_missing_ipv6(
    error: &io::Error,
    address: SocketAddr,
    listener: &model::ListenerConfig,
) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL))
        && address.is_ipv6()
        && address.ip().is_unspecified()
        && listener.bind.len() > 1
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            listener,
            address,
            source,
        } = self;
        let advice = if source.kind() == io::ErrorKind::PermissionDenied {
            " (ports below 1024 need the capability CAP_NET_BIND_SERVICE, or the sysctl net.ipv4.ip_unprivileged_port_start)"
        } else if source.kind() == io::ErrorKind::AddrInUse {
            " (another program, or another instance of this one, uses it)"
        } else {
            ""
        };
        write!(f, "listener {listener:?} cannot bind {address}{advice}")
    }
}

impl std::error::Error for ListenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

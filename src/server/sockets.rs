//! The listening sockets, by the addresses that are configured.
//!
//! Owns binding and, for as long as an address stays configured, its sockets: which listener they are of is asked of the
//! snapshot, so that an address can become another listener's without a connection being lost. Knows no worker. Invariant:
//! the sockets of one address listen all or none, and its accept loops are told after the sockets have changed.

mod passing;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use tokio::sync::watch;

use crate::config::model::{self, Config};
use crate::net::socket::Listening;
use crate::proxy::acceptor::ListenState;

/// An address that cannot be bound.
#[derive(Debug)]
pub struct ListenError {
    /// Whose address it is.
    pub listener: Arc<str>,
    /// Which.
    pub address: SocketAddr,
    source: io::Error,
}

/// The sockets of one address.
pub(super) struct PortSockets {
    /// As configured, which is how it is found again.
    configured: SocketAddr,
    bound: SocketAddr,
    sockets: Vec<Arc<Listening>>,
    gate: watch::Sender<ListenState>,
    /// Its sockets were listening when they were inherited.
    listens: bool,
}

/// What is to be done with the sockets of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PortAction {
    /// They listen.
    Open,
    /// They refuse.
    Closed,
}

/// Every address that is bound.
#[derive(Default)]
pub(super) struct Sockets {
    known: Mutex<BoundPorts>,
}

#[derive(Default)]
struct BoundPorts {
    ports: Vec<PortSockets>,
    openings: u64,
    /// Another process accepts on the same sockets, so nothing is opened or closed here.
    left: bool,
    /// Addresses that were inherited and are not configured any more.
    foreign: Vec<SocketAddr>,
}

impl Sockets {
    /// Binds what `config` has and is not bound yet, `count` sockets for each address, which do not listen. Nothing of
    /// what is bound is touched, and nothing new is kept here yet: see [`Sockets::add`].
    ///
    /// # Errors
    ///
    /// Every address that cannot be bound, at least one.
    pub(super) fn bind(
        &self,
        config: &Config,
        count: usize,
    ) -> Result<Vec<PortSockets>, Vec<ListenError>> {
        let known = self.lock();
        let bound: Vec<SocketAddr> = known.ports.iter().map(|port| port.configured).collect();
        let in_the_way = [&bound[..], &known.foreign].concat();
        drop(known);
        let (mut ports, mut faults) = (Vec::new(), Vec::new());
        for listener in &config.listeners {
            let new = listener
                .bind
                .iter()
                .filter(|address| !bound.contains(address));
            for &address in new {
                let own = in_the_way.iter().any(|&known| overlap(known, address));
                let sockets = if own {
                    Listening::bind_beside(address, count)
                } else {
                    Listening::bind(address, count)
                };
                match sockets {
                    Ok(sockets) => ports.push(PortSockets::new(address, sockets)),
                    Err(error) if is_for_want_of_ipv6(&error, address, listener) => {
                        tracing::warn!(target: "lyncpin::server", listener = &*listener.name, %address, "this machine has no IPv6");
                    }
                    Err(source) => faults.push(ListenError {
                        listener: listener.name.clone(),
                        address,
                        source,
                    }),
                }
            }
        }
        if faults.is_empty() {
            Ok(ports)
        } else {
            Err(faults)
        }
    }

    /// Keeps what was bound.
    pub(super) fn add(&self, ports: Vec<PortSockets>) {
        self.lock().ports.extend(ports);
    }

    /// Lets go of every address that `config` does not have. What comes back completes when its accept loops have taken
    /// what the kernel had queued, and have ended.
    pub(super) fn remove_all_but(&self, config: &Config) -> Vec<watch::Sender<ListenState>> {
        let mut known = self.lock();
        let wanted = |port: &PortSockets| {
            let mut binds = config.listeners.iter().flat_map(|listener| &listener.bind);
            binds.any(|&address| address == port.configured)
        };
        let (kept, removed) = known.ports.drain(..).partition(wanted);
        known.ports = kept;
        let end = |port: PortSockets| {
            // The last to hold the sockets are the loops: when these end, nobody can come and wait in vain.
            drop(port.sockets);
            port.gate.send_replace(ListenState::Removed);
            port.gate
        };
        Vec::into_iter(removed).map(end).collect()
    }

    /// Lets go of all of them: they close when their accept loops have ended.
    pub(super) fn let_go(&self) {
        for port in &mut self.lock().ports {
            port.sockets.clear();
        }
    }

    /// Opens or closes the sockets of a listener that has these addresses.
    pub(super) fn turn(&self, listener: &model::ListenerConfig, wanted: PortAction) {
        let mut known = self.lock();
        let BoundPorts {
            ports,
            openings,
            left: false,
            ..
        } = &mut *known
        else {
            return;
        };
        for port in ports {
            if listener.bind.contains(&port.configured) {
                port.turn(&listener.name, wanted, openings);
            }
        }
    }

    /// Whether another process has these sockets to open and close.
    pub(super) fn has_left(&self) -> bool {
        self.lock().left
    }

    /// Where a listener with these addresses is bound, in their order.
    pub(super) fn bound(&self, configured: &[SocketAddr]) -> Vec<SocketAddr> {
        let known = self.lock();
        let find = |address: &SocketAddr| {
            let mut ports = known.ports.iter();
            Some(ports.find(|port| port.configured == *address)?.bound)
        };
        configured.iter().filter_map(find).collect()
    }

    /// How many sockets there are.
    pub(super) fn count(&self) -> usize {
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
    pub(super) fn new(configured: SocketAddr, sockets: Vec<Arc<Listening>>) -> Self {
        let bound = sockets.first().map(|socket| socket.address());
        Self {
            configured,
            bound: bound.unwrap_or(configured),
            sockets,
            gate: watch::Sender::new(ListenState::Closed),
            listens: false,
        }
    }

    /// As configured.
    pub(super) fn configured(&self) -> SocketAddr {
        self.configured
    }

    /// All of them are bound to one address.
    pub(super) fn sockets(&self) -> &[Arc<Listening>] {
        &self.sockets
    }

    /// What tells its accept loops whether it listens.
    pub(super) fn gate(&self) -> watch::Receiver<ListenState> {
        self.gate.subscribe()
    }

    fn turn(&self, listener: &str, wanted: PortAction, openings: &mut u64) {
        let open = matches!(*self.gate.borrow(), ListenState::Open(_));
        let state = match (open, wanted) {
            (true, PortAction::Closed) => {
                self.each(listener, "close", Listening::close);
                ListenState::Closed
            }
            (false, PortAction::Open) => {
                self.each(listener, "open", Listening::open);
                *openings += 1;
                ListenState::Open(*openings)
            }
            (true, PortAction::Open) | (false, PortAction::Closed) => return,
        };
        self.gate.send_replace(state);
    }

    fn each(&self, listener: &str, what: &str, change: impl Fn(&Listening) -> io::Result<()>) {
        for socket in &self.sockets {
            if let Err(error) = change(socket) {
                let address = socket.address();
                tracing::error!(target: "lyncpin::listener", listener, %address, %error, "cannot {what} the port");
            }
        }
    }
}

/// Whether the kernel takes one for the other (`inet_rcv_saddr_equal` of Linux).
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let any = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && one.is_ipv4() == other.is_ipv4() && (any || one == other)
}

/// `[::]` means every IPv6 address of the machine, and having none is worth a warning; any other address was meant, and
/// so is one that stands alone.
fn is_for_want_of_ipv6(
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
            " (another program, or another instance of this one, has it)"
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

//! What one connection came to: its line in the log and its counts.
//!
//! Owns the facts that the stages of a session leave behind. Knows no socket. Invariant: each account is settled
//! exactly once, by [`ConnectionRecord::settle`] or, where a session is dropped in the middle, by `Drop`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::protocol::tls::client_hello::ProtocolVersion;
use crate::proxy::preread::{Hello, RequestedName};
use crate::proxy::relay::Moved;
use crate::snapshot::{ActiveListener, Destination};
use crate::telemetry::log::{AccessRecord, Log};
use crate::telemetry::metrics::Active;
use crate::types::host_name::HostName;
use crate::types::outcome::Outcome;
use crate::upstream::backend::Backend;
use crate::upstream::pool::PickedBy;

/// The facts of one connection.
pub struct ConnectionRecord {
    listener: Arc<ActiveListener>,
    log: Arc<Log>,
    client: SocketAddr,
    accepted: Instant,
    name: Option<HostName>,
    tls_offered: Option<ProtocolVersion>,
    destination: Option<Destination>,
    backend: Option<Arc<Backend>>,
    by: Option<PickedBy>,
    hello: Option<Duration>,
    connect: Option<Duration>,
    /// How many times a connection to a backend was tried.
    pub tries: u32,
    /// Bytes that were relayed.
    pub moved: Moved,
    detail: Option<String>,
    active: Option<Active>,
    settled: bool,
}

impl ConnectionRecord {
    /// Opens the account of a connection that has been accepted.
    #[must_use]
    pub fn open(
        listener: Arc<ActiveListener>,
        log: Arc<Log>,
        client: SocketAddr,
        accepted: Instant,
    ) -> Self {
        let active = Some(listener.metrics(None).begin());
        Self {
            listener,
            log,
            client,
            accepted,
            name: None,
            tls_offered: None,
            destination: None,
            backend: None,
            by: None,
            hello: None,
            connect: None,
            tries: 0,
            moved: Moved::default(),
            detail: None,
            active,
            settled: false,
        }
    }

    /// When the connection was accepted.
    #[must_use]
    pub fn accepted(&self) -> Instant {
        self.accepted
    }

    /// The client's address.
    #[must_use]
    pub fn client(&self) -> SocketAddr {
        self.client
    }

    /// Why it is refused, where there is more to say than the outcome.
    pub fn explain(&mut self, why: &impl std::fmt::Display) {
        self.detail = Some(why.to_string());
    }

    /// No route took the hello. What it asked for is shown in words where it is no host name.
    pub fn name_nothing(&mut self, hello: &Hello) {
        if hello.asked() == RequestedName::NoHostName {
            self.explain(&"it asks for an address, or for what is no host name");
        }
    }

    /// The hello is whole since `now`.
    pub fn heard(&mut self, hello: &Hello, now: Instant) {
        if !matches!(hello, Hello::Unread) {
            let took = now - self.accepted;
            self.hello = Some(took);
            self.listener.hello_seconds.record(took.as_secs_f64());
        }
        if let RequestedName::Name(name) = hello.asked() {
            self.name = Some(name.clone());
        }
        if let Hello::Tls(hello) = hello {
            self.tls_offered = Some(hello.versions.highest);
        }
    }

    /// A route was found.
    pub fn routed(&mut self, destination: &Destination) {
        self.destination = Some(destination.clone());
    }

    /// A backend was picked, or another one was.
    pub fn picked(&mut self, backend: &Arc<Backend>, by: PickedBy) {
        self.by = Some(by);
        if self
            .backend
            .as_ref()
            .is_some_and(|known| Arc::ptr_eq(known, backend))
        {
            return;
        }
        self.backend = Some(backend.clone());
        self.active = Some(self.listener.metrics(Some(backend)).begin());
    }

    /// A backend answered; `took` counts from the first try.
    pub fn connected(&mut self, took: Duration) {
        self.connect = Some(took);
    }

    /// Writes the line and counts.
    pub fn settle(&mut self, outcome: Outcome) {
        self.settled = true;
        self.active = None;
        let whole = self.accepted.elapsed();
        self.listener.metrics(self.backend.as_ref()).ended(outcome);
        if let (Some(backend), Some(_)) = (&self.backend, self.connect) {
            backend.metrics.ended(whole.as_secs_f64());
        }
        if !outcome.is_refusal() && !self.log.wants_access() {
            return;
        }
        let pool = self
            .destination
            .as_ref()
            .map(|destination| &destination.pool);
        let affinity = pool.and_then(|pool| pool.affinity.as_ref());
        let record = AccessRecord {
            time: SystemTime::now(),
            listener: &self.listener.config.name,
            client: self.client,
            prefix: affinity.map(|affinity| affinity.pins.settings().source_prefix),
            name: self.name.as_ref().map(|name| name.as_str().as_bytes()),
            pool: self
                .backend
                .as_ref()
                .map(|backend| &*backend.pool)
                .or(pool.map(|pool| &*pool.name)),
            backend: self.backend.as_ref().map(|backend| &*backend.name),
            pick: self.by.map(PickedBy::as_str),
            bytes_to_backend: self.moved.to_backend,
            bytes_to_client: self.moved.to_client,
            hello: self.hello,
            connect: self.connect,
            whole,
            tls_offered: self.tls_offered,
            tries: self.tries,
            outcome,
            detail: self.detail.as_deref(),
        };
        if outcome.is_refusal() {
            self.log.refused(&record);
        }
        self.log.access(&record);
    }
}

impl Drop for ConnectionRecord {
    fn drop(&mut self) {
        if !self.settled {
            let fault = std::thread::panicking();
            self.settle(if fault {
                Outcome::InternalError
            } else {
                Outcome::Shutdown
            });
        }
    }
}

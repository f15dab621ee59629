//! The record of one connection: its access log line and its metrics.
//!
//! Owns the facts that the stages of a session report. Must not know sockets. Invariant: each record is finished exactly once,
//! by [`ConnectionRecord::finish`] or, if a session is dropped midway, by `Drop`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use uuid::Uuid;

use crate::protocol::tls::client_hello::ProtocolVersion;
use crate::proxy::preread::{Hello, RequestedName};
use crate::proxy::relay::ByteCounts;
use crate::snapshot::{ActiveListener, Destination};
use crate::telemetry::log::{AccessRecord, Log};
use crate::telemetry::metrics::ActiveConnection;
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
    /// Number of attempts to connect to a backend.
    pub tries: u32,
    /// Bytes relayed so far.
    pub moved: ByteCounts,
    detail: Option<String>,
    /// The identifier that the backend got in a PROXY header.
    unique_id: Option<Uuid>,
    active: Option<ActiveConnection>,
    finished: bool,
}

impl ConnectionRecord {
    /// The record of an accepted connection.
    #[must_use]
    pub fn new(
        listener: Arc<ActiveListener>,
        log: Arc<Log>,
        client: SocketAddr,
        accepted: Instant,
    ) -> Self {
        let active = Some(listener.metrics(None).track());
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
            moved: ByteCounts::default(),
            detail: None,
            unique_id: None,
            active,
            finished: false,
        }
    }

    /// When it was accepted.
    #[must_use]
    pub fn accepted(&self) -> Instant {
        self.accepted
    }

    /// The client's address.
    #[must_use]
    pub fn client(&self) -> SocketAddr {
        self.client
    }

    /// Sets the reason of a rejection, if there is more to report than the outcome.
    pub fn set_detail(&mut self, detail: &impl std::fmt::Display) {
        self.detail = Some(detail.to_string());
    }

    /// The hello was complete at `now`.
    pub fn hello_received(&mut self, hello: &Hello, now: Instant) {
        if !matches!(hello, Hello::Unread) {
            let took = now - self.accepted;
            self.hello = Some(took);
            self.listener.hello_seconds.record(took.as_secs_f64());
        }
        if let RequestedName::Name(name) = hello.requested_name() {
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

    /// A backend was picked, the first one or another.
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
        self.active = Some(self.listener.metrics(Some(backend)).track());
    }

    /// A backend was connected to, `took` after the first attempt started.
    pub fn connected(&mut self, took: Duration) {
        self.connect = Some(took);
    }

    /// A new identifier of the connection, for a PROXY header and the log.
    pub fn new_unique_id(&mut self) -> Uuid {
        *self.unique_id.insert(Uuid::new_v4())
    }

    /// Writes the access log line and updates the metrics.
    pub fn finish(&mut self, outcome: Outcome) {
        self.finished = true;
        self.active = None;
        let duration = self.accepted.elapsed();
        self.listener
            .metrics(self.backend.as_ref())
            .record_end(outcome);
        if let (Some(backend), Some(_)) = (&self.backend, self.connect) {
            backend.metrics.record_end(duration.as_secs_f64());
        }
        if !outcome.is_rejection() && !self.log.is_access_enabled() {
            return;
        }
        let record = self.access_record(outcome, duration);
        if outcome.is_rejection() {
            self.log.record_rejection(&record);
        }
        self.log.write_access(&record);
    }

    fn access_record(&self, outcome: Outcome, duration: Duration) -> AccessRecord<'_> {
        let pool = self
            .destination
            .as_ref()
            .map(|destination| &destination.pool);
        let affinity = pool.and_then(|pool| pool.affinity.as_ref());
        AccessRecord {
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
            duration,
            tls_offered: self.tls_offered,
            tries: self.tries,
            outcome,
            detail: self.detail.as_deref(),
            unique_id: self.unique_id,
        }
    }
}

impl Drop for ConnectionRecord {
    fn drop(&mut self) {
        if !self.finished {
            let panicking = std::thread::panicking();
            self.finish(if panicking {
                Outcome::InternalError
            } else {
                Outcome::Shutdown
            });
        }
    }
}

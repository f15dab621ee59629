//! How a connection ended: a closed vocabulary, the same in the log, the metrics and the docs.
//!
//! Owns for each outcome one row: the name, who ended the connection, the phase, and the meaning. Must not know how an outcome
//! is determined. Invariant: names are unique and stable; `docs/outcomes.md` is tested against the table.

/// Who ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndedBy {
    /// The client.
    Client,
    /// The backend, or the network between it and the balancer.
    Backend,
    /// The balancer itself.
    Balancer,
}

impl EndedBy {
    /// The name in the log and the docs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Backend => "backend",
            Self::Balancer => "balancer",
        }
    }
}

/// The phase in which a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Before a byte was read.
    Accept,
    /// While the ClientHello or the request's head was read.
    Hello,
    /// While a route was selected.
    Route,
    /// While a backend was selected.
    Pick,
    /// While a connection to a backend was being established.
    Connect,
    /// While bytes were transferred.
    Relay,
}

impl Phase {
    /// The name in the log and the docs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Hello => "hello",
            Self::Route => "route",
            Self::Pick => "pick",
            Self::Connect => "connect",
            Self::Relay => "relay",
        }
    }
}

/// The response to a rejected client. Each case has a row in `docs/outcomes.md`, "Responses to rejected clients".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejectionCase {
    /// No route matches the name.
    UnknownName,
    /// The client sent no name.
    NoName,
    /// The hello or head is malformed.
    Malformed,
    /// The hello or head is too large.
    TooLarge,
    /// A part of the hello or head arrived, but not everything in time.
    Late,
    /// Nothing was received, or another protocol, or the client is gone: the connection is closed without a response.
    Silence,
    /// Nothing behind the listener can serve.
    Unserved,
    /// A reset: the client was never accepted, or the connection was already established or ended.
    Reset,
}

macro_rules! outcomes {
    ($($variant:ident = $name:literal, $by:ident, $phase:ident, $case:ident, $meaning:literal;)+) => {
        /// How a connection ended.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Outcome {
            $(#[doc = $meaning] $variant,)+
        }

        impl Outcome {
            /// All of them, in the order of a connection's life.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name in the log, the metrics and the docs.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// Who ended it.
            #[must_use]
            pub fn by(self) -> EndedBy {
                match self { $(Self::$variant => EndedBy::$by),+ }
            }

            /// Whether the client was rejected, by a rule of the balancer or because no backend could serve it. A client that
            /// left by itself was not rejected.
            #[must_use]
            pub fn is_rejection(self) -> bool {
                self.phase() != Phase::Relay && self.by() != EndedBy::Client
            }

            /// The phase in which it ended.
            #[must_use]
            pub fn phase(self) -> Phase {
                match self { $(Self::$variant => Phase::$phase),+ }
            }

            /// The response to a client that is rejected with this outcome.
            #[must_use]
            pub fn rejection_case(self) -> RejectionCase {
                match self { $(Self::$variant => RejectionCase::$case),+ }
            }

            /// The meaning, a sentence for the docs.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning),+ }
            }
        }
    };
}

outcomes! {
    Denied = "denied", Balancer, Accept, Reset, "The source is in `deny`, or `allow` is set and does not contain it.";
    LimitConnections = "limit_connections", Balancer, Accept, Reset, "`limits.connections` was reached.";
    LimitPerSource = "limit_per_source", Balancer, Accept, Reset, "This source reached `limits.per_source`.";
    LimitRate = "limit_rate", Balancer, Accept, Reset, "This source exceeded `limits.new_per_source_per_second`.";
    HelloClosed = "hello_closed", Client, Hello, Silence, "The client closed before its hello was complete.";
    HelloReset = "hello_reset", Client, Hello, Silence, "The client reset before its hello was complete.";
    HelloSilent = "hello_silent", Balancer, Hello, Silence, "No byte arrived within `timeouts.client_hello`.";
    HelloTimeout = "hello_timeout", Balancer, Hello, Late, "The hello did not arrive completely within `timeouts.client_hello`.";
    NotTls = "not_tls", Balancer, Hello, Silence, "The client of a `tls` listener did not send TLS.";
    NotHttp = "not_http", Balancer, Hello, Silence, "The client of an `http` listener did not send HTTP.";
    Malformed = "malformed", Balancer, Hello, Malformed, "The ClientHello or the request's head is malformed.";
    TooLarge = "too_large", Balancer, Hello, TooLarge, "The ClientHello or the request's head is larger than the limit.";
    NoName = "no_name", Balancer, Route, NoName, "The client sent no server name, and `no_name` is `refuse`.";
    UnknownName = "unknown_name", Balancer, Route, UnknownName, "No route matches the name, and `unknown_name` is `refuse`.";
    PoolDown = "pool_down", Balancer, Pick, Unserved, "No backend of the pool or of its backups is available.";
    PoolFull = "pool_full", Balancer, Pick, Unserved, "Every available backend holds `max_connections`.";
    ConnectRefused = "connect_refused", Backend, Connect, Unserved, "The last backend tried refused the connection.";
    ConnectReset = "connect_reset", Backend, Connect, Unserved, "The last backend tried reset the connection before or after it got the hello.";
    ConnectTimeout = "connect_timeout", Backend, Connect, Unserved, "The last backend tried did not respond within `timeouts.connect`.";
    ConnectUnreachable = "connect_unreachable", Backend, Connect, Unserved, "There was no route to the last backend tried.";
    ConnectLocal = "connect_local", Balancer, Connect, Unserved, "This machine lacked a port, a descriptor or memory for the connection.";
    ConnectClientGone = "connect_client_gone", Client, Connect, Reset, "The client reset while the connection to a backend was being established.";
    ClientClosed = "client_closed", Client, Relay, Reset, "Both sides closed in order, the client first.";
    BackendClosed = "backend_closed", Backend, Relay, Reset, "Both sides closed in order, the backend first.";
    ClientReset = "client_reset", Client, Relay, Reset, "The client reset; the reset was passed on.";
    BackendReset = "backend_reset", Backend, Relay, Reset, "The backend reset; the reset was passed on.";
    ClientLost = "client_lost", Client, Relay, Reset, "The client stopped acknowledging, or the network to it failed.";
    BackendLost = "backend_lost", Backend, Relay, Reset, "The backend stopped acknowledging, or the network to it failed.";
    IdleTimeout = "idle_timeout", Balancer, Relay, Reset, "No byte in either direction for `timeouts.idle`.";
    HalfCloseTimeout = "half_close_timeout", Balancer, Relay, Reset, "One side had closed, and no byte followed for `timeouts.half_close`.";
    BackendDown = "backend_down", Balancer, Relay, Reset, "The backend's checks failed and `on_down` is `close`.";
    Maintenance = "maintenance", Balancer, Relay, Reset, "The backend was put into maintenance.";
    DrainDeadline = "drain_deadline", Balancer, Relay, Reset, "The deadline of the backend's drain was reached.";
    PinMoved = "pin_moved", Balancer, Relay, Reset, "An administrator moved the client's pin to another backend.";
    Shutdown = "shutdown", Balancer, Relay, Reset, "The balancer stopped, and `timeouts.shutdown` had expired.";
    InternalError = "internal_error", Balancer, Relay, Reset, "Internal error of the balancer; see the log.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_the_client_ended_is_not_a_rejection() {
        for rejected in [
            Outcome::Denied,
            Outcome::UnknownName,
            Outcome::ConnectRefused,
        ] {
            assert!(rejected.is_rejection());
        }
        for other in [
            Outcome::HelloClosed,
            Outcome::ClientClosed,
            Outcome::Shutdown,
        ] {
            assert!(!other.is_rejection());
        }
    }

    #[test]
    fn names_are_unique_and_snake_case() {
        let mut names: Vec<_> = Outcome::ALL
            .iter()
            .map(|outcome| outcome.as_str())
            .collect();
        assert!(
            names
                .iter()
                .all(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
        );
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Outcome::ALL.len());
    }
}

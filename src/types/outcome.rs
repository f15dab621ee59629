//! How a connection ended: a closed vocabulary, the same in the log, the metrics and the docs.
//!
//! Owns every outcome's name, who ended the connection, in which phase, and what it means. Knows nothing of how an
//! outcome is found. Invariant: names are unique and stable; `docs/outcomes.md` lists each of them.

/// Who ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndedBy {
    /// The client.
    Client,
    /// The backend, or the way to it.
    Backend,
    /// The balancer itself.
    Balancer,
}

impl EndedBy {
    /// The word in the log and the docs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Backend => "backend",
            Self::Balancer => "balancer",
        }
    }
}

/// The stage in which a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Before a byte was read.
    Accept,
    /// While the ClientHello or the request's head was read.
    Hello,
    /// While a route was looked for.
    Route,
    /// While a backend was looked for.
    Pick,
    /// While a connection to a backend was tried.
    Connect,
    /// While bytes were moved.
    Relay,
}

impl Phase {
    /// The word in the log and the docs.
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

macro_rules! outcomes {
    ($($variant:ident = $name:literal, $by:ident, $phase:ident, $meaning:literal;)+) => {
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

            /// Whether the balancer turned a client away, on its own account or for want of a backend; one that left of
            /// itself was not refused.
            #[must_use]
            pub fn is_refusal(self) -> bool {
                self.phase() != Phase::Relay && self.by() != EndedBy::Client
            }

            /// The stage in which it ended.
            #[must_use]
            pub fn phase(self) -> Phase {
                match self { $(Self::$variant => Phase::$phase),+ }
            }

            /// What it means, in a sentence for the docs.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning),+ }
            }
        }
    };
}

outcomes! {
    Denied = "denied", Balancer, Accept, "The source is in `deny`, or `allow` is set and does not hold it.";
    LimitConnections = "limit_connections", Balancer, Accept, "`limits.connections` was reached.";
    LimitPerSource = "limit_per_source", Balancer, Accept, "`limits.per_source` was reached by this source.";
    LimitRate = "limit_rate", Balancer, Accept, "`limits.new_per_source_per_second` was passed by this source.";
    HelloClosed = "hello_closed", Client, Hello, "The client closed before its hello was whole.";
    HelloReset = "hello_reset", Client, Hello, "The client reset before its hello was whole.";
    HelloSilent = "hello_silent", Balancer, Hello, "Not one byte came within `timeouts.client_hello`.";
    HelloTimeout = "hello_timeout", Balancer, Hello, "A part of the hello came, but not the whole within `timeouts.client_hello`.";
    NotTls = "not_tls", Balancer, Hello, "What came on a `tls` listener is not TLS.";
    NotHttp = "not_http", Balancer, Hello, "What came on an `http` listener is not HTTP.";
    Malformed = "malformed", Balancer, Hello, "The ClientHello or the request's head breaks its own rules.";
    TooLarge = "too_large", Balancer, Hello, "The ClientHello or the request's head is larger than the bound.";
    NoName = "no_name", Balancer, Route, "The client names no server, and `no_name` is `refuse`.";
    UnknownName = "unknown_name", Balancer, Route, "The name is in no route, and `unknown_name` is `refuse`.";
    PoolDown = "pool_down", Balancer, Pick, "No backend of the pool or of its backups is available.";
    PoolFull = "pool_full", Balancer, Pick, "Every available backend holds `max_connections`.";
    ConnectRefused = "connect_refused", Backend, Connect, "The last backend tried refused the connection.";
    ConnectReset = "connect_reset", Backend, Connect, "The last backend tried reset while it was being connected to or sent the hello.";
    ConnectTimeout = "connect_timeout", Backend, Connect, "The last backend tried did not answer within `timeouts.connect`.";
    ConnectUnreachable = "connect_unreachable", Backend, Connect, "There was no way to the last backend tried.";
    ConnectLocal = "connect_local", Balancer, Connect, "This machine lacked a port, a descriptor or memory to connect with.";
    ConnectClientGone = "connect_client_gone", Client, Connect, "The client reset while a backend was being connected to.";
    ClientClosed = "client_closed", Client, Relay, "Both sides closed in order, the client first.";
    BackendClosed = "backend_closed", Backend, Relay, "Both sides closed in order, the backend first.";
    ClientReset = "client_reset", Client, Relay, "The client reset; the reset was passed on.";
    BackendReset = "backend_reset", Backend, Relay, "The backend reset; the reset was passed on.";
    ClientLost = "client_lost", Client, Relay, "The client stopped acknowledging, or the way to it broke.";
    BackendLost = "backend_lost", Backend, Relay, "The backend stopped acknowledging, or the way to it broke.";
    IdleTimeout = "idle_timeout", Balancer, Relay, "No byte in either direction for `timeouts.idle`.";
    HalfCloseTimeout = "half_close_timeout", Balancer, Relay, "One side had closed, and no byte followed for `timeouts.half_close`.";
    BackendDown = "backend_down", Balancer, Relay, "The backend's checks failed and `on_down` is `close`.";
    Maintenance = "maintenance", Balancer, Relay, "The backend was put into maintenance.";
    DrainDeadline = "drain_deadline", Balancer, Relay, "The deadline of the backend's drain came.";
    PinMoved = "pin_moved", Balancer, Relay, "An administrator moved the client's pin to another backend.";
    Shutdown = "shutdown", Balancer, Relay, "The balancer stopped, and `timeouts.shutdown` was over.";
    InternalError = "internal_error", Balancer, Relay, "A fault of the balancer itself; the log says which.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_what_the_client_did_not_want() {
        for refusal in [
            Outcome::Denied,
            Outcome::UnknownName,
            Outcome::ConnectRefused,
        ] {
            assert!(refusal.is_refusal());
        }
        for other in [
            Outcome::HelloClosed,
            Outcome::ClientClosed,
            Outcome::Shutdown,
        ] {
            assert!(!other.is_refusal());
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

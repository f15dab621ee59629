//! Why the balancer did not start.
//!
//! Must not know what is done about it. Invariant: each variant names the part that failed, and `source` has its cause.

use std::fmt;
use std::io;

use crate::handoff::WireError;
use crate::persistence;
use crate::server::listeners::{AdminListenerError, ListenError};

/// Why the balancer did not start.
#[derive(Debug)]
pub enum StartError {
    /// A listener's address.
    Bind(ListenError),
    /// The admin listener, or its token.
    Admin(AdminListenerError),
    /// The file of `affinity_store`.
    Store(persistence::OpenError),
    /// The process that this one was to take over from.
    Predecessor(WireError),
    /// The worker threads.
    Workers(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind(error) => error.fmt(f),
            Self::Admin(error) => error.fmt(f),
            Self::Store(error) => error.fmt(f),
            Self::Predecessor(error) => error.fmt(f),
            Self::Workers(_) => f.write_str("cannot start the worker threads"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Bind(error) => error.source(),
            Self::Admin(error) => error.source(),
            Self::Predecessor(error) => error.source(),
            Self::Workers(source) => Some(source),
            Self::Store(error) => error.source(),
        }
    }
}

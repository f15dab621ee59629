//! Who may use an admin listener. A reload may change it while the listener is open.
//!
//! Owns the token, the set of endpoints and the host names of one listener. Must not know requests. Invariant: a request
//! sees the three as they were set together.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

use super::token::Token;
use crate::types::host_name::HostName;

/// The endpoints of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointSet {
    /// All of them.
    All,
    /// `/metrics`, `/healthz` and `/readyz`.
    Probes,
}

/// Who may use a listener. Clones share it.
#[derive(Debug, Clone)]
pub struct AccessPolicy(Arc<ArcSwap<AccessRules>>);

/// The rules at one moment.
#[derive(Debug)]
pub(super) struct AccessRules {
    /// The token that guarded endpoints require; `None` requires none.
    pub(super) token: Option<Token>,
    /// The endpoints of the listener.
    pub(super) served: EndpointSet,
    /// Host names that a request may have, besides those that always are this listener's.
    pub(super) hosts: Vec<HostName>,
}

impl AccessPolicy {
    /// These rules.
    #[must_use]
    pub fn new(token: Option<Token>, served: EndpointSet, hosts: Vec<HostName>) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(AccessRules {
            token,
            served,
            hosts,
        })))
    }

    /// Replaces the rules for all later requests.
    pub fn replace(&self, token: Option<Token>, served: EndpointSet, hosts: Vec<HostName>) {
        self.0.store(Arc::new(AccessRules {
            token,
            served,
            hosts,
        }));
    }

    pub(super) fn now(&self) -> Guard<Arc<AccessRules>> {
        self.0.load()
    }
}

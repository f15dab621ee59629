//! What a listener asks for and what it serves, which may change while it is served.
//!
//! Owns them, as one. Invariant: a request sees all of them of one moment.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

use super::token::Token;
use crate::types::host_name::HostName;

/// Which endpoints a listener has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// All of them.
    Everything,
    /// `/metrics`, `/healthz` and `/readyz`.
    Probes,
}

/// What is asked for and what there is; clones are handles to the same.
#[derive(Debug, Clone)]
pub struct AccessTerms(Arc<ArcSwap<InForce>>);

/// The terms of one moment.
#[derive(Debug)]
pub(super) struct InForce {
    /// What the guarded endpoints ask for; `None` asks for nothing.
    pub(super) token: Option<Token>,
    /// Which endpoints there are.
    pub(super) served: Served,
    /// Names under which it may be asked, beside those that can only be its own.
    pub(super) hosts: Vec<HostName>,
}

impl AccessTerms {
    /// These.
    #[must_use]
    pub fn new(token: Option<Token>, served: Served, hosts: Vec<HostName>) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(InForce {
            token,
            served,
            hosts,
        })))
    }

    /// Others for every request from now on.
    pub fn change(&self, token: Option<Token>, served: Served, hosts: Vec<HostName>) {
        self.0.store(Arc::new(InForce {
            token,
            served,
            hosts,
        }));
    }

    pub(super) fn now(&self) -> Guard<Arc<InForce>> {
        self.0.load()
    }
}

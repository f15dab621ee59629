//! What a listener asks for and what it serves, which may change while it is served.
//!
//! Owns the two, as one. Invariant: a request sees both of one moment.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

use super::token::Token;

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
pub struct Terms(Arc<ArcSwap<InForce>>);

/// The terms of one moment.
#[derive(Debug)]
pub(super) struct InForce {
    /// What the guarded endpoints ask for; `None` asks for nothing.
    pub(super) token: Option<Token>,
    /// Which endpoints there are.
    pub(super) served: Served,
}

impl Terms {
    /// These.
    #[must_use]
    pub fn new(token: Option<Token>, served: Served) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(InForce { token, served })))
    }

    /// Others for every request from now on.
    pub fn change(&self, token: Option<Token>, served: Served) {
        self.0.store(Arc::new(InForce { token, served }));
    }

    pub(super) fn now(&self) -> Guard<Arc<InForce>> {
        self.0.load()
    }
}

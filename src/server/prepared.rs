//! What is bound and opened before anything runs.
//!
//! Owns the part of a start that may wait for a file system. Starts nothing. Invariant: what fails leaves nothing behind.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::admin_listeners::PreparedAdminListeners;
use super::handoff::Handoff;
use super::sockets::Sockets;
use super::start_error::StartError;
use super::stores::Keeping;
use super::workers;
use crate::affinity::table::Secret;
use crate::config::model::{self, Config};
use crate::handoff::KeptPredecessor;
use crate::persistence;

/// What is bound and opened before anything runs.
pub struct Prepared {
    pub(super) handoff: Option<Handoff>,
    pub(super) config: Config,
    /// Of workers.
    pub(super) count: usize,
    pub(super) sockets: Arc<Sockets>,
    pub(super) unwanted: Vec<SocketAddr>,
    pub(super) doors: PreparedAdminListeners,
    pub(super) keeping: Keeping,
    /// Older processes that have connections still.
    pub(super) predecessors: Vec<(KeptPredecessor, OwnedFd)>,
}

impl Prepared {
    /// Binds every address and opens what the configuration names, which may wait for a file system: so it is no work for
    /// the control thread. Starts nothing.
    ///
    /// # Errors
    ///
    /// What cannot be bound, read or opened; nothing is left of the rest.
    pub fn new(mut handoff: Option<Handoff>, config: Config) -> Result<Self, StartError> {
        let count = workers::count(config.workers);
        let sockets = Arc::new(Sockets::default());
        let (mut unwanted, mut inherited) = (Vec::new(), Vec::new());
        let mut predecessors = Vec::new();
        if let Some(handoff) = &mut handoff {
            let passed = &mut handoff.passed;
            let ports = std::mem::take(&mut passed.ports);
            unwanted = sockets.adopt(&config, ports, count);
            inherited = std::mem::take(&mut passed.doors);
            predecessors = std::mem::take(&mut passed.predecessors);
        }
        let ports = sockets
            .bind(&config, count)
            .map_err(first(StartError::Bind))?;
        sockets.add(ports);
        let doors = PreparedAdminListeners::open(&config.admin, &[], &mut inherited)
            .map_err(first(StartError::Admin))?;
        let keeping = keeping(&config, handoff.as_ref()).map_err(StartError::Store)?;
        Ok(Self {
            handoff,
            config,
            count,
            sockets,
            unwanted,
            doors,
            keeping,
            predecessors,
        })
    }
}

/// Opens the store, where one is configured. In an upgrade the secret is the old process's, and the store may be still.
fn keeping(config: &Config, handoff: Option<&Handoff>) -> Result<Keeping, persistence::OpenError> {
    let passed = handoff.map(|handoff| handoff.passed.secret.clone());
    let opened = match &config.affinity_store {
        model::AffinityStore::Memory => None,
        model::AffinityStore::File(path) => match (persistence::OpenedStore::open(path), &passed) {
            (Err(persistence::OpenError::Held(_)), Some(_)) => None,
            (Ok(opened), Some(secret)) => Some(opened.anew(secret.clone())),
            (opened, _) => Some(opened?),
        },
    };
    let kept = || opened.as_ref().map(|kept| kept.secret().clone());
    let secret = passed.or_else(kept).unwrap_or_else(Secret::random);
    Ok(Keeping { opened, secret })
}

/// The first of the faults is what the start says; there is at least one.
fn first<F>(make: fn(F) -> StartError) -> impl FnOnce(Vec<F>) -> StartError {
    move |mut faults| make(faults.swap_remove(0))
}

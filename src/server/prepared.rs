//! What is bound and opened before anything runs.
//!
//! Owns the part of a start that may wait for a file system. Starts nothing. Invariant: what fails leaves nothing behind.

use std::net::SocketAddr;
use std::sync::Arc;

use super::doors::Doors;
use super::heir::Heir;
use super::sockets::Sockets;
use super::start_error::StartError;
use super::takeover::Keeping;
use super::workers;
use crate::config::model::{self, Config};
use crate::pins::Secret;
use crate::store;

/// What is bound and opened before anything runs.
pub struct Prepared {
    pub(super) heir: Option<Heir>,
    pub(super) config: Config,
    /// Of workers.
    pub(super) count: usize,
    pub(super) sockets: Arc<Sockets>,
    pub(super) unwanted: Vec<SocketAddr>,
    pub(super) doors: Doors,
    pub(super) keeping: Keeping,
}

impl Prepared {
    /// Binds every address and opens what the configuration names, which may wait for a file system: so it is no work for
    /// the control thread. Starts nothing.
    ///
    /// # Errors
    ///
    /// What cannot be bound, read or opened; nothing is left of the rest.
    pub fn new(mut heir: Option<Heir>, config: Config) -> Result<Self, StartError> {
        let count = workers::count(config.workers);
        let sockets = Arc::new(Sockets::default());
        let (mut unwanted, mut inherited) = (Vec::new(), Vec::new());
        if let Some(heir) = &mut heir {
            let ports = std::mem::take(&mut heir.estate.ports);
            unwanted = sockets.adopt(&config, ports, count);
            inherited = std::mem::take(&mut heir.estate.doors);
        }
        let ports = sockets
            .bind(&config, count)
            .map_err(first(StartError::Bind))?;
        sockets.add(ports);
        let doors =
            Doors::open(&config.admin, &[], &mut inherited).map_err(first(StartError::Admin))?;
        let keeping = keeping(&config, heir.as_ref()).map_err(StartError::Store)?;
        Ok(Self {
            heir,
            config,
            count,
            sockets,
            unwanted,
            doors,
            keeping,
        })
    }
}

/// Opens the store, where one is configured. An heir's secret is the old process's, and the store is that one's still.
fn keeping(config: &Config, heir: Option<&Heir>) -> Result<Keeping, store::OpenError> {
    let inherited = heir.map(|heir| heir.estate.secret.clone());
    let (opened, later) = match &config.affinity_store {
        model::AffinityStore::Memory => (None, None),
        model::AffinityStore::File(path) => match (store::Opened::open(path), &inherited) {
            (Err(store::OpenError::Held(_)), Some(_)) => (None, Some(path.clone())),
            (Ok(opened), Some(secret)) => (Some(opened.anew(secret.clone())), None),
            (opened, _) => (Some(opened?), None),
        },
    };
    let kept = || opened.as_ref().map(|kept| kept.secret().clone());
    let secret = inherited.or_else(kept).unwrap_or_else(Secret::random);
    Ok(Keeping {
        opened,
        secret,
        later,
    })
}

/// The first of the faults is what the start says; there is at least one.
fn first<F>(make: fn(F) -> StartError) -> impl FnOnce(Vec<F>) -> StartError {
    move |mut faults| make(faults.swap_remove(0))
}

//! The new process in an upgrade, from the moment when everything is built.
//!
//! Owns the order: it says that it is ready, waits for its time, opens the ports, serves the admin listeners, then takes
//! what only one process can have. Invariant: a fault before the ports are open ends this process and nothing else.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::spawn_blocking;

use super::gates;
use super::heir::{Elders, Heir};
use super::reload::Reloader;
use crate::metrics::{Registry, definitions};
use crate::pins::Secret;
use crate::store::{Opened, Store};

/// What becomes of this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It has not taken over yet from another process, or that one has not let go yet.
    Waits,
    /// It serves.
    Serves,
    /// Another process has taken over.
    Succeeded,
    /// It was to take over from another process, and nothing came of it: why.
    Disinherited(String),
}

/// Where the affinity store is kept while it is written; it may be taken away.
#[derive(Clone, Default)]
pub(super) struct Vault(Arc<Mutex<Option<Store>>>);

/// What is still to be taken over.
pub(super) struct Inheritance {
    pub(super) heir: Heir,
    /// Addresses that are not configured any more.
    pub(super) unwanted: Vec<SocketAddr>,
    /// The store that the old process has still.
    pub(super) store: Option<PathBuf>,
    pub(super) elders: Elders,
}

impl Vault {
    pub(super) fn new(store: Option<Store>) -> Self {
        Self(Arc::new(Mutex::new(store)))
    }

    pub(super) fn take(&self) -> Option<Store> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn put(&self, store: Store) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(store);
    }
}

impl Reloader {
    /// Takes over from the old process, if there is one, and serves the admin listeners.
    pub(super) async fn take_over(&mut self) -> Result<(), String> {
        let inheritance = self.heir.take();
        let inheritance = match inheritance {
            Some(inheritance) => Some(self.wait_for_its_time(inheritance).await?),
            None => None,
        };
        if let Some(doors) = self.doors.take() {
            self.admin.replace(doors, &self.control);
        }
        if let Some(Inheritance {
            heir,
            store,
            elders,
            ..
        }) = inheritance
        {
            let registry = &self.shared.registry;
            registry
                .counter(&definitions::UPGRADES, &["done"])
                .increment(1);
            tracing::info!(target: "lyncpin::server", "this process has taken over");
            self.follow(heir, store, &elders);
        }
        Ok(())
    }

    async fn wait_for_its_time(&self, inheritance: Inheritance) -> Result<Inheritance, String> {
        let snapshot = self.shared.snapshot.load_full();
        let waiting = spawn_blocking(move || {
            let mut inheritance = inheritance;
            let unwanted = std::mem::take(&mut inheritance.unwanted);
            let waited = inheritance.heir.wait(unwanted, &snapshot);
            waited.map(|()| inheritance)
        });
        let waited = waiting.await.map_err(|error| error.to_string())?;
        let inheritance = waited.map_err(|error| error.to_string())?;
        self.sockets.begin();
        gates::follow(&self.sockets, &self.shared);
        // Ports are open: if the old process does not hear of it, it is gone.
        let _ = inheritance.heir.tell_serving();
        Ok(inheritance)
    }

    /// Hears the old process out, on a thread of its own.
    fn follow(&self, mut heir: Heir, store: Option<PathBuf>, elders: &Elders) {
        let (shared, vault) = (self.shared.clone(), self.store.clone());
        let (secret, fate) = (self.secret.clone(), self.fate.clone());
        let snapshot = shared.snapshot.load_full();
        let elder = elders.one_more();
        let follow = move || {
            if let Err(error) = heir.hear_farewell(&snapshot) {
                tracing::warn!(target: "lyncpin::server", %error, "the old process is gone without a word");
            }
            if let Some(path) = store {
                let in_force = shared.clone();
                let source = move || in_force.snapshot.load_full();
                let opened = Opened::open(&path);
                match opened.and_then(|kept| kept.anew(secret).start(source, &shared.registry)) {
                    Ok(store) => vault.put(store),
                    Err(error) => {
                        let cause = std::error::Error::source(&error).map(ToString::to_string);
                        tracing::error!(target: "lyncpin::store", %error, cause, "pins and states are not written from now on");
                    }
                }
            }
            fate.send_replace(Fate::Serves);
            heir.follow(&snapshot);
            drop(elder);
            tracing::info!(target: "lyncpin::server", "the old process has ended");
        };
        if let Err(error) = std::thread::Builder::new()
            .name("upgrade".into())
            .spawn(follow)
        {
            tracing::error!(target: "lyncpin::server", %error, "the old process cannot be followed");
        }
    }
}

/// What hashes of sessions are made with, and where they are kept.
pub(super) struct Keeping {
    pub(super) opened: Option<Opened>,
    pub(super) secret: Secret,
    /// A store that another process has still.
    pub(super) later: Option<PathBuf>,
}

/// Begins to write what is in force, where there is a store.
pub(super) fn start_store(
    opened: Option<Opened>,
    shared: &Arc<crate::listener::Shared>,
    registry: &Registry,
) -> Result<Option<Store>, crate::store::OpenError> {
    let in_force = shared.clone();
    let start = |kept: Opened| {
        let source = move || in_force.snapshot.load_full();
        kept.start(source, registry)
    };
    opened.map(start).transpose()
}

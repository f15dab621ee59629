//! The new process in an upgrade, from the moment when everything is built.
//!
//! Owns the order: it says that it is ready, waits for its time, opens the ports, serves the admin listeners, then takes
//! what only one process can have. Invariants: an error before the ports are open ends this process and nothing else; the
//! affinity store is opened by the task that reloads, and by nothing beside it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;

use super::gates;
use super::handoff::{Follower, Handoff};
use super::reload::Reloader;
use crate::config::model::AffinityStore;
use crate::files;
use crate::metrics::{Registry, definitions};
use crate::pins::Secret;
use crate::store::{OpenError, Opened, Store};

/// What this process is to others of the same balancer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// It has not taken over yet from another process, or that one has not let go yet.
    TakesOver,
    /// It serves.
    Serves,
    /// Another process has taken over, and it drains.
    Drains,
    /// It was to take over from another process, and nothing came of it: why.
    Failed(String),
}

/// What is still to be taken over.
pub(super) struct TakeOver {
    pub(super) handoff: Handoff,
    /// Addresses that are not configured any more.
    pub(super) unwanted: Vec<SocketAddr>,
}

impl Reloader {
    /// Takes over from the old process, if there is one, and serves the admin listeners.
    pub(super) async fn take_over(&mut self) -> Result<(), String> {
        let follower = match self.take_over.take() {
            Some(TakeOver { handoff, unwanted }) => {
                let waited = handoff.wait(unwanted, &self.shared).await;
                let follower = waited.map_err(|error| error.to_string())?;
                self.sockets.begin();
                gates::follow(&self.sockets, &self.shared);
                // Before the old process hears of it, so that whoever comes next is heard later.
                self.predecessors.serve();
                follower.tell_serving();
                Some(follower)
            }
            None => None,
        };
        if let Some(doors) = self.doors.take() {
            self.admin.replace(doors, &self.control);
        }
        if let Some(follower) = follower {
            let registry = &self.shared.registry;
            registry
                .counter(&definitions::UPGRADES, &["done"])
                .increment(1);
            tracing::info!(target: "lyncpin::server", "this process has taken over");
            self.follow(follower);
        }
        Ok(())
    }

    /// Hears the old process out, in a task of its own.
    fn follow(&mut self, follower: Follower) {
        let (let_go, heard) = mpsc::unbounded_channel();
        self.let_go = Some(heard);
        let (shared, followed) = (self.shared.clone(), self.followed.one_more());
        self.tasks.spawn(async move {
            let stop = shared.stop.clone();
            let ended = stop.run_until_cancelled(follower.follow(&shared, &let_go));
            if ended.await.is_some() {
                tracing::info!(target: "lyncpin::server", "the old process has ended");
            }
            drop(followed);
        });
    }

    /// The old process has let go of what only one can have. What is in force by now says where pins and states are kept;
    /// a store that a reload has opened since stays.
    pub(super) async fn take_what_is_let_go(&mut self) {
        let wanted = self.shared.snapshot.load().config.affinity_store.clone();
        if let (AffinityStore::File(path), None) = (wanted, &self.store) {
            let opened = files::aside("store open", move || Opened::open(&path)).await;
            let opened = opened.unwrap_or_else(|error| Err(OpenError::Thread(error)));
            let opened = opened.map(|opened| opened.anew(self.secret.clone()));
            let started = opened
                .and_then(|opened| start_store(Some(opened), &self.shared, &self.shared.registry));
            match started {
                Ok(store) => self.store = store,
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::error!(target: "lyncpin::store", %error, cause, "pins and states are not written from now on");
                }
            }
        }
        self.role.send_if_modified(|role| {
            let waited = *role == Role::TakesOver;
            if waited {
                *role = Role::Serves;
            }
            waited
        });
    }
}

/// What hashes of sessions are made with, and where they are kept.
pub(super) struct Keeping {
    /// `None` also where another process has it still.
    pub(super) opened: Option<Opened>,
    pub(super) secret: Secret,
}

/// Begins to write what is in force, where there is a store.
pub(super) fn start_store(
    opened: Option<Opened>,
    shared: &Arc<crate::listener::Shared>,
    registry: &Registry,
) -> Result<Option<Store>, OpenError> {
    let in_force = shared.clone();
    let start = |kept: Opened| {
        let source = move || in_force.snapshot.load_full();
        kept.start(source, registry)
    };
    opened.map(start).transpose()
}

/// How many older processes this one hears out, whose pins it tells on; counts down by `Drop`.
#[derive(Debug, Clone, Default)]
pub(super) struct Followed(Arc<AtomicUsize>);

/// One of them.
pub(super) struct OneFollowed(Followed);

impl Followed {
    pub(super) fn count(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }

    fn one_more(&self) -> OneFollowed {
        self.0.fetch_add(1, Ordering::AcqRel);
        OneFollowed(self.clone())
    }
}

impl Drop for OneFollowed {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::AcqRel);
    }
}

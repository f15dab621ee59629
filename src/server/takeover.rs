//! The new process in an upgrade, from the moment when everything is built.
//!
//! Owns the order: it says that it is ready, waits for its time, opens the ports, serves the admin listeners, then takes
//! what only one process can have. Invariants: an error before the ports are open ends this process and nothing else; the
//! affinity store is opened by the task that reloads, and by nothing beside it.

use tokio::sync::mpsc;
use tokio::time::sleep;

use super::gates;
use super::handoff::{Follower, TakeOver};
use super::handover::CHANGE_OF_HOLDS;
use super::reload::Reloader;
use super::role::Role;
use super::stores::start_store;
use crate::config::model::AffinityStore;
use crate::persistence::{OpenError, OpenedStore};
use crate::system::files;
use crate::telemetry::metrics::definitions;

impl Reloader {
    /// Takes over from the old process, if there is one, and serves the admin listeners.
    pub(super) async fn take_over(&mut self) -> Result<(), String> {
        let follower = match self.take_over.take() {
            Some(TakeOver { handoff, unwanted }) => {
                let waited = handoff
                    .wait(unwanted, &self.shared, &self.predecessors)
                    .await;
                let follower = waited.map_err(|error| error.to_string())?;
                self.sockets.begin();
                gates::follow(&self.sockets, &self.shared);
                // Before the old process hears of it, so that whoever comes next is heard later.
                self.predecessors.serve(&self.shared);
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
        let (shared, followed) = (self.shared.clone(), self.followed.clone());
        let predecessors = self.predecessors.clone();
        self.tasks.spawn(async move {
            let stop = shared.stop.clone();
            let following = followed.run_until_cancelled(follower.follow(&shared, &let_go));
            let ended = stop.run_until_cancelled(following);
            let Some(holds) = ended.await.flatten() else {
                return;
            };
            tracing::info!(target: "lyncpin::server", "the old process has ended");
            if predecessors.are_several() {
                // Some of its pins are theirs, of which they tell themselves.
                stop.run_until_cancelled(sleep(CHANGE_OF_HOLDS)).await;
            }
            drop(holds);
        });
    }

    /// The old process has let go of what only one can have. What is in force by now says where pins and states are kept;
    /// a store that a reload has opened since stays.
    pub(super) async fn take_what_is_let_go(&mut self) {
        let wanted = self.shared.snapshot.load().config.affinity_store.clone();
        if let (AffinityStore::File(path), None) = (wanted, &self.store) {
            let opened = files::aside("store open", move || OpenedStore::open(&path)).await;
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

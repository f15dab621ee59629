//! What the supervisor owns.
//!
//! Owns the parts of a running balancer that one task alone starts, changes and stops. Must not know in which order a
//! reload or an upgrade changes them. Invariant: none of it is shared. Reloads, upgrades and the stop are functions that
//! get all of it by reference or by value.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

use super::descriptors::Descriptors;
use super::listeners::AdminListeners;
use super::reload::file_worker::FileWorker;
use super::shared::SharedState;
use super::store::start_store;
use super::upgrade::follower::FollowedPredecessor;
use super::upgrade::role::Role;
use super::workers::WorkerChannels;
use crate::admin::UpgradeError;
use crate::affinity::table::Secret;
use crate::handoff::Program;
use crate::health::{Monitor, Resolver};
use crate::persistence::{OpenError, OpenedStore, Store};

/// What the supervisor owns.
pub(super) struct Running {
    pub(super) state: Arc<SharedState>,
    /// The configuration file; `None` where the configuration came from elsewhere.
    pub(super) file: Option<PathBuf>,
    /// Reads files for reloads.
    pub(super) files: FileWorker,
    /// The program that an upgrade starts, or why it is unknown.
    pub(super) program: Result<Program, UpgradeError>,
    pub(super) workers: WorkerChannels,
    pub(super) descriptors: Descriptors,
    pub(super) secret: Secret,
    pub(super) resolver: Resolver,
    pub(super) health: Monitor,
    pub(super) admin: AdminListeners,
    /// Where pins and states are written. The supervisor alone opens and stops it.
    pub(super) store: Option<Store>,
    pub(super) role: watch::Sender<Role>,
    /// The process that this one took over from, as long as this one follows it.
    pub(super) predecessor: Option<FollowedPredecessor>,
}

impl Running {
    /// Starts to write pins and states to `opened`. A store that cannot be written is logged and left out.
    pub(super) fn write_to(&mut self, opened: Result<OpenedStore, OpenError>) {
        match opened.and_then(|opened| start_store(opened, &self.state.proxy)) {
            Ok(store) => self.store = Some(store),
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(target: "lyncpin::store", %error, cause, "pins and states are no longer written to disk");
            }
        }
    }
}

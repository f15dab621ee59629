//! Everything that a reload asks of the file system.
//!
//! Owns what is read, in which order. Runs on a thread that may wait ([`super::file_worker`]). Invariant: nothing of what is
//! in force is touched.

use std::path::{Path, PathBuf};

use super::admin_listeners::{AdminListenerError, PreparedAdminListeners};
use super::file_worker::ReadStage;
use super::reload_fault::{ReloadFailure, chain};
use super::role::Role;
use crate::affinity::table::Secret;
use crate::config::model::{AdminBind, AffinityStore};
use crate::config::{self, Loaded};
use crate::persistence::{OpenError, OpenedStore};
use crate::system::files;
use crate::system::reserve;

/// What is to be read, and what is in force.
pub(super) struct Reading {
    pub(super) file: PathBuf,
    pub(super) store: AffinityStore,
    pub(super) secret: Secret,
    pub(super) served: Vec<AdminBind>,
    pub(super) role: Role,
}

/// What has been read; each part that could not be has its words among the `faults`.
pub(super) struct ReadFiles {
    pub(super) loaded: Loaded,
    pub(super) move_store: Option<StoreMove>,
    pub(super) doors: Result<PreparedAdminListeners, Vec<AdminListenerError>>,
    pub(super) faults: Vec<String>,
}

/// Where pins and states are kept from now on.
pub(super) enum StoreMove {
    /// In memory alone.
    ToMemory,
    /// In this file, which nobody else has.
    To(Box<OpenedStore>),
    /// In a file that the process before this one has still, once it lets go.
    Later,
}

impl Reading {
    /// Everything that the file system is asked for. Errors of the file come alone, as nothing else is known then.
    pub(super) fn read(self, stage: &ReadStage) -> Result<ReadFiles, ReloadFailure> {
        let what = format!("the configuration {}", self.file.display());
        stage.at(what.clone());
        let loaded = read(&self.file, || stage.judges(what))?;
        let mut faults = Vec::new();
        let wanted = &loaded.config.affinity_store;
        if let AffinityStore::File(path) = wanted {
            stage.at(format!("the affinity store {}", path.display()));
        }
        let opened = open_store(wanted, &self.store, self.secret, &self.role);
        let move_store = opened.unwrap_or_else(|fault| {
            faults.push(fault);
            None
        });
        let admin = &loaded.config.admin;
        stage.at(match &admin.token_file {
            Some(path) => format!("the token file {}", path.display()),
            None => format!("the admin listener's socket {}", admin.bind),
        });
        let doors = PreparedAdminListeners::open(admin, &self.served, &mut Vec::new());
        Ok(ReadFiles {
            loaded,
            move_store,
            doors,
            faults,
        })
    }
}

/// The store that is `wanted`, if it is another one than that `in_force`.
fn open_store(
    wanted: &AffinityStore,
    in_force: &AffinityStore,
    secret: Secret,
    role: &Role,
) -> Result<Option<StoreMove>, String> {
    if wanted == in_force {
        return Ok(None);
    }
    let AffinityStore::File(path) = wanted else {
        return Ok(Some(StoreMove::ToMemory));
    };
    let opened = match reserve::retry(|| OpenedStore::open(path)) {
        Err(OpenError::Held(_)) if *role == Role::TakesOver => return Ok(Some(StoreMove::Later)),
        opened => opened.map_err(|error| chain(&error))?,
    };
    // What is in force is newer than whatever the file has.
    Ok(Some(StoreMove::To(Box::new(opened.anew(secret)))))
}

fn read(file: &Path, has_read: impl FnOnce()) -> Result<Loaded, ReloadFailure> {
    let name = file.display().to_string();
    let bytes = files::read(file, config::MAX_FILE_BYTES).map_err(|error| {
        ReloadFailure::Other(vec![format!(
            "the configuration {name} cannot be read: {error}"
        )])
    })?;
    has_read();
    config::read_bytes(&bytes, &name).map_err(ReloadFailure::File)
}

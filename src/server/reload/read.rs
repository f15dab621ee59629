//! Everything that a reload reads or opens in the file system.
//!
//! Owns what is read, and in which order. Runs on a thread that may wait ([`super::file_worker`]). Invariant: nothing that
//! is in force changes.

use std::path::{Path, PathBuf};

use super::error::{ReloadFailure, error_chain};
use super::file_worker::ReadStage;
use crate::affinity::table::Secret;
use crate::config::model::{AdminBind, AffinityStore};
use crate::config::{self, Loaded};
use crate::persistence::{OpenError, OpenedStore};
use crate::server::listeners::{AdminListenerError, PreparedAdminListeners};
use crate::server::upgrade::role::Role;
use crate::system::{files, reserve};

/// The file to read, and what is in force.
pub(super) struct FilesToRead {
    pub(super) file: PathBuf,
    pub(super) store: AffinityStore,
    pub(super) secret: Secret,
    pub(super) served: Vec<AdminBind>,
    pub(super) role: Role,
}

/// What has been read and opened. Errors of the store are in `errors`.
pub(super) struct ReadFiles {
    pub(super) loaded: Loaded,
    pub(super) store_move: Option<StoreMove>,
    pub(super) admin: Result<PreparedAdminListeners, Vec<AdminListenerError>>,
    pub(super) errors: Vec<String>,
}

/// Where pins and states are written after the reload.
pub(super) enum StoreMove {
    /// Nowhere: they are in memory only.
    ToMemory,
    /// To this file, which this process has locked.
    To(Box<OpenedStore>),
    /// To a file that the predecessor still holds, once it releases it.
    Later,
}

impl FilesToRead {
    /// Reads the configuration and opens what it names. Errors in the configuration are reported alone, since what it
    /// names is unknown then.
    pub(super) fn read(self, stage: &ReadStage) -> Result<ReadFiles, ReloadFailure> {
        let name = format!("the configuration {}", self.file.display());
        stage.reading(name.clone());
        let loaded = read_config(&self.file, || stage.parsing(name))?;
        let mut errors = Vec::new();
        let wanted = &loaded.config.affinity_store;
        if let AffinityStore::File(path) = wanted {
            stage.reading(format!("the affinity store {}", path.display()));
        }
        let opened = open_store(wanted, &self.store, self.secret, &self.role);
        let store_move = opened.unwrap_or_else(|error| {
            errors.push(error);
            None
        });
        let admin = &loaded.config.admin;
        stage.reading(match &admin.token_file {
            Some(path) => format!("the token file {}", path.display()),
            None => format!("the admin listener's socket {}", admin.bind),
        });
        let admin = PreparedAdminListeners::open(admin, &self.served, &mut Vec::new());
        Ok(ReadFiles {
            loaded,
            store_move,
            admin,
            errors,
        })
    }
}

/// Opens the `wanted` store, if it is not the one in force.
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
    let opened = match reserve::retry_with_reserve(|| OpenedStore::open(path)) {
        Err(OpenError::Held(_)) if *role == Role::TakingOver => return Ok(Some(StoreMove::Later)),
        opened => opened.map_err(|error| error_chain(&error))?,
    };
    // The tables in memory are newer than the content of the file.
    Ok(Some(StoreMove::To(Box::new(opened.with_secret(secret)))))
}

fn read_config(file: &Path, on_read: impl FnOnce()) -> Result<Loaded, ReloadFailure> {
    let name = file.display().to_string();
    let bytes = files::read_limited(file, config::MAX_FILE_BYTES).map_err(|error| {
        ReloadFailure::Other(vec![format!(
            "the configuration {name} cannot be read: {error}"
        )])
    })?;
    on_read();
    config::read_bytes(&bytes, &name).map_err(ReloadFailure::Config)
}

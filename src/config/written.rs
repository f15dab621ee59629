//! The configuration as written: every value read, no reference followed.
//!
//! Owns the form in which the long form and the expanded short form meet. Must not know how values are spelled, nor
//! whether they fit together. Invariant: what may be wrong only in view of something else carries its place.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::diagnostics::FileLocation;
use super::model::{
    self, AdminBind, AffinityStore, NamePattern, Protocol, RejectionMode, WhenPoolDown,
};
use crate::types::host_name::HostName;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct At<T> {
    /// The value.
    pub value: T,
    /// Its place.
    pub at: FileLocation,
}

impl<T> At<T> {
    /// The value at a place.
    pub(crate) fn new(value: T, at: FileLocation) -> Self {
        Self { value, at }
    }
}

/// A whole file.
#[derive(Debug)]
pub(crate) struct WrittenFile {
    /// Those of the short form first.
    pub listeners: Vec<WrittenListener>,
    /// Those of the short form first.
    pub pools: Vec<WrittenPool>,
    /// Pools that a faulty short form would have made, so that references to them are no faults.
    pub unread_pools: Vec<Arc<str>>,
    /// Bounds in time.
    pub timeouts: WrittenTimeouts,
    /// Bounds in number, with the place of `connections`.
    pub limits: At<model::LimitSettings>,
    /// Worker threads.
    pub workers: Option<NonZeroUsize>,
    /// Where pins are kept.
    pub affinity_store: AffinityStore,
    /// The admin listener.
    pub admin: WrittenAdmin,
    /// The log.
    pub log: model::LogSettings,
}

/// Bounds in time, with the places that lints point to.
#[derive(Debug)]
pub(crate) struct WrittenTimeouts {
    /// The bounds.
    pub values: model::Timeouts,
    /// Where `idle` stands.
    pub idle_at: Option<FileLocation>,
    /// Where `connect` stands.
    pub connect_at: Option<FileLocation>,
}

/// A listener.
#[derive(Debug, Clone)]
pub(crate) struct WrittenListener {
    /// Its name, at its key or at `lync`.
    pub name: At<Arc<str>>,
    /// Made by the short form.
    pub of_short_form: bool,
    /// Addresses.
    pub bind: Vec<At<SocketAddr>>,
    /// How the name is found.
    pub protocol: Option<Protocol>,
    /// Names and their pools.
    pub routes: Vec<WrittenRoute>,
    /// For clients without a name; `None` is not written.
    pub no_name: Option<At<TargetName>>,
    /// For other names; `None` is not written.
    pub unknown_name: Option<At<TargetName>>,
    /// The one pool.
    pub pool: Option<At<Arc<str>>>,
    /// How to say no; `None` is not written.
    pub refusal: Option<At<RejectionMode>>,
    /// What the port does while nothing can serve.
    pub when_pool_down: WhenPoolDown,
    /// Who may come.
    pub allow: Vec<At<IpNet>>,
    /// Who may not.
    pub deny: Vec<At<IpNet>>,
    /// No fault was found in it, so that what is missing is missing.
    pub whole: bool,
}

/// A route.
#[derive(Debug, Clone)]
pub(crate) struct WrittenRoute {
    /// The entry's place.
    pub at: FileLocation,
    /// Its names.
    pub names: Vec<At<NamePattern>>,
    /// Its pool's name.
    pub pool: Option<At<Arc<str>>>,
}

/// A pool's name, or `refuse`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum TargetName {
    /// That pool.
    Pool(Arc<str>),
    /// None.
    Refuse,
}

/// A pool.
#[derive(Debug, Clone)]
pub(crate) struct WrittenPool {
    /// Its name, at its key or at `lync`.
    pub name: At<Arc<str>>,
    /// Its backends.
    pub backends: Vec<At<model::BackendConfig>>,
    /// The other pool's name.
    pub backup: Option<At<Arc<str>>>,
    /// Who gets a client that has no pin.
    pub balance: model::Balance,
    /// How clients are kept, at its key or, by default, at the pool's name.
    pub affinity: At<Option<model::AffinitySettings>>,
    /// How backends are watched, at its key or, by default, at the pool's name.
    pub health: At<Option<model::HealthSettings>>,
    /// What becomes of connections.
    pub on_down: model::OnDown,
    /// How long a weight grows.
    pub slow_start: Duration,
    /// Connections at once to each backend.
    pub max_connections: Option<u32>,
    /// No fault was found in it.
    pub whole: bool,
}

/// The admin listener.
#[derive(Debug)]
pub(crate) struct WrittenAdmin {
    /// Where it listens; `None` if what was written is faulty.
    pub bind: Option<At<AdminBind>>,
    /// Nothing was written about that.
    pub bind_is_default: bool,
    /// The metrics' own listener.
    pub metrics_bind: Option<At<AdminBind>>,
    /// The token's file.
    pub token_file: Option<PathBuf>,
    /// Whether `token_file` was written, were it faulty.
    pub has_token_file: bool,
    /// Names under which it may be asked.
    pub hosts: Vec<HostName>,
}

//! Filters of pins by backend: a pool, a backend, or a backend of a pool.
//!
//! Owns the way from their names to the numbers of a table. Must not know clients or names. Invariant: every named pool and
//! backend exists.

use std::sync::Arc;

use crate::admin::view::PinFilter;
use crate::admin::{AffinityError, UnknownName};
use crate::affinity::shard::Member;
use crate::affinity::table::Pins;
use crate::snapshot::Snapshot;
use crate::upstream::pool::Pool;

/// A backend that an administrator named.
pub(super) struct NamedBackend {
    /// Its name.
    pub(super) backend: Arc<str>,
    /// The pools with affinity that have it, at least one.
    pools: Vec<Arc<Pool>>,
}

impl NamedBackend {
    /// The backend that `text` names: one of that name in some of `pools`, or else, as `POOL/BACKEND`, that of one.
    pub(super) fn find(pools: &[Arc<Pool>], text: &str) -> Result<Self, AffinityError> {
        let has = |pool: &&Arc<Pool>, name: &str| {
            pool.affinity.is_some() && pool.backends.iter().any(|known| *known.name == *name)
        };
        let named = |pools: Vec<&Arc<Pool>>, name: &str| {
            let pools: Vec<Arc<Pool>> = pools.into_iter().cloned().collect();
            let backend = name.into();
            (!pools.is_empty()).then_some(Self { backend, pools })
        };
        let plain = pools.iter().filter(|pool| has(pool, text)).collect();
        let of_one = || {
            let (of, name) = text.split_once('/')?;
            let of = |pool: &&Arc<Pool>| *pool.name == *of && has(pool, name);
            named(pools.iter().filter(of).collect(), name)
        };
        named(plain, text)
            .or_else(of_one)
            .ok_or_else(|| not_found(pools, text))
    }

    /// Whether a pool of this group has it.
    pub(super) fn in_group(&self, pins: &Pins) -> bool {
        self.pools.iter().any(|pool| is_of(pool, pins))
    }

    /// Whether it is a backend of this pool.
    pub(super) fn in_pool(&self, pool: &Arc<Pool>) -> bool {
        self.pools.iter().any(|known| Arc::ptr_eq(known, pool))
    }

    /// Its number in the table of a group.
    pub(super) fn member(&self, pins: &Pins) -> Member {
        pins.intern_member(&self.backend)
    }

    /// The error that no selected group has it.
    pub(super) fn missing(&self, snapshot: &Snapshot, group: Option<&str>) -> AffinityError {
        let of_group = |pool: &&Arc<Pool>| {
            let affinity = pool.affinity.as_ref();
            affinity.is_some_and(|own| group.is_none_or(|group| **own.pins.group() == *group))
        };
        AffinityError::UnknownBackend {
            backend: unknown(&self.backend, snapshot.pools.iter().filter(of_group)),
            within: group.map(|group| format!("group {group:?}")),
        }
    }
}

/// Why none of `pools` has the backend that `text` names.
fn not_found(pools: &[Arc<Pool>], text: &str) -> AffinityError {
    let has = |pool: &Pool, name: &str| pool.backends.iter().any(|known| *known.name == *name);
    if let Some((of, name)) = text.split_once('/')
        && let Some(pool) = pools.iter().find(|pool| *pool.name == *of)
    {
        if pool.affinity.is_none() {
            return AffinityError::NoAffinity(of.into());
        }
        return AffinityError::UnknownBackend {
            backend: unknown(name, std::iter::once(pool)),
            within: Some(format!("pool {of:?}")),
        };
    }
    let without = |pool: &&Arc<Pool>| pool.affinity.is_none() && has(pool, text);
    if let Some(pool) = pools.iter().find(without) {
        return AffinityError::NoAffinity(pool.name.to_string());
    }
    AffinityError::UnknownBackend {
        backend: unknown(text, pools.iter()),
        within: match pools {
            [only] => Some(format!("pool {:?}", only.name)),
            _ => None,
        },
    }
}

/// The error that none of these pools with affinity has this backend.
fn unknown<'a>(name: &str, pools: impl Iterator<Item = &'a Arc<Pool>>) -> UnknownName {
    let backends = pools
        .filter(|pool| pool.affinity.is_some())
        .flat_map(|pool| &pool.backends);
    UnknownName::new(name, backends.map(|backend| &*backend.name))
}

/// The backends of the pins that a filter selects.
pub(super) enum BackendFilter {
    /// Any, including backends that no pool has any more.
    Anywhere,
    /// The backends of this pool.
    Pool(Arc<Pool>),
    /// This one.
    Backend(NamedBackend),
}

impl BackendFilter {
    /// The backends of a filter.
    pub(super) fn of(snapshot: &Snapshot, filter: &PinFilter) -> Result<Self, AffinityError> {
        let pool = match &filter.pool {
            Some(name) => Some(with_affinity(snapshot, name)?),
            None => None,
        };
        Ok(match (&filter.backend, pool) {
            (None, None) => Self::Anywhere,
            (None, Some(pool)) => Self::Pool(pool.clone()),
            (Some(backend), None) => Self::Backend(NamedBackend::find(&snapshot.pools, backend)?),
            (Some(backend), Some(pool)) => {
                Self::Backend(NamedBackend::find(std::slice::from_ref(pool), backend)?)
            }
        })
    }

    /// Whether it can select pins of this group.
    pub(super) fn in_group(&self, pins: &Pins) -> bool {
        match self {
            Self::Anywhere => true,
            Self::Pool(pool) => is_of(pool, pins),
            Self::Backend(named) => named.in_group(pins),
        }
    }

    /// Their numbers in the table of a group; `None` is any.
    pub(super) fn members(&self, pins: &Pins) -> Option<Vec<Member>> {
        match self {
            Self::Anywhere => None,
            Self::Pool(pool) => {
                let backends = pool.backends.iter();
                Some(
                    backends
                        .map(|backend| pins.intern_member(&backend.name))
                        .collect(),
                )
            }
            Self::Backend(named) => Some(vec![named.member(pins)]),
        }
    }

    /// The error that no selected group has these backends.
    pub(super) fn not_in_groups(&self, snapshot: &Snapshot, group: Option<&str>) -> AffinityError {
        match self {
            Self::Anywhere => AffinityError::NoGroups,
            Self::Pool(pool) => AffinityError::PoolNotInGroup {
                group: group.unwrap_or_default().into(),
                pool: pool.name.to_string(),
            },
            Self::Backend(named) => named.missing(snapshot, group),
        }
    }
}

fn with_affinity<'a>(snapshot: &'a Snapshot, name: &str) -> Result<&'a Arc<Pool>, AffinityError> {
    let found = snapshot.pools.iter().find(|pool| *pool.name == *name);
    let unknown = || {
        let names = snapshot.pools.iter().map(|pool| &*pool.name);
        AffinityError::UnknownPool(UnknownName::new(name, names))
    };
    let pool = found.ok_or_else(unknown)?;
    if pool.affinity.is_none() {
        return Err(AffinityError::NoAffinity(name.into()));
    }
    Ok(pool)
}

fn is_of(pool: &Pool, pins: &Pins) -> bool {
    let affinity = pool.affinity.as_ref();
    affinity.is_some_and(|affinity| affinity.pins.group() == pins.group())
}

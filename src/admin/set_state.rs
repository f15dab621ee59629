//! A change of a backend's administrative state: the request, and why it is rejected.
//!
//! Owns the texts of these errors. Must not know pools. Invariant: an error about the last backend in service says why the
//! others are not.

use std::fmt;
use std::time::Duration;

use super::unknown_name::UnknownName;
use crate::types::backend_state::AdminState;

/// The state that a backend should get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestedState {
    /// The state.
    pub state: AdminState,
    /// Only with [`AdminState::Drain`]; the default is `timeouts.drain`.
    pub deadline: Option<Duration>,
    /// What happens if the backend is the last one in service.
    pub last: LastBackendPolicy,
}

/// What happens to the last backend of a pool that is in service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastBackendPolicy {
    /// It is taken out of service like any other.
    Allow,
    /// The request is rejected, for the other pools too.
    Protect,
}

/// Why a state was not set, in any pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetStateError {
    /// No pool has this name.
    UnknownPool(UnknownName),
    /// The pool has no backend of this name; without a pool, no pool has.
    UnknownBackend {
        /// The pool.
        pool: Option<String>,
        /// The name.
        backend: UnknownName,
    },
    /// It is the last one in service in these pools; at least one.
    LastInService(Vec<LastInService>),
    /// The new process of an upgrade is taking over and might miss the change.
    UpgradeInProgress,
}

/// A pool whose last backend would be taken out of service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastInService {
    /// The pool.
    pub pool: String,
    /// The backend.
    pub backend: String,
    /// Whether it serves now; if not, it is the last one that could once it is up.
    pub serves: bool,
    /// The other backends, each with the reason why it does not serve: `is down`.
    pub others: Vec<(String, &'static str)>,
    /// What would serve instead.
    pub fallback: Fallback,
}

/// What serves the clients of a pool without a backend in service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fallback {
    /// Nothing.
    Nothing,
    /// Backends that pass their checks but are held out of rotation by flap damping.
    Damped,
    /// A backup pool.
    Backup(String),
}

/// The most other backends in an error.
const MAX_SHOWN: usize = 6;

impl fmt::Display for LastInService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pool, backend, .. } = self;
        let what = if self.serves {
            "in service"
        } else {
            "that is not in drain or maintenance"
        };
        write!(f, "{backend} is the last backend {what} in pool {pool}")?;
        let mut separator = ": ";
        for (other, why) in self.others.iter().take(MAX_SHOWN) {
            write!(f, "{separator}{other} {why}")?;
            separator = ", ";
        }
        if self.others.len() > MAX_SHOWN {
            write!(f, " and {} more", self.others.len() - MAX_SHOWN)?;
        }
        match &self.fallback {
            Fallback::Nothing => f.write_str("; the pool would serve no client"),
            Fallback::Damped => f.write_str("; only damped backends would serve"),
            Fallback::Backup(pool) => write!(f, "; only its backup pool {pool} would serve"),
        }
    }
}

impl fmt::Display for SetStateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UpgradeInProgress => {
                f.write_str("an upgrade is under way; try again in a moment")
            }
            Self::UnknownPool(pool) => {
                write!(
                    f,
                    "there is no pool {:?}{}",
                    pool.name(),
                    pool.suggestion("pool")
                )
            }
            Self::UnknownBackend { pool, backend } => {
                match pool {
                    Some(pool) => write!(f, "pool {pool:?} has no backend {:?}", backend.name())?,
                    None => write!(f, "no pool has a backend {:?}", backend.name())?,
                }
                backend.suggestion("backend").fmt(f)
            }
            Self::LastInService(pools) => {
                for (index, last) in pools.iter().enumerate() {
                    let separator = if index == 0 { "" } else { "; " };
                    write!(f, "{separator}{last}")?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for SetStateError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_about_the_last_backend_says_why_it_is_the_last() {
        let last = LastInService {
            pool: "web".into(),
            backend: "fe01".into(),
            serves: true,
            others: vec![("fe02".into(), "is down"), ("fe03".into(), "drains")],
            fallback: Fallback::Nothing,
        };
        assert_eq!(
            last.to_string(),
            "fe01 is the last backend in service in pool web: fe02 is down, fe03 drains; the pool would serve no client"
        );
        let alone = LastInService {
            serves: false,
            others: Vec::new(),
            fallback: Fallback::Backup("paired".into()),
            ..last
        };
        assert_eq!(
            alone.to_string(),
            "fe01 is the last backend that is not in drain or maintenance in pool web; only its backup pool paired would serve"
        );
    }
}

//! A change of a backend's administrative state: what is wanted, and why it is not done.
//!
//! Owns the words of a refusal. Must not know pools. Invariant: a refusal to take out the last backend says why it is the
//! last.

use std::fmt;
use std::time::Duration;

use super::unknown::Unknown;
use crate::types::backend_state::AdminState;

/// The state that a backend is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WantedState {
    /// The state.
    pub state: AdminState,
    /// Comes with [`AdminState::Drain`] alone; without it a drain lasts for `timeouts.drain`.
    pub deadline: Option<Duration>,
    /// What is done where the backend is the last in service.
    pub last: LastBackend,
}

/// What is done with the last backend of a pool that is in service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastBackend {
    /// It is taken out as any other.
    Takes,
    /// It stays, and so do those of other pools that were named with it.
    Stays,
}

/// Why a state was not set, in any pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetStateError {
    /// No pool has this name.
    UnknownPool(Unknown),
    /// The pool, or no pool where none was named, has a backend of this name.
    UnknownBackend {
        /// The pool.
        pool: Option<String>,
        /// The name that it has no backend of.
        backend: Unknown,
    },
    /// It is the last one that serves in these pools; at least one.
    Last(Vec<Last>),
    /// The new process of an upgrade is taking over, and might not hear of the change.
    HandingOver,
}

/// A pool whose last backend was to be taken out of service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Last {
    /// The pool.
    pub pool: String,
    /// The backend.
    pub backend: String,
    /// Whether it serves now, or is the last that would once it is up.
    pub serves: bool,
    /// The others, each with why it does not serve: `is down`.
    pub others: Vec<(String, &'static str)>,
    /// Who would serve instead.
    pub instead: ServesInstead,
}

/// Who serves the clients of a pool without a backend in service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServesInstead {
    /// No server.
    Nobody,
    /// Backends that pass their checks and are kept out for their falls.
    Damped,
    /// This backup pool.
    Backup(String),
}

/// The most other backends that a refusal names.
const SHOWN: usize = 6;

impl fmt::Display for Last {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pool, backend, .. } = self;
        let what = if self.serves {
            "in service"
        } else {
            "that is not in drain or maintenance"
        };
        write!(f, "{backend} is the last backend {what} in pool {pool}")?;
        let mut separator = ": ";
        for (other, why) in self.others.iter().take(SHOWN) {
            write!(f, "{separator}{other} {why}")?;
            separator = ", ";
        }
        if self.others.len() > SHOWN {
            write!(f, " and {} more", self.others.len() - SHOWN)?;
        }
        match &self.instead {
            ServesInstead::Nobody => f.write_str("; the pool would serve no client"),
            ServesInstead::Damped => f.write_str("; only damped backends would serve"),
            ServesInstead::Backup(pool) => write!(f, "; only its backup pool {pool} would serve"),
        }
    }
}

impl fmt::Display for SetStateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HandingOver => f.write_str("an upgrade is under way; ask again in a moment"),
            Self::UnknownPool(pool) => {
                write!(
                    f,
                    "there is no pool {:?}{}",
                    pool.name(),
                    pool.instead("pool")
                )
            }
            Self::UnknownBackend { pool, backend } => {
                match pool {
                    Some(pool) => write!(f, "pool {pool:?} has no backend {:?}", backend.name())?,
                    None => write!(f, "no pool has a backend {:?}", backend.name())?,
                }
                backend.instead("backend").fmt(f)
            }
            Self::Last(pools) => {
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
    fn a_refusal_says_why_it_is_the_last() {
        let last = Last {
            pool: "web".into(),
            backend: "fe01".into(),
            serves: true,
            others: vec![("fe02".into(), "is down"), ("fe03".into(), "drains")],
            instead: ServesInstead::Nobody,
        };
        assert_eq!(
            last.to_string(),
            "fe01 is the last backend in service in pool web: fe02 is down, fe03 drains; the pool would serve no client"
        );
        let alone = Last {
            serves: false,
            others: Vec::new(),
            instead: ServesInstead::Backup("paired".into()),
            ..last
        };
        assert_eq!(
            alone.to_string(),
            "fe01 is the last backend that is not in drain or maintenance in pool web; only its backup pool paired would serve"
        );
    }
}

//! What is said of a backend, by the checks and by the administrator.
//!
//! Owns the two vocabularies, the same in the command line, the log, the status, the metrics and the API. Knows no
//! backend. Invariant: a value survives the atomic cell that it is kept in.

use serde::{Deserialize, Serialize};

/// What the checks say of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Health {
    /// No deciding check has answered yet.
    Unknown = 0,
    /// The deciding checks pass.
    Up = 1,
    /// They fail, or the name has never been resolved.
    Down = 2,
}

impl Health {
    /// The word in the log, the status and the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        }
    }

    /// The value that was stored with `as u8`.
    #[must_use]
    pub fn from_cell(value: u8) -> Self {
        match value {
            1 => Self::Up,
            2 => Self::Down,
            _ => Self::Unknown,
        }
    }
}

/// What the administrator wants of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum AdminState {
    /// Takes clients.
    Ready = 0,
    /// Keeps the clients that are pinned to it until the deadline, gets no new ones.
    Drain = 1,
    /// Takes nobody: pins are passed over, connections reset, checks shown but not counted.
    Maintain = 2,
}

impl AdminState {
    /// All of them, in the order of their severity.
    pub const ALL: [Self; 3] = [Self::Ready, Self::Drain, Self::Maintain];

    /// The word in the command line, the log, the status, the metrics and the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Drain => "drain",
            Self::Maintain => "maintain",
        }
    }

    /// The value that was stored with `as u8`.
    #[must_use]
    pub fn from_cell(value: u8) -> Self {
        match value {
            1 => Self::Drain,
            2 => Self::Maintain,
            _ => Self::Ready,
        }
    }
}

impl std::str::FromStr for AdminState {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == word)
            .ok_or(())
    }
}

//! The health and the administrative state of a backend.
//!
//! Owns the two vocabularies, the same in the commands, the log, the status, the metrics and the API. Must not know backends.
//! Invariant: a value that was stored in an atomic cell is read back unchanged.

use serde::{Deserialize, Serialize};

/// The health of a backend, by its checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Health {
    /// No deciding check has a result yet.
    Unknown = 0,
    /// The deciding checks pass.
    Up = 1,
    /// A deciding check fails, or the name has never been resolved.
    Down = 2,
}

impl Health {
    /// The name in the log, the status and the API.
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
    pub fn from_u8(value: u8) -> Self {
        match value {
            1 => Self::Up,
            2 => Self::Down,
            _ => Self::Unknown,
        }
    }
}

/// The administrative state of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum AdminState {
    /// Gets clients.
    Ready = 0,
    /// Gets no new clients. Pinned clients stay until the deadline.
    Drain = 1,
    /// Gets no clients: pins are ignored, connections are reset, checks run but do not count.
    Maintain = 2,
}

impl AdminState {
    /// All of them, from the mildest to the most severe.
    pub const ALL: [Self; 3] = [Self::Ready, Self::Drain, Self::Maintain];

    /// The name in the commands, the log, the status, the metrics and the API.
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
    pub fn from_u8(value: u8) -> Self {
        match value {
            1 => Self::Drain,
            2 => Self::Maintain,
            _ => Self::Ready,
        }
    }
}

impl std::str::FromStr for AdminState {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == name)
            .ok_or(())
    }
}

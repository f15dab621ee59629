//! How a pin came to lead where it leads.
//!
//! Owns the vocabulary, the same in the table, the store and the API. Invariant: a value survives the byte that it is kept
//! in.

/// How a pin came to lead where it leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Origin {
    /// The policy chose the backend, and it answered.
    Policy = 0,
    /// The backend before could not take the client, and this one answered.
    Failover = 1,
    /// The client was recognised by a TLS session, from where it had no pin; or the pin is a session's own.
    Session = 2,
    /// An administrator said so.
    Administrator = 3,
}

impl Origin {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Policy,
        Self::Failover,
        Self::Session,
        Self::Administrator,
    ];

    /// The word in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Failover => "failover",
            Self::Session => "session",
            Self::Administrator => "administrator",
        }
    }

    /// The value that was stored with `as u8`.
    #[must_use]
    pub fn from_cell(value: u8) -> Self {
        let known = Self::ALL.into_iter().find(|&origin| origin as u8 == value);
        known.unwrap_or(Self::Policy)
    }
}

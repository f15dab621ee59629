//! Why a pin has its backend.
//!
//! Owns the vocabulary, the same in the table, the store and the API. Invariant: a value survives its byte.

/// Why a pin has its backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Origin {
    /// The policy chose the backend, and it answered.
    Policy = 0,
    /// The previous backend could not take the client, and this one answered.
    Failover = 1,
    /// The client had no pin and was recognised by a TLS session; or it is the pin of a TLS session.
    Session = 2,
    /// An administrator chose the backend.
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

    /// The name in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Failover => "failover",
            Self::Session => "session",
            Self::Administrator => "administrator",
        }
    }

    /// The origin that `as u8` made this byte of.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|&origin| origin as u8 == byte)
    }
}

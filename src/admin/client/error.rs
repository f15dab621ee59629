//! The errors of the admin client.
//!
//! Owns their texts. Must not know requests. Invariant: an error names the address of the listener, unless its text is the
//! listener's own.

use std::fmt;
use std::io;

use hyper::StatusCode;

use crate::config::AdminAddress;

/// Why a request failed.
#[derive(Debug)]
pub enum ClientError {
    /// Connecting failed.
    Unreachable(AdminAddress, io::Error),
    /// The response did not arrive in time.
    TimedOut(AdminAddress),
    /// The connection broke, or the response is too large.
    Broken(AdminAddress, Box<dyn std::error::Error + Send + Sync>),
    /// The response is not that of an admin listener.
    NotAdminListener(AdminAddress, String),
    /// The response is an error, with this text.
    ErrorResponse(StatusCode, String),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(at, _) => write!(f, "the admin listener at {at} cannot be reached"),
            Self::TimedOut(at) => write!(f, "the admin listener at {at} did not respond in time"),
            Self::Broken(at, _) => write!(f, "the connection to the admin listener at {at} broke"),
            Self::NotAdminListener(at, why) => {
                write!(
                    f,
                    "the server at {at} is not an admin listener of this version: {why}"
                )
            }
            Self::ErrorResponse(_, error) => f.write_str(error),
        }
    }
}

impl std::error::Error for ClientError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreachable(_, error) => Some(error),
            Self::Broken(_, error) => Some(&**error),
            Self::TimedOut(_) | Self::NotAdminListener(..) | Self::ErrorResponse(..) => None,
        }
    }
}

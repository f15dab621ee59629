//! Why a configuration is not taken.
//!
//! Owns the kinds of reasons and their words. Invariant: an error is said with all that stands behind it.

use super::file_worker::Stalled;
use crate::admin::ReloadError;
use crate::config::ConfigErrors;

/// Why a configuration was not taken.
pub(super) enum ReloadFailure {
    File(ConfigErrors),
    Other(Vec<String>),
    Refused(ReloadError),
}

impl From<Stalled> for ReloadFailure {
    fn from(stalled: Stalled) -> Self {
        Self::Other(vec![stalled.to_string()])
    }
}

/// An error and what stands behind it, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = text + ": " + &next.to_string();
        cause = next.source();
    }
    text
}

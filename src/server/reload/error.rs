//! Why a configuration does not come into force.
//!
//! Owns the kinds of reasons and their texts. Invariant: an error is reported with all of its causes.

use super::file_worker::FileWorkerError;
use crate::admin::ReloadError;
use crate::config::ConfigErrors;

/// Why a configuration does not come into force.
pub(super) enum ReloadFailure {
    /// Errors in the file.
    Config(ConfigErrors),
    /// Errors in what the file names, and a file that cannot be read.
    Other(Vec<String>),
    /// No reload is possible.
    Impossible(ReloadError),
}

impl From<FileWorkerError> for ReloadFailure {
    fn from(error: FileWorkerError) -> Self {
        Self::Other(vec![error.to_string()])
    }
}

/// An error and its causes, in one line.
pub(super) fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = text + ": " + &next.to_string();
        cause = next.source();
    }
    text
}

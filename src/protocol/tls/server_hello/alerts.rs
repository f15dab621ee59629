//! Owns which alerts end a handshake.
//!
//! Must not know records. Invariant: an alert counts once both of its bytes are there, in whatever pieces they come.

use super::{ServerAlert, ServerHelloError};

/// The level of an alert after which the handshake may go on (RFC 5246 section 7.2).
const WARNING: u8 = 1;
/// The other level.
const FATAL: u8 = 2;

/// Reads the fragments of alert records as they come.
#[derive(Debug, Default)]
pub(super) struct Alerts {
    /// The level of an alert whose description has not come.
    level: Option<u8>,
}

impl Alerts {
    /// The alert in `part` that ends the handshake, if there is one.
    pub(super) fn take(&mut self, part: &[u8]) -> Result<Option<ServerAlert>, ServerHelloError> {
        for &byte in part {
            match self.level.take() {
                None if matches!(byte, WARNING | FATAL) => self.level = Some(byte),
                None => return Err(ServerHelloError::Alert),
                // Warnings such as unrecognized_name come before the ServerHello of some servers, and mean nothing.
                Some(WARNING) if ServerAlert(byte) != ServerAlert::CLOSE_NOTIFY => {}
                Some(_) => return Ok(Some(ServerAlert(byte))),
            }
        }
        Ok(None)
    }
}

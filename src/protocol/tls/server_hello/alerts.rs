//! Owns which alerts end a handshake.
//!
//! Must not know records. Invariant: an alert counts once both of its bytes have arrived, in whatever pieces.

use super::{ServerAlert, ServerHelloError};

/// The level of an alert after which the handshake may continue (RFC 5246 section 7.2).
const WARNING: u8 = 1;
/// The other level.
const FATAL: u8 = 2;

/// Reads the fragments of alert records incrementally.
#[derive(Debug, Default)]
pub(super) struct Alerts {
    /// The level of an alert whose description has not arrived.
    level: Option<u8>,
}

impl Alerts {
    /// The alert in `part` that ends the handshake, if any.
    pub(super) fn read(&mut self, part: &[u8]) -> Result<Option<ServerAlert>, ServerHelloError> {
        for &byte in part {
            match self.level.take() {
                None if matches!(byte, WARNING | FATAL) => self.level = Some(byte),
                None => return Err(ServerHelloError::Alert),
                // Some servers send warnings such as unrecognized_name before the ServerHello; these are ignored.
                Some(WARNING) if ServerAlert(byte) != ServerAlert::CLOSE_NOTIFY => {}
                Some(_) => return Ok(Some(ServerAlert(byte))),
            }
        }
        Ok(None)
    }
}

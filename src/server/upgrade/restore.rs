//! Restoring what the predecessor reports of backends and pins.
//!
//! Owns what may be restored onto which backend. Knows no channel. Invariant: the administrator's state follows the name of a
//! backend; health and address follow its configured address.

use std::time::{Duration, Instant, SystemTime};

use super::foreign_pins::ForeignPins;
use crate::handoff::{BackendRecord, HandoffMessage, Received, WireError};
use crate::snapshot::Snapshot;
use crate::types::backend_state::{AdminState, Health};
use crate::upstream::backend::{Backend, Deadline};

impl ForeignPins {
    /// Takes in what the predecessor reports of a backend or of pins.
    pub(super) fn apply(
        &mut self,
        received: Received,
        snapshot: &Snapshot,
    ) -> Result<(), WireError> {
        match received {
            Received::Message(HandoffMessage::Backend(record), _) => {
                restore_backend(&record, snapshot);
            }
            Received::Message(message, _) => return Err(out_of_order(&message)),
            Received::Pins(batch) => self.update(&batch, snapshot)?,
        }
        Ok(())
    }
}

pub(super) fn out_of_order(message: &HandoffMessage) -> WireError {
    let text = format!("{message:?}");
    let name: String = text.chars().take_while(char::is_ascii_alphabetic).collect();
    WireError::Malformed(format!("message {name:?} is out of order"))
}

pub(super) fn restore_backend(record: &BackendRecord, snapshot: &Snapshot) {
    let pool = snapshot.pool(&record.pool);
    let mut backends = pool.into_iter().flat_map(|pool| &pool.backends);
    let Some(backend) = backends.find(|backend| *backend.name == *record.name) else {
        return;
    };
    restore_state(record, backend);
    // Health and address of one server do not apply to another.
    if backend.configured().address.to_string() != record.configured {
        return;
    }
    if let Some(address) = record.address.filter(|&new| backend.address() != Some(new)) {
        backend.set_address(address);
    }
    if record.health != Health::Unknown && record.health != backend.health() {
        backend.set_health(record.health, &record.why);
    }
}

fn restore_state(record: &BackendRecord, backend: &Backend) {
    let deadline = record.deadline.map(|left| {
        let left = Duration::from_millis(left);
        Deadline {
            at: Instant::now() + left,
            wall_time: SystemTime::now() + left,
        }
    });
    let same_deadline = match (deadline, backend.deadline()) {
        (None, None) => true,
        (Some(new), Some(known)) => {
            let (early, late) = (new.at.min(known.at), new.at.max(known.at));
            late.duration_since(early) < Duration::from_secs(1)
        }
        (None, Some(_)) | (Some(_), None) => false,
    };
    if record.state != backend.state() || !same_deadline {
        let deadline = deadline.filter(|_| record.state == AdminState::Drain);
        backend.set_state(record.state, deadline);
    }
}

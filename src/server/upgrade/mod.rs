//! An upgrade in place: one process of the balancer hands over to the next.
//!
//! Owns both sides. The predecessor starts its successor, transfers its state and drains ([`hand_over`], [`orders`]); the
//! successor restores that state, takes over and follows the predecessor ([`handoff`], [`take_over`]). Must not know the
//! form of the messages. Invariant: exactly one process of a balancer accepts clients, opens ports and writes the store.

pub(super) mod drain;
pub(super) mod follower;
mod foreign_pins;
pub(super) mod hand_over;
pub(super) mod handoff;
pub(super) mod orders;
pub(super) mod predecessors;
mod restore;
pub(super) mod role;
mod state_transfer;
mod successor;
pub(super) mod take_over;

use std::time::Duration;

/// For older processes to report to the next one which pins their connections use.
const PIN_TRANSFER_TIME: Duration = Duration::from_secs(5);

//! What a process and its successor say to each other during an upgrade, and how the successor is started.
//!
//! Owns the channel between the two ([`wire`]), what goes over it ([`message`], [`pins`]), what is said later to a process
//! that drains ([`orders`]), the path of the program ([`program`]), its start ([`launch`]), and whether the process that
//! started this one lives ([`predecessor`]). Must not know workers, gates or the order of an upgrade: that is the
//! assembly's (`server::upgrade`). Invariant: whatever comes over the
//! channel, be it of another version or cut, is an error with a reason and never half an answer.

pub mod launch;
pub mod message;
pub mod orders;
pub mod pins;
pub mod predecessor;
pub mod program;
pub mod wire;

pub use message::{BackendRecord, HandoffMessage, KeptPredecessor, KeptReport, Received, VERSION};
pub use predecessor::PredecessorChannel;
pub use program::Program;
pub use wire::{AsyncChannel, Channel, WireError};

/// In a successor's environment, the predecessor's process id: standard input is the channel to it.
pub const PREDECESSOR: &str = "LYNCPIN_PREDECESSOR";

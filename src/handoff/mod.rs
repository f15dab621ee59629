//! What a process and its successor say to each other during an upgrade, and how the successor is started.
//!
//! Owns the channel between the two ([`wire`]), its messages ([`message`], [`pins`]), the later messages to a process that
//! drains ([`orders`]), the path of the program ([`program`]), its start ([`launch`]), and whether the predecessor lives
//! ([`predecessor`]). Must not know workers, listening sockets or the order of an upgrade, which belongs to the assembly
//! (`server::upgrade`). Invariant: a packet of another version, or a truncated one, is an error with a reason, and never half a
//! message.

pub mod launch;
pub mod message;
pub mod orders;
pub mod pins;
pub mod predecessor;
pub mod program;
pub mod wire;

pub use message::{
    BackendRecord, DrainingProcess, DrainingReport, HandoffMessage, Received, VERSION,
};
pub use predecessor::PredecessorProcess;
pub use program::Program;
pub use wire::{AsyncChannel, Channel, WireError};

/// In a successor's environment, the predecessor's process id: standard input is the channel to it.
pub const PREDECESSOR: &str = "LYNCPIN_PREDECESSOR";

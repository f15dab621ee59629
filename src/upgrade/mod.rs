//! What a process and its successor say to each other during an upgrade, and how the successor is started.
//!
//! Owns the channel between the two ([`wire`]), what goes over it ([`message`], [`pins`]), the path of the program
//! ([`program`]) and its start ([`launch`]). Must not know workers, gates or the order of an upgrade: that is the
//! assembly's (`server::handover` for the old process, `server::heir` for the new one). Invariant: whatever comes over the
//! channel, be it of another version or cut, is an error with a reason and never half an answer.

pub mod launch;
pub mod message;
pub mod pins;
pub mod program;
pub mod wire;

pub use message::{KeptBackend, Message, Received, VERSION};
pub use program::Program;
pub use wire::{Channel, WireError};

/// In a successor's environment: its standard input is the channel to its predecessor.
pub const PREDECESSOR: &str = "LYNCPIN_PREDECESSOR";

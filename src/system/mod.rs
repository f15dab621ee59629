//! Resources of the machine: files and descriptors.
//!
//! Owns limited reading and the descriptor reserve. Must not know single files. Invariant: nothing here delays a stop.

pub mod files;
pub mod reserve;

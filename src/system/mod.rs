//! What the process takes from the machine: files and descriptors.
//!
//! Owns bounded reading and the reserve of descriptors. Knows no file by name. Invariant: nothing here holds up a stop.

pub mod files;
pub mod reserve;

//! A simulated deployment: Front Ends and clients on loopback.
//!
//! Owns the simulation. The balancer does not know it. Invariant: everything ends when its handle is dropped.

pub mod front_end;
pub(crate) mod simulation;

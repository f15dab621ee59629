//! A layer-4 load balancer with TLS passthrough for pools of Lync and Skype for Business Front Ends.
//!
//! Each folder is a subsystem, lowest first; imports point downward only. `docs/architecture.md` describes the layers and
//! `tests/tidy.rs` enforces them.

// Values: no tokio, no clock, no socket; `now` is passed in.
pub mod config;
pub mod protocol;
pub mod types;

// Resources of the machine: files and descriptors.
pub mod system;

// Live state: atomics and short locks; nothing waits.
pub mod affinity;
pub mod snapshot;
pub mod telemetry;
pub mod upstream;

// The data path.
pub mod net;
pub mod proxy;

// Tasks beside the data path, one job each.
pub mod admin;
pub mod handoff;
pub mod health;
pub mod persistence;

// Starts, owns and ends every task.
pub mod server;

// The command line and a simulated deployment.
pub mod cli;
pub mod demo;

//! A layer-4 load balancer with TLS passthrough for pools of Lync and Skype for Business Front Ends.
//!
//! The modules stand in layers, and imports point downward only; `docs/architecture.md` draws the house and
//! `tests/tidy.rs` enforces it.

// Layer 0: values. No tokio, no clock, no sockets; `now` is passed in.
pub mod affinity;
pub mod balance;
pub mod client_hello;
pub mod config;
pub mod host_name;
pub mod route;
pub mod termination;

// Layer 1: live state. Atomics and locks, no waiting.
pub mod backend;
pub mod metrics;
pub mod pins;
pub mod pool;
pub mod snapshot;

// Layer 2: descriptors.
pub mod relay;
pub mod socket;
pub mod splice;

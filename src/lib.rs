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
pub mod http_head;
pub mod route;
pub mod server_hello;
pub mod state;
pub mod termination;
pub mod timestamp;

// Layer 1: live state. Atomics and locks, no waiting.
pub mod backend;
pub mod limits;
pub mod log;
pub mod metrics;
pub mod pins;
pub mod pool;
pub mod snapshot;

// Layer 2: descriptors.
pub mod connect;
pub mod files;
pub mod hello;
pub mod reactor;
pub mod relay;
pub mod reserve;
pub mod socket;
pub mod splice;

// Layer 3: tasks, one job each.
pub mod account;
pub mod admin;
pub mod health;
pub mod listener;
pub mod refusal;
pub mod session;
pub mod store;

// Layer 4: starts, owns and ends every task.
pub mod server;
pub mod upgrade;

// Layer 5: what a person types.
pub mod cli;

// Beside the layers: what is Lync's alone. The data path has never heard of it.
pub mod lync;

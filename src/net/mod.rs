//! Sockets, pipes and the event loop of a worker.
//!
//! Owns every system call on a connection's descriptors. Must not know configuration, pools or protocols. Invariant: every
//! descriptor is nonblocking and close-on-exec.

pub mod event_loop;
pub mod socket;
pub mod splice;

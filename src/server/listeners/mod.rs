//! The listening sockets: those of the listeners, and those of the admin listeners.
//!
//! Owns binding, opening and closing. Must not know what is served. Invariant: a port opens only when something behind it
//! may serve.

mod admin;
pub(super) mod listen_state;
mod sockets;

pub use admin::AdminListenerError;
pub(super) use admin::{AdminListeners, PreparedAdminListeners};
pub use sockets::ListenError;
pub(super) use sockets::{PortSockets, Sockets};

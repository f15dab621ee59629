//! The admin listener: metrics, probes, the API and the status page; and the client that the commands use.
//!
//! Owns HTTP, who may send which request (`guard`), and the form of the responses ([`view`]). Must not know sessions, nor
//! how a request is carried out: that is behind [`Control`]. Invariant: without the token, where one is set, a client can
//! use `/metrics`, `/healthz` and `/readyz` only.

mod access;
mod affinity;
mod api;
mod caller;
pub mod client;
mod connections;
mod control;
mod forwarded_change;
mod guard;
mod page;
mod rendered;
mod response;
mod server;
mod set_state;
mod site;
mod socket;
mod target;
mod token;
mod unknown_name;
pub mod view;

pub use access::{AccessPolicy, EndpointSet};
pub use affinity::{AffinityError, AffinityErrorKind, client as parse_client};
pub use api::{ENDPOINTS, Endpoint};
pub use caller::{Caller, CallerKind};
pub use control::{
    Control, ExplainError, ForwardFuture, ReloadError, ReloadFuture, UpgradeError, UpgradeFuture,
};
pub use forwarded_change::ForwardedChange;
pub use guard::Access;
pub use rendered::RenderedMetrics;
pub use server::serve;
pub use set_state::{Fallback, LastBackendPolicy, LastInService, RequestedState, SetStateError};
pub use site::{AdminSite, RequestLimits};
pub use socket::{AdminListener, BindError};
pub use token::{Token, TokenError};
pub use unknown_name::UnknownName;

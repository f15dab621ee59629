//! The JSON of the API, from which `status` and `explain` print too.
//!
//! Owns the names and the meaning of its fields. `docs/api.md` lists them; they are stable: fields are added, never renamed.
//! Must not know where the values come from. Invariants: what is written is read back unchanged; a field without a value is
//! `null`, never left out.

mod affinity;
mod predecessor;

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::types::backend_state::{AdminState, Health};
use crate::types::timestamp::Timestamp;

pub use affinity::{
    AffinityChange, ClientPin, ClientPins, ClientQuery, PinAssignment, PinEntry, PinFilter,
    PinPage, PinResult, PinnedKey, PinsChanged,
};
pub use predecessor::{HeldBackend, PredecessorResult, PredecessorView, WithPredecessors};

/// The status of the balancer: `GET /api/v1/status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatusView {
    /// The version of the running program.
    pub version: String,
    /// When the process started.
    pub started: Timestamp,
    /// When the status was taken.
    pub now: Timestamp,
    /// Whether it has received the order to stop.
    pub stopping: bool,
    /// Whether at least one listener can serve, as `/readyz` reports.
    pub ready: bool,
    /// Worker threads.
    pub workers: u32,
    /// Open connections of all listeners.
    pub connections: u64,
    /// Limits in force.
    pub limits: LimitsView,
    /// In the order of the configuration.
    pub listeners: Vec<ListenerView>,
    /// In the order of the configuration.
    pub pools: Vec<PoolView>,
    /// One table for each group, sorted by the name of the group.
    pub affinity: Vec<AffinityTable>,
    /// Draining predecessors, which have connections from before an upgrade, the oldest first. No other field counts these
    /// connections.
    #[serde(default)]
    pub predecessors: Vec<PredecessorView>,
}

/// Limits; `null` is no limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitsView {
    /// Open connections; with `auto`, the resulting number.
    pub connections: Option<u64>,
    /// Open connections from one source.
    pub per_source: Option<u64>,
    /// New connections a second from one source.
    pub new_per_source_per_second: Option<u64>,
}

/// One listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerView {
    /// The key under `listeners`.
    pub name: String,
    /// The addresses it is bound to.
    pub bind: Vec<SocketAddr>,
    /// `tls`, `http` or `tcp`.
    pub protocol: String,
    /// Whether it accepts connections now.
    pub open: bool,
    /// Open connections.
    pub connections: u64,
    /// The routes, in the order of the configuration.
    pub routes: Vec<RouteView>,
    /// The pool of clients without a name; `null` if they are rejected.
    pub no_name: Option<String>,
    /// The pool of clients whose name matches no route; `null` if they are rejected.
    pub unknown_name: Option<String>,
    /// The one pool of a `tcp` listener.
    pub pool: Option<String>,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteView {
    /// Names and `*.suffix` patterns.
    pub names: Vec<String>,
    /// Their pool.
    pub pool: String,
}

/// One pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoolView {
    /// The key under `pools`.
    pub name: String,
    /// The balance policy for clients without a pin.
    pub balance: String,
    /// The group whose affinity table it shares; `null` without affinity.
    pub affinity_group: Option<String>,
    /// The pool that serves while no backend of this one is available.
    pub backup: Option<String>,
    /// Whether the pool or its backup can serve any client, including clients pinned to a draining backend.
    pub can_serve: bool,
    /// In the order of the configuration.
    pub backends: Vec<BackendView>,
}

/// One backend of one pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackendView {
    /// Unique in the pool.
    pub name: String,
    /// Host and port as configured.
    pub configured: String,
    /// The current address; `null` until the name has been resolved.
    pub address: Option<SocketAddr>,
    /// The configured weight.
    pub weight: u32,
    /// The weight now: lower during `slow_start`, 0 while the backend gets no new clients.
    pub effective_weight: f64,
    /// The administrative state: `ready`, `drain` or `maintain`.
    pub state: AdminState,
    /// When its drain ends; `null` in the other states.
    pub deadline: Option<Timestamp>,
    /// Seconds until its drain ends, 0 once it has; `null` in the other states.
    pub drain_seconds_left: Option<f64>,
    /// The health: `unknown`, `up` or `down`.
    pub health: Health,
    /// When the health last changed.
    pub since: Timestamp,
    /// The reason: the last results of its checks, or why it is held out of rotation although they pass.
    pub why: String,
    /// When flap damping ends for a backend that passes its checks; `null` for others.
    pub damped_until: Option<Timestamp>,
    /// Connections to it, including those being established.
    pub connections: u64,
    /// The limit of these; `null` is no limit.
    pub max_connections: Option<u64>,
    /// Bytes sent to it since the start.
    pub bytes_to_backend: u64,
    /// Bytes sent from it to clients since the start.
    pub bytes_to_client: u64,
    /// Pins to it from all pools of its group; `null` without affinity.
    pub pins: Option<u64>,
    /// The last result of each check.
    pub checks: Vec<CheckView>,
}

/// The last result of one check of one backend.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckView {
    /// Its name in the pool: `tcp:5061`, `https`.
    pub label: String,
    /// Whether it decides on the health of the backend, or is only observed.
    pub decides: bool,
    /// Whether the last check passed; `null` before the first result.
    pub passing: Option<bool>,
    /// Whether it counts as passing, by `rise` and `fall`; `null` before the first result.
    #[serde(default)]
    pub counts: Option<bool>,
    /// Consecutive results that contradict `counts`.
    #[serde(default)]
    pub against: u64,
    /// How many of these change `counts`: `fall` if it counts as passing, else `rise`.
    #[serde(default)]
    pub needed: u64,
    /// The result in words.
    pub detail: String,
    /// When `passing` last changed.
    pub since: Timestamp,
    /// When the last check ended.
    pub at: Timestamp,
    /// Duration of the last check.
    pub took_seconds: f64,
    /// End of validity of the certificate that the server sent.
    pub certificate_expiry: Option<Timestamp>,
}

/// The affinity table of one group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AffinityTable {
    /// Pools of one group share pins by backend name.
    pub group: String,
    /// Number of pins.
    pub entries: u64,
    /// Limit of pins.
    pub max_entries: u64,
}

/// The last events: `GET /api/v1/events`. Both lists are limited; the newest comes first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventsView {
    /// Health changes of backends.
    pub health: Vec<HealthEvent>,
    /// Rejected connections.
    pub refusals: Vec<RejectionView>,
}

/// A backend went up or down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthEvent {
    /// When.
    pub at: Timestamp,
    /// Its pool.
    pub pool: String,
    /// Its name there.
    pub backend: String,
    /// The new health: `up` or `down`.
    pub health: Health,
    /// The reason.
    pub why: String,
}

/// A connection was rejected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectionView {
    /// When.
    pub at: Timestamp,
    /// The listener.
    pub listener: String,
    /// The address of the client, as `log.client_address` allows.
    pub client: String,
    /// The requested name; `null` if there was none, or none that could be read.
    pub name: Option<String>,
    /// The outcome in the access log.
    pub outcome: String,
    /// Details beyond the outcome.
    pub detail: Option<String>,
}

/// A hypothetical client: `GET /api/v1/explain`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainQuery {
    /// The listener that it connects to.
    pub listener: String,
    /// The name that it sends, as typed; `None` for a client that sends none.
    pub name: Option<String>,
    /// Its address; an IPv4-mapped address is its IPv4 address.
    pub source: IpAddr,
}

/// The route, pool and backend that such a client would get. Nothing is connected or pinned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// As requested.
    pub listener: String,
    /// As requested.
    pub name: Option<String>,
    /// As requested.
    pub source: IpAddr,
    /// The configured name that matched, or `no_name`, `unknown_name` or `pool`; `null` if it is rejected before.
    pub route: Option<String>,
    /// The pool that it is routed to.
    pub pool: Option<String>,
    /// The backend that it would get now. Policies decide for each client separately.
    pub backend: Option<String>,
    /// The address of the backend.
    pub address: Option<SocketAddr>,
    /// Why this backend, as in the access log field `pick`.
    pub pick: Option<String>,
    /// The outcome of its rejection; `null` if it is served.
    pub refused: Option<String>,
    /// The pin of the client, whether it decides or not; `null` if there is none.
    pub pin: Option<PinEntry>,
    /// The steps of the decision, a sentence each.
    pub steps: Vec<String>,
}

/// The response to a change of a backend's state: the new state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateChanged {
    /// The backend's pool.
    pub pool: String,
    /// Its name there.
    pub backend: String,
    /// The previous state.
    pub before: AdminState,
    /// The new state.
    pub state: AdminState,
    /// When its drain ends; `null` in the other states.
    pub deadline: Option<Timestamp>,
    /// Connections to it, including those being established.
    pub connections: u64,
}

/// The response to a change of a backend's state in every pool that has a backend of that name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedEverywhere {
    /// The backend in each of the pools, in the order of the configuration.
    pub changed: Vec<WithPredecessors<StateChanged>>,
}

/// The body of `PUT /api/v1/pools/{pool}/backends/{backend}/state` and of `PUT /api/v1/backends/{backend}/state`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateChange {
    /// `ready`, `drain` or `maintain`.
    pub state: AdminState,
    /// Duration of a drain, such as `15m`; the default is `timeouts.drain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<String>,
    /// `false`: reject the request if the backend is the last one in service in a pool. The default is `true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force: Option<bool>,
}

/// The response to a reload that succeeded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// When the configuration came into force.
    pub at: Timestamp,
    /// The changes, a sentence each; empty if the file is unchanged.
    pub changes: Vec<String>,
    /// Suspicious settings, and settings that require a restart, a sentence each.
    pub warnings: Vec<String>,
}

/// The response to an upgrade that succeeded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Upgraded {
    /// When the new process took over.
    pub at: Timestamp,
    /// Its process id.
    pub pid: u32,
    /// Connections that remain in the old process.
    pub connections: u64,
    /// Seconds until it resets the remaining ones.
    pub drain_seconds: f64,
}

/// The body of an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The error; for a rejected reload all errors, as `lyncpin check` prints them.
    pub error: String,
}

//! What the admin listener answers: the JSON of the API, and what `status` and `explain` print from.
//!
//! Owns the names and the meaning of its fields, which `docs/api.md` lists and which are stable: fields are added,
//! never renamed. Knows nothing of where the values come from. Invariant: what is written is read back the same;
//! a field without a value is `null`, never left out.

mod affinity;
mod predecessor;

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::types::backend_state::{AdminState, Health};
use crate::types::timestamp::Timestamp;

pub use affinity::{
    AffinityChange, ClientPin, ClientPins, ClientQuery, PinEntry, PinFilter, PinOrder, PinPage,
    PinResult, PinnedKey, PinsChanged,
};
pub use predecessor::{HeldBackend, PredecessorAnswer, PredecessorView, Reached};

/// The balancer at one moment: `GET /api/v1/status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatusView {
    /// The version of the running program.
    pub version: String,
    /// When the process started.
    pub started: Timestamp,
    /// When this was taken.
    pub now: Timestamp,
    /// Whether it has been told to stop.
    pub stopping: bool,
    /// Whether some listener can serve, as `/readyz` says.
    pub ready: bool,
    /// Worker threads.
    pub workers: u32,
    /// Connections that live, over all listeners.
    pub connections: u64,
    /// Bounds in number, as in force.
    pub limits: LimitsView,
    /// In the order of the configuration.
    pub listeners: Vec<ListenerView>,
    /// In the order of the configuration.
    pub pools: Vec<PoolView>,
    /// One table a group, sorted by the group's name.
    pub affinity: Vec<AffinityTable>,
    /// Older processes that have connections from before an upgrade, the oldest first. These connections are counted
    /// nowhere else here.
    #[serde(default)]
    pub predecessors: Vec<PredecessorView>,
}

/// Bounds in number; `null` is no bound.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitsView {
    /// Connections at once; where the configuration says `auto`, what came of it.
    pub connections: Option<u64>,
    /// Connections at once from one source.
    pub per_source: Option<u64>,
    /// New connections a second from one source.
    pub new_per_source_per_second: Option<u64>,
}

/// One listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerView {
    /// The key under `listeners`.
    pub name: String,
    /// The addresses that it is bound to.
    pub bind: Vec<SocketAddr>,
    /// `tls`, `http` or `tcp`.
    pub protocol: String,
    /// Whether it takes connections now.
    pub open: bool,
    /// Connections that live.
    pub connections: u64,
    /// Which name leads where, in the order of the configuration.
    pub routes: Vec<RouteView>,
    /// The pool of clients that name nothing; `null` where they are refused.
    pub no_name: Option<String>,
    /// The pool of clients whose name is in no route; `null` where they are refused.
    pub unknown_name: Option<String>,
    /// The one pool of a `tcp` listener.
    pub pool: Option<String>,
}

/// Names that lead to one pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteView {
    /// Names and `*.suffix` patterns.
    pub names: Vec<String>,
    /// Where they lead.
    pub pool: String,
}

/// One pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoolView {
    /// The key under `pools`.
    pub name: String,
    /// The policy that places clients without a pin.
    pub balance: String,
    /// The group whose affinity table it shares; `null` where it has no affinity.
    pub affinity_group: Option<String>,
    /// The pool that serves while nothing here is available.
    pub backup: Option<String>,
    /// Whether any client can be served, a pinned one of a backend that drains included, in the pool or its backup.
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
    /// Where connections go now; `null` while the name has never been resolved.
    pub address: Option<SocketAddr>,
    /// Its share under the policy, as configured.
    pub weight: u32,
    /// Its share now: less while `slow_start` lets it grow, 0 while it takes no new client.
    pub effective_weight: f64,
    /// What the administrator wants: `ready`, `drain` or `maintain`.
    pub state: AdminState,
    /// When its drain ends; `null` in the other states.
    pub deadline: Option<Timestamp>,
    /// Seconds until its drain ends, 0 once it has; `null` in the other states.
    pub drain_seconds_left: Option<f64>,
    /// What the checks say: `unknown`, `up` or `down`.
    pub health: Health,
    /// When health last changed.
    pub since: Timestamp,
    /// Why it is so by what its checks saw last, or why it is kept out though they pass, in words.
    pub why: String,
    /// When a backend is taken back that passes its checks and is kept out for its falls; `null` for others.
    pub damped_until: Option<Timestamp>,
    /// Connections that it holds or that are on their way to it.
    pub connections: u64,
    /// Bound of those; `null` is none.
    pub max_connections: Option<u64>,
    /// Bytes moved to it since the start.
    pub bytes_to_backend: u64,
    /// Bytes moved from it to clients since the start.
    pub bytes_to_client: u64,
    /// Pins that lead to it, from every pool of its group; `null` where the pool has no affinity.
    pub pins: Option<u64>,
    /// What each check last saw.
    pub checks: Vec<CheckView>,
}

/// The last result of one check of one backend.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckView {
    /// Its name in the pool: `tcp:5061`, `https`.
    pub label: String,
    /// Whether it takes the backend up and down, or is only observed.
    pub decides: bool,
    /// What the last result was; `null` before the first.
    pub passing: Option<bool>,
    /// What it counts as, by `rise` and `fall`; `null` before the first result.
    #[serde(default)]
    pub counts: Option<bool>,
    /// Results in a row that contradict what it counts as.
    #[serde(default)]
    pub against: u64,
    /// How many of these turn it: `fall` where it counts as passing, else `rise`.
    #[serde(default)]
    pub needed: u64,
    /// What was seen, in words.
    pub detail: String,
    /// When `passing` last changed.
    pub since: Timestamp,
    /// When the last result came.
    pub at: Timestamp,
    /// How long the last check took.
    pub took_seconds: f64,
    /// End of validity of the certificate that was seen.
    pub certificate_expiry: Option<Timestamp>,
}

/// The affinity table of one group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AffinityTable {
    /// Pools of one group share pins by backend name.
    pub group: String,
    /// Pins that it holds.
    pub entries: u64,
    /// Pins that it may hold.
    pub max_entries: u64,
}

/// What happened last: `GET /api/v1/events`. Both lists are bounded, and the newest stands first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventsView {
    /// Ups and downs of backends.
    pub health: Vec<HealthEvent>,
    /// Connections that were refused.
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
    /// What it became: `up` or `down`.
    pub health: Health,
    /// Why, in words.
    pub why: String,
}

/// A connection was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectionView {
    /// When.
    pub at: Timestamp,
    /// The listener that it came to.
    pub listener: String,
    /// Where it came from, as `log.client_address` has it.
    pub client: String,
    /// The name that it asked for; `null` where it sent none or none could be read.
    pub name: Option<String>,
    /// The outcome that the access log shows.
    pub outcome: String,
    /// Why, where there is more to say than the outcome.
    pub detail: Option<String>,
}

/// A client that someone asks about: `GET /api/v1/explain`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainQuery {
    /// The listener that it would come to.
    pub listener: String,
    /// The name that it would send, as typed; `None` is a client that sends none.
    pub name: Option<String>,
    /// Where it would come from; an IPv4-mapped address is its IPv4 address.
    pub source: IpAddr,
}

/// What would become of such a client, decided without placing or pinning it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// As asked.
    pub listener: String,
    /// As asked.
    pub name: Option<String>,
    /// As asked.
    pub source: IpAddr,
    /// The configured name that matched, or `no_name`, `unknown_name` or `pool`; `null` where it is refused before.
    pub route: Option<String>,
    /// The pool that it is routed to.
    pub pool: Option<String>,
    /// The backend that it would get. Policies decide anew for every client: this is what they say now.
    pub backend: Option<String>,
    /// Where that backend is.
    pub address: Option<SocketAddr>,
    /// Why this backend, in the words of the access log's `pick`.
    pub pick: Option<String>,
    /// The outcome that the access log would show if it is refused; `null` where it is served.
    pub refused: Option<String>,
    /// The client's pin, whether it decides or not; `null` where there is none.
    pub pin: Option<PinEntry>,
    /// How it came to that, a sentence a step.
    pub steps: Vec<String>,
}

/// The answer to a change of a backend's state: the backend as it now is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateChanged {
    /// The backend's pool.
    pub pool: String,
    /// Its name there.
    pub backend: String,
    /// What it was.
    pub before: AdminState,
    /// What it is now.
    pub state: AdminState,
    /// When its drain ends; `null` in the other states.
    pub deadline: Option<Timestamp>,
    /// Connections that it holds or that are on their way to it.
    pub connections: u64,
}

/// The answer to a change of a backend's state in every pool that has one of that name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedEverywhere {
    /// The backend in each of the pools, in the order of the configuration.
    pub changed: Vec<Reached<StateChanged>>,
}

/// The body of `PUT /api/v1/pools/{pool}/backends/{backend}/state` and of `PUT /api/v1/backends/{backend}/state`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateChange {
    /// `ready`, `drain` or `maintain`.
    pub state: AdminState,
    /// How long a drain may last, such as `15m`; without it `timeouts.drain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<String>,
    /// `false`: the last backend of a pool that is in service stays. Without it, nothing is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force: Option<bool>,
}

/// The answer to a reload that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// When it came into force.
    pub at: Timestamp,
    /// What it changes, a sentence each; none where the file says what is in force.
    pub changes: Vec<String>,
    /// What is hardly meant, or is not in force before a restart, a sentence each.
    pub warnings: Vec<String>,
}

/// The answer to an upgrade that was done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Upgraded {
    /// When the new process took over.
    pub at: Timestamp,
    /// Its process id.
    pub pid: u32,
    /// Connections that the old process still has.
    pub connections: u64,
    /// Seconds after which it resets what is left of them.
    pub drain_seconds: f64,
}

/// The body of every answer that is an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// One cause, lower case, no full stop; of a rejected reload all of them, as `lyncpin check` prints them.
    pub error: String,
}

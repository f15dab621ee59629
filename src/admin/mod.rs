//! The admin listener: metrics, probes and the API, and the client that the command line asks it with.
//!
//! Owns HTTP, who may ask what (`guard`), and the form of the answers ([`view`]). Must not know sessions, nor how
//! what is asked is found or done: that is behind [`Control`]. Invariant: without the token, where one is set, nobody
//! learns or changes anything but through `/metrics`, `/healthz` and `/readyz`.

mod access;
mod affinity;
mod api;
mod caller;
pub mod client;
mod connections;
mod guard;
mod order;
mod page;
mod rendered;
mod response;
mod server;
mod socket;
mod state;
mod target;
mod token;
mod unknown;
pub mod view;

use std::fmt;
use std::pin::Pin;

use view::{
    ClientPins, ClientQuery, EventsView, ExplainQuery, Explanation, PinFilter, PinOrder, PinPage,
    PinResult, PinsChanged, PredecessorAnswer, Reloaded, StateChanged, StatusView, Upgraded,
};

pub use access::{AccessTerms, Served};
pub use affinity::{AffinityError, AffinityErrorKind, client as parse_client};
pub use api::{ENDPOINTS, Endpoint};
pub use caller::{Caller, Means};
pub use guard::Access;
pub use order::Order;
pub use rendered::RenderedMetrics;
pub use server::{AdminSite, RequestLimits, serve};
pub use socket::{AdminListener, BindError};
pub use state::{Last, LastBackend, ServesInstead, SetStateError, WantedState};
pub use token::{Token, TokenError};
pub use unknown::Unknown;

/// What comes of a reload.
pub type Reloading = Pin<Box<dyn Future<Output = Result<Reloaded, ReloadError>> + Send>>;

/// What comes of an upgrade.
pub type Upgrading = Pin<Box<dyn Future<Output = Result<Upgraded, UpgradeError>> + Send>>;

/// What became of a change in older processes.
pub type Forwarding = Pin<Box<dyn Future<Output = Vec<PredecessorAnswer>> + Send>>;

/// What the admin listener asks of the balancer. Every call answers from what is known, and at once unless it says
/// otherwise.
pub trait Control: Send + Sync + 'static {
    /// The balancer as it is now.
    fn status(&self) -> StatusView;

    /// The last ups and downs of backends and the last refusals.
    fn events(&self) -> EventsView;

    /// What would become of such a client.
    ///
    /// # Errors
    ///
    /// When the question names what does not exist.
    fn explain(&self, query: &ExplainQuery) -> Result<Explanation, ExplainError>;

    /// Sets the administrative state of a backend in one pool, or without `pool` in every pool that has a backend of that
    /// name: in all of them or in none. What comes back has an entry for each.
    ///
    /// # Errors
    ///
    /// When there is no such pool or backend, or it is the last one in service and stays.
    fn set_state(
        &self,
        pool: Option<&str>,
        backend: &str,
        wanted: &WantedState,
    ) -> Result<Vec<StateChanged>, SetStateError>;

    /// At most `most` of the pins that fit, from `cursor` on, which the page before gave; `None` is the beginning.
    ///
    /// # Errors
    ///
    /// When the filter names what does not exist or cannot fit, or the cursor is of no page.
    fn pins(
        &self,
        filter: &PinFilter,
        cursor: Option<&str>,
        most: usize,
    ) -> Result<PinPage, AffinityError>;

    /// Every pin that counts for a client. This, [`Control::move_pins`] and [`Control::clear_pins`] look at whole tables,
    /// which takes a moment, and may be called on any thread.
    ///
    /// # Errors
    ///
    /// When the question names what does not exist.
    fn client_pins(&self, query: &ClientQuery) -> Result<ClientPins, AffinityError>;

    /// Makes a pin, or lets one lead elsewhere; connections stay as they are.
    ///
    /// # Errors
    ///
    /// When the order names what does not exist or leaves open which pin is meant, or the table has no room.
    fn pin(&self, order: &PinOrder) -> Result<PinResult, AffinityError>;

    /// Lets the pins that fit lead to the backend `to`, and resets the connections that hold them.
    ///
    /// # Errors
    ///
    /// When something named does not exist or cannot fit, or more than one group has such a backend.
    fn move_pins(&self, filter: &PinFilter, to: &str) -> Result<PinsChanged, AffinityError>;

    /// Forgets the pins that fit; connections stay as they are.
    ///
    /// # Errors
    ///
    /// When the filter names what does not exist or cannot fit.
    fn clear_pins(&self, filter: &PinFilter) -> Result<PinsChanged, AffinityError>;

    /// Passes a change that was made here on to older processes, which have connections from before an upgrade, and waits
    /// for their answers, a few seconds at most.
    fn forward(&self, order: Order) -> Forwarding {
        let _ = order;
        Box::pin(std::future::ready(Vec::new()))
    }

    /// Reads the configuration again and brings it into force. The one call that takes its time.
    fn reload(&self) -> Reloading;

    /// Starts the program anew and hands everything over to it. Takes its time, too.
    fn upgrade(&self) -> Upgrading;

    /// Whether some listener can serve.
    fn can_serve(&self) -> bool;

    /// Whether the process has been told to end.
    fn stopping(&self) -> bool;

    /// Every series of the balancer in the Prometheus text format; those of the process are added to them.
    fn metrics(&self) -> String;
}

/// Why nothing can be explained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExplainError {
    /// No listener has this name.
    UnknownListener(Unknown),
}

impl fmt::Display for ExplainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownListener(listener) => write!(
                f,
                "there is no listener {:?}{}",
                listener.name(),
                listener.instead("listener")
            ),
        }
    }
}

impl std::error::Error for ExplainError {}

/// Why a configuration was not reloaded; what was in force before still is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReloadError {
    /// It has faults: all of them, as `lyncpin check` prints them.
    Rejected(String),
    /// The balancer was started without a file.
    NoFile,
    /// The balancer is stopping.
    Stopping,
    /// An upgrade is under way: the new process reads the file itself.
    Upgrading,
}

impl fmt::Display for ReloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(faults) => f.write_str(faults),
            Self::NoFile => {
                f.write_str("there is no file to reload: the balancer was started without one")
            }
            Self::Stopping => f.write_str("the balancer is stopping"),
            Self::Upgrading => f.write_str("an upgrade is under way; ask again in a moment"),
        }
    }
}

impl std::error::Error for ReloadError {}

/// Why nothing was handed over to a new process; this one goes on as if nothing had been.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpgradeError {
    /// The new process did not come up whole: why.
    Failed(String),
    /// Another upgrade is under way.
    UnderWay,
    /// It is no process that `lyncpin run` has started.
    NoProgram,
    /// It could not find out at its start which program runs: why.
    UnknownProgram(String),
    /// The balancer is stopping, or has handed over already.
    Stopping,
}

impl fmt::Display for UpgradeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(why) => f.write_str(why),
            Self::UnderWay => f.write_str("an upgrade is under way already"),
            Self::NoProgram => {
                f.write_str("this balancer cannot be upgraded: it was not started by `lyncpin run`")
            }
            Self::UnknownProgram(why) => write!(
                f,
                "this balancer cannot be upgraded: the kernel did not say at the start which program it is ({why}); is /proc mounted?"
            ),
            Self::Stopping => f.write_str("the balancer is stopping"),
        }
    }
}

impl std::error::Error for UpgradeError {}

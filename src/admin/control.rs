//! The balancer, as the admin listener sees it.
//!
//! Owns the trait and its errors. Must not know how a call is carried out. Invariant: a call returns at once, unless its
//! comment says otherwise.

use std::fmt;
use std::pin::Pin;

use super::affinity::AffinityError;
use super::forwarded_change::ForwardedChange;
use super::set_state::{RequestedState, SetStateError};
use super::unknown_name::UnknownName;
use super::view::{
    ClientPins, ClientQuery, EventsView, ExplainQuery, Explanation, PinAssignment, PinFilter,
    PinPage, PinResult, PinsChanged, PredecessorResult, Reloaded, StateChanged, StatusView,
    Upgraded,
};

/// The result of a reload.
pub type ReloadFuture = Pin<Box<dyn Future<Output = Result<Reloaded, ReloadError>> + Send>>;

/// The result of an upgrade.
pub type UpgradeFuture = Pin<Box<dyn Future<Output = Result<Upgraded, UpgradeError>> + Send>>;

/// The results of a change in the draining predecessors.
pub type ForwardFuture = Pin<Box<dyn Future<Output = Vec<PredecessorResult>> + Send>>;

/// The balancer, as the admin listener sees it.
pub trait Control: Send + Sync + 'static {
    /// The status of the balancer.
    fn status(&self) -> StatusView;

    /// The last health changes of backends and the last rejected connections.
    fn events(&self) -> EventsView;

    /// The route, pool and backend that a client would get.
    ///
    /// # Errors
    ///
    /// When the query names something that does not exist.
    fn explain(&self, query: &ExplainQuery) -> Result<Explanation, ExplainError>;

    /// Sets the administrative state of a backend in one pool, or without `pool` in every pool that has a backend of that
    /// name: in all of them or in none. The result has an entry for each pool.
    ///
    /// # Errors
    ///
    /// When there is no such pool or backend, or the backend is the last one in service and protected.
    fn set_state(
        &self,
        pool: Option<&str>,
        backend: &str,
        wanted: &RequestedState,
    ) -> Result<Vec<StateChanged>, SetStateError>;

    /// At most `most` of the pins that match, starting at `cursor`, which the previous page returned; `None` is the first
    /// page.
    ///
    /// # Errors
    ///
    /// When the filter names something that does not exist or cannot match, or the cursor is invalid.
    fn pins(
        &self,
        filter: &PinFilter,
        cursor: Option<&str>,
        most: usize,
    ) -> Result<PinPage, AffinityError>;

    /// Every pin that applies to a client. This call, [`Control::move_pins`] and [`Control::clear_pins`] scan whole tables.
    /// That takes a while; they may be called on any thread.
    ///
    /// # Errors
    ///
    /// When the query names something that does not exist.
    fn client_pins(&self, query: &ClientQuery) -> Result<ClientPins, AffinityError>;

    /// Creates a pin, or changes the backend of an existing one. Connections stay as they are.
    ///
    /// # Errors
    ///
    /// When something named does not exist, the pin is ambiguous, or the table is full.
    fn pin(&self, order: &PinAssignment) -> Result<PinResult, AffinityError>;

    /// Moves the pins that match to the backend `to`, and resets the connections that hold them.
    ///
    /// # Errors
    ///
    /// When something named does not exist or cannot match, or more than one group has such a backend.
    fn move_pins(&self, filter: &PinFilter, to: &str) -> Result<PinsChanged, AffinityError>;

    /// Removes the pins that match. Connections stay as they are.
    ///
    /// # Errors
    ///
    /// When the filter names something that does not exist or cannot match.
    fn clear_pins(&self, filter: &PinFilter) -> Result<PinsChanged, AffinityError>;

    /// Forwards a change that was made here to the draining predecessors, which have connections from before an upgrade.
    /// Waits for their responses, a few seconds at most.
    fn forward(&self, order: ForwardedChange) -> ForwardFuture {
        let _ = order;
        Box::pin(std::future::ready(Vec::new()))
    }

    /// Reloads the configuration. Takes as long as files, names and sockets need.
    fn reload(&self) -> ReloadFuture;

    /// Starts the installed binary and transfers sockets and state to it. Takes as long as the new process needs.
    fn upgrade(&self) -> UpgradeFuture;

    /// Whether at least one listener can serve.
    fn can_serve(&self) -> bool;

    /// Whether the process has received the order to stop.
    fn is_stopping(&self) -> bool;

    /// All series of the balancer in the Prometheus text format, without the `process_*` series.
    fn metrics(&self) -> String;
}

/// Why an explanation failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExplainError {
    /// No listener has this name.
    UnknownListener(UnknownName),
}

impl fmt::Display for ExplainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownListener(listener) => write!(
                f,
                "there is no listener {:?}{}",
                listener.name(),
                listener.suggestion("listener")
            ),
        }
    }
}

impl std::error::Error for ExplainError {}

/// Why a configuration was not reloaded. The one before stays in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReloadError {
    /// The configuration has these errors, as `lyncpin check` prints them.
    Rejected(String),
    /// The balancer was started without a file.
    NoFile,
    /// The balancer is stopping.
    Stopping,
    /// An upgrade is under way: the new process reads the file itself.
    UpgradeInProgress,
}

impl fmt::Display for ReloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(errors) => f.write_str(errors),
            Self::NoFile => f.write_str(
                "there is no file to reload: the balancer was started without a configuration file",
            ),
            Self::Stopping => f.write_str("the balancer is stopping"),
            Self::UpgradeInProgress => {
                f.write_str("an upgrade is under way; try again in a moment")
            }
        }
    }
}

impl std::error::Error for ReloadError {}

/// Why an upgrade failed. The running process continues unchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpgradeError {
    /// The new process failed to start, for this reason.
    Failed(String),
    /// Another upgrade is under way.
    InProgress,
    /// The process was not started by `lyncpin run`.
    NotUpgradable,
    /// The process could not determine its binary at the start, for this reason.
    UnknownProgram(String),
    /// The balancer is stopping, or has already been upgraded.
    Stopping,
}

impl fmt::Display for UpgradeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(why) => f.write_str(why),
            Self::InProgress => f.write_str("another upgrade is already under way"),
            Self::NotUpgradable => {
                f.write_str("this balancer cannot be upgraded: it was not started by `lyncpin run`")
            }
            Self::UnknownProgram(why) => write!(
                f,
                "this balancer cannot be upgraded: it could not determine its own binary at the start ({why}); check that /proc is mounted"
            ),
            Self::Stopping => f.write_str("the balancer is stopping"),
        }
    }
}

impl std::error::Error for UpgradeError {}

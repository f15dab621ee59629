//! What an admin listener serves, and how much one client may take of it.
//!
//! Owns the limits of a client. Must not know endpoints. Invariant: everything that a client can hold has a limit.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::access::AccessPolicy;
use super::control::Control;
use super::rendered::RenderedMetrics;

/// The limits of the clients of one listener.
#[derive(Debug, Clone, Copy)]
pub struct RequestLimits {
    /// Time to send the head of a request, counted from the end of the request before.
    pub head_timeout: Duration,
    /// Time to send the body of a request.
    pub body_timeout: Duration,
    /// Time from accept until the connection has to end.
    pub lifetime: Duration,
    /// Number of connections. When it is reached, the next connection replaces the one that has kept the listener waiting
    /// longest.
    pub connections: usize,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self {
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(10),
            lifetime: Duration::from_secs(300),
            connections: 64,
        }
    }
}

/// Everything that the requests of one listener need.
pub struct AdminSite {
    /// The balancer.
    pub control: Arc<dyn Control>,
    /// Who may send requests, and to which endpoints.
    pub access: AccessPolicy,
    /// Limits of each client.
    pub limits: RequestLimits,
    /// The last rendering of the metrics.
    pub rendered: RenderedMetrics,
    /// Cancelled when the listener has to stop accepting. Open connections stay.
    pub closed: CancellationToken,
}

//! Draining: the life of a process after it has handed over.
//!
//! Owns when it ends: with its last connection, at the end of `timeouts.drain`, or when the service stops. Knows no signal.
//! Invariant: until then it answers the process that serves.

use std::future::pending;
use std::pin::pin;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::orders::{Draining, HandedOver, OrderTask, SuccessorStatus};
use crate::server::Server;
use crate::server::running::Running;
use crate::server::stop::{self, StopDeadline};

/// Between two checks for the last connection.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// A process that has handed over and drains.
pub struct DrainingServer {
    server: Server,
    /// `None` if the supervisor panicked.
    running: Option<Running>,
    orders: Option<OrderTask>,
    until: Instant,
}

impl DrainingServer {
    /// To be called once another process has taken over: the supervisor has ended, or is about to.
    pub(in crate::server) async fn start(mut server: Server, stays: bool) -> Self {
        let drain = server.state.proxy.snapshot.load().config.timeouts.drain;
        let until = Instant::now() + drain;
        let finished = (&mut server.supervisor).await.ok();
        let (running, handed_over) = match finished {
            Some(finished) => (Some(finished.running), finished.handed_over),
            None => (None, None),
        };
        let draining = Draining {
            state: server.state.clone(),
            until,
        };
        Self {
            orders: handed_over.map(|over| OrderTask::start(over, Some(draining), stays)),
            server,
            running,
            until,
        }
    }

    /// What is known of the processes that have taken over since; `None` where they cannot be reached.
    #[must_use]
    pub fn successor_status(&self) -> Option<watch::Receiver<SuccessorStatus>> {
        self.orders.as_ref().map(OrderTask::status)
    }

    /// Drains until the last connection has ended or `timeouts.drain` is over, then resets the remaining connections. If
    /// the service stops, connections get as long to end as those of the serving process. `at_once` cuts all of that short.
    /// Returns the process without connections, which still answers the process that serves.
    pub async fn finish(self, at_once: impl Future<Output = ()>) -> DrainedServer {
        let Self {
            server,
            running,
            mut orders,
            until,
        } = self;
        let mut status = orders.as_ref().map(OrderTask::status);
        let proxy = server.state.proxy.clone();
        let last_connection = async {
            while proxy.limits.connections() > 0 {
                sleep(CHECK_INTERVAL).await;
            }
        };
        let mut at_once = pin!(at_once);
        let shutdown = tokio::select! {
            () = last_connection => None,
            () = sleep_until(until) => None,
            () = &mut at_once => None,
            within = service_stops(&mut status) => Some(within),
        };
        let (mut deadline, shutdown) = match shutdown {
            Some(within) => (StopDeadline::new(at_once), within),
            None => (StopDeadline::new(pending()), Duration::ZERO),
        };
        stop::end_connections(&server.state, server.workers, &mut deadline, shutdown).await;
        if let Some(running) = running {
            stop::finish(running, &mut deadline).await;
        }
        if let Some(orders) = &mut orders {
            orders.release();
        }
        DrainedServer(orders)
    }
}

/// Completes when the serving process stops; returns the time that connections get to end.
async fn service_stops(status: &mut Option<watch::Receiver<SuccessorStatus>>) -> Duration {
    let stops = match status {
        Some(status) => status
            .wait_for(|status| status.stopping_within.is_some())
            .await
            .ok(),
        None => None,
    };
    match stops.and_then(|status| status.stopping_within) {
        Some(within) => within,
        None => pending().await,
    }
}

/// A process that has handed over and has no connections any more. It answers the process that serves for as long as this
/// is held.
pub struct DrainedServer(Option<OrderTask>);

impl DrainedServer {
    pub(in crate::server) fn new(over: HandedOver) -> Self {
        Self(Some(OrderTask::start(over, None, true)))
    }

    /// What is known of the processes that have taken over since.
    #[must_use]
    pub fn successor_status(&self) -> watch::Receiver<SuccessorStatus> {
        match &self.0 {
            Some(orders) => orders.status(),
            None => watch::channel(SuccessorStatus::default()).1,
        }
    }

    /// Ends the last tasks of the balancer.
    pub async fn stop(self) {
        if let Some(orders) = self.0 {
            orders.stop().await;
        }
    }
}

//! A process that has handed over, from then on.
//!
//! Owns when it ends: with its last connection, at the end of `timeouts.drain`, or when the service stops. Knows no signal.
//! Invariant: until then it answers the process that serves.

use std::future::pending;
use std::pin::pin;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::draining::{Answering, Draining, HandedOver, Heard};
use super::patience::Patience;
use super::reload::Left;
use super::{LAST_WORDS, Server};

/// Between two looks for the last connection.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A process that has handed over.
pub struct Retiring {
    server: Server,
    left: Option<Left>,
    answering: Option<Answering>,
    until: Instant,
}

impl Server {
    /// To be called when another process has taken over. `stays` says whether this one goes on to live without a
    /// connection, for as long as any serves.
    pub async fn retire(mut self, stays: bool) -> Retiring {
        let drain = self.shared.snapshot.load().config.timeouts.drain;
        let until = Instant::now() + drain;
        // It has ended, or panicked, and then nothing is left.
        let mut left = (&mut self.reloader).await.ok();
        let over = left.as_mut().and_then(|left| left.handed_over.take());
        let draining = Draining {
            control: self.control.clone(),
            retired: self.retired.clone(),
            until,
        };
        Retiring {
            answering: over.map(|over| Answering::start(over, Some(draining), stays)),
            server: self,
            left,
            until,
        }
    }
}

impl Retiring {
    /// What is heard of the processes that serve after this one; `None` where nothing can be.
    #[must_use]
    pub fn heard(&self) -> Option<watch::Receiver<Heard>> {
        self.answering.as_ref().map(Answering::heard)
    }

    /// Lives on for the connections: until the last has ended, or for `timeouts.drain`, then resets what is left. When the service
    /// stops, connections get as long to end as those of the serving process. `at_once` cuts all that short. What comes back still answers the process that serves,
    /// while it lives.
    pub async fn end(self, at_once: impl Future<Output = ()>) -> Ended {
        let Self {
            server,
            left,
            answering,
            until,
        } = self;
        let mut heard = answering.as_ref().map(Answering::heard);
        let shared = server.shared.clone();
        let alone = async {
            while shared.limits.connections() > 0 {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        let stops = async {
            let told = match &mut heard {
                Some(heard) => heard.wait_for(|heard| heard.stops.is_some()).await.ok(),
                None => None,
            };
            match told.and_then(|heard| heard.stops) {
                Some(within) => within,
                None => pending().await,
            }
        };
        let mut at_once = pin!(at_once);
        let in_order = tokio::select! {
            () = alone => None,
            () = sleep_until(until) => None,
            () = &mut at_once => None,
            within = stops => Some(within),
        };
        let (mut patience, shutdown) = match in_order {
            Some(within) => (Patience::new(at_once, LAST_WORDS), within),
            None => (Patience::new(pending(), LAST_WORDS), Duration::ZERO),
        };
        // What the reloading task gives back is here already.
        drop(server.end_connections(&mut patience, shutdown).await);
        if let Some(left) = left {
            left.end(&mut patience).await;
        }
        if let Some(answering) = &answering {
            answering.let_go();
        }
        Ended(answering)
    }
}

/// A process that has handed over and has no connection any more. It goes on to answer the process that serves for as long
/// as this is held.
pub struct Ended(Option<Answering>);

impl Ended {
    pub(super) fn new(over: HandedOver) -> Self {
        Self(Some(Answering::start(over, None, true)))
    }

    /// What is heard of the processes that serve after this one.
    #[must_use]
    pub fn heard(&self) -> watch::Receiver<Heard> {
        match &self.0 {
            Some(answering) => answering.heard(),
            None => watch::channel(Heard::default()).1,
        }
    }
}

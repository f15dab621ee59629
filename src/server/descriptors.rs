//! Descriptors: how many there are, and what they are spent on.
//!
//! Invariant: a connection is only let in where the two descriptors that it needs are there, unless the configuration
//! insists, which is warned of.

use crate::config::model;
use crate::config::{Capacity, FEW_CONNECTIONS, Uses};
use crate::net::splice::{Allowance, Budget};
use crate::system::reserve;

/// So many times fewer pipes than there could be are worth a word.
const FEW_PIPES: usize = 4;

/// What there is for connections and pipes, beside the listening sockets.
pub(super) struct Descriptors {
    all: u64,
    workers: usize,
    pipes: Budget,
    allowance: Allowance,
}

impl Descriptors {
    /// What this process may have, with as many pipes as the kernel lets each worker have.
    pub(super) fn of(workers: usize, pipes: Budget) -> Self {
        Self {
            all: reserve::hold_back(),
            workers,
            pipes,
            allowance: Allowance::of(pipes),
        }
    }

    /// Of threads that relay.
    pub(super) fn workers(&self) -> usize {
        self.workers
    }

    /// The pipes that each worker may have, as [`Descriptors::share`] has it.
    pub(super) fn allowance(&self) -> Allowance {
        self.allowance.clone()
    }

    /// Shares them out beside so many listening sockets, and gives the bound of connections. Warns where there are few.
    pub(super) fn share(&self, configured: &model::LimitSettings, listening: usize) -> u32 {
        let uses = Uses {
            listening,
            workers: self.workers,
            pipes: self.pipes.pipes,
        };
        let Capacity { connections, pipes } = Capacity::of(
            self.all.saturating_sub(reserve::of(self.all)),
            uses,
            configured.connections,
        );
        self.allowance.set(pipes);
        let (descriptors, allowed) = (self.all, connections);
        match configured.connections {
            Some(most) if most > allowed => tracing::warn!(
                target: "lyncpin::server", limit = most, allowed, descriptors,
                "limits.connections is more than the descriptors allow: raise LimitNOFILE"
            ),
            None if allowed < FEW_CONNECTIONS => tracing::warn!(
                target: "lyncpin::server", allowed, descriptors, pipes,
                "the limit of descriptors allows few connections: raise LimitNOFILE"
            ),
            Some(_) | None if pipes < self.pipes.pipes / FEW_PIPES => tracing::warn!(
                target: "lyncpin::server", pipes, descriptors,
                "the limit of descriptors leaves each worker few pipes, and streams without one are copied, which takes more \
                 processor time: raise LimitNOFILE"
            ),
            Some(_) | None => {}
        }
        configured.connections.unwrap_or(allowed)
    }
}

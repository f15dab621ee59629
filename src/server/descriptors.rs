//! Descriptors: how many there are, and how they are shared out.
//!
//! Owns the limit of connections and the number of pipes that follow from it. Knows no connection. Invariant: a connection is
//! admitted only if its two descriptors are available, unless `limits.connections` is set higher, which is logged as a
//! warning.

mod pipes;

use crate::config::model;
use crate::config::{Capacity, DescriptorUses, FEW_CONNECTIONS};
use crate::net::splice::{PipeAllowance, PipeBudget};
use crate::system::reserve;

/// Pipes are logged as few when there could be this many times more.
const FEW_PIPES: usize = 4;

/// The descriptors of this process, and the workers that use them.
pub(super) struct Descriptors {
    all: u64,
    workers: usize,
    pipes: PipeBudget,
    allowance: PipeAllowance,
}

impl Descriptors {
    /// The descriptors that this process may have, with as many pipes as the kernel allows each worker.
    pub(super) fn of(workers: usize) -> Self {
        let pipes = pipes::budget(workers);
        Self {
            all: reserve::establish(),
            workers,
            pipes,
            allowance: PipeAllowance::of(pipes),
        }
    }

    /// The number of worker threads.
    pub(super) fn workers(&self) -> usize {
        self.workers
    }

    /// The pipes that each worker may have, as [`Descriptors::share`] last set it.
    pub(super) fn allowance(&self) -> PipeAllowance {
        self.allowance.clone()
    }

    /// Shares them out beside `listening` sockets, and returns the limit of connections. Logs a warning if there are few.
    pub(super) fn share(&self, configured: &model::LimitSettings, listening: usize) -> u32 {
        let uses = DescriptorUses {
            listening,
            workers: self.workers,
            pipes: self.pipes.pipes,
        };
        let Capacity { connections, pipes } = Capacity::of(
            self.all.saturating_sub(reserve::size_for(self.all)),
            uses,
            configured.connections,
        );
        self.allowance.set(pipes);
        let (descriptors, allowed) = (self.all, connections);
        match configured.connections {
            Some(most) if most > allowed => tracing::warn!(
                target: "lyncpin::server", limit = most, allowed, descriptors,
                "limits.connections exceeds what the descriptor limit allows: raise LimitNOFILE"
            ),
            None if allowed < FEW_CONNECTIONS => tracing::warn!(
                target: "lyncpin::server", allowed, descriptors, pipes,
                "the descriptor limit allows few connections: raise LimitNOFILE"
            ),
            Some(_) | None if pipes < self.pipes.pipes / FEW_PIPES => tracing::warn!(
                target: "lyncpin::server", pipes, descriptors,
                "the descriptor limit leaves few pipes for each worker, and streams without a pipe are copied, which takes more \
                 processor time: raise LimitNOFILE"
            ),
            Some(_) | None => {}
        }
        configured.connections.unwrap_or(allowed)
    }
}

//! How many pipes a worker may have, and how large they are.
//!
//! Owns the arithmetic and the limit that all workers share. Makes no system call. Invariant: no pipe is asked to be smaller
//! than [`MIN_PIPE_SIZE`].

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::MIN_PIPE_SIZE;

/// The pipes that a worker may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PipeBudget {
    /// Number of pipes, in use and spare. Streams whose reader has stalled keep theirs, and must not use up the descriptors
    /// that are reserved for connections.
    pub pipes: usize,
    /// Size of each, in bytes.
    pub size: usize,
}

impl PipeBudget {
    /// The largest budget. Larger pipes were measured to cost the same for each byte.
    pub const MAX: Self = Self {
        pipes: 64,
        size: 256 * 1024,
    };
    /// With fewer large pipes than this, more but smaller ones are better for a worker.
    const MIN_PIPES: usize = 16;

    /// The budget of each of `workers` if all pipes together may have `bytes`, and one at most `largest`: the largest size
    /// that gives each worker at least 16 pipes (`MIN_PIPES`).
    #[must_use]
    pub fn within(bytes: usize, largest: usize, workers: usize) -> Self {
        let each = bytes / workers.max(1);
        let mut size = Self::MAX.size;
        while size > MIN_PIPE_SIZE && (size > largest || each / size < Self::MIN_PIPES) {
            size /= 2;
        }
        let pipes = if size > largest { 0 } else { each / size };
        Self {
            pipes: pipes.min(Self::MAX.pipes),
            size,
        }
    }
}

/// The current limit of pipes for each worker; shared by all workers and lowered when descriptors are short.
#[derive(Debug, Clone)]
pub struct PipeAllowance {
    pipes: Arc<AtomicUsize>,
    /// Size of each pipe, in bytes.
    size: usize,
}

impl PipeAllowance {
    /// An allowance of the whole budget.
    #[must_use]
    pub fn of(budget: PipeBudget) -> Self {
        Self {
            pipes: Arc::new(AtomicUsize::new(budget.pipes)),
            size: budget.size,
        }
    }

    /// Sets the number of pipes for each worker; pipes in use are not taken away.
    pub fn set(&self, pipes: usize) {
        self.pipes.store(pipes, Ordering::Relaxed);
    }

    /// Number of pipes for each worker.
    #[must_use]
    pub fn pipes(&self) -> usize {
        self.pipes.load(Ordering::Relaxed)
    }

    /// Size of each pipe, in bytes.
    pub(super) fn size(&self) -> usize {
        self.size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_prefers_more_pipes_to_larger_ones_and_small_ones_to_none() {
        let within = |bytes, largest, workers| {
            let PipeBudget { pipes, size } = PipeBudget::within(bytes, largest, workers);
            (pipes, size / 1024)
        };
        let (plenty, mebibyte) = (usize::MAX, 1 << 20);
        assert_eq!(within(plenty, mebibyte, 4), (64, 256));
        // The default of fs.pipe-user-pages-soft, less a quarter.
        assert_eq!(within(48 << 20, mebibyte, 2), (64, 256));
        assert_eq!(within(48 << 20, mebibyte, 12), (16, 256));
        assert_eq!(within(48 << 20, mebibyte, 16), (24, 128));
        assert_eq!(within(48 << 20, mebibyte, 128), (6, 64));
        assert_eq!(within(plenty, 128 << 10, 1), (64, 128));
        assert_eq!(within(plenty, 4096, 1), (0, 64));
        assert_eq!(within(0, mebibyte, 1), (0, 64));
    }
}

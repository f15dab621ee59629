//! Pipes: how many a worker may have, and of which size.
//!
//! Owns the kernel's limits (pipe(7), `/proc/sys/fs/pipe-*`). Knows no worker. Invariant: without privilege the workers
//! together stay below the kernel's limit for full-sized pipes of one user, and leave a quarter of it to the user's other
//! programs.

use rustix::param::page_size;
use rustix::thread::{CapabilitySet, capabilities};

use crate::net::splice::PipeBudget;

/// The kernel's defaults, if /proc does not show its settings: pages, pages (0: no limit), bytes.
const SOFT_PAGES: usize = 16 * 1024;
const HARD_PAGES: usize = 0;
const MAX_SIZE: usize = 1024 * 1024;

/// The pipes of each worker.
pub(super) fn budget(workers: usize) -> PipeBudget {
    if is_exempt() {
        return PipeBudget::MAX;
    }
    let setting = |name: &str, default: usize| {
        let text = std::fs::read_to_string(format!("/proc/sys/fs/{name}"));
        let number = text.ok().and_then(|text| text.trim().parse().ok());
        number.unwrap_or(default)
    };
    let budget = within(
        setting("pipe-user-pages-soft", SOFT_PAGES),
        setting("pipe-user-pages-hard", HARD_PAGES),
        setting("pipe-max-size", MAX_SIZE),
        workers,
    );
    if budget.pipes == 0 {
        tracing::warn!(
            target: "lyncpin::server",
            "streams are copied: fs.pipe-user-pages-soft or fs.pipe-max-size leaves no pipe for splicing"
        );
    }
    budget
}

/// Whether the limits do not apply. A user namespace may have the capability without effect; a pipe that turns out small is
/// not used then.
fn is_exempt() -> bool {
    let exempting = CapabilitySet::SYS_RESOURCE | CapabilitySet::SYS_ADMIN;
    capabilities(None).is_ok_and(|sets| sets.effective.intersects(exempting))
}

/// `soft` and `hard` are limits in pages, where 0 means no limit; `max_size` is in bytes.
fn within(soft: usize, hard: usize, max_size: usize, workers: usize) -> PipeBudget {
    let limits = [soft, hard].into_iter().filter(|&pages| pages > 0);
    let pages = limits.min().unwrap_or(usize::MAX);
    PipeBudget::within(
        (pages / 4 * 3).saturating_mul(page_size()),
        max_size,
        workers,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_quarters_of_the_lower_limit_are_used() {
        let page = page_size();
        let pages = |mebibytes: usize| (mebibytes << 20) / page;
        assert_eq!(within(pages(64), 0, MAX_SIZE, 12).pipes, 16);
        assert_eq!(within(pages(64), pages(32), MAX_SIZE, 6).pipes, 16);
        assert_eq!(within(0, 0, MAX_SIZE, 12), PipeBudget::MAX);
        assert_eq!(within(1, 0, MAX_SIZE, 1).pipes, 0);
    }
}

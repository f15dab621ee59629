//! Pipes: how many a worker may have, and how large.
//!
//! Invariant: without privilege the workers together stay below what the kernel lets one user have in full-sized pipes
//! (pipe(7), `/proc/sys/fs/pipe-*`), and leave a quarter of it to the user's other programs.

use rustix::param::page_size;
use rustix::thread::{CapabilitySet, capabilities};

use crate::net::splice::Budget;

/// The kernel's defaults, where /proc does not show its settings: pages, pages (0: no bound), bytes.
const SOFT: usize = 16 * 1024;
const HARD: usize = 0;
const LARGEST: usize = 1024 * 1024;

/// What each of `workers` may have.
pub(super) fn budget(workers: usize) -> Budget {
    if is_exempt() {
        return Budget::MOST;
    }
    let setting = |name: &str, default: usize| {
        let text = std::fs::read_to_string(format!("/proc/sys/fs/{name}"));
        let number = text.ok().and_then(|text| text.trim().parse().ok());
        number.unwrap_or(default)
    };
    let budget = within(
        setting("pipe-user-pages-soft", SOFT),
        setting("pipe-user-pages-hard", HARD),
        setting("pipe-max-size", LARGEST),
        workers,
    );
    if budget.pipes == 0 {
        tracing::warn!(
            target: "lyncpin::server",
            "streams are copied: fs.pipe-user-pages-soft or fs.pipe-max-size leaves no pipe to splice through"
        );
    }
    budget
}

/// In a user namespace that has the capability the kernel grants nothing by it; a pipe that turns out small is not used.
fn is_exempt() -> bool {
    let exempting = CapabilitySet::SYS_RESOURCE | CapabilitySet::SYS_ADMIN;
    capabilities(None).is_ok_and(|sets| sets.effective.intersects(exempting))
}

/// Bounds in pages, of which 0 is none, and in bytes.
fn within(soft: usize, hard: usize, largest: usize, workers: usize) -> Budget {
    let bounds = [soft, hard].into_iter().filter(|&pages| pages > 0);
    let pages = bounds.min().unwrap_or(usize::MAX);
    Budget::within(
        (pages / 4 * 3).saturating_mul(page_size()),
        largest,
        workers,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_quarters_of_the_lower_bound_are_shared() {
        let page = page_size();
        let pages = |mebibytes: usize| (mebibytes << 20) / page;
        assert_eq!(within(pages(64), 0, LARGEST, 12).pipes, 16);
        assert_eq!(within(pages(64), pages(32), LARGEST, 6).pipes, 16);
        assert_eq!(within(0, 0, LARGEST, 12), Budget::MOST);
        assert_eq!(within(1, 0, LARGEST, 1).pipes, 0);
    }
}

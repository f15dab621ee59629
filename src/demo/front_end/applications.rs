//! The UCWA applications of one Front End, and the long polls that wait for their events.
//!
//! Owns the table. Must not know HTTP. Invariants: only the Front End that created an application knows it; the table is
//! limited, and one more application evicts the oldest.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// The id of an application, as clients use it.
pub(super) type ApplicationId = u64;

/// The table of one Front End.
#[derive(Debug)]
pub(super) struct Applications {
    table: Mutex<ApplicationTable>,
    limit: usize,
    waiting: AtomicUsize,
}

/// Ids grow, so the first entry is the oldest.
#[derive(Debug)]
struct ApplicationTable {
    /// The number of events of each application.
    events: BTreeMap<ApplicationId, watch::Sender<u64>>,
    next: ApplicationId,
}

/// How a long poll ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Polled {
    /// There was an event; the client has now seen this many.
    Event(u64),
    /// There was none within the client's time limit.
    Nothing,
    /// There is no such application here, or it was removed meanwhile.
    Unknown,
}

impl Applications {
    pub(super) fn new(limit: usize) -> Self {
        // Front Ends must not use each other's ids: each starts at a random one, in the lower half so as not to overflow.
        let next = RandomState::new().hash_one(std::process::id()) >> 1;
        Self {
            table: Mutex::new(ApplicationTable {
                events: BTreeMap::new(),
                next,
            }),
            limit,
            waiting: AtomicUsize::new(0),
        }
    }

    /// Creates one; evicts the oldest if there are too many.
    pub(super) fn create(&self) -> ApplicationId {
        let mut table = self.table();
        let id = table.next;
        table.next += 1;
        table.events.insert(id, watch::Sender::new(0));
        if table.events.len() > self.limit {
            table.events.pop_first();
        }
        id
    }

    pub(super) fn knows(&self, id: ApplicationId) -> bool {
        self.table().events.contains_key(&id)
    }

    /// Removes one and ends its polls; false if it is unknown here.
    pub(super) fn remove(&self, id: ApplicationId) -> bool {
        self.table().events.remove(&id).is_some()
    }

    /// Removes all, as a restart does.
    pub(super) fn clear(&self) {
        self.table().events.clear();
    }

    /// Sends one an event; false if it is unknown here.
    pub(super) fn send_event(&self, id: ApplicationId) -> bool {
        let table = self.table();
        let application = table.events.get(&id);
        application
            .map(|events| events.send_modify(|count| *count += 1))
            .is_some()
    }

    /// Sends every one an event.
    pub(super) fn send_event_to_all(&self) {
        for events in self.table().events.values() {
            events.send_modify(|count| *count += 1);
        }
    }

    /// Waits for an event after the first `seen`; without `seen`, after the present ones.
    pub(super) async fn poll(
        &self,
        id: ApplicationId,
        seen: Option<u64>,
        time_limit: Duration,
    ) -> Polled {
        let subscribed = self.table().events.get(&id).map(watch::Sender::subscribe);
        let Some(mut events) = subscribed else {
            return Polled::Unknown;
        };
        let seen = seen.unwrap_or_else(|| *events.borrow());
        let _waiting = Waiting::begin(&self.waiting);
        match tokio::time::timeout(time_limit, events.wait_for(|count| *count > seen)).await {
            Ok(Ok(count)) => Polled::Event(*count),
            Ok(Err(_application_gone)) => Polled::Unknown,
            Err(_elapsed) => Polled::Nothing,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.table().events.len()
    }

    /// Waiting polls.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    fn table(&self) -> MutexGuard<'_, ApplicationTable> {
        // Each change is one call on a map, so a panic leaves it consistent.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a poll while it waits; dropped with the client's connection.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(1800);
    const SHORT: Duration = Duration::from_millis(20);

    #[test]
    fn one_application_beyond_the_limit_evicts_the_oldest() {
        let applications = Applications::new(2);
        let first = applications.create();
        let second = applications.create();
        let third = applications.create();
        assert_eq!(applications.len(), 2);
        assert!(!applications.knows(first));
        assert!(applications.knows(second) && applications.knows(third));
    }

    #[test]
    fn two_front_ends_use_different_ids() {
        assert_ne!(Applications::new(1).create(), Applications::new(1).create());
    }

    #[tokio::test]
    async fn a_poll_without_an_event_ends_at_its_time_limit() {
        let applications = Applications::new(1);
        let id = applications.create();
        let begun = std::time::Instant::now();
        assert_eq!(applications.poll(id, None, SHORT).await, Polled::Nothing);
        assert!(begun.elapsed() >= SHORT);
    }

    #[tokio::test]
    async fn an_event_before_the_poll_is_not_lost() {
        let applications = Applications::new(1);
        let id = applications.create();
        assert!(applications.send_event(id));
        assert_eq!(applications.poll(id, Some(0), LONG).await, Polled::Event(1));
        assert_eq!(applications.poll(id, Some(1), SHORT).await, Polled::Nothing);
    }

    #[tokio::test]
    async fn removing_an_application_ends_its_poll() {
        let applications = Applications::new(1);
        let id = applications.create();
        let poll = applications.poll(id, None, LONG);
        let remove = async {
            tokio::task::yield_now().await;
            assert_eq!(applications.waiting(), 1);
            assert!(applications.remove(id));
        };
        assert_eq!(tokio::join!(poll, remove).0, Polled::Unknown);
        assert_eq!(applications.waiting(), 0);
    }
}

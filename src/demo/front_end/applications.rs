//! The UCWA applications of one Front End, and the long polls that wait for their events.
//!
//! Owns the table. Must not know HTTP. Invariant: an application is known to the Front End that made it and to no
//! other, and the table is bounded: the oldest makes room.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// What makes an application, and what a client names it by.
pub(super) type ApplicationId = u64;

/// The table of one Front End.
#[derive(Debug)]
pub(super) struct Applications {
    table: Mutex<ApplicationTable>,
    bound: usize,
    waiting: AtomicUsize,
}

/// Ids grow, so the first entry is the oldest.
#[derive(Debug)]
struct ApplicationTable {
    /// How many events each application has had.
    events: BTreeMap<ApplicationId, watch::Sender<u64>>,
    next: ApplicationId,
}

/// How a long poll ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Polled {
    /// Something happened; the client has now seen this many events.
    Event(u64),
    /// Nothing did, in the time that the client gave.
    Nothing,
    /// There is no such application here, or it went away meanwhile.
    Unknown,
}

impl Applications {
    pub(super) fn new(bound: usize) -> Self {
        // Front Ends must not give out each other's ids: each starts at random, in the lower half so as not to overflow.
        let next = RandomState::new().hash_one(std::process::id()) >> 1;
        Self {
            table: Mutex::new(ApplicationTable {
                events: BTreeMap::new(),
                next,
            }),
            bound,
            waiting: AtomicUsize::new(0),
        }
    }

    /// Makes one; evicts the oldest when there are too many.
    pub(super) fn create(&self) -> ApplicationId {
        let mut table = self.table();
        let id = table.next;
        table.next += 1;
        table.events.insert(id, watch::Sender::new(0));
        if table.events.len() > self.bound {
            table.events.pop_first();
        }
        id
    }

    pub(super) fn knows(&self, id: ApplicationId) -> bool {
        self.table().events.contains_key(&id)
    }

    /// Ends one, with the polls that wait on it; false when it is not known here.
    pub(super) fn remove(&self, id: ApplicationId) -> bool {
        self.table().events.remove(&id).is_some()
    }

    /// Forgets all, as a restart does.
    pub(super) fn clear(&self) {
        self.table().events.clear();
    }

    /// Gives one an event; false when it is not known here.
    pub(super) fn poke(&self, id: ApplicationId) -> bool {
        let table = self.table();
        let application = table.events.get(&id);
        application
            .map(|events| events.send_modify(|count| *count += 1))
            .is_some()
    }

    /// Gives every one an event.
    pub(super) fn poke_all(&self) {
        for events in self.table().events.values() {
            events.send_modify(|count| *count += 1);
        }
    }

    /// Waits until there is an event after the first `seen`, or after those of now where `seen` is not said.
    pub(super) async fn poll(
        &self,
        id: ApplicationId,
        seen: Option<u64>,
        patience: Duration,
    ) -> Polled {
        let subscribed = self.table().events.get(&id).map(watch::Sender::subscribe);
        let Some(mut events) = subscribed else {
            return Polled::Unknown;
        };
        let seen = seen.unwrap_or_else(|| *events.borrow());
        let _waiting = Waiting::begin(&self.waiting);
        match tokio::time::timeout(patience, events.wait_for(|count| *count > seen)).await {
            Ok(Ok(count)) => Polled::Event(*count),
            Ok(Err(_application_gone)) => Polled::Unknown,
            Err(_elapsed) => Polled::Nothing,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.table().events.len()
    }

    /// Polls that wait now.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    fn table(&self) -> MutexGuard<'_, ApplicationTable> {
        // Each change is one call on a map, so a panic in between leaves nothing half done.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a poll for as long as it waits; the client's going away drops it.
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
    fn oldest_application_makes_room_at_the_bound() {
        let applications = Applications::new(2);
        let first = applications.create();
        let second = applications.create();
        let third = applications.create();
        assert_eq!(applications.len(), 2);
        assert!(!applications.knows(first));
        assert!(applications.knows(second) && applications.knows(third));
    }

    #[test]
    fn two_front_ends_give_out_different_ids() {
        assert_ne!(Applications::new(1).create(), Applications::new(1).create());
    }

    #[tokio::test]
    async fn poll_ends_at_its_time_without_an_event() {
        let applications = Applications::new(1);
        let id = applications.create();
        let begun = std::time::Instant::now();
        assert_eq!(applications.poll(id, None, SHORT).await, Polled::Nothing);
        assert!(begun.elapsed() >= SHORT);
    }

    #[tokio::test]
    async fn event_before_the_poll_is_not_lost() {
        let applications = Applications::new(1);
        let id = applications.create();
        assert!(applications.poke(id));
        assert_eq!(applications.poll(id, Some(0), LONG).await, Polled::Event(1));
        assert_eq!(applications.poll(id, Some(1), SHORT).await, Polled::Nothing);
    }

    #[tokio::test]
    async fn removed_application_ends_its_poll() {
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

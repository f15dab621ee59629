//! The connections of one admin listener, and which of them is closed when there are too many.
//!
//! Owns what each connection is doing and since when. Must not know HTTP. Invariants: the connection that has kept the
//! listener waiting longest is closed first, so that idle, slow and silent clients never keep out a client that sends a
//! request; and each connection gets time for a request.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;

/// How long a connection has for a request before it may be closed.
const GRACE: Duration = Duration::from_millis(10);

/// The same while its response is made: many may be queued.
const PROCESSING_GRACE: Duration = Duration::from_millis(50);

/// What a connection is doing, in the order in which connections are closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// No request has arrived yet, or not all of it.
    Receiving,
    /// It has its last response, or is reading it.
    Responded,
    /// Its response is being made.
    Processing,
}

/// What one connection is doing. Shared by the connection and the table.
#[derive(Debug, Clone)]
pub(super) struct ConnectionProgress(Arc<Mutex<(Step, Instant)>>);

impl ConnectionProgress {
    fn begin() -> Self {
        Self(Arc::new(Mutex::new((Step::Receiving, Instant::now()))))
    }

    pub(super) fn enter(&self, step: Step) {
        *lock(&self.0) = (step, Instant::now());
    }

    pub(super) fn step(&self) -> Step {
        lock(&self.0).0
    }

    fn now(&self) -> (Step, Instant) {
        *lock(&self.0)
    }
}

/// The open connections.
#[derive(Debug, Clone, Default)]
pub(super) struct Connections(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    next: u64,
    open: BTreeMap<u64, (ConnectionProgress, Option<AbortHandle>)>,
}

/// The entry of a connection. Dropping it removes the connection.
#[derive(Debug)]
pub(super) struct Entry {
    connections: Connections,
    number: u64,
    pub(super) progress: ConnectionProgress,
}

impl Connections {
    /// Adds a connection.
    pub(super) fn enter(&self) -> Entry {
        let progress = ConnectionProgress::begin();
        let mut table = lock(&self.0);
        let number = table.next;
        table.next += 1;
        table.open.insert(number, (progress.clone(), None));
        drop(table);
        Entry {
            connections: self.clone(),
            number,
            progress,
        }
    }

    /// Number of open connections.
    pub(super) fn count(&self) -> usize {
        lock(&self.0).open.len()
    }

    /// The task of a connection, which closes it when aborted.
    pub(super) fn set_task(&self, number: u64, task: AbortHandle) {
        if let Some((_, abort)) = lock(&self.0).open.get_mut(&number) {
            *abort = Some(task);
        }
    }

    /// Closes connections until there are fewer than `limit`. Waits until connections that have just been accepted have had
    /// their time.
    pub(super) async fn make_room(&self, limit: usize) {
        while let Err(wait) = self.close_down_to(limit.saturating_sub(1)) {
            tokio::time::sleep(wait).await;
        }
    }

    /// Closes connections until `most` are left.
    ///
    /// # Errors
    ///
    /// How long to wait until the next one may be closed.
    fn close_down_to(&self, most: usize) -> Result<(), Duration> {
        while let Some(task) = self.remove_first(most)? {
            // Without the lock: the entry takes it when it is dropped.
            task.abort();
        }
        Ok(())
    }

    /// Removes the connection to close first, if there are more than `most`.
    fn remove_first(&self, most: usize) -> Result<Option<AbortHandle>, Duration> {
        let mut table = lock(&self.0);
        if table.open.len() <= most {
            return Ok(None);
        }
        let number = table.first_to_close()?;
        Ok(table.open.remove(&number).and_then(|(_, task)| task))
    }
}

impl Table {
    /// The connection to close, or how long to wait until one may be closed. Connections without a complete request come
    /// first. Those of another step are closed only where they are more than half, so that new connections always find
    /// room.
    fn first_to_close(&self) -> Result<u64, Duration> {
        let now = Instant::now();
        let mut wait = GRACE;
        let mut of_step = [0; 3];
        let mut oldest = [None; 3];
        for (&number, (progress, task)) in &self.open {
            let (step, since) = progress.now();
            of_step[step as usize] += 1;
            let grace = match step {
                Step::Receiving | Step::Responded => GRACE,
                Step::Processing => PROCESSING_GRACE,
            };
            let left = grace.saturating_sub(now.saturating_duration_since(since));
            if !left.is_zero() || task.is_none() {
                wait = wait.min(left.max(Duration::from_millis(1)));
                continue;
            }
            let oldest = &mut oldest[step as usize];
            *oldest =
                Some(oldest.map_or((since, number), |known: (_, _)| known.min((since, number))));
        }
        let mut before = 0;
        for (count, oldest) in of_step.into_iter().zip(oldest) {
            if let Some((_, number)) = oldest
                && (before == 0 || count * 2 > self.open.len())
            {
                return Ok(number);
            }
            before += count;
        }
        Err(wait)
    }
}

impl Entry {
    pub(super) fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        lock(&self.connections.0).open.remove(&self.number);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An idle connection.
    fn open(
        connections: &Connections,
        step: Step,
    ) -> (ConnectionProgress, tokio::task::JoinHandle<()>) {
        let entry = connections.enter();
        entry.progress.enter(step);
        let (progress, number) = (entry.progress.clone(), entry.number());
        let task = tokio::spawn(async move {
            let _entry = entry;
            std::future::pending::<()>().await;
        });
        connections.set_task(number, task.abort_handle());
        (progress, task)
    }

    #[tokio::test]
    async fn the_connection_that_kept_the_listener_waiting_longest_is_closed_first() {
        let connections = Connections::default();
        let steps = [
            Step::Processing,
            Step::Responded,
            Step::Receiving,
            Step::Responded,
            Step::Receiving,
        ];
        let mut tasks = Vec::new();
        for step in steps {
            tasks.push(open(&connections, step).1);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        for expected in [2, 4, 1, 3, 0] {
            let open = lock(&connections.0).open.len();
            connections.make_room(open).await;
            let ended = (&mut tasks[expected]).await;
            assert!(ended.is_err_and(|error| error.is_cancelled()), "{expected}");
        }
    }

    #[tokio::test]
    async fn a_new_connection_has_time_for_a_request() {
        let connections = Connections::default();
        let (_, task) = open(&connections, Step::Receiving);
        let begun = Instant::now();
        assert!(connections.close_down_to(0).is_err());
        connections.make_room(1).await;
        assert!(begun.elapsed() >= GRACE);
        assert!(task.await.is_err());
        assert!(lock(&connections.0).open.is_empty());
    }
}

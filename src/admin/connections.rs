//! The connections of one admin listener, and which of them gives way to the next when there are too many.
//!
//! Owns what each connection is doing and since when. Must not know HTTP. Invariant: the one that gives way is the one that
//! has kept the listener waiting longest, so that idle, slow and silent clients never keep out one that has something to
//! ask; and none gives way before it has had time to ask.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;

/// What a connection gets to send a request before it may have to give way.
const GRACE: Duration = Duration::from_millis(10);

/// The same for its answer to be made: many may wait for theirs, one after another.
const WORKING_GRACE: Duration = Duration::from_millis(50);

/// What a connection is doing, in the order in which they give way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// It has asked nothing yet, or not all of it has come.
    Asking,
    /// It has its last answer, or is reading it.
    Answered,
    /// Its answer is being made.
    Working,
}

/// What one connection is doing; shared between the connection and the table.
#[derive(Debug, Clone)]
pub(super) struct ConnectionProgress(Arc<Mutex<(Step, Instant)>>);

impl ConnectionProgress {
    fn begin() -> Self {
        Self(Arc::new(Mutex::new((Step::Asking, Instant::now()))))
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

/// Every connection that is open.
#[derive(Debug, Clone, Default)]
pub(super) struct Connections(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    next: u64,
    open: BTreeMap<u64, (ConnectionProgress, Option<AbortHandle>)>,
}

/// A connection's entry; gone when dropped.
#[derive(Debug)]
pub(super) struct Entry {
    connections: Connections,
    number: u64,
    pub(super) progress: ConnectionProgress,
}

impl Connections {
    /// An entry for one more.
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

    /// How many are open.
    pub(super) fn count(&self) -> usize {
        lock(&self.0).open.len()
    }

    /// What ends the connection of this number, unless it has ended.
    pub(super) fn set_task(&self, number: u64, task: AbortHandle) {
        if let Some((_, abort)) = lock(&self.0).open.get_mut(&number) {
            *abort = Some(task);
        }
    }

    /// Ends connections until there are fewer than `most`; waits until those that have just come have had their time.
    pub(super) async fn make_room(&self, most: usize) {
        while let Err(wait) = self.end_down_to(most.saturating_sub(1)) {
            tokio::time::sleep(wait).await;
        }
    }

    /// Ends connections that may be ended until `most` are left; else how long until the next may be.
    pub(super) fn end_down_to(&self, most: usize) -> Result<(), Duration> {
        while let Some(task) = self.take_first(most)? {
            // Without the lock: what ends takes it.
            task.abort();
        }
        Ok(())
    }

    /// The task of the connection that gives way, if there are more than `most`.
    fn take_first(&self, most: usize) -> Result<Option<AbortHandle>, Duration> {
        let mut table = lock(&self.0);
        if table.open.len() <= most {
            return Ok(None);
        }
        let number = table.first_to_go()?;
        Ok(table.open.remove(&number).and_then(|(_, task)| task))
    }
}

impl Table {
    /// Which connection gives way, or how long until one may. Those that ask nothing go first, and those of another step
    /// only where they are more than half: so there are always places in which new ones come and go.
    fn first_to_go(&self) -> Result<u64, Duration> {
        let now = Instant::now();
        let mut wait = GRACE;
        let mut of_step = [0; 3];
        let mut oldest = [None; 3];
        for (&number, (progress, task)) in &self.open {
            let (step, since) = progress.now();
            of_step[step as usize] += 1;
            let grace = match step {
                Step::Asking | Step::Answered => GRACE,
                Step::Working => WORKING_GRACE,
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

    /// A connection that does nothing.
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
    async fn who_keeps_it_waiting_longest_gives_way_first() {
        let connections = Connections::default();
        let steps = [
            Step::Working,
            Step::Answered,
            Step::Asking,
            Step::Answered,
            Step::Asking,
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
    async fn one_that_has_just_come_has_time_to_ask() {
        let connections = Connections::default();
        let (_, task) = open(&connections, Step::Asking);
        let begun = Instant::now();
        assert!(connections.end_down_to(0).is_err());
        connections.make_room(1).await;
        assert!(begun.elapsed() >= GRACE);
        assert!(task.await.is_err());
        assert!(lock(&connections.0).open.is_empty());
    }
}

//! File access of a reload: on a thread of its own, one at a time, and with a time limit.
//!
//! Owns the thread, the limit, and the error texts for a file system that does not respond. Knows no configuration.
//! Invariants: the control thread goes on, whatever a file system does; at most one thread waits, however many reloads are
//! requested.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::timeout;

use crate::system::files;

/// For a file system to respond.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// Runs one thread that may wait for a file system.
#[derive(Clone)]
pub(in crate::server) struct FileWorker {
    /// What the thread is doing; `None` if there is no thread.
    step: Arc<Mutex<Option<ReadStep>>>,
    time_limit: Duration,
}

impl Default for FileWorker {
    fn default() -> Self {
        Self {
            step: Arc::default(),
            time_limit: TIME_LIMIT,
        }
    }
}

/// What the thread is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ReadStep {
    /// It waits for the file system to read this.
    Reading(String),
    /// It has read this, and parses it.
    Parsing(String),
}

/// Records what the thread is doing, for error texts; cleared when the thread ends.
pub(super) struct ReadStage(Arc<Mutex<Option<ReadStep>>>);

/// Why there is no result.
#[derive(Debug)]
pub(super) enum FileWorkerError {
    /// This step was not done in time.
    TimedOut(ReadStep, Duration),
    /// An earlier thread is still at this step.
    Busy(ReadStep),
    /// The thread cannot be started, or it panicked.
    Thread(io::Error),
}

impl FileWorker {
    /// Runs `work`, unless an earlier one is still running.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&ReadStage) -> T + Send + 'static,
    ) -> Result<T, FileWorkerError> {
        let stage = self.begin().map_err(FileWorkerError::Busy)?;
        let working = files::run_detached("reload", move || work(&stage));
        match timeout(self.time_limit, working).await {
            Ok(result) => result.map_err(FileWorkerError::Thread),
            Err(_) => {
                let step = lock(&self.step).clone();
                let step = step.unwrap_or_else(ReadStep::initial);
                Err(FileWorkerError::TimedOut(step, self.time_limit))
            }
        }
    }

    fn begin(&self) -> Result<ReadStage, ReadStep> {
        let mut step = lock(&self.step);
        match &*step {
            Some(step) => Err(step.clone()),
            None => {
                *step = Some(ReadStep::initial());
                Ok(ReadStage(self.step.clone()))
            }
        }
    }
}

impl ReadStep {
    /// Before the first step.
    fn initial() -> Self {
        Self::Reading(String::new())
    }
}

impl ReadStage {
    /// The thread starts to read `what`.
    pub(super) fn reading(&self, what: impl Into<String>) {
        *lock(&self.0) = Some(ReadStep::Reading(what.into()));
    }

    /// `what` has been read: the file system is not involved any more.
    pub(super) fn parsing(&self, what: impl Into<String>) {
        *lock(&self.0) = Some(ReadStep::Parsing(what.into()));
    }
}

impl Drop for ReadStage {
    fn drop(&mut self) {
        *lock(&self.0) = None;
    }
}

impl fmt::Display for FileWorkerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut(ReadStep::Parsing(what), limit) => write!(
                f,
                "{what} is too large or too repetitive: it could not be parsed within {} s",
                limit.as_secs()
            ),
            Self::Busy(ReadStep::Parsing(what)) => write!(
                f,
                "an earlier reload is still parsing {what}, which is large or repetitive"
            ),
            Self::TimedOut(ReadStep::Reading(what), limit) => write!(
                f,
                "{what} cannot be read: the file system did not respond within {} s",
                limit.as_secs()
            ),
            Self::Busy(ReadStep::Reading(what)) => write!(
                f,
                "an earlier reload still waits for {what}: the file system does not respond"
            ),
            Self::Thread(error) => write!(f, "no file can be read: {error}"),
        }
    }
}

fn lock(step: &Mutex<Option<ReadStep>>) -> MutexGuard<'_, Option<ReadStep>> {
    step.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn at_most_one_thread_waits() {
        let worker = FileWorker {
            time_limit: Duration::from_millis(50),
            ..FileWorker::default()
        };
        let (respond, wait) = mpsc::channel::<()>();
        let late = worker
            .run(move |stage| {
                stage.reading("the file");
                wait.recv()
            })
            .await;
        assert!(
            matches!(late, Err(FileWorkerError::TimedOut(ReadStep::Reading(what), _)) if what == "the file")
        );
        for _ in 0..3 {
            let busy = worker.run(|_| ()).await;
            assert!(
                matches!(busy, Err(FileWorkerError::Busy(ReadStep::Reading(what))) if what == "the file")
            );
        }
        respond.send(()).unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while worker.run(|_| ()).await.is_err() {
            assert!(std::time::Instant::now() < deadline);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        // A panic frees the worker, too.
        assert!(worker.run(|_| panic!("as the test wants")).await.is_err());
        while worker.run(|_| ()).await.is_err() {
            assert!(std::time::Instant::now() < deadline);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

//! What a reload reads of the file system: on a thread of its own, one at a time, and within a bound.
//!
//! Owns the thread, the bound, and the words for a file system that does not answer. Knows no configuration. Invariants:
//! whatever a file system does, the control thread goes on; however often a reload is asked for, one thread waits.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::timeout;

use crate::system::files;

/// What a file system gets to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The one thread that may wait for a file system.
#[derive(Clone)]
pub(super) struct FileWorker {
    /// What it waits for; `None` where there is no thread.
    waits_for: Arc<Mutex<Option<ReadStep>>>,
    patience: Duration,
}

impl Default for FileWorker {
    fn default() -> Self {
        Self {
            waits_for: Arc::default(),
            patience: PATIENCE,
        }
    }
}

/// What the thread is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ReadStep {
    /// It waits for the file system to give this.
    File(String),
    /// It has read this, and works out what it says.
    Judging(String),
}

/// Says what the thread is doing, for the words of an error; freed when the thread ends.
pub(super) struct ReadStage(Arc<Mutex<Option<ReadStep>>>);

/// Why there is no result.
#[derive(Debug)]
pub(super) enum Stalled {
    /// This was not done in time.
    Late(ReadStep, Duration),
    /// An earlier thread is still at this.
    Busy(ReadStep),
    /// The thread cannot be started, or it panicked.
    Thread(io::Error),
}

impl FileWorker {
    /// Does `work`, unless an earlier one is not done yet.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&ReadStage) -> T + Send + 'static,
    ) -> Result<T, Stalled> {
        let stage = self.begin().map_err(Stalled::Busy)?;
        let done = files::aside("reload", move || work(&stage));
        match timeout(self.patience, done).await {
            Ok(done) => done.map_err(Stalled::Thread),
            Err(_) => {
                let what = lock(&self.waits_for).clone();
                let what = what.unwrap_or_else(ReadStep::nothing);
                Err(Stalled::Late(what, self.patience))
            }
        }
    }

    fn begin(&self) -> Result<ReadStage, ReadStep> {
        let mut waits_for = lock(&self.waits_for);
        match &*waits_for {
            Some(what) => Err(what.clone()),
            None => {
                *waits_for = Some(ReadStep::nothing());
                Ok(ReadStage(self.waits_for.clone()))
            }
        }
    }
}

impl ReadStep {
    /// Before anything is waited for.
    fn nothing() -> Self {
        Self::File(String::new())
    }
}

impl ReadStage {
    /// The next thing to be waited for.
    pub(super) fn at(&self, what: impl Into<String>) {
        *lock(&self.0) = Some(ReadStep::File(what.into()));
    }

    /// This has been read: what follows is no matter of the file system.
    pub(super) fn judges(&self, what: impl Into<String>) {
        *lock(&self.0) = Some(ReadStep::Judging(what.into()));
    }
}

impl Drop for ReadStage {
    fn drop(&mut self) {
        *lock(&self.0) = None;
    }
}

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late(ReadStep::Judging(what), patience) => write!(
                f,
                "{what} was read, and is so large or repeats so much that it was not understood within {} s",
                patience.as_secs()
            ),
            Self::Busy(ReadStep::Judging(what)) => write!(
                f,
                "an earlier reload is still at {what}, which is large or repeats much"
            ),
            Self::Late(ReadStep::File(what), patience) => write!(
                f,
                "{what} cannot be read: the file system did not answer within {} s",
                patience.as_secs()
            ),
            Self::Busy(ReadStep::File(what)) => write!(
                f,
                "an earlier reload still waits for {what}: the file system does not answer"
            ),
            Self::Thread(error) => write!(f, "nothing can be read: {error}"),
        }
    }
}

fn lock(waits_for: &Mutex<Option<ReadStep>>) -> MutexGuard<'_, Option<ReadStep>> {
    waits_for.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn one_thread_waits_however_often_it_is_tried() {
        let worker = FileWorker {
            patience: Duration::from_millis(50),
            ..FileWorker::default()
        };
        let (answer, wait) = mpsc::channel::<()>();
        let late = worker
            .run(move |stage| {
                stage.at("the file");
                wait.recv()
            })
            .await;
        assert!(matches!(late, Err(Stalled::Late(ReadStep::File(what), _)) if what == "the file"));
        for _ in 0..3 {
            let busy = worker.run(|_| ()).await;
            assert!(matches!(busy, Err(Stalled::Busy(ReadStep::File(what))) if what == "the file"));
        }
        answer.send(()).unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while worker.run(|_| ()).await.is_err() {
            assert!(std::time::Instant::now() < deadline);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        // One that panics gives the place free, too.
        assert!(worker.run(|_| panic!("as the test wants")).await.is_err());
        while worker.run(|_| ()).await.is_err() {
            assert!(std::time::Instant::now() < deadline);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

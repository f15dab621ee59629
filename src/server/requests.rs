//! Requests to the supervisor: by signal, by the admin listener, by a change of the configuration file.
//!
//! Owns the queue, the origin of a request, its reply, and the progress of an upgrade. Must not know how a request is
//! carried out. Invariants: requests are carried out one after the other; a reload that finds the queue full is dropped,
//! because those before it will read the same file; there is one upgrade at a time, and one that fails admits the next,
//! however it ends.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::interval;

use crate::admin::view::{Reloaded, Upgraded};
use crate::admin::{Caller, ReloadError, UpgradeError};

/// Requests in the queue; more reloads would read the same file.
const QUEUE: usize = 16;

/// Between two checks, while a reload is in the queue, whether an upgrade has started before it.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// The origin of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestOrigin {
    /// SIGHUP or SIGUSR2.
    Signal,
    /// The admin listener, for this caller.
    Api(Caller),
    /// The configuration file has changed.
    Watch,
}

impl RequestOrigin {
    /// The log field `by`.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Signal => "signal",
            Self::Api(caller) => caller.by.as_str(),
            Self::Watch => "watch",
        }
    }

    /// The log field `from`: the caller's address, unless the request comes from this process.
    pub(super) fn from(&self) -> Option<&str> {
        match self {
            Self::Api(caller) => Some(&caller.from),
            Self::Signal | Self::Watch => None,
        }
    }
}

/// The result of a reload.
pub(super) type ReloadResult = Result<Reloaded, ReloadError>;
/// The result of an upgrade.
type UpgradeResult = Result<Upgraded, UpgradeError>;
/// Where the result of an upgrade is sent.
pub(super) type UpgradeReply = oneshot::Sender<UpgradeResult>;

/// A request, with the channel for its result if the caller waits.
pub(super) enum Request {
    Reload(RequestOrigin, Option<oneshot::Sender<ReloadResult>>),
    Upgrade(RequestOrigin, Option<UpgradeReply>, UpgradePermit),
}

/// No upgrade is requested.
const NONE: u8 = 0;
/// One is in the queue.
const REQUESTED: u8 = 1;
/// State is being transferred to the new process.
const TRANSFERRING: u8 = 2;
/// The new process is about to take over, or has done so.
const HANDING_OVER: u8 = 3;

/// The progress of an upgrade.
#[derive(Debug, Clone, Default)]
pub(super) struct UpgradeProgress(Arc<ProgressState>);

#[derive(Debug, Default)]
struct ProgressState {
    step: AtomicU8,
    /// Read-locked while pins are changed.
    pins: RwLock<()>,
}

impl UpgradeProgress {
    /// Permits a change of pins while the guard is held; `None` while pins are transferred to the new process and after
    /// that, when it might not receive the change.
    pub(super) fn begin_pin_change(&self) -> Option<RwLockReadGuard<'_, ()>> {
        let changing = self.0.pins.read().unwrap_or_else(PoisonError::into_inner);
        (self.step() < TRANSFERRING).then_some(changing)
    }

    /// Waits for changes of pins that began before the transfer. Blocks.
    pub(super) fn wait_for_pin_changes(&self) {
        drop(self.0.pins.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// Whether the state is transferred: later changes do not reach the new process.
    pub(super) fn is_handing_over(&self) -> bool {
        self.step() >= HANDING_OVER
    }

    fn step(&self) -> u8 {
        self.0.step.load(Ordering::Acquire)
    }

    /// The permit to upgrade, unless there is one already.
    fn permit(&self) -> Option<UpgradePermit> {
        let step = &self.0.step;
        let taken = step.compare_exchange(NONE, REQUESTED, Ordering::AcqRel, Ordering::Acquire);
        taken.is_ok().then(|| UpgradePermit {
            progress: self.clone(),
            is_finished: false,
        })
    }
}

/// The permit to upgrade: returned by `Drop`, unless the upgrade is finished.
#[derive(Debug)]
pub(super) struct UpgradePermit {
    progress: UpgradeProgress,
    is_finished: bool,
}

impl UpgradePermit {
    pub(super) fn progress(&self) -> &UpgradeProgress {
        &self.progress
    }

    /// State is transferred to the new process from now on.
    pub(super) fn start_transfer(&self) {
        self.progress.0.step.store(TRANSFERRING, Ordering::Release);
    }

    /// The whole state is transferred.
    pub(super) fn start_handover(&self) {
        self.progress.0.step.store(HANDING_OVER, Ordering::Release);
    }

    /// The new process has taken over: this process does not upgrade again.
    pub(super) fn finish(mut self) {
        self.is_finished = true;
    }
}

impl Drop for UpgradePermit {
    fn drop(&mut self) {
        if !self.is_finished {
            self.progress.0.step.store(NONE, Ordering::Release);
        }
    }
}

/// Sends requests to the supervisor.
#[derive(Clone)]
pub struct SupervisorHandle {
    queue: mpsc::Sender<Request>,
    progress: UpgradeProgress,
}

impl SupervisorHandle {
    /// Requests a reload; its result is in the log.
    pub fn request_reload(&self, by: RequestOrigin) {
        // If the queue is full, the last reload in it will read the file as it is now.
        let _ = self.queue.try_send(Request::Reload(by, None));
    }

    /// Requests a reload and waits for its result; does not wait for an upgrade, during which no reload is possible.
    ///
    /// # Errors
    ///
    /// Why nothing has changed.
    pub async fn reload(&self, by: RequestOrigin) -> Result<Reloaded, ReloadError> {
        if self.progress.step() != NONE {
            return Err(ReloadError::UpgradeInProgress);
        }
        let (reply, mut replied) = oneshot::channel();
        let request = Request::Reload(by, Some(reply));
        let sent = self.queue.send(request).await;
        sent.map_err(|_| self.no_reload())?;
        let mut checks = interval(CHECK_INTERVAL);
        loop {
            tokio::select! {
                biased;
                result = &mut replied => return result.unwrap_or_else(|_| Err(self.no_reload())),
                // An upgrade that came first is under way.
                _ = checks.tick() => if self.progress.step() >= TRANSFERRING {
                    return Err(ReloadError::UpgradeInProgress);
                }
            }
        }
    }

    /// Why the supervisor carries out no reload any more.
    fn no_reload(&self) -> ReloadError {
        if self.progress.step() >= TRANSFERRING {
            ReloadError::UpgradeInProgress
        } else {
            ReloadError::Stopping
        }
    }

    /// Requests an upgrade; its result is in the log.
    pub fn request_upgrade(&self, by: RequestOrigin) {
        let origin = by.as_str();
        let Some(permit) = self.progress.permit() else {
            tracing::warn!(target: "lyncpin::server", by = origin, "{}", UpgradeError::InProgress);
            return;
        };
        let request = Request::Upgrade(by, None, permit);
        if self.queue.try_send(request).is_err() {
            tracing::error!(target: "lyncpin::server", by = origin, "no upgrade: too many requests at once, or this process is stopping");
        }
    }

    /// Requests an upgrade and waits for its result. A caller that stops waiting before the request is in the queue
    /// withdraws it.
    ///
    /// # Errors
    ///
    /// Why this process goes on.
    pub async fn upgrade(&self, by: RequestOrigin) -> Result<Upgraded, UpgradeError> {
        let permit = self.progress.permit().ok_or(UpgradeError::InProgress)?;
        let (reply, replied) = oneshot::channel();
        let request = Request::Upgrade(by, Some(reply), permit);
        let sent = self.queue.send(request).await;
        sent.map_err(|_| UpgradeError::Stopping)?;
        replied.await.unwrap_or(Err(UpgradeError::Stopping))
    }

    pub(super) fn progress(&self) -> &UpgradeProgress {
        &self.progress
    }
}

/// The supervisor's end of the queue.
pub(super) struct Requests(mpsc::Receiver<Request>);

impl Requests {
    /// The next request; `None` once nothing can send one any more.
    pub(super) async fn next(&mut self) -> Option<Request> {
        self.0.recv().await
    }
}

/// Both ends of the queue.
pub(super) fn pair() -> (SupervisorHandle, Requests) {
    let (queue, received) = mpsc::channel(QUEUE);
    let handle = SupervisorHandle {
        queue,
        progress: UpgradeProgress::default(),
    };
    (handle, Requests(received))
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const MOMENT: Duration = Duration::from_millis(20);

    fn is_requested(handle: &SupervisorHandle) -> bool {
        let permit = handle.progress.permit();
        permit.is_none()
    }

    #[tokio::test]
    async fn a_caller_that_leaves_while_the_queue_is_full_withdraws_its_request() {
        let (handle, mut requests) = pair();
        for _ in 0..QUEUE {
            handle.request_reload(RequestOrigin::Signal);
        }
        let waited = timeout(
            MOMENT,
            handle.upgrade(RequestOrigin::Api(Caller::current())),
        )
        .await;
        assert!(waited.is_err() && !is_requested(&handle));
        let waited = timeout(MOMENT, handle.reload(RequestOrigin::Api(Caller::current()))).await;
        assert!(waited.is_err());
        handle.request_upgrade(RequestOrigin::Signal);
        assert!(!is_requested(&handle));
        for _ in 0..QUEUE {
            let request = requests.next().await;
            assert!(matches!(
                request,
                Some(Request::Reload(RequestOrigin::Signal, None))
            ));
        }
        handle.request_upgrade(RequestOrigin::Signal);
        assert!(is_requested(&handle));
        let request = requests.next().await;
        assert!(matches!(
            request,
            Some(Request::Upgrade(RequestOrigin::Signal, ..))
        ));
    }

    #[tokio::test]
    async fn a_caller_that_leaves_or_gets_no_reply_does_not_block_later_upgrades() {
        let (handle, mut requests) = pair();
        let waited = timeout(
            MOMENT,
            handle.upgrade(RequestOrigin::Api(Caller::current())),
        )
        .await;
        // It is in the queue, and is carried out although its caller has left.
        assert!(waited.is_err() && is_requested(&handle));
        assert!(handle.progress.begin_pin_change().is_some());
        let Some(Request::Upgrade(_, Some(reply), permit)) = requests.next().await else {
            panic!("the upgrade is next");
        };
        assert!(reply.is_closed());
        permit.start_transfer();
        assert!(handle.progress.begin_pin_change().is_none() && !handle.progress.is_handing_over());
        drop(permit);
        assert!(!is_requested(&handle) && handle.progress.begin_pin_change().is_some());
        // It is in the queue when the supervisor ends.
        handle.request_upgrade(RequestOrigin::Signal);
        drop(requests);
        assert!(!is_requested(&handle));
        let result = handle.upgrade(RequestOrigin::Api(Caller::current())).await;
        assert_eq!(result, Err(UpgradeError::Stopping));
        assert!(!is_requested(&handle));
    }

    #[tokio::test]
    async fn after_an_upgrade_no_other_is_accepted() {
        let (handle, mut requests) = pair();
        handle.request_upgrade(RequestOrigin::Signal);
        let Some(Request::Upgrade(_, _, permit)) = requests.next().await else {
            panic!("the upgrade is next");
        };
        permit.start_handover();
        permit.finish();
        assert!(is_requested(&handle) && handle.progress.is_handing_over());
        let result = handle.upgrade(RequestOrigin::Api(Caller::current())).await;
        assert_eq!(result, Err(UpgradeError::InProgress));
    }
}

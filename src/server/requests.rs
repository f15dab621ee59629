//! Asking for a reload or an upgrade: by signal, by the admin listener, because the file has changed.
//!
//! Owns who asks, how the answer gets back, and how far an upgrade is. Must not know what either is. Invariant: requests are
//! met one after the other, and a reload that finds no room has others before it that will read the same file; one upgrade
//! is wanted at a time, and one that comes to nothing makes room for the next, however it ends.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::interval;

use crate::admin::view::{Reloaded, Upgraded};
use crate::admin::{Caller, ReloadError, UpgradeError};

/// Requests that may wait; more of them would read the same file.
const WAITING: usize = 16;

/// Between two looks of who waits for a reload, for an upgrade that came first.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Who wants the configuration to be read again, or a new process of the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestOrigin {
    /// SIGHUP or SIGUSR2.
    Signal,
    /// The admin listener, for this caller.
    Api(Caller),
    /// The file has changed.
    Watch,
}

impl RequestOrigin {
    /// The word in the log's field `by`.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Signal => "signal",
            Self::Api(caller) => caller.by.as_str(),
            Self::Watch => "watch",
        }
    }

    /// From where it is asked for, where that is not this process.
    pub(super) fn from(&self) -> Option<&str> {
        match self {
            Self::Api(caller) => Some(&caller.from),
            Self::Signal | Self::Watch => None,
        }
    }
}

/// What comes of a reload.
pub(super) type ReloadResult = Result<Reloaded, ReloadError>;
/// What comes of an upgrade.
type UpgradeResult = Result<Upgraded, UpgradeError>;

/// What is wanted; the answer goes to whoever waits for it.
pub(super) enum Request {
    Reload(RequestOrigin, Option<oneshot::Sender<ReloadResult>>),
    Upgrade(RequestOrigin, Option<oneshot::Sender<UpgradeResult>>, Turn),
}

/// No upgrade is wanted.
const NONE: u8 = 0;
/// One waits for its turn.
const WANTED: u8 = 1;
/// The new process is being told everything.
const TELLING: u8 = 2;
/// The new process is about to take over, or has done so.
const HANDING_OVER: u8 = 3;

/// How far an upgrade is.
#[derive(Debug, Clone, Default)]
pub(super) struct UpgradeProgress(Arc<Steps>);

#[derive(Debug, Default)]
struct Steps {
    step: AtomicU8,
    /// Read while pins are changed.
    pins: RwLock<()>,
}

impl UpgradeProgress {
    /// The right to change pins while it is held; `None` where the new process is being told of them, or has been: the
    /// change might not reach it.
    pub(super) fn change_pins(&self) -> Option<RwLockReadGuard<'_, ()>> {
        let changing = self.0.pins.read().unwrap_or_else(PoisonError::into_inner);
        (self.step() < TELLING).then_some(changing)
    }

    /// Waits for the end of changes that began before the new process was told of pins. Blocks.
    pub(super) fn wait_for_changes(&self) {
        drop(self.0.pins.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// Whether the new process has been told everything: no change reaches it any more.
    pub(super) fn hands_over(&self) -> bool {
        self.step() >= HANDING_OVER
    }

    fn step(&self) -> u8 {
        self.0.step.load(Ordering::Acquire)
    }

    /// The right to upgrade, unless somebody has it.
    fn take(&self) -> Option<Turn> {
        let step = &self.0.step;
        let taken = step.compare_exchange(NONE, WANTED, Ordering::AcqRel, Ordering::Acquire);
        taken.is_ok().then(|| Turn {
            progress: self.clone(),
            done: false,
        })
    }
}

/// The right to upgrade: given back by `Drop`, unless the upgrade is done.
#[derive(Debug)]
pub(super) struct Turn {
    progress: UpgradeProgress,
    done: bool,
}

impl Turn {
    /// How far its upgrade is.
    pub(super) fn progress(&self) -> &UpgradeProgress {
        &self.progress
    }

    /// The new process is told everything from now on.
    pub(super) fn tells(&self) {
        self.progress.0.step.store(TELLING, Ordering::Release);
    }

    /// The new process has been told everything.
    pub(super) fn hands_over(&self) {
        self.progress.0.step.store(HANDING_OVER, Ordering::Release);
    }

    /// The new process has taken over: there is no other upgrade of this one.
    pub(super) fn finish(mut self) {
        self.done = true;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.done {
            self.progress.0.step.store(NONE, Ordering::Release);
        }
    }
}

/// Where reloads and upgrades are asked for; clones ask at the same place.
#[derive(Clone)]
pub struct Reloads {
    requests: mpsc::Sender<Request>,
    progress: UpgradeProgress,
}

impl Reloads {
    /// Wants a reload; what comes of it is in the log.
    pub fn request(&self, by: RequestOrigin) {
        // Where so many wait already, the last of them will read what is there now.
        let _ = self.requests.try_send(Request::Reload(by, None));
    }

    /// Wants a reload and waits for what comes of it; not for an upgrade, during which there is none.
    ///
    /// # Errors
    ///
    /// Why nothing has changed.
    pub async fn ask(&self, by: RequestOrigin) -> Result<Reloaded, ReloadError> {
        if self.progress.step() != NONE {
            return Err(ReloadError::Upgrading);
        }
        let (answer, mut answered) = oneshot::channel();
        let request = Request::Reload(by, Some(answer));
        let sent = self.requests.send(request).await;
        sent.map_err(|_| self.no_reload())?;
        let mut looks = interval(LOOK_EVERY);
        loop {
            tokio::select! {
                biased;
                answer = &mut answered => return answer.unwrap_or_else(|_| Err(self.no_reload())),
                // An upgrade that came first is being met now.
                _ = looks.tick() => if self.progress.step() >= TELLING {
                    return Err(ReloadError::Upgrading);
                }
            }
        }
    }

    /// Why a reload is not met any more.
    fn no_reload(&self) -> ReloadError {
        if self.progress.step() >= TELLING {
            ReloadError::Upgrading
        } else {
            ReloadError::Stopping
        }
    }

    /// Wants an upgrade; what comes of it is in the log.
    pub fn request_upgrade(&self, by: RequestOrigin) {
        let by_whom = by.as_str();
        let Some(turn) = self.progress.take() else {
            tracing::warn!(target: "lyncpin::server", by = by_whom, "{}", UpgradeError::UnderWay);
            return;
        };
        let request = Request::Upgrade(by, None, turn);
        if self.requests.try_send(request).is_err() {
            tracing::error!(target: "lyncpin::server", by = by_whom, "no upgrade: too much is asked at once, or this process is stopping");
        }
    }

    /// Wants an upgrade and waits for what comes of it. Who stops waiting before it is in the queue wants none.
    ///
    /// # Errors
    ///
    /// Why this process goes on.
    pub async fn ask_upgrade(&self, by: RequestOrigin) -> Result<Upgraded, UpgradeError> {
        let turn = self.progress.take().ok_or(UpgradeError::UnderWay)?;
        let (answer, answered) = oneshot::channel();
        let request = Request::Upgrade(by, Some(answer), turn);
        let sent = self.requests.send(request).await;
        sent.map_err(|_| UpgradeError::Stopping)?;
        answered.await.unwrap_or(Err(UpgradeError::Stopping))
    }

    /// How far an upgrade is.
    pub(super) fn progress(&self) -> &UpgradeProgress {
        &self.progress
    }
}

/// Where requests come in.
pub(super) struct Requests(mpsc::Receiver<Request>);

impl Requests {
    /// The next one.
    pub(super) async fn next(&mut self) -> Option<Request> {
        self.0.recv().await
    }
}

/// Both ends.
pub(super) fn pair() -> (Reloads, Requests) {
    let (sender, receiver) = mpsc::channel(WAITING);
    let reloads = Reloads {
        requests: sender,
        progress: UpgradeProgress::default(),
    };
    (reloads, Requests(receiver))
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const MOMENT: Duration = Duration::from_millis(20);

    fn is_wanted(reloads: &Reloads) -> bool {
        let turn = reloads.progress.take();
        turn.is_none()
    }

    #[tokio::test]
    async fn one_who_leaves_while_the_queue_is_full_takes_the_wish_along() {
        let (reloads, mut requests) = pair();
        for _ in 0..WAITING {
            reloads.request(RequestOrigin::Signal);
        }
        let waited = timeout(
            MOMENT,
            reloads.ask_upgrade(RequestOrigin::Api(Caller::current())),
        )
        .await;
        assert!(waited.is_err() && !is_wanted(&reloads));
        let waited = timeout(MOMENT, reloads.ask(RequestOrigin::Api(Caller::current()))).await;
        assert!(waited.is_err());
        reloads.request_upgrade(RequestOrigin::Signal);
        assert!(!is_wanted(&reloads));
        for _ in 0..WAITING {
            let request = requests.next().await;
            assert!(matches!(
                request,
                Some(Request::Reload(RequestOrigin::Signal, None))
            ));
        }
        reloads.request_upgrade(RequestOrigin::Signal);
        assert!(is_wanted(&reloads));
        let request = requests.next().await;
        assert!(matches!(
            request,
            Some(Request::Upgrade(RequestOrigin::Signal, ..))
        ));
    }

    #[tokio::test]
    async fn one_who_leaves_the_queue_or_is_not_answered_blocks_nobody() {
        let (reloads, mut requests) = pair();
        let waited = timeout(
            MOMENT,
            reloads.ask_upgrade(RequestOrigin::Api(Caller::current())),
        )
        .await;
        // It is in the queue, and will be met though nobody waits for what comes of it.
        assert!(waited.is_err() && is_wanted(&reloads));
        assert!(reloads.progress.change_pins().is_some());
        let Some(Request::Upgrade(_, Some(answer), turn)) = requests.next().await else {
            panic!("the upgrade is next");
        };
        assert!(answer.is_closed());
        turn.tells();
        assert!(reloads.progress.change_pins().is_none() && !reloads.progress.hands_over());
        drop(turn);
        assert!(!is_wanted(&reloads) && reloads.progress.change_pins().is_some());
        // In the queue of one that stops.
        reloads.request_upgrade(RequestOrigin::Signal);
        drop(requests);
        assert!(!is_wanted(&reloads));
        let asked = reloads
            .ask_upgrade(RequestOrigin::Api(Caller::current()))
            .await;
        assert_eq!(asked, Err(UpgradeError::Stopping));
        assert!(!is_wanted(&reloads));
    }

    #[tokio::test]
    async fn after_an_upgrade_there_is_no_other() {
        let (reloads, mut requests) = pair();
        reloads.request_upgrade(RequestOrigin::Signal);
        let Some(Request::Upgrade(_, _, turn)) = requests.next().await else {
            panic!("the upgrade is next");
        };
        turn.hands_over();
        turn.finish();
        assert!(is_wanted(&reloads) && reloads.progress.hands_over());
        let asked = reloads
            .ask_upgrade(RequestOrigin::Api(Caller::current()))
            .await;
        assert_eq!(asked, Err(UpgradeError::UnderWay));
    }
}

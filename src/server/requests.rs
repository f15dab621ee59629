//! Asking for a reload or an upgrade: by signal, by the admin listener, because the file has changed.
//!
//! Owns who asks and how the answer gets back. Must not know what either is. Invariant: requests are met one after the
//! other, and a reload that finds no room has others before it that will read the same file; one upgrade is wanted at a
//! time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{mpsc, oneshot};

use crate::admin::view::{Reloaded, Upgraded};
use crate::admin::{Caller, ReloadError, UpgradeError};

/// Requests that may wait; more of them would read the same file.
const WAITING: usize = 16;

/// Who wants the configuration to be read again, or the program to be started anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asker {
    /// SIGHUP or SIGUSR2.
    Signal,
    /// The admin listener, for this caller.
    Api(Caller),
    /// The file has changed.
    Watch,
}

impl Asker {
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
pub(super) type Answer = Result<Reloaded, ReloadError>;
/// What comes of an upgrade.
type Handed = Result<Upgraded, UpgradeError>;

/// What is wanted; the answer goes to whoever waits for it.
pub(super) enum Request {
    Reload(Asker, Option<oneshot::Sender<Answer>>),
    Upgrade(Asker, Option<oneshot::Sender<Handed>>),
}

/// Where reloads and upgrades are asked for; clones ask at the same place.
#[derive(Clone)]
pub struct Reloads {
    requests: mpsc::Sender<Request>,
    /// An upgrade is under way, or done.
    upgrading: Arc<AtomicBool>,
}

impl Reloads {
    /// Wants a reload; what comes of it is in the log.
    pub fn request(&self, by: Asker) {
        // Where so many wait already, the last of them will read what is there now.
        let _ = self.requests.try_send(Request::Reload(by, None));
    }

    /// Wants a reload and waits for what comes of it.
    ///
    /// # Errors
    ///
    /// Why nothing has changed.
    pub async fn ask(&self, by: Asker) -> Result<Reloaded, ReloadError> {
        let (answer, answered) = oneshot::channel();
        let request = Request::Reload(by, Some(answer));
        let sent = self.requests.send(request).await;
        sent.map_err(|_| ReloadError::Stopping)?;
        answered.await.unwrap_or(Err(ReloadError::Stopping))
    }

    /// Wants an upgrade; what comes of it is in the log.
    pub fn request_upgrade(&self, by: Asker) {
        let by_whom = by.as_str();
        if self.upgrading.swap(true, Ordering::AcqRel) {
            tracing::warn!(target: "lyncpin::server", by = by_whom, "{}", UpgradeError::UnderWay);
        } else if self.requests.try_send(Request::Upgrade(by, None)).is_err() {
            self.upgrading.store(false, Ordering::Release);
            tracing::error!(target: "lyncpin::server", by = by_whom, "no upgrade: too much is asked at once, or this process is stopping");
        }
    }

    /// Wants an upgrade and waits for what comes of it.
    ///
    /// # Errors
    ///
    /// Why this process goes on.
    pub async fn ask_upgrade(&self, by: Asker) -> Result<Upgraded, UpgradeError> {
        if self.upgrading.swap(true, Ordering::AcqRel) {
            return Err(UpgradeError::UnderWay);
        }
        let (answer, answered) = oneshot::channel();
        let request = Request::Upgrade(by, Some(answer));
        let sent = self.requests.send(request).await;
        sent.map_err(|_| UpgradeError::Stopping)?;
        answered.await.unwrap_or(Err(UpgradeError::Stopping))
    }

    /// Whether an upgrade is under way, or done: what is changed here now may be lost.
    pub(super) fn is_upgrading(&self) -> bool {
        self.upgrading.load(Ordering::Acquire)
    }
}

/// Where requests come in.
pub(super) struct Requests {
    requests: mpsc::Receiver<Request>,
    upgrading: Arc<AtomicBool>,
}

impl Requests {
    /// The next one.
    pub(super) async fn next(&mut self) -> Option<Request> {
        self.requests.recv().await
    }

    /// The upgrade has failed, and there may be another.
    pub(super) fn upgrade_is_over(&self) {
        self.upgrading.store(false, Ordering::Release);
    }
}

/// Both ends.
pub(super) fn pair() -> (Reloads, Requests) {
    let (sender, receiver) = mpsc::channel(WAITING);
    let upgrading = Arc::new(AtomicBool::new(false));
    let reloads = Reloads {
        requests: sender,
        upgrading: upgrading.clone(),
    };
    let requests = Requests {
        requests: receiver,
        upgrading,
    };
    (reloads, requests)
}

//! Asking for a reload: by signal, by the admin listener, because the file has changed.
//!
//! Owns who asks and how the answer gets back. Must not know what a reload is. Invariant: requests are met one after the
//! other, and one that finds no room has others before it that will read the same file.

use tokio::sync::{mpsc, oneshot};

use crate::admin::ReloadError;
use crate::admin::view::Reloaded;

/// Requests that may wait; more of them would read the same file.
const WAITING: usize = 16;

/// Who wants the configuration to be read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// SIGHUP.
    Signal,
    /// The admin listener.
    Api,
    /// The file has changed.
    Watch,
}

impl Asker {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Signal => "signal",
            Self::Api => "api",
            Self::Watch => "watch",
        }
    }
}

/// What comes of a reload.
pub(super) type Answer = Result<Reloaded, ReloadError>;

/// One reload that is wanted.
pub(super) struct Request {
    pub(super) by: Asker,
    /// `None` where nobody waits.
    pub(super) answer: Option<oneshot::Sender<Answer>>,
}

/// Where reloads are asked for; clones ask at the same place.
#[derive(Clone)]
pub struct Reloads(mpsc::Sender<Request>);

impl Reloads {
    /// Wants a reload; what comes of it is in the log.
    pub fn request(&self, by: Asker) {
        // Where so many wait already, the last of them will read what is there now.
        let _ = self.0.try_send(Request { by, answer: None });
    }

    /// Wants a reload and waits for what comes of it.
    ///
    /// # Errors
    ///
    /// Why nothing has changed.
    pub async fn ask(&self, by: Asker) -> Result<Reloaded, ReloadError> {
        let (answer, answered) = oneshot::channel();
        let answer = Some(answer);
        let sent = self.0.send(Request { by, answer }).await;
        sent.map_err(|_| ReloadError::Stopping)?;
        answered.await.unwrap_or(Err(ReloadError::Stopping))
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
    (Reloads(sender), Requests(receiver))
}

//! The last rejected connections, for the status page and the API.
//!
//! Owns them in memory. Must not know why a client was rejected. Invariants: their number is limited; recording
//! never waits: while another thread records or reads, a rejection is left out here, but not in the log.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::SystemTime;

use crate::types::outcome::Outcome;

/// The most rejections in memory.
pub const CAPACITY: usize = 200;

/// A connection that the balancer rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedConnection {
    /// When.
    pub at: SystemTime,
    /// The listener.
    pub listener: Box<str>,
    /// The address of the client, as `log.client_address` allows.
    pub client: String,
    /// The requested name; `None` if there was none, or none that could be read.
    pub name: Option<String>,
    /// The outcome.
    pub outcome: Outcome,
    /// Details beyond the outcome.
    pub detail: Option<String>,
}

/// The last rejections. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct RejectionLog(Arc<Mutex<VecDeque<RejectedConnection>>>);

impl RejectionLog {
    /// Adds a rejection, and drops the oldest if there are too many. `build` is called only if the rejection is added.
    pub(super) fn push(&self, build: impl FnOnce() -> RejectedConnection) {
        let mut recent = match self.0.try_lock() {
            Ok(recent) => recent,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        if recent.len() == CAPACITY {
            recent.pop_front();
        }
        recent.push_back(build());
    }

    /// All of them, the oldest first.
    #[must_use]
    pub fn all(&self) -> Vec<RejectedConnection> {
        let recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        recent.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use metrics::Counter;

    use super::*;
    use crate::config::model;
    use crate::telemetry::log::{AccessRecord, Log, Sink};

    fn rejection(number: usize) -> RejectedConnection {
        RejectedConnection {
            at: SystemTime::UNIX_EPOCH,
            listener: "https".into(),
            client: number.to_string(),
            name: None,
            outcome: Outcome::UnknownName,
            detail: None,
        }
    }

    #[test]
    fn the_oldest_rejections_are_dropped() {
        let rejections = RejectionLog::default();
        for number in 0..CAPACITY + 5 {
            rejections.push(|| rejection(number));
        }
        let all = rejections.all();
        assert_eq!(all.len(), CAPACITY);
        assert_eq!((&*all[0].client, &*all[CAPACITY - 1].client), ("5", "204"));
    }

    #[test]
    fn a_rejection_hides_as_much_of_the_client_as_the_log() {
        let settings = model::LogSettings {
            format: model::LogFormat::Json,
            access: false,
            client_address: model::ClientAddress::Prefix,
        };
        let nowhere = std::fs::File::options().write(true).open("/dev/null");
        let (sink, _writer) =
            Sink::start(nowhere.unwrap().into(), settings.format, Counter::noop()).unwrap();
        let log = Log::new(settings, sink);
        log.record_rejection(&AccessRecord {
            time: SystemTime::UNIX_EPOCH,
            listener: "https",
            client: "192.0.2.77:50123".parse().unwrap(),
            prefix: Some(model::SourcePrefix { ipv4: 24, ipv6: 56 }),
            name: Some(b"elsewhere.contoso.com"),
            pool: None,
            backend: None,
            pick: None,
            bytes_to_backend: 0,
            bytes_to_client: 0,
            hello: None,
            connect: None,
            duration: Duration::ZERO,
            tls_offered: None,
            tries: 0,
            outcome: Outcome::UnknownName,
            detail: None,
            unique_id: None,
        });
        let recent = log.rejections().all().remove(0);
        assert_eq!(recent.client, "192.0.2.0/24");
        assert_eq!(recent.name.as_deref(), Some("elsewhere.contoso.com"));
    }

    #[test]
    fn recording_does_not_wait_for_a_reader() {
        let rejections = RejectionLog::default();
        let reader = rejections.0.lock().unwrap();
        rejections.push(|| unreachable!("it is not built"));
        drop(reader);
        assert_eq!(rejections.all(), []);
    }
}

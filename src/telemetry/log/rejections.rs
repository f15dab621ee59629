//! Owns the last refusals, for people who look after the fact.
//!
//! Must not know why a client was refused. Invariants: it never holds more than [`KEPT`]; who writes never waits: while
//! somebody else writes or looks, a refusal is left out here (the log has it).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::SystemTime;

use crate::types::outcome::Outcome;

/// How many refusals are kept.
pub const KEPT: usize = 200;

/// A connection that the balancer refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedConnection {
    /// When.
    pub at: SystemTime,
    /// The listener that it came to.
    pub listener: Box<str>,
    /// Where it came from, as much as `log.client_address` lets be known.
    pub client: String,
    /// The name that it asked for; `None` where it sent none or none could be read.
    pub name: Option<String>,
    /// How it was refused.
    pub outcome: Outcome,
    /// Why, where there is more to say than the outcome.
    pub detail: Option<String>,
}

/// The last refusals; clones share them.
#[derive(Debug, Clone, Default)]
pub struct RejectionLog(Arc<Mutex<VecDeque<RejectedConnection>>>);

impl RejectionLog {
    /// Adds a refusal, and forgets the oldest when there are too many. It is formed only if it will be kept.
    pub(super) fn push(&self, form: impl FnOnce() -> RejectedConnection) {
        let mut kept = match self.0.try_lock() {
            Ok(kept) => kept,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(form());
    }

    /// All of them, the oldest first.
    #[must_use]
    pub fn all(&self) -> Vec<RejectedConnection> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use metrics::Counter;

    use super::*;
    use crate::config::model;
    use crate::telemetry::log::{AccessRecord, Log, Sink};

    fn refused(number: usize) -> RejectedConnection {
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
    fn oldest_refusals_give_way() {
        let refusals = RejectionLog::default();
        for number in 0..KEPT + 5 {
            refusals.push(|| refused(number));
        }
        let all = refusals.all();
        assert_eq!(all.len(), KEPT);
        assert_eq!((&*all[0].client, &*all[KEPT - 1].client), ("5", "204"));
    }

    #[test]
    fn a_refusal_hides_of_its_client_what_the_log_hides() {
        let settings = model::LogSettings {
            format: model::LogFormat::Json,
            access: false,
            client_address: model::ClientAddress::Prefix,
        };
        let nowhere = std::fs::File::options().write(true).open("/dev/null");
        let (sink, _writer) =
            Sink::start(nowhere.unwrap().into(), settings.format, Counter::noop()).unwrap();
        let log = Log::new(settings, sink);
        log.refused(&AccessRecord {
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
            whole: Duration::ZERO,
            tls_offered: None,
            tries: 0,
            outcome: Outcome::UnknownName,
            detail: None,
        });
        let kept = log.refusals().all().remove(0);
        assert_eq!(kept.client, "192.0.2.0/24");
        assert_eq!(kept.name.as_deref(), Some("elsewhere.contoso.com"));
    }

    #[test]
    fn nobody_waits_for_who_looks() {
        let refusals = RejectionLog::default();
        let looking = refusals.0.lock().unwrap();
        refusals.push(|| unreachable!("it is not even formed"));
        drop(looking);
        assert_eq!(refusals.all(), []);
    }
}

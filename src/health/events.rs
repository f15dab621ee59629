//! Owns the last ups and downs of all backends, for people who look after the fact.
//!
//! Must not know why a backend changed. Invariant: it never holds more than [`KEPT`] events.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use crate::types::backend_state::Health;

/// How many events are kept.
pub const KEPT: usize = 200;

/// A backend went up or down.
#[derive(Debug, Clone, PartialEq)]
pub struct HealthChangeEvent {
    /// When.
    pub at: SystemTime,
    /// Its pool.
    pub pool: Arc<str>,
    /// Its name there.
    pub backend: Arc<str>,
    /// What it became.
    pub health: Health,
    /// Why, in words.
    pub why: String,
}

/// The last events; clones share them.
#[derive(Debug, Clone, Default)]
pub struct HealthEvents(Arc<Mutex<VecDeque<HealthChangeEvent>>>);

impl HealthEvents {
    /// Adds an event, and forgets the oldest when there are too many.
    pub(super) fn push(&self, event: HealthChangeEvent) {
        let mut events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if events.len() == KEPT {
            events.pop_front();
        }
        events.push_back(event);
    }

    /// All of them, the oldest first.
    #[must_use]
    pub fn all(&self) -> Vec<HealthChangeEvent> {
        let events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        events.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oldest_events_give_way() {
        let events = HealthEvents::default();
        for number in 0..KEPT + 5 {
            events.push(HealthChangeEvent {
                at: SystemTime::UNIX_EPOCH,
                pool: "web".into(),
                backend: "fe01".into(),
                health: Health::Up,
                why: number.to_string(),
            });
        }
        let all = events.all();
        assert_eq!(all.len(), KEPT);
        assert_eq!(all[0].why, "5");
        assert_eq!(all[KEPT - 1].why, (KEPT + 4).to_string());
    }
}

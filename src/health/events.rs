//! Owns the recent health changes of all backends, for display.
//!
//! Must not know why a backend changed. Invariant: there are never more than [`MAX_EVENTS`] events.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use crate::types::backend_state::Health;

/// Most events that are kept.
pub const MAX_EVENTS: usize = 200;

/// A backend went up or down.
#[derive(Debug, Clone, PartialEq)]
pub struct HealthChangeEvent {
    /// When.
    pub at: SystemTime,
    /// The pool.
    pub pool: Arc<str>,
    /// The name of the backend in the pool.
    pub backend: Arc<str>,
    /// The new health.
    pub health: Health,
    /// Why, as text.
    pub why: String,
}

/// The recent events; clones share them.
#[derive(Debug, Clone, Default)]
pub struct HealthEvents(Arc<Mutex<VecDeque<HealthChangeEvent>>>);

impl HealthEvents {
    /// Adds an event, and removes the oldest if there are too many.
    pub(super) fn push(&self, event: HealthChangeEvent) {
        let mut events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if events.len() == MAX_EVENTS {
            events.pop_front();
        }
        events.push_back(event);
    }

    /// All events, the oldest first.
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
    fn the_oldest_events_are_removed() {
        let events = HealthEvents::default();
        for number in 0..MAX_EVENTS + 5 {
            events.push(HealthChangeEvent {
                at: SystemTime::UNIX_EPOCH,
                pool: "web".into(),
                backend: "fe01".into(),
                health: Health::Up,
                why: number.to_string(),
            });
        }
        let all = events.all();
        assert_eq!(all.len(), MAX_EVENTS);
        assert_eq!(all[0].why, "5");
        assert_eq!(all[MAX_EVENTS - 1].why, (MAX_EVENTS + 4).to_string());
    }
}

//! What is configured of a group's table, and may change while pins stand.
//!
//! Owns which changes a table goes through as it is. Invariant: what the keys are made of stays for as long as the table.

use std::sync::Arc;

use arc_swap::Guard;

use super::Pins;
use crate::config::model;

impl Pins {
    /// What is configured for it. What its keys are made of never changes, the other settings may.
    #[must_use]
    pub fn settings(&self) -> Guard<Arc<model::Affinity>> {
        self.settings.load()
    }

    /// Goes on with other settings. `false`, and nothing is changed, where they make other keys: the pins that stand would
    /// be found by nobody.
    #[must_use]
    pub fn reconfigure(&self, settings: &model::Affinity) -> bool {
        let known = self.settings.load_full();
        let same_keys = model::Affinity {
            ttl: settings.ttl,
            max_entries: settings.max_entries,
            ..model::Affinity::clone(&known)
        } == *settings;
        if !same_keys {
            return false;
        }
        self.settings.store(Arc::new(settings.clone()));
        self.clients.set_most(settings.max_entries);
        self.clients.set_ttl(settings.ttl, self.now());
        if settings.by_session {
            self.sessions.set_most(settings.max_entries);
            self.sessions.set_ttl(settings.ttl, self.now());
        }
        true
    }
}

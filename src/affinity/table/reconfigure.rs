//! A change of a table's settings.
//!
//! Owns which settings can change in place. Must not know where they come from. Invariant: the scheme of the keys never
//! changes.

use std::sync::Arc;

use arc_swap::Guard;

use super::Pins;
use crate::affinity::record::KeyScheme;
use crate::affinity::shard::PinAction;
use crate::config::model;

impl Pins {
    /// The settings. The scheme of the keys never changes; the others may.
    #[must_use]
    pub fn settings(&self) -> Guard<Arc<model::AffinitySettings>> {
        self.settings.load()
    }

    /// Applies other settings. Returns `false` and changes nothing if they need another scheme of keys: see
    /// [`Pins::import_table`].
    #[must_use]
    pub fn reconfigure(&self, settings: &model::AffinitySettings) -> bool {
        if KeyScheme::of(settings) != KeyScheme::of(&self.settings()) {
            return false;
        }
        self.settings.store(Arc::new(settings.clone()));
        self.clients.set_most(settings.max_entries);
        self.clients.set_ttl(settings.ttl, self.now());
        self.sessions.set_ttl(settings.ttl, self.now());
        if settings.by_session {
            self.sessions.set_most(settings.max_entries);
        } else {
            self.sessions.set_most(0);
            self.sessions.visit(self.now(), |_| PinAction::Clear);
        }
        true
    }
}

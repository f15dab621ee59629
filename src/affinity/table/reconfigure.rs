//! What is configured of a group's table, and may change while pins stand.
//!
//! Owns which changes a table goes through as it is. Invariant: what the keys are made of stays for as long as the table.

use std::sync::Arc;

use arc_swap::Guard;

use super::{KeyScheme, PinRecord, Pins};
use crate::affinity::shard::{Moment, PinAction};
use crate::config::model;

impl Pins {
    /// What is configured for it. What the keys of its clients are made of never changes, the other settings may.
    #[must_use]
    pub fn settings(&self) -> Guard<Arc<model::AffinitySettings>> {
        self.settings.load()
    }

    /// Goes on with other settings. `false`, and nothing is changed, where they make other keys of clients: see
    /// [`Pins::import`].
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
            self.sessions.visit(self.now(), |_| PinAction::Forget);
        }
        true
    }

    /// Takes the pins of another table of its group, which has other keys, as far as they can be translated. Those that
    /// are in use there are idle here, and live for the time to live from now. Says how many it took.
    pub fn import(&self, other: &Self) -> usize {
        let (from, to) = (
            KeyScheme::of(&other.settings()),
            KeyScheme::of(&self.settings()),
        );
        let (here, there) = (self.now(), other.now());
        let moment = |moment: Moment| Moment((moment.0 + here.0).saturating_sub(there.0));
        let mut taken = 0;
        other.export(&mut |kept| {
            let Some(key) = from.translate(kept.key, &to) else {
                return;
            };
            let translated = PinRecord {
                key,
                created: moment(kept.created),
                expires: kept.expires.map(moment),
                ..kept
            };
            taken += usize::from(self.restore(&translated));
        });
        taken
    }
}

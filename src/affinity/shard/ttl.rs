//! A change of the time to live.
//!
//! Owns its effect on idle pins: they expire as if the time to live had always been the new one. Invariant: no pin is removed
//! before its new expiry, and pins in use do not change.

use std::time::Duration;

use super::wheel::ExpiryWheel;
use super::{Keyed, Moment, Shard, after};

impl<K: Keyed> Shard<K> {
    /// Pins expire `ttl` after the end of their last connection from now on, including those that are idle already.
    pub fn set_ttl(&mut self, ttl: Duration, now: Moment) {
        let before = std::mem::replace(&mut self.ttl, ttl);
        if before == ttl {
            return;
        }
        let mut wheel = std::mem::replace(&mut self.wheel, ExpiryWheel::new(ttl));
        self.wheel.advance(now);
        let before = u64::try_from(before.as_millis()).unwrap_or(u64::MAX);
        while let Some(oldest) = wheel.oldest() {
            let Some(at) = wheel.take(&mut self.pins, oldest) else {
                break;
            };
            let pin = &mut self.pins[at];
            if pin.in_use > 0 {
                // Listed again when its last connection ends.
                continue;
            }
            let ended = Moment(pin.expires.0.saturating_sub(before));
            pin.expires = after(ended, ttl);
            self.changes.note(&mut self.pins, at);
            self.wheel.list(&mut self.pins, at);
        }
    }
}

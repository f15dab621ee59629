//! Another time to live, while pins stand.
//!
//! Owns what becomes of those that are idle: they count from the end of their last connection, as if the time to live had
//! always been the new one. Invariant: no pin leaves before its new time, and none that is in use is touched.

use std::time::Duration;

use super::wheel::ExpiryWheel;
use super::{Keyed, Moment, Shard, after};

impl<K: Keyed> Shard<K> {
    /// Pins outlive their last connection by `ttl` from now on.
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

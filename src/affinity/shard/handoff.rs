//! Pins that pass from one process to the next while both live.
//!
//! Owns what is met for it and how it is put. Invariant: what the process that puts it knows of its own connections is
//! never overruled.

use super::{Keyed, Moment, NONE, PinHandle, PinView, Shard, Tag, after};

/// What became of a pin that was passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutOutcome {
    /// It stands, idle or in other hands.
    Stands,
    /// It stands and is held, by connections of the other process.
    Held(PinHandle),
    /// Its time has come, or there is no room.
    Not,
}

impl<K: Keyed> Shard<K> {
    /// Meets the pins at the next `most` places from place `from` on that are in use, or idle and not to expire before
    /// `expires`. One whose first connection has not been answered yet counts as leading where that is sent. Says from
    /// where to go on; `None` is the end.
    pub fn visit_recent(
        &mut self,
        from: u32,
        most: u32,
        (now, expires): (Moment, Moment),
        mut each: impl FnMut(&PinView<K>),
    ) -> Option<u32> {
        let end = self.pins.count();
        let to = from.saturating_add(most).min(end);
        for at in from..to {
            let pin = &self.pins[at];
            let leads = pin.member != NONE || (pin.in_use > 0 && pin.candidate != NONE);
            let recent = pin.in_use > 0 || pin.expires >= expires;
            if !leads || !recent || pin.is_expired(now) {
                continue;
            }
            let mut view = self.view_at(at);
            if view.member.0 == NONE {
                view.member.0 = pin.candidate;
            }
            each(&view);
        }
        (to < end).then_some(to)
    }

    /// Puts a pin that stands in another process, where one stands already in its place; `kept.in_use` says whether that
    /// process's connections hold it. A pin that is in use here stays where it leads.
    pub fn put(
        &mut self,
        (kept, tag): (&PinView<K>, Tag),
        now: Moment,
        room: impl FnOnce(&mut Self) -> bool,
    ) -> PutOutcome {
        let latest = after(now, self.ttl);
        let expires = kept.expires.unwrap_or(latest).min(latest);
        let held = kept.in_use > 0;
        if !held && expires <= now {
            return PutOutcome::Not;
        }
        let at = match self.standing(&kept.key, tag, now) {
            Some(at) => at,
            None if room(self) => self.insert((kept.key, tag), kept.created.min(now), kept.origin),
            None => return PutOutcome::Not,
        };
        let used = self.pins[at].in_use > 0;
        if !used || self.pins[at].member == NONE {
            self.lead(at, kept.member.0);
            let pin = &mut self.pins[at];
            (pin.created, pin.origin) = (kept.created.min(now).seconds(), kept.origin);
        }
        if held {
            return PutOutcome::Held(self.hold(at));
        }
        if !used {
            self.keep_idle(at, expires, now);
        }
        PutOutcome::Stands
    }
}

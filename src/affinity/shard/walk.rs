//! Going through the pins, for people and for whoever keeps them elsewhere.
//!
//! Owns what is shown of a pin, and what can be done with it from outside a connection. Invariant: every walk goes in
//! steps whose length the caller bounds, and one that goes on where the last step ended meets each pin that stands all
//! the while exactly once.

use super::{Keyed, Member, Moment, NONE, Origin, Shard, Tag, after};

/// One pin, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PinView<K> {
    /// Whom it is for.
    pub key: K,
    /// Where it leads.
    pub member: Member,
    /// How it came to lead there.
    pub origin: Origin,
    /// When it was made, to the second.
    pub created: Moment,
    /// Connections that hold it now.
    pub in_use: u32,
    /// When it expires; `None` while it is in use.
    pub expires: Option<Moment>,
}

/// What becomes of a pin that is met on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PinAction {
    /// It stays.
    Keep,
    /// It is forgotten. Connections live on.
    Forget,
    /// It leads to this member from now on, and the connections that hold it are recalled.
    Move(Member),
}

impl<K: Keyed> Shard<K> {
    /// Meets the pins at the next `most` places from place `from` on, those that lead somewhere, and does with each what
    /// `each` says. Those that have expired are not met but swept. Says from where to go on; `None` is the end.
    pub fn visit(
        &mut self,
        from: u32,
        most: u32,
        now: Moment,
        mut each: impl FnMut(&PinView<K>) -> PinAction,
    ) -> Option<u32> {
        let end = self.pins.count();
        let to = from.saturating_add(most).min(end);
        for at in from..to {
            let pin = &self.pins[at];
            if pin.member == NONE {
                continue;
            }
            if pin.is_expired(now) {
                self.unlist(at);
                self.remove(at);
                continue;
            }
            match each(&self.view_at(at)) {
                PinAction::Keep => {}
                PinAction::Forget => self.forget(at),
                PinAction::Move(member) => self.redirect(at, member),
            }
        }
        (to < end).then_some(to)
    }

    /// The pin of `key`, if one stands.
    #[must_use]
    pub fn view(&self, (key, tag): (&K, Tag), now: Moment) -> Option<PinView<K>> {
        let at = self.find(key, tag)?;
        let pin = &self.pins[at];
        let stands = pin.member != NONE && !pin.is_expired(now);
        stands.then(|| self.view_at(at))
    }

    /// Makes the pin of `key` lead to `member`, be it new or not; says where it led before, if it led somewhere else.
    /// Connections that hold it live on.
    ///
    /// # Errors
    ///
    /// Where there is no room for a new one.
    pub fn set(
        &mut self,
        (key, tag): (K, Tag),
        now: Moment,
        member: Member,
        room: impl FnOnce(&mut Self) -> bool,
    ) -> Result<Option<Member>, TableFull> {
        let at = match self.standing(&key, tag, now) {
            Some(at) => at,
            None if room(self) => self.insert((key, tag), now, Origin::Administrator),
            None => return Err(TableFull),
        };
        let before = self.lead_by_hand(at, member);
        if self.pins[at].in_use == 0 {
            self.keep_idle(at, after(now, self.ttl), now);
        }
        let moved = before != NONE && before != member.0;
        Ok(moved.then_some(Member(before)))
    }

    /// Puts back a pin that was kept elsewhere, unless its time has come or one stands already; says whether it did.
    pub fn restore(
        &mut self,
        (kept, tag): (&PinView<K>, Tag),
        now: Moment,
        room: impl FnOnce(&mut Self) -> bool,
    ) -> bool {
        let latest = after(now, self.ttl);
        let expires = kept.expires.unwrap_or(latest).min(latest);
        if expires <= now || self.standing(&kept.key, tag, now).is_some() || !room(self) {
            return false;
        }
        let at = self.insert((kept.key, tag), kept.created.min(now), kept.origin);
        self.lead(at, kept.member.0);
        self.keep_idle(at, expires, now);
        true
    }

    pub(super) fn view_at(&self, at: u32) -> PinView<K> {
        let pin = &self.pins[at];
        PinView {
            key: pin.key,
            member: Member(pin.member),
            origin: pin.origin,
            created: Moment(u64::from(pin.created) * 1000),
            in_use: pin.in_use,
            expires: (pin.in_use == 0).then_some(pin.expires),
        }
    }

    fn redirect(&mut self, at: u32, member: Member) {
        self.lead_by_hand(at, member);
        let pin = &mut self.pins[at];
        pin.recalls = pin.recalls.wrapping_add(1);
    }

    /// Makes the pin lead where an administrator says; says where it led before.
    fn lead_by_hand(&mut self, at: u32, member: Member) -> u32 {
        let before = self.lead(at, member.0);
        let pin = &mut self.pins[at];
        (pin.origin, pin.candidate) = (Origin::Administrator, NONE);
        // Also where it led there already, for whoever keeps pins keeps who said so.
        self.changes.note(&mut self.pins, at);
        before
    }

    pub(super) fn keep_idle(&mut self, at: u32, expires: Moment, now: Moment) {
        self.pins[at].expires = expires;
        self.changes.note(&mut self.pins, at);
        if !self.pins[at].listed {
            self.wheel.advance(now);
            self.wheel.list(&mut self.pins, at);
        }
    }
}

/// Every pin of a full table is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableFull;

impl std::fmt::Display for TableFull {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("every pin of the full table is in use")
    }
}

impl std::error::Error for TableFull {}

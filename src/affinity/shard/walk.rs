//! Walks through the pins.
//!
//! Owns the view of a pin, and what can be done with a pin from outside a connection. Invariant: every walk goes in steps
//! whose length the caller limits, and visits each pin that exists all the while exactly once.

use super::{Keyed, Member, Moment, NONE, Origin, Shard, Tag, after};

/// One pin, in the table's numbers and moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PinView<K> {
    /// Its key.
    pub key: K,
    /// Its backend.
    pub member: Member,
    /// Why it has this backend.
    pub origin: Origin,
    /// When it was created, to the second.
    pub created: Moment,
    /// Connections that hold it now.
    pub in_use: u32,
    /// When it expires; `None` while it is in use.
    pub expires: Option<Moment>,
}

/// What a walk does with a pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PinAction {
    /// Nothing.
    Keep,
    /// Clears it. Its connections stay open.
    Clear,
    /// Moves it to this backend. The connections that hold it are to be reset.
    Move(Member),
}

impl<K: Keyed> Shard<K> {
    /// Visits the pins in the next `most` cells from cell `from` on that have a backend, and does with each what `each`
    /// returns. Expired ones are removed instead. Returns the cell to continue from; `None` at the end.
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
                PinAction::Clear => self.clear(at),
                PinAction::Move(member) => self.redirect(at, member),
            }
        }
        (to < end).then_some(to)
    }

    /// The pin of `key`, if it has one with a backend.
    #[must_use]
    pub fn view(&self, (key, tag): (&K, Tag), now: Moment) -> Option<PinView<K>> {
        let at = self.find(key, tag)?;
        let pin = &self.pins[at];
        let is_live = pin.member != NONE && !pin.is_expired(now);
        is_live.then(|| self.view_at(at))
    }

    /// Creates the pin of `key` or moves it to `member`. Returns the previous backend if the pin has moved. Connections that
    /// hold it stay open.
    ///
    /// # Errors
    ///
    /// If there is no room for a new one.
    pub fn set(
        &mut self,
        (key, tag): (K, Tag),
        now: Moment,
        member: Member,
        room: impl FnOnce(&mut Self) -> bool,
    ) -> Result<Option<Member>, TableFull> {
        let at = match self.find_live(&key, tag, now) {
            Some(at) => at,
            None if room(self) => self.insert((key, tag), now, Origin::Administrator),
            None => return Err(TableFull),
        };
        let before = self.set_by_administrator(at, member);
        if self.pins[at].in_use == 0 {
            self.keep_idle(at, after(now, self.ttl), now);
        }
        let moved = before != NONE && before != member.0;
        Ok(moved.then_some(Member(before)))
    }

    /// Visits the pins in the next `most` cells from cell `from` on that are in use, or idle and expire at `expires` or
    /// later. A pin whose first connection has no answer yet counts as one to the backend that this connection was sent to.
    /// Returns the cell to continue from; `None` at the end.
    pub fn visit_recent(
        &self,
        from: u32,
        most: u32,
        (now, expires): (Moment, Moment),
        mut each: impl FnMut(&PinView<K>),
    ) -> Option<u32> {
        let end = self.pins.count();
        let to = from.saturating_add(most).min(end);
        for at in from..to {
            let pin = &self.pins[at];
            let pinned = pin.member != NONE || (pin.in_use > 0 && pin.candidate != NONE);
            let recent = pin.in_use > 0 || pin.expires >= expires;
            if !pinned || !recent || pin.is_expired(now) {
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
        self.set_by_administrator(at, member);
        let pin = &mut self.pins[at];
        pin.moves = pin.moves.wrapping_add(1);
    }

    /// Gives the pin the backend that an administrator chose. Returns the previous one.
    fn set_by_administrator(&mut self, at: u32, member: Member) -> u32 {
        let before = self.set_member(at, member.0);
        let pin = &mut self.pins[at];
        (pin.origin, pin.candidate) = (Origin::Administrator, NONE);
        // Also if the backend is the same: the origin has changed.
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

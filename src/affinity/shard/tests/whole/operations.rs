//! Each operation on the shard and on the model.

use super::*;

impl World {
    pub(super) fn come(&mut self, key: u8, client: u64, of: &Fits) {
        let before = self.shard.len();
        let found = self.shard.acquire(
            session(key, client),
            Moment(self.now),
            Origin::Policy,
            |member| fits(of, member.0),
            || chosen(of).map(Member),
            room,
        );
        let known = self.known.get(&key).cloned();
        let pinned = known.as_ref().and_then(|known| known.member);
        let candidate = known.as_ref().and_then(|known| known.candidate);
        let pinned_fit = pinned.map(|member| fits(of, member));
        let agreed_fit = candidate.map(|member| fits(of, member));
        let is_foreign = pinned_fit == Some(Eligibility::NotInPool)
            || pinned_fit != Some(Eligibility::Eligible)
                && agreed_fit == Some(Eligibility::NotInPool);
        let agreed = candidate.filter(|_| agreed_fit == Some(Eligibility::Eligible));
        let wanted = agreed.or_else(|| chosen(of));
        let (handle, member) = match found {
            KeyLookup::NotInPool => return assert!(is_foreign),
            KeyLookup::Pinned(handle, member) => {
                assert_eq!(
                    (pinned, pinned_fit),
                    (Some(member.0), Some(Eligibility::Eligible))
                );
                (handle, member.0)
            }
            KeyLookup::NoBackend => return assert!(wanted.is_none() && !is_foreign),
            KeyLookup::Unpinned(member) => {
                assert_eq!((known, wanted), (None, Some(member.0)));
                return self.no_room();
            }
            KeyLookup::New(handle, member) => {
                assert!(pinned.is_none() && wanted == Some(member.0) && !is_foreign);
                (handle, member.0)
            }
            KeyLookup::Stale(handle, member) => {
                assert_eq!(
                    (pinned_fit, wanted),
                    (Some(Eligibility::Ineligible), Some(member.0))
                );
                (handle, member.0)
            }
        };
        if known.is_none() {
            let fresh = self.fresh(client, None, Origin::Policy);
            self.made(key, fresh, before);
        }
        let known = self.known.get_mut(&key).unwrap();
        if !matches!(found, KeyLookup::Pinned(..)) {
            known.candidate = Some(member);
        }
        self.hold(key, handle, member);
    }

    pub(super) fn hold(&mut self, key: u8, handle: PinHandle, member: u32) {
        self.known.get_mut(&key).unwrap().in_use += 1;
        self.open.push(Open {
            key,
            handle,
            member,
            moved: false,
        });
    }

    pub(super) fn resume(&mut self, key: u8, client: u64, of: &Fits) {
        let now = self.moment();
        let resumed = self
            .shard
            .resume(session(key, client), now, |member| fits(of, member.0));
        let known = self.known.get_mut(&key);
        let known = known.filter(|known| {
            known
                .member
                .is_some_and(|member| fits(of, member) != Eligibility::NotInPool)
        });
        let (Some(resumed), Some(known)) = (&resumed, &known) else {
            return assert!(resumed.is_none() && known.is_none());
        };
        let member = known.member.unwrap();
        assert_eq!(
            (resumed.member.0, resumed.before.client),
            (member, known.client)
        );
        assert_eq!(
            resumed.is_eligible,
            fits(of, member) == Eligibility::Eligible
        );
        *self.quotas.entry(known.client).or_default() -= 1;
        *self.quotas.entry(client).or_default() += 1;
        let handle = resumed.handle;
        self.known.get_mut(&key).unwrap().client = client;
        self.hold(key, handle, member);
    }

    pub(super) fn teach(&mut self, key: u8, client: u64, member: u32) {
        let (before, now) = (self.shard.len(), self.moment());
        let taught = self
            .shard
            .assign(session(key, client), now, Member(member), room);
        let Some(handle) = taught else {
            assert!(!self.known.contains_key(&key));
            return self.no_room();
        };
        if !self.known.contains_key(&key) {
            let fresh = self.fresh(client, Some(member), Origin::Session);
            self.made(key, fresh, before);
        }
        self.hold(key, handle, member);
        self.lead(key, member);
    }

    /// A backend has answered, and the pin moves there.
    pub(super) fn lead(&mut self, key: u8, member: u32) -> Option<Member> {
        let known = self.known.get_mut(&key).unwrap();
        if known.member == Some(member) {
            return None;
        }
        known.candidate = None;
        let before = known.member.replace(member);
        if before.is_some() {
            known.origin = Origin::Failover;
        }
        before.map(Member)
    }

    pub(super) fn answer(&mut self, at: usize, even_if_unexpected: bool) {
        let Some(open) = self.open.get(at) else {
            return;
        };
        let (key, handle, member, moved) = (open.key, open.handle, open.member, open.moved);
        let moved_from = if even_if_unexpected {
            self.shard.answered_by(handle, Member(member))
        } else {
            self.shard.answered(handle, Member(member))
        };
        let known = &self.known[&key];
        let is_expected =
            even_if_unexpected || known.member.is_none() || known.candidate == Some(member);
        let before = if is_expected && !moved {
            self.lead(key, member)
        } else {
            None
        };
        assert_eq!(moved_from, before);
    }

    pub(super) fn fail(&mut self, at: usize, of: &Fits) {
        let Some(open) = self.open.get_mut(at) else {
            return;
        };
        let known = self.known.get_mut(&open.key).unwrap();
        let agreed = [known.member, known.candidate].into_iter().flatten();
        let agreed = agreed
            .into_iter()
            .find(|&member| fits(of, member) == Eligibility::Eligible);
        let wanted = agreed.or_else(|| chosen(of));
        let choose = || chosen(of).map(Member);
        let next = self
            .shard
            .next_member(open.handle, |member| fits(of, member.0), choose);
        assert_eq!(next, wanted.map(Member));
        if let Some(wanted) = wanted {
            open.member = wanted;
            if agreed.is_none() {
                known.candidate = Some(wanted);
            }
        }
    }

    pub(super) fn end(&mut self, at: usize) {
        if self.open.is_empty() {
            return;
        }
        let open = self.open.swap_remove(at);
        self.shard.release(open.handle, Moment(self.now));
        let known = self.known.get_mut(&open.key).unwrap();
        known.in_use -= 1;
        if known.in_use == 0 {
            known.candidate = None;
            known.expires = known.member.map_or(0, |_| self.now + 60_000);
        }
    }

    pub(super) fn set(&mut self, key: u8, member: u32) {
        let (before, now) = (self.shard.len(), self.moment());
        let set = self.shard.set(session(key, 1), now, Member(member), room);
        let Ok(led) = set else {
            assert!(!self.known.contains_key(&key));
            return self.no_room();
        };
        if !self.known.contains_key(&key) {
            let fresh = self.fresh(1, None, Origin::Administrator);
            self.made(key, fresh, before);
        }
        let known = self.known.get_mut(&key).unwrap();
        let led_before = known.member.replace(member);
        assert_eq!(led, led_before.filter(|&led| led != member).map(Member));
        (known.origin, known.candidate) = (Origin::Administrator, None);
        known.expires = self.now + 60_000;
    }

    pub(super) fn visit(&mut self, step: u32, does: &[u8; MEMBERS as usize]) {
        let mut met = Vec::new();
        let mut from = Some(0);
        while let Some(cell) = from {
            from = self.shard.visit(cell, step, Moment(self.now), |pin| {
                met.push(pin.key.hash[0]);
                action(does, pin.member)
            });
        }
        met.sort_unstable();
        let pinned = |(key, known): (&u8, &Known)| known.member.map(|_| *key);
        let expected: Vec<u8> = self.known.iter().filter_map(pinned).collect();
        assert_eq!(met, expected, "each pin with a backend is visited once");
        for key in expected {
            let known = self.known.get_mut(&key).unwrap();
            match action(does, Member(known.member.unwrap())) {
                PinAction::Keep => {}
                PinAction::Clear => {
                    (known.member, known.expires) = (None, 0);
                    known.origin = Origin::Policy;
                }
                PinAction::Move(to) => {
                    (known.member, known.candidate) = (Some(to.0), None);
                    known.origin = Origin::Administrator;
                    let held = self.open.iter_mut().filter(|open| open.key == key);
                    held.for_each(|open| open.moved = true);
                }
            }
        }
    }

    pub(super) fn import(&mut self, key: u8, member: u32, left: u64) {
        let (before, now) = (self.shard.len(), self.moment());
        let (session, tag) = session(key, 2);
        // A longer life than the time to live is cut, and so is a creation in the future.
        let created = Moment(self.now / 2000 * 2000 + left / 30_000 * 1000);
        let in_use = u32::from(left % 5 == 1);
        let idle = in_use == 0 && !left.is_multiple_of(3);
        let pin = View {
            key: session,
            member: Member(member),
            origin: Origin::Failover,
            created,
            in_use,
            expires: idle.then_some(Moment(self.now + left)),
        };
        let left = pin.expires.map_or(60_000, |_| left.min(60_000));
        let outcome = self.shard.import((&pin, tag), now, room);
        let is_new = !self.known.contains_key(&key);
        match outcome {
            ImportOutcome::Expired => return assert_eq!(left, 0),
            ImportOutcome::Full => {
                assert!(is_new);
                return self.no_room();
            }
            ImportOutcome::Added => assert!(is_new && in_use == 0),
            ImportOutcome::Merged => assert!(!is_new && in_use == 0),
            ImportOutcome::Held(_) => assert_eq!(in_use, 1),
        }
        if is_new {
            let fresh = self.fresh(2, Some(member), Origin::Failover);
            self.made(key, fresh, before);
        }
        let known = self.known.get_mut(&key).unwrap();
        if known.in_use == 0 || known.member.is_none() {
            (known.member, known.origin) = (Some(member), Origin::Failover);
            known.created = created.min(now).0 / 1000 * 1000;
        }
        if known.in_use == 0 {
            known.expires = self.now + left;
        }
        if let ImportOutcome::Held(handle) = outcome {
            self.hold(key, handle, member);
        }
    }
}

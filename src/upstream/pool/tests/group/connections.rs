//! The effects of connections, compared with the rules.

use super::*;

impl World {
    pub(super) fn open_connection(&mut self, pool: usize, number: u8, session: Option<u8>) {
        let before = self.clients.clone();
        let was_full = self.pins.len() >= MAX_ENTRIES;
        let resumed = session.and_then(|session| self.sessions.get(&session));
        let has_room = has_room(&self.clients);
        let servers = &self.servers[pool];
        let wanted = expect(servers, self.clients.get(&number), has_room, resumed);
        let pinned_to = resumed.and_then(|session| session.pinned_to);
        let resumes = pinned_to.is_some_and(|pinned_to| servers.contains_key(pinned_to));
        let hello = session.map(hello);
        let picked = self.pools[pool].pick(client(number), hello.as_ref());
        if let Some(session) = session.filter(|_| resumes) {
            touch(&mut self.sessions, session, number, self.now);
        }
        if wanted.touches_pin {
            touch(&mut self.clients, number, number, self.now);
        }
        let chosen = self.candidates(pool, &[]);
        let Ok(pick) = picked else {
            assert!(wanted.to == To::Policy && chosen.is_empty());
            return self.check_none_evicted(&before);
        };
        let at = self.name_of(&pick);
        let by = pick.by();
        match wanted.to {
            To::Session(to) => assert_eq!((at, by), (to, PickedBy::Session)),
            To::Pinned(to) => assert_eq!((at, by), (to, PickedBy::Pin)),
            To::Agreed(to) => assert_eq!((at, by), (to, PickedBy::Policy(Balance::RoundRobin))),
            To::Policy => {
                // A pin to a backend that this pool lacks is not used here; the source hash decides.
                let policies = [Balance::RoundRobin, Balance::SourceHash].map(PickedBy::Policy);
                assert!(policies.contains(&by), "{by:?}");
                assert!(chosen.contains(&at), "{at} of {chosen:?}");
            }
        }
        self.server(pool, at).in_flight += 1;
        if wanted.holds_pin {
            if !self.clients.contains_key(&number) {
                self.check_evicted(&before, was_full);
            }
            let pin = self
                .clients
                .entry(number)
                .or_insert_with(|| Pin::new(number));
            pin.in_use += 1;
            if pin.pinned_to != Some(at) {
                pin.candidate = Some(at);
            }
        } else {
            self.check_none_evicted(&before);
        }
        let session = session.filter(|_| wanted.holds_session);
        if let Some(session) = session {
            self.sessions.get_mut(&session).unwrap().in_use += 1;
        }
        self.open.push(Open {
            pick,
            pool,
            client: number,
            at,
            tried: Vec::new(),
            pin: wanted.holds_pin.then_some(false),
            session: session.map(|session| (session, false)),
            granted: Vec::new(),
            is_disconnected: false,
        });
    }

    pub(super) fn connected(&mut self, at: usize) {
        let Some(open) = self.open.get(at) else {
            return;
        };
        open.pick.connected(None);
        let at = open.at;
        if open.pin == Some(false) {
            let pin = self.clients.get_mut(&open.client).unwrap();
            if pin.pinned_to.is_none() || pin.pinned_to != Some(at) && pin.candidate == Some(at) {
                (pin.pinned_to, pin.candidate) = (Some(at), None);
            }
        }
        if let Some((session, false)) = open.session {
            let pin = self.sessions.get_mut(&session).unwrap();
            pin.pinned_to = Some(at);
        }
    }

    pub(super) fn fail(&mut self, which: usize) {
        let Some(open) = self.open.get_mut(which) else {
            return;
        };
        open.tried.push(open.at);
        let (pool, client) = (open.pool, open.client);
        let (holds, holds_nothing) = (
            open.pin.is_some(),
            open.pin.is_none() && open.session.is_none(),
        );
        let tried = open.tried.clone();
        let pin = self.clients.get(&client).filter(|_| !holds_nothing);
        // A connection that does not hold the pin only reads it.
        let visible = pin.cloned().map(|pin| Pin {
            candidate: pin.candidate.filter(|_| holds),
            ..pin
        });
        let pinned_to = expect_redispatch(&self.servers[pool], visible.as_ref(), &tried);
        let is_full = pinned_to.is_some_and(|pinned_to| self.servers[pool][pinned_to].is_full());
        let chosen = self.candidates(pool, &tried);
        let open = &mut self.open[which];
        let redispatched = open.pick.redispatch(ConnectFailure::Refused);
        let ends = if holds {
            is_full || pinned_to.is_none() && chosen.is_empty()
        } else {
            (is_full || pinned_to.is_none()) && chosen.is_empty()
        };
        assert_eq!(redispatched, !ends);
        if !redispatched {
            return self.end(which);
        }
        let before = open.at;
        let at = NAMES
            .into_iter()
            .find(|name| **name == *open.pick.backend().name)
            .unwrap();
        open.at = at;
        assert_eq!(open.pick.by(), PickedBy::Redispatch);
        match pinned_to.filter(|_| !is_full) {
            Some(pinned_to) => assert_eq!(at, pinned_to),
            None => assert!(chosen.contains(&at)),
        }
        if holds && pinned_to.is_none() {
            self.clients.get_mut(&client).unwrap().candidate = Some(at);
        }
        self.server(pool, before).in_flight -= 1;
        self.server(pool, at).in_flight += 1;
    }

    pub(super) fn learn(&mut self, which: usize, session: u8) {
        let Some(open) = self.open.get(which) else {
            return;
        };
        let (at, client) = (open.at, open.client);
        let member = self.pins.known_member(at).unwrap();
        let before = self.sessions.clone();
        let was_full = self.pins.sessions() >= MAX_ENTRIES;
        let learned = self
            .pins
            .learn_id(&id(session), Some(&self.key(client)), member);
        let Some(pin_guard) = learned else {
            return assert!(!has_room(&before) && !before.contains_key(&session));
        };
        self.pins.export(&mut |kept| {
            if let PinKey::Session { hash, .. } = kept.key {
                self.known.entry(hash).or_insert(session);
            }
        });
        if !before.contains_key(&session) {
            let [_, current] = self.current();
            let gone = gone(&before, &current);
            assert!(gone.len() <= usize::from(was_full), "{gone:?}");
            for gone in gone {
                assert_eq!(self.sessions.remove(&gone).unwrap().in_use, 0);
            }
        }
        let pin = self
            .sessions
            .entry(session)
            .or_insert_with(|| Pin::new(client));
        pin.in_use += 1;
        pin.pinned_to = Some(at);
        self.open[which].granted.push((session, pin_guard, false));
    }

    pub(super) fn end(&mut self, which: usize) {
        if self.open.is_empty() {
            return;
        }
        let open = self.open.swap_remove(which);
        self.server(open.pool, open.at).in_flight -= 1;
        let now = self.now;
        let release = |table: &mut Table, number: u8| {
            let pin = table.get_mut(&number).unwrap();
            pin.in_use -= 1;
            if pin.in_use == 0 {
                pin.candidate = None;
                pin.expires = pin.pinned_to.map_or(0, |_| now + TTL);
            }
        };
        if open.pin.is_some() {
            release(&mut self.clients, open.client);
        }
        if let Some((session, _)) = open.session {
            release(&mut self.sessions, session);
        }
        for (session, ..) in &open.granted {
            release(&mut self.sessions, *session);
        }
    }
}

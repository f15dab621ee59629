//! TLS sessions: recognising clients that resume one, and learning the ones that backends grant.
//!
//! Owns the way from an id or a ticket to the table of sessions. Must not know how they were read. Invariants: only keyed
//! hashes of them are stored; finding a session moves no pin of a client.

use std::sync::Arc;

use super::{PinGuard, Pins};
use crate::affinity::shard::{Eligibility, Key, Member, Resumed, Session};
use crate::protocol::tls::client_hello::SessionId;

/// A TLS session that was found, and the hold on it.
#[derive(Debug)]
pub struct KnownSession {
    /// The hold on the session.
    pub guard: PinGuard<Session>,
    /// The backend that granted it.
    pub member: Member,
    /// Whether that may take the client now.
    pub is_eligible: bool,
}

impl Pins {
    /// Finds the first known session of those that a client offers to resume: `ticket` before `id`, since beside a ticket the
    /// id has no meaning (RFC 5077, section 3.4). `client` becomes the client that used it last.
    #[must_use]
    pub fn recognise(
        self: &Arc<Self>,
        ticket: Option<&[u8]>,
        id: &SessionId,
        client: Option<&Key>,
        eligibility: impl Fn(Member) -> Eligibility,
    ) -> Option<KnownSession> {
        let ticket = ticket.filter(|ticket| !ticket.is_empty());
        let ticket = ticket.map(|ticket| self.secret.ticket(ticket));
        let id = (!id.as_bytes().is_empty()).then(|| self.secret.session_id(id));
        let client = self.client(client);
        let mut found = [ticket, id].into_iter().flatten();
        let recognised =
            found.find_map(|hash| self.resume(Session { hash, client }, &eligibility))?;
        if recognised.is_eligible {
            self.series.hits.increment(1);
            self.series.recognised.increment(1);
        }
        Some(recognised)
    }

    fn resume(
        self: &Arc<Self>,
        key: Session,
        eligibility: impl Fn(Member) -> Eligibility,
    ) -> Option<KnownSession> {
        let home = self.sessions.home(&key);
        let now = self.now();
        let resumed = self.sessions.with(home, |shard, tag, _| {
            let resumed = shard.resume((key, tag), now, eligibility)?;
            // With the shard's lock held, so that no other thread transfers or removes it before.
            self.sessions.quotas.pass(resumed.before.client, key.client);
            Some(resumed)
        })?;
        let Resumed {
            handle,
            member,
            is_eligible: takes,
            ..
        } = resumed;
        Some(KnownSession {
            guard: PinGuard::new(self, home, handle),
            member,
            is_eligible: takes,
        })
    }

    /// Stores that `member` has granted `client` the session with this id.
    #[must_use]
    pub fn learn_id(
        self: &Arc<Self>,
        id: &SessionId,
        client: Option<&Key>,
        member: Member,
    ) -> Option<PinGuard<Session>> {
        self.learn(self.secret.session_id(id), client, member)
    }

    /// Stores that `member` has granted `client` a session by this ticket.
    #[must_use]
    pub fn learn_ticket(
        self: &Arc<Self>,
        ticket: &[u8],
        client: Option<&Key>,
        member: Member,
    ) -> Option<PinGuard<Session>> {
        self.learn(self.secret.ticket(ticket), client, member)
    }

    fn learn(
        self: &Arc<Self>,
        hash: [u8; 16],
        client: Option<&Key>,
        member: Member,
    ) -> Option<PinGuard<Session>> {
        let client = self.client(client);
        let key = Session { hash, client };
        let home = self.sessions.home(&key);
        let now = self.now();
        let handle = self.sessions.with(home, |shard, tag, room| {
            let room = |shard: &mut _| self.sessions.quotas.take_with(client, || room(shard));
            shard.assign((key, tag), now, member, room)
        });
        match handle {
            Some(handle) => {
                self.series.learned.increment(1);
                Some(PinGuard::new(self, home, handle))
            }
            None => {
                self.series.unlearned.increment(1);
                None
            }
        }
    }

    /// The hash of a session's client; the same for all where clients have no pins of their own.
    fn client(&self, key: Option<&Key>) -> u64 {
        key.map_or(0, |key| self.secret.client(key))
    }
}

//! How the clients of a pool are pinned.
//!
//! Owns the mapping between the backends of a pool and the members of its affinity group. Must not know health or policies.
//! Invariant: `members` and `indexes` are inverse to each other.

use std::collections::HashMap;
use std::sync::Arc;

use super::PoolClient;
use crate::affinity::shard::{Eligibility, Key, Member};
use crate::affinity::table::{KnownSession, Pins};
use crate::protocol::tls::client_hello::ClientHello;
use crate::upstream::backend::Backend;

/// The affinity of a pool.
#[derive(Debug)]
pub struct PoolAffinity {
    /// The table of the group.
    pub pins: Arc<Pins>,
    /// By the backend's index in the pool.
    pub(super) members: Vec<Member>,
    pub(super) indexes: HashMap<Member, usize>,
}

impl PoolAffinity {
    pub(super) fn new(pins: Arc<Pins>, backends: &[Arc<Backend>]) -> Self {
        let members: Vec<Member> = backends
            .iter()
            .map(|backend| pins.intern_member(&backend.name))
            .collect();
        let indexes = members
            .iter()
            .enumerate()
            .map(|(index, &member)| (member, index))
            .collect();
        Self {
            pins,
            members,
            indexes,
        }
    }

    /// The key of the client; `None` if clients are identified by TLS session only.
    pub(super) fn key(&self, client: PoolClient) -> Option<Key> {
        let settings = self.pins.settings();
        (settings.by_source || settings.by_name)
            .then(|| self.pins.key(client.source, client.name_id))
    }

    /// The TLS session that the client resumes, if it is known.
    pub(super) fn recognise(
        &self,
        key: Option<Key>,
        hello: &ClientHello,
        eligibility: impl Fn(Member) -> Eligibility,
    ) -> Option<KnownSession> {
        if !self.pins.settings().by_session {
            return None;
        }
        let (id, ticket) = (&hello.session_id, hello.ticket.as_deref());
        self.pins.recognise(ticket, id, key.as_ref(), eligibility)
    }
}

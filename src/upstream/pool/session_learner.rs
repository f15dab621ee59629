//! Learning which TLS sessions a backend grants.
//!
//! Owns the way from what the backend says to the table. Invariant: neither an id nor a ticket is kept: what is
//! remembered is a keyed hash, and the backend that granted it.

use std::cell::RefCell;
use std::sync::Arc;

use crate::affinity::shard::{Key, Member, Session};
use crate::affinity::table::{PinGuard, Pins};
use crate::protocol::tls::client_hello::SessionId;
use crate::protocol::tls::server_hello::{Grant, GrantReader, ReaderStatus};

/// Listens to one backend on behalf of one connection, which holds what is learned.
#[derive(Debug)]
pub struct SessionLearner<'a> {
    pins: &'a Arc<Pins>,
    client: Option<Key>,
    member: Member,
    learned: &'a RefCell<Vec<PinGuard<Session>>>,
    reader: GrantReader,
}

impl<'a> SessionLearner<'a> {
    /// For a connection of `client` to `member`, which offered to resume the session of this id.
    pub(super) fn new(
        pins: &'a Arc<Pins>,
        client: Option<Key>,
        member: Member,
        offered: SessionId,
        learned: &'a RefCell<Vec<PinGuard<Session>>>,
    ) -> Self {
        Self {
            pins,
            client,
            member,
            learned,
            reader: GrantReader::new(offered),
        }
    }

    /// Takes the next bytes that the backend has said.
    pub fn hear(&mut self, bytes: &[u8]) -> ReaderStatus {
        let (client, member) = (self.client.as_ref(), self.member);
        self.reader.read(bytes, &mut |grant| {
            let claim = match grant {
                Grant::SessionId(id) => self.pins.learn_id(id, client, member),
                Grant::Ticket(ticket) => self.pins.learn_ticket(ticket, client, member),
            };
            self.learned.borrow_mut().extend(claim);
        })
    }
}

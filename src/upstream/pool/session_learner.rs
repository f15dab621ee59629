//! Learning the TLS sessions that a backend grants.
//!
//! Owns the path from the backend's bytes to the affinity table. Must not know who relays the bytes. Invariant: neither an id
//! nor a ticket is stored, only a keyed hash and the backend that granted it.

use std::cell::RefCell;
use std::sync::Arc;

use crate::affinity::shard::{Key, Member, Session};
use crate::affinity::table::{PinGuard, Pins};
use crate::protocol::tls::client_hello::SessionId;
use crate::protocol::tls::server_hello::{Grant, GrantReader, ReaderStatus};

/// Reads the bytes of one backend for one connection, which holds the sessions that are learned.
#[derive(Debug)]
pub struct SessionLearner<'a> {
    pins: &'a Arc<Pins>,
    client: Option<Key>,
    member: Member,
    learned: &'a RefCell<Vec<PinGuard<Session>>>,
    reader: GrantReader,
}

impl<'a> SessionLearner<'a> {
    /// A learner for a connection of `client` to `member` that offered to resume the session with the id `offered`.
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

    /// Reads the next bytes of the backend.
    pub fn observe(&mut self, bytes: &[u8]) -> ReaderStatus {
        let (client, member) = (self.client.as_ref(), self.member);
        self.reader.read(bytes, &mut |grant| {
            let pin = match grant {
                Grant::SessionId(id) => self.pins.learn_id(id, client, member),
                Grant::Ticket(ticket) => self.pins.learn_ticket(ticket, client, member),
            };
            self.learned.borrow_mut().extend(pin);
        })
    }
}

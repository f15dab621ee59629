//! Keyed hashes of what must not be stored.
//!
//! Owns the secret and what is hashed with it: TLS session ids and tickets, and the clients that used them last. Must not
//! know tables. Invariant: no id, no ticket and not the secret is ever printed.

use ring::hmac;

use crate::affinity::shard::Key;
use crate::protocol::tls::client_hello::SessionId;

/// The secret for hashes of TLS sessions. It is stored with the pins: with another one, no session is found.
#[derive(Clone)]
pub struct Secret {
    bytes: [u8; 32],
    key: hmac::Key,
}

/// The kind of input, so that an id and a ticket never have the same hash.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Domain {
    SessionId = 1,
    Ticket = 2,
    Client = 3,
}

impl Secret {
    /// A new secret, from the kernel (getrandom(2)).
    ///
    /// # Panics
    ///
    /// If the kernel has no randomness, which Linux always has once it is up.
    #[must_use]
    pub fn random() -> Self {
        let mut bytes = [0; 32];
        let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
        assert_eq!(
            filled,
            Ok(bytes.len()),
            "up to 256 bytes are never short (getrandom(2))"
        );
        Self::from_bytes(bytes)
    }

    /// A secret that was stored.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &bytes);
        Self { bytes, key }
    }

    /// Its bytes, to store them.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// The hash of a session id.
    pub(super) fn session_id(&self, id: &SessionId) -> [u8; 16] {
        self.hash(Domain::SessionId, &[id.as_bytes()])
    }

    /// The hash of a session ticket.
    pub(super) fn ticket(&self, ticket: &[u8]) -> [u8; 16] {
        self.hash(Domain::Ticket, &[ticket])
    }

    /// The hash of a client's key.
    pub(super) fn client(&self, key: &Key) -> u64 {
        let parts = [&key.source[..], &key.name.to_le_bytes()];
        let [a, b, c, d, e, f, g, h, ..] = self.hash(Domain::Client, &parts);
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    /// Half of an HMAC-SHA-256 (RFC 2104): long enough that no two sessions collide.
    fn hash(&self, domain: Domain, parts: &[&[u8]]) -> [u8; 16] {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&[domain as u8]);
        for part in parts {
            context.update(part);
        }
        let mut hash = [0; 16];
        hash.copy_from_slice(&context.sign().as_ref()[..16]);
        hash
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

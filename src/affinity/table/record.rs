//! Pins outside the table, for whoever keeps them while the process does not.
//!
//! Owns the way from numbers to texts and back. Invariant: what is put back stands as it was, except that nothing is in
//! use; a backend or a name that the table does not know is not put back.

use std::hash::{Hash, Hasher};
use std::mem::{Discriminant, discriminant};
use std::net::Ipv6Addr;
use std::sync::Arc;

use super::Pins;
use crate::affinity::shard::{
    self, Completeness, Key, Member, Moment, Origin, PinAction, PinView, Session, source_bits,
};

/// One pin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinRecord {
    /// Whom it is for.
    pub key: PinKey,
    /// The name of the backend that it leads to.
    pub backend: Arc<str>,
    /// How it came to lead there.
    pub origin: Origin,
    /// When it was made, on the table's clock.
    pub created: Moment,
    /// When it expires; `None` while connections hold it.
    pub expires: Option<Moment>,
    /// Connections that hold it.
    pub in_use: u32,
}

/// Whom a pin is for. As with [`Session`], two sessions are the same whoever used them last.
#[derive(Debug, Clone)]
pub enum PinKey {
    /// A client.
    Client {
        /// See [`Key::source`].
        source: [u8; 16],
        /// The configured name; `None` where it is not part of the key.
        name: Option<Arc<str>>,
    },
    /// A TLS session.
    Session {
        /// See [`Session::hash`].
        hash: [u8; 16],
        /// See [`Session::client`].
        client: u64,
    },
}

impl PinKey {
    /// What of it a pin is found by.
    fn found_by(&self) -> (Discriminant<Self>, &[u8; 16], Option<&str>) {
        let kind = discriminant(self);
        match self {
            Self::Client { source, name } => (kind, source, name.as_deref()),
            Self::Session { hash, .. } => (kind, hash, None),
        }
    }
}

impl PartialEq for PinKey {
    fn eq(&self, other: &Self) -> bool {
        self.found_by() == other.found_by()
    }
}

impl Eq for PinKey {}

impl Hash for PinKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.found_by().hash(state);
    }
}

/// One change of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableChange {
    /// The pin is now as told, be it new or not.
    Set(PinRecord),
    /// The pin went before its time.
    Gone(PinKey),
}

impl Pins {
    /// Begins to record changes, for [`Pins::take_changes`].
    pub fn track(&self) {
        let begin = |shard: &mut shard::Shard<Key>| shard.record_changes();
        self.clients.each_shard(begin);
        self.sessions
            .each_shard(|shard: &mut shard::Shard<Session>| shard.record_changes());
    }

    /// Tells what has changed since the last call, in an order in which it can be told to another table. One shard is
    /// locked at a time, for as long as its changes take.
    pub fn take_changes(&self, each: &mut dyn FnMut(TableChange)) -> Completeness {
        let mut told = Completeness::All;
        self.clients.each_shard(|shard| {
            let part =
                shard.take_changes(|change| self.tell(change, |key| self.kept_key(key), each));
            told = if part == Completeness::Part {
                part
            } else {
                told
            };
        });
        self.sessions.each_shard(|shard| {
            let part = shard.take_changes(|change| self.tell(change, kept_session, each));
            told = if part == Completeness::Part {
                part
            } else {
                told
            };
        });
        told
    }

    fn tell<K: Copy>(
        &self,
        change: shard::ShardChange<K>,
        key: impl Fn(K) -> PinKey,
        each: &mut dyn FnMut(TableChange),
    ) {
        match change {
            shard::ShardChange::Gone(gone) => each(TableChange::Gone(key(gone))),
            shard::ShardChange::Now(view) => {
                if let Some(kept) = self.kept(&view, key(view.key)) {
                    each(TableChange::Set(kept));
                }
            }
        }
    }

    /// Tells every pin that leads somewhere, a bounded number under a lock at a time.
    pub fn export(&self, each: &mut dyn FnMut(PinRecord)) {
        let now = self.now();
        self.clients.visit(now, |view| {
            if let Some(kept) = self.kept(view, self.kept_key(view.key)) {
                each(kept);
            }
            PinAction::Keep
        });
        self.sessions.visit(now, |view| {
            if let Some(kept) = self.kept(view, kept_session(view.key)) {
                each(kept);
            }
            PinAction::Keep
        });
    }

    /// Puts a pin back, idle: one that was in use lives for the time to live from now. Says whether it did: not where its
    /// time has come, where one stands already, where there is no room, or where backend or name are not configured.
    pub fn restore(&self, kept: &PinRecord) -> bool {
        let Some(member) = self.members.known(&kept.backend).map(Member) else {
            return false;
        };
        let (now, settings) = (self.now(), self.settings());
        match &kept.key {
            PinKey::Client { source, name } => {
                let Some(key) = self.key_of(*source, name.as_deref()) else {
                    return false;
                };
                let view = view_of(kept, key, member);
                let home = self.clients.home(&view.key);
                self.clients.with(home, |shard, tag, room| {
                    shard.restore((&view, tag), now, room)
                })
            }
            &PinKey::Session { hash, client } => {
                let view = view_of(kept, Session { hash, client }, member);
                let home = self.sessions.home(&view.key);
                self.sessions.with(home, |shard, tag, room| {
                    let shares = &self.sessions.shares;
                    let room = |shard: &mut _| shares.take_with(client, || room(shard));
                    settings.by_session && shard.restore((&view, tag), now, room)
                })
            }
        }
    }

    /// The key that was kept, if clients have such keys under these settings.
    pub(super) fn key_of(&self, source: [u8; 16], name: Option<&str>) -> Option<Key> {
        let settings = self.settings();
        let address = Ipv6Addr::from(source).to_canonical();
        let is_sound = (settings.by_source || settings.by_name)
            && name.is_some() == settings.by_name
            && if settings.by_source {
                source_bits(address, settings.source_prefix) == source
            } else {
                source == [0; 16]
            };
        let name = match name {
            Some(name) => self.names.known(name)?,
            None => 0,
        };
        is_sound.then_some(Key { source, name })
    }

    pub(super) fn kept<K>(&self, view: &PinView<K>, key: PinKey) -> Option<PinRecord> {
        Some(PinRecord {
            key,
            backend: self.member_name(view.member)?,
            origin: view.origin,
            created: view.created,
            expires: view.expires,
            in_use: view.in_use,
        })
    }

    pub(super) fn kept_key(&self, key: Key) -> PinKey {
        PinKey::Client {
            source: key.source,
            name: self.names.text(key.name),
        }
    }
}

pub(super) fn kept_session(session: Session) -> PinKey {
    PinKey::Session {
        hash: session.hash,
        client: session.client,
    }
}

pub(super) fn view_of<K>(kept: &PinRecord, key: K, member: Member) -> PinView<K> {
    PinView {
        key,
        member,
        origin: kept.origin,
        created: kept.created,
        in_use: 0,
        expires: kept.expires,
    }
}

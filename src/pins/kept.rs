//! Pins outside the table, for whoever keeps them while the process does not.
//!
//! Owns the way from numbers to texts and back. Invariant: what is put back stands as it was, except that nothing is in
//! use; a backend or a name that the table does not know is not put back.

use std::sync::Arc;

use super::Pins;
use crate::affinity::{self, Key, Member, Moment, Origin, Session, Told, Verdict, View};

/// One pin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Whom it is for.
    pub key: KeptKey,
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

/// Whom a pin is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum KeptKey {
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

/// One change of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The pin is now as told, be it new or not.
    Set(Kept),
    /// The pin went before its time.
    Gone(KeptKey),
}

impl Pins {
    /// Begins to record changes, for [`Pins::take_changes`].
    pub fn track(&self) {
        let begin = |shard: &mut affinity::Shard<Key>| shard.record_changes();
        self.clients.each_shard(begin);
        self.sessions
            .each_shard(|shard: &mut affinity::Shard<Session>| shard.record_changes());
    }

    /// Tells what has changed since the last call, in an order in which it can be told to another table. One shard is
    /// locked at a time, for as long as its changes take.
    pub fn take_changes(&self, each: &mut dyn FnMut(Change)) -> Told {
        let mut told = Told::All;
        self.clients.each_shard(|shard| {
            let part =
                shard.take_changes(|change| self.tell(change, |key| self.kept_key(key), each));
            told = if part == Told::Part { part } else { told };
        });
        self.sessions.each_shard(|shard| {
            let part = shard.take_changes(|change| self.tell(change, kept_session, each));
            told = if part == Told::Part { part } else { told };
        });
        told
    }

    fn tell<K: Copy>(
        &self,
        change: affinity::Change<K>,
        key: impl Fn(K) -> KeptKey,
        each: &mut dyn FnMut(Change),
    ) {
        match change {
            affinity::Change::Gone(gone) => each(Change::Gone(key(gone))),
            affinity::Change::Now(view) => {
                if let Some(kept) = self.kept(&view, key(view.key)) {
                    each(Change::Set(kept));
                }
            }
        }
    }

    /// Tells every pin that leads somewhere, a bounded number under a lock at a time.
    pub fn export(&self, each: &mut dyn FnMut(Kept)) {
        let now = self.now();
        self.clients.visit(now, |view| {
            if let Some(kept) = self.kept(view, self.kept_key(view.key)) {
                each(kept);
            }
            Verdict::Keep
        });
        self.sessions.visit(now, |view| {
            if let Some(kept) = self.kept(view, kept_session(view.key)) {
                each(kept);
            }
            Verdict::Keep
        });
    }

    /// Puts a pin back, idle: one that was in use lives for the time to live from now. Says whether it did: not where its
    /// time has come, where one stands already, where there is no room, or where backend or name are not configured.
    pub fn restore(&self, kept: &Kept) -> bool {
        let Some(member) = self.members.known(&kept.backend).map(Member) else {
            return false;
        };
        let (now, settings) = (self.now(), self.settings());
        match &kept.key {
            KeptKey::Client { source, name } => {
                let (source, number) =
                    (*source, name.as_deref().map(|name| self.names.known(name)));
                let is_sound = number.is_some() == settings.by_name
                    && (settings.by_source || source == [0; 16]);
                let name = number.map_or(Some(0), |known| known);
                let Some(name) = name.filter(|_| is_sound) else {
                    return false;
                };
                let view = view_of(kept, Key { source, name }, member);
                let home = self.clients.home(&view.key);
                self.clients.with(home, |shard, tag, room| {
                    shard.restore((&view, tag), now, room)
                })
            }
            &KeptKey::Session { hash, client } => {
                let view = view_of(kept, Session { hash, client }, member);
                let home = self.sessions.home(&view.key);
                self.sessions.with(home, |shard, tag, room| {
                    let room = |shard: &mut _| self.sessions.shares.take(client) && room(shard);
                    settings.by_session && shard.restore((&view, tag), now, room)
                })
            }
        }
    }

    pub(super) fn kept<K>(&self, view: &View<K>, key: KeptKey) -> Option<Kept> {
        Some(Kept {
            key,
            backend: self.member_name(view.member)?,
            origin: view.origin,
            created: view.created,
            expires: view.expires,
            in_use: view.in_use,
        })
    }

    pub(super) fn kept_key(&self, key: Key) -> KeptKey {
        KeptKey::Client {
            source: key.source,
            name: self.names.text(key.name),
        }
    }
}

fn kept_session(session: Session) -> KeptKey {
    KeptKey::Session {
        hash: session.hash,
        client: session.client,
    }
}

fn view_of<K>(kept: &Kept, key: K, member: Member) -> View<K> {
    View {
        key,
        member,
        origin: kept.origin,
        created: kept.created,
        in_use: 0,
        expires: kept.expires,
    }
}

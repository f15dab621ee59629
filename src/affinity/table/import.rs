//! Pins into the table: from the affinity store, from another process, and from a table with other keys.
//!
//! Owns the one way in. Must not know where records come from. Invariant: an imported pin has the backend of its record, or
//! it is not imported; a pin that connections of this process use keeps its own.

use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::Duration;

use super::{ForeignHold, KeyKind, PinGuard, Pins};
use crate::affinity::record::{KeyScheme, PinKey, PinRecord, PinUsage};
use crate::affinity::shard::{ImportOutcome, Key, Member, Moment, PinView, Session, source_bits};

/// What an import did.
#[derive(Debug)]
pub enum Imported {
    /// The pin is new here.
    Added,
    /// A pin of this key was here already: an idle one has been replaced, one that is in use stays as it is.
    Merged,
    /// Connections of another process hold the pin, for as long as this lives.
    Held(ForeignHold),
}

/// Why a pin was not imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotImported {
    /// Clients have other keys here, and the pin's key cannot be translated.
    OtherKeys,
    /// The table has no such backend or name.
    Unknown,
    /// The pin has expired.
    Expired,
    /// Every pin of the full table is in use.
    Full,
}

impl Pins {
    /// Imports a pin whose key is of the scheme `keys`. It expires no later than the time to live of this table allows.
    ///
    /// # Errors
    ///
    /// See [`NotImported`].
    pub fn import(
        self: &Arc<Self>,
        record: &PinRecord,
        keys: &KeyScheme,
    ) -> Result<Imported, NotImported> {
        let settings = self.settings();
        let key = keys
            .translate(record.key.clone(), &KeyScheme::of(&settings))
            .ok_or(NotImported::OtherKeys)?;
        let backend = self.known_member(&record.backend);
        let backend = backend.ok_or(NotImported::Unknown)?;
        match key {
            PinKey::Client { source, name } => {
                let key = self.client_key(source, name.as_deref())?;
                self.import_as(key, record, backend)
            }
            PinKey::Session { .. } if !settings.by_session => Err(NotImported::OtherKeys),
            PinKey::Session { hash, client } => {
                self.import_as(Session { hash, client }, record, backend)
            }
        }
    }

    /// Imports every pin of another table of this group, which has other keys, as far as they can be translated. Pins that
    /// are in use there become idle here, and live for the time to live from now.
    pub fn import_table(self: &Arc<Self>, other: &Self) {
        let keys = KeyScheme::of(&other.settings());
        let ttl = self.settings().ttl;
        other.export(&mut |mut record| {
            if let PinUsage::InUse(_) = record.usage {
                record.usage = PinUsage::Idle(ttl);
            }
            // A pin that cannot be imported is made again when its client returns.
            drop(self.import(&record, &keys));
        });
    }

    fn import_as<K: KeyKind>(
        self: &Arc<Self>,
        key: K,
        record: &PinRecord,
        member: Member,
    ) -> Result<Imported, NotImported> {
        let now = self.now();
        let ago = |age| Moment(now.0.saturating_sub(milliseconds(age)));
        let expires = |left| Moment(now.0.saturating_add(milliseconds(left)));
        let view = PinView {
            key,
            member,
            origin: record.origin,
            created: ago(record.age),
            in_use: record.usage.connections(),
            expires: record.usage.expires_in().map(expires),
        };
        let table = K::table(self);
        let home = table.home(&key);
        let outcome = table.with(home, |shard, tag, room| {
            let client = key.share().unwrap_or_default();
            let room = |shard: &mut _| table.quotas.take_with(client, || room(shard));
            shard.import((&view, tag), now, room)
        });
        match outcome {
            ImportOutcome::Added => Ok(Imported::Added),
            ImportOutcome::Merged => Ok(Imported::Merged),
            ImportOutcome::Held(handle) => {
                let guard = PinGuard::new(self, home, handle);
                Ok(Imported::Held(key.foreign_hold(guard)))
            }
            ImportOutcome::Expired => Err(NotImported::Expired),
            ImportOutcome::Full => Err(NotImported::Full),
        }
    }

    /// The key of a client, if clients have such keys under these settings.
    fn client_key(&self, source: [u8; 16], name: Option<&str>) -> Result<Key, NotImported> {
        let settings = self.settings();
        let address = Ipv6Addr::from(source).to_canonical();
        let is_valid = (settings.by_source || settings.by_name)
            && name.is_some() == settings.by_name
            && if settings.by_source {
                source_bits(address, settings.source_prefix) == source
            } else {
                source == [0; 16]
            };
        if !is_valid {
            return Err(NotImported::OtherKeys);
        }
        let name = match name {
            Some(name) => self.known_name(name).ok_or(NotImported::Unknown)?,
            None => 0,
        };
        Ok(Key { source, name })
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

//! Pins as bytes.
//!
//! Owns the form: a batch is of one table and stands alone, texts come once in it and have numbers after that, times are
//! counted from now, since the clocks of tables are their own. Invariant: what is read is what was written, or an error.

use std::collections::HashMap;
use std::sync::Arc;

use super::message::{PINS_LARGEST, milliseconds};
use super::wire::WireError;
use crate::affinity::shard::{Moment, Origin};
use crate::affinity::table::{KeyScheme, PinKey, PinRecord, Pins};

/// What is told of a pin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PinUpdate {
    /// It stands like this; `in_use` says whether connections of the old process hold it.
    Stands(PinRecord),
    /// No connection of the old process holds it any more.
    LetGo(PinKey),
}

/// More than any record takes, texts aside, in bytes.
const RECORD: usize = 64;
const STANDS: u8 = 0;
const LET_GO: u8 = 1;
const CLIENT: u8 = 0;
const SESSION: u8 = 1;

/// A batch that is being written.
pub struct Batch<'a> {
    pins: &'a Pins,
    bytes: Vec<u8>,
    texts: HashMap<Arc<str>, u64>,
}

impl<'a> Batch<'a> {
    /// One for this table.
    #[must_use]
    pub fn new(pins: &'a Pins) -> Self {
        let mut batch = Self {
            pins,
            bytes: Vec::new(),
            texts: HashMap::new(),
        };
        batch.begin();
        batch
    }

    fn begin(&mut self) {
        self.bytes.clear();
        self.texts.clear();
        put_text(&mut self.bytes, self.pins.group());
        self.bytes
            .extend(KeyScheme::of(&self.pins.settings()).to_bytes());
    }

    /// Adds one; gives the bytes of the batch before where this one would not fit.
    pub fn add(&mut self, told: &PinUpdate) -> Option<Vec<u8>> {
        let (key, backend) = match told {
            PinUpdate::Stands(kept) => (&kept.key, kept.backend.len()),
            PinUpdate::LetGo(key) => (key, 0),
        };
        let name = match key {
            PinKey::Client { name, .. } => name.as_deref().map_or(0, str::len),
            PinKey::Session { .. } => 0,
        };
        let full = self.bytes.len() + RECORD + name + backend > PINS_LARGEST;
        let before = full.then(|| self.take());
        self.put(told);
        before
    }

    /// The bytes so far, and begins anew.
    pub fn take(&mut self) -> Vec<u8> {
        let bytes = self.bytes.clone();
        self.begin();
        bytes
    }

    fn put(&mut self, told: &PinUpdate) {
        match told {
            PinUpdate::Stands(kept) => {
                self.bytes.push(STANDS);
                self.put_key(&kept.key);
                self.put_known(&kept.backend);
                self.bytes.push(kept.origin as u8);
                let age = milliseconds(self.pins.since(kept.created));
                put_number(&mut self.bytes, age);
                // 0 while it is in use.
                let left = kept.expires.filter(|_| kept.in_use == 0);
                let left = left.map_or(0, |expires| 1 + milliseconds(self.pins.until(expires)));
                put_number(&mut self.bytes, left);
            }
            PinUpdate::LetGo(key) => {
                self.bytes.push(LET_GO);
                self.put_key(key);
            }
        }
    }

    fn put_key(&mut self, key: &PinKey) {
        match key {
            PinKey::Client { source, name } => {
                self.bytes.push(CLIENT);
                self.bytes.extend(source);
                self.bytes.push(u8::from(name.is_some()));
                if let Some(name) = name {
                    self.put_known(name);
                }
            }
            PinKey::Session { hash, client } => {
                self.bytes.push(SESSION);
                self.bytes.extend(hash);
                self.bytes.extend(client.to_le_bytes());
            }
        }
    }

    /// A text's number; 0 and the text itself where it comes for the first time.
    fn put_known(&mut self, text: &Arc<str>) {
        if let Some(&number) = self.texts.get(text) {
            return put_number(&mut self.bytes, number);
        }
        let number = self.texts.len() as u64 + 1;
        self.texts.insert(text.clone(), number);
        self.bytes.push(0);
        put_text(&mut self.bytes, text);
    }
}

/// Reads a batch. `table` finds a group's table; of a group that is not known, or whose keys are made of something else,
/// nothing is read, and no pin of an address family whose prefix differs.
///
/// # Errors
///
/// When these are no bytes that a batch could have.
pub fn read(
    bytes: &[u8],
    table: impl FnOnce(&str) -> Option<Arc<Pins>>,
    mut each: impl FnMut(&Arc<Pins>, PinUpdate),
) -> Result<(), WireError> {
    let malformed = || WireError::Malformed("pins are cut".into());
    let mut reader = Reader {
        bytes,
        texts: Vec::new(),
    };
    let group = reader.text().ok_or_else(malformed)?;
    let keys: [u8; 3] = reader.array().ok_or_else(malformed)?;
    let Some(pins) = table(&group) else {
        return Ok(());
    };
    let (from, to) = (KeyScheme::from_bytes(keys), KeyScheme::of(&pins.settings()));
    while !reader.bytes.is_empty() {
        let told = reader.told(&pins).ok_or_else(malformed)?;
        if let Some(told) = translated(told, &from, &to) {
            each(&pins, told);
        }
    }
    Ok(())
}

/// The same of the key that its clients have here; `None` where they have none.
fn translated(update: PinUpdate, from: &KeyScheme, to: &KeyScheme) -> Option<PinUpdate> {
    Some(match update {
        PinUpdate::Stands(pin) => PinUpdate::Stands(PinRecord {
            key: from.translate(pin.key, to)?,
            ..pin
        }),
        PinUpdate::LetGo(key) => PinUpdate::LetGo(from.translate(key, to)?),
    })
}

fn put_number(into: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        into.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    into.push(number.to_le_bytes()[0]);
}

fn put_text(into: &mut Vec<u8>, text: &str) {
    put_number(into, text.len() as u64);
    into.extend(text.as_bytes());
}

struct Reader<'a> {
    bytes: &'a [u8],
    texts: Vec<Arc<str>>,
}

impl Reader<'_> {
    fn take(&mut self, length: usize) -> Option<&[u8]> {
        let (taken, rest) = self.bytes.split_at_checked(length)?;
        self.bytes = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn text(&mut self) -> Option<Arc<str>> {
        let length = usize::try_from(self.number()?).ok()?;
        let text = str::from_utf8(self.take(length)?).ok()?;
        Some(text.into())
    }

    fn known(&mut self) -> Option<Arc<str>> {
        let number = usize::try_from(self.number()?).ok()?;
        if let Some(place) = number.checked_sub(1) {
            return self.texts.get(place).cloned();
        }
        let text = self.text()?;
        self.texts.push(text.clone());
        Some(text)
    }

    fn key(&mut self) -> Option<PinKey> {
        match self.byte()? {
            CLIENT => Some(PinKey::Client {
                source: self.array()?,
                name: match self.byte()? {
                    0 => None,
                    _ => Some(self.known()?),
                },
            }),
            SESSION => Some(PinKey::Session {
                hash: self.array()?,
                client: u64::from_le_bytes(self.array()?),
            }),
            _ => None,
        }
    }

    fn told(&mut self, pins: &Pins) -> Option<PinUpdate> {
        match self.byte()? {
            STANDS => {
                let (key, backend) = (self.key()?, self.known()?);
                let origin = Origin::from_cell(self.byte()?);
                let now = pins.now();
                let created = Moment(now.0.saturating_sub(self.number()?));
                let left = self.number()?.checked_sub(1);
                Some(PinUpdate::Stands(PinRecord {
                    key,
                    backend,
                    origin,
                    created,
                    expires: left.map(|left| Moment(now.0.saturating_add(left))),
                    in_use: u32::from(left.is_none()),
                }))
            }
            LET_GO => Some(PinUpdate::LetGo(self.key()?)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;
    use std::time::Duration;

    use super::*;
    use crate::affinity::shard::{Eligibility, Key, Member};
    use crate::affinity::table::{ForeignHold, Lookup, Secret};
    use crate::config::model;
    use crate::protocol::tls::client_hello::SessionId;
    use crate::telemetry::metrics::Registry;

    const TTL: Duration = Duration::from_secs(60);

    fn table(ipv4: u8, secret: &Secret) -> Arc<Pins> {
        table_with(ipv4, 64, secret)
    }

    fn table_with(ipv4: u8, ipv6: u8, secret: &Secret) -> Arc<Pins> {
        let settings = model::AffinitySettings {
            by_source: true,
            by_name: false,
            by_session: true,
            source_prefix: model::SourcePrefix { ipv4, ipv6 },
            ttl: TTL,
            group: "web".into(),
            max_entries: 10_000,
        };
        let pins = Arc::new(Pins::new(&settings, &Registry::default(), secret));
        for backend in ["fe01", "fe02"] {
            let _ = pins.number_member(backend);
        }
        pins
    }

    fn key(client: u16) -> Key {
        let [high, low] = client.to_be_bytes();
        let source = std::net::Ipv4Addr::new(192, 0, high, low);
        let source = source.to_ipv6_mapped().octets();
        Key { source, name: 0 }
    }

    fn member(pins: &Pins, backend: &str) -> Member {
        pins.number_member(backend)
    }

    /// A connection of this client, which is answered by this backend.
    fn come(pins: &Arc<Pins>, client: u16, backend: &str) -> crate::affinity::table::PinGuard<Key> {
        let wanted = member(pins, backend);
        match pins.begin(key(client), |_| Eligibility::Takes, || Some(wanted)) {
            Lookup::New(claim, _) | Lookup::Pinned(claim, _) => {
                let _ = claim.answered(wanted);
                claim
            }
            Lookup::Stale(..) | Lookup::Unpinned(_) | Lookup::Foreign | Lookup::Nowhere => {
                panic!("the client has no pin")
            }
        }
    }

    /// Tells the pins of one table to another; what is held there.
    fn tell(from: &Pins, to: &Arc<Pins>, left: Duration) -> (usize, Vec<ForeignHold>) {
        let mut packets = Vec::new();
        let mut batch = Batch::new(from);
        let told = from.tell_recent::<()>(left, &mut |met| {
            for kept in met {
                packets.extend(batch.add(&PinUpdate::Stands(kept)));
            }
            Ok(())
        });
        assert_eq!(told, Ok(()));
        packets.push(batch.take());
        let (mut count, mut held) = (0, Vec::new());
        for bytes in packets {
            assert!(bytes.len() <= PINS_LARGEST);
            read(
                &bytes,
                |_| Some(to.clone()),
                |pins, told| {
                    let PinUpdate::Stands(kept) = told else {
                        panic!()
                    };
                    count += 1;
                    held.extend(pins.put(&kept));
                },
            )
            .unwrap();
        }
        (count, held)
    }

    #[test]
    fn pins_and_sessions_pass_and_those_in_use_are_held_for_the_old_process() {
        let secret = Secret::random();
        let (old, new) = (table(32, &secret), table(32, &secret));
        let used = come(&old, 1, "fe01");
        drop(come(&old, 2, "fe02"));
        let id = SessionId::new(&[7; 32]).unwrap();
        drop(old.learn_id(&id, Some(&key(2)), member(&old, "fe02")));
        let (count, held) = tell(&old, &new, Duration::ZERO);
        assert_eq!((count, held.len()), (3, 1));
        let seen = |client| new.view(&key(client)).unwrap();
        assert_eq!(seen(1).in_use, 1);
        assert_eq!(seen(1).member, member(&new, "fe01"));
        assert_eq!((seen(2).in_use, seen(2).member), (0, member(&new, "fe02")));
        let left = new.until(seen(2).expires.unwrap());
        assert!(
            left <= TTL && left > TTL - Duration::from_secs(20),
            "{left:?}"
        );
        let found = new
            .recognise(None, &id, None, |_| Eligibility::Takes)
            .unwrap();
        assert_eq!(found.member, member(&new, "fe02"));
        held[0].follow("fe02");
        assert_eq!(seen(1).member, member(&new, "fe02"));
        drop(held);
        assert_eq!(seen(1).in_use, 0);
        drop(used);
    }

    #[test]
    fn the_second_telling_has_what_is_in_use_or_fresh_and_overrules_what_is_idle() {
        let secret = Secret::random();
        let (old, new) = (table(32, &secret), table(32, &secret));
        drop(come(&new, 1, "fe02"));
        let own = come(&new, 2, "fe02");
        let first = come(&old, 1, "fe01");
        let second = come(&old, 2, "fe01");
        drop(come(&old, 3, "fe01"));
        let (count, held) = tell(&old, &new, TTL + Duration::from_secs(1));
        assert_eq!((count, held.len()), (2, 2));
        assert_eq!(new.view(&key(1)).unwrap().member, member(&new, "fe01"));
        // Connections of this process hold it already.
        assert_eq!(new.view(&key(2)).unwrap().member, member(&new, "fe02"));
        assert_eq!(tell(&old, &new, TTL - Duration::from_secs(30)).0, 3);
        drop((own, first, second));
    }

    #[test]
    fn a_pin_that_is_being_made_counts_as_leading_where_its_connection_is_sent() {
        let secret = Secret::random();
        let (old, new) = (table(32, &secret), table(32, &secret));
        let wanted = member(&old, "fe02");
        let made = old.begin(key(1), |_| Eligibility::Takes, || Some(wanted));
        let (_, held) = tell(&old, &new, Duration::MAX);
        assert_eq!(held.len(), 1);
        assert_eq!(new.view(&key(1)).unwrap().member, member(&new, "fe02"));
        drop(made);
    }

    #[test]
    fn a_table_of_other_keys_takes_what_can_be_translated_and_many_pins_go_in_packets() {
        let secret = Secret::random();
        let (old, same, other) = (table(32, &secret), table(32, &secret), table(24, &secret));
        for client in 0..5_000 {
            drop(come(&old, client, "fe01"));
        }
        assert_eq!(tell(&old, &same, Duration::ZERO).0, 5_000);
        assert_eq!(same.len(), 5_000);
        // Of a network with 256 clients there is one pin where networks are told apart, and none the other way round.
        assert_eq!(tell(&old, &other, Duration::ZERO).0, 5_000);
        assert_eq!(other.len(), 5_000_usize.div_ceil(256));
        let empty = table(32, &secret);
        assert_eq!(tell(&other, &empty, Duration::ZERO).0, 0);
        assert!(empty.is_empty());
    }

    #[test]
    fn another_prefix_of_one_family_costs_the_other_no_pin() {
        let secret = Secret::random();
        let (old, new) = (table(32, &secret), table_with(32, 128, &secret));
        drop(come(&old, 1, "fe01"));
        let source: Ipv6Addr = "2001:db8:0:1::".parse().unwrap();
        let ipv6 = Key {
            source: source.octets(),
            name: 0,
        };
        old.pin(ipv6, member(&old, "fe02")).unwrap();
        assert_eq!(tell(&old, &new, Duration::ZERO).0, 1);
        assert!(new.view(&key(1)).is_some() && new.view(&ipv6).is_none());
    }

    #[test]
    fn what_is_cut_is_an_error() {
        let secret = Secret::random();
        let (old, new) = (table(32, &secret), table(32, &secret));
        drop(come(&old, 1, "fe01"));
        let mut batch = Batch::new(&old);
        let all = old.tell_recent::<()>(Duration::ZERO, &mut |met| {
            for kept in met {
                assert_eq!(batch.add(&PinUpdate::Stands(kept.clone())), None);
                assert_eq!(batch.add(&PinUpdate::LetGo(kept.key)), None);
            }
            Ok(())
        });
        assert_eq!(all, Ok(()));
        let bytes = batch.take();
        let whole = |length: usize| {
            let mut told = 0;
            read(&bytes[..length], |_| Some(new.clone()), |_, _| told += 1).map(|()| told)
        };
        assert_eq!(whole(bytes.len()).unwrap(), 2);
        let sound = (0..bytes.len()).filter(|&length| whole(length).is_ok());
        // Where the group alone is told, and where the first of the two ends.
        assert_eq!(sound.count(), 2);
    }
}

//! Pins in packets.
//!
//! Owns how pins are divided into packets: each has pins of one group and is independent of the others. Must not know
//! tables. Invariant: what is read is what was written, or an error.

use super::message::PINS_LARGEST;
use super::wire::WireError;
use crate::affinity::record::bytes::ByteReader;
use crate::affinity::record::codec::{PinDecoder, PinEncoder};
use crate::affinity::record::{PinChange, PinGroup};

/// A packet that is being written.
pub struct Batch {
    group: PinGroup,
    encoder: PinEncoder,
    bytes: Vec<u8>,
}

impl Batch {
    /// An empty packet for pins of this group.
    #[must_use]
    pub fn new(group: PinGroup) -> Self {
        Self {
            group,
            encoder: PinEncoder::default(),
            bytes: Vec::new(),
        }
    }

    /// Adds a change. Returns the packet so far where this one does not fit any more.
    pub fn add(&mut self, change: &PinChange) -> Option<Vec<u8>> {
        let before = self.bytes.len();
        self.put(change);
        if self.bytes.len() <= PINS_LARGEST {
            return None;
        }
        self.bytes.truncate(before);
        let full = self.take();
        self.put(change);
        Some(full)
    }

    /// Returns the packet so far and starts an empty one.
    pub fn take(&mut self) -> Vec<u8> {
        self.encoder = PinEncoder::default();
        std::mem::take(&mut self.bytes)
    }

    fn put(&mut self, change: &PinChange) {
        let group = self.encoder.group(&mut self.bytes, &self.group);
        self.encoder.change(&mut self.bytes, group, change);
    }
}

/// Reads a packet.
///
/// # Errors
///
/// When no [`Batch`] writes such a packet.
pub fn read(bytes: &[u8], mut each: impl FnMut(&PinGroup, PinChange)) -> Result<(), WireError> {
    let (mut decoder, mut reader) = (PinDecoder::default(), ByteReader(bytes));
    while !reader.is_empty() {
        let change = decoder.read(&mut reader);
        let change = change.map_err(|_| WireError::Malformed("malformed pins".into()))?;
        if let Some((group, change)) = change {
            each(&decoder.groups()[group], change);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::affinity::record::PinKey;
    use crate::affinity::shard::{Eligibility, Key, Member};
    use crate::affinity::table::{
        ForeignHold, Imported, Lookup, NotImported, Pins, Secret, TableFilter,
    };
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
            let _ = pins.intern_member(backend);
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
        pins.intern_member(backend)
    }

    /// A connection of this client, which is answered by this backend.
    fn come(pins: &Arc<Pins>, client: u16, backend: &str) -> crate::affinity::table::PinGuard<Key> {
        let wanted = member(pins, backend);
        match pins.acquire(key(client), |_| Eligibility::Eligible, || Some(wanted)) {
            Lookup::New(claim, _) | Lookup::Pinned(claim, _) => {
                let _ = claim.answered(wanted);
                claim
            }
            Lookup::Stale(..) | Lookup::Unpinned(_) | Lookup::NotInPool | Lookup::NoBackend => {
                panic!("the client has no pin")
            }
        }
    }

    /// Transfers the pins of one table to another. Returns how many were imported, and those that are held there.
    fn transfer(from: &Pins, to: &Arc<Pins>, left: Duration) -> (usize, Vec<ForeignHold>) {
        let mut packets = Vec::new();
        let mut batch = Batch::new(from.pin_group());
        let walked = from.export_recent::<()>(left, &mut |records| {
            for record in records {
                packets.extend(batch.add(&PinChange::Set(record)));
            }
            Ok(())
        });
        assert_eq!(walked, Ok(()));
        packets.push(batch.take());
        let (mut count, mut held) = (0, Vec::new());
        for bytes in packets {
            assert!(bytes.len() <= PINS_LARGEST);
            let read = read(&bytes, |group, change| {
                let PinChange::Set(record) = change else {
                    panic!()
                };
                match to.import(&record, &group.keys) {
                    Ok(Imported::Held(hold)) => held.push(hold),
                    Ok(Imported::Added | Imported::Merged) => {}
                    Err(NotImported::OtherKeys) => return,
                    Err(reason) => panic!("{reason:?}"),
                }
                count += 1;
            });
            read.unwrap();
        }
        (count, held)
    }

    #[test]
    fn pins_and_sessions_are_transferred_and_those_in_use_are_held_for_the_old_process() {
        let secret = Secret::random();
        let (old, new) = (table(32, &secret), table(32, &secret));
        let used = come(&old, 1, "fe01");
        drop(come(&old, 2, "fe02"));
        let id = SessionId::new(&[7; 32]).unwrap();
        drop(old.learn_id(&id, Some(&key(2)), member(&old, "fe02")));
        let (count, held) = transfer(&old, &new, Duration::ZERO);
        assert_eq!((count, held.len()), (3, 1));
        let seen = |client| new.view(&key(client)).unwrap();
        assert_eq!(seen(1).in_use, 1);
        assert_eq!(seen(1).member, member(&new, "fe01"));
        assert_eq!((seen(2).in_use, seen(2).member), (0, member(&new, "fe02")));
        let left = new.record(&seen(2)).unwrap().usage.expires_in().unwrap();
        assert!(
            left <= TTL && left > TTL - Duration::from_secs(20),
            "{left:?}"
        );
        let found = new
            .recognise(None, &id, None, |_| Eligibility::Eligible)
            .unwrap();
        assert_eq!(found.member, member(&new, "fe02"));
        held[0].follow("fe02");
        assert_eq!(seen(1).member, member(&new, "fe02"));
        drop(held);
        assert_eq!(seen(1).in_use, 0);
        drop(used);
    }

    #[test]
    fn the_second_transfer_has_pins_in_use_and_recent_ones_and_replaces_idle_ones() {
        let secret = Secret::random();
        let (old, new) = (table(32, &secret), table(32, &secret));
        drop(come(&new, 1, "fe02"));
        let own = come(&new, 2, "fe02");
        let first = come(&old, 1, "fe01");
        let second = come(&old, 2, "fe01");
        drop(come(&old, 3, "fe01"));
        let (count, held) = transfer(&old, &new, TTL + Duration::from_secs(1));
        assert_eq!((count, held.len()), (2, 2));
        assert_eq!(new.view(&key(1)).unwrap().member, member(&new, "fe01"));
        // A connection of this process holds it.
        assert_eq!(new.view(&key(2)).unwrap().member, member(&new, "fe02"));
        assert_eq!(transfer(&old, &new, TTL - Duration::from_secs(30)).0, 3);
        drop((own, first, second));
    }

    #[test]
    fn a_new_pin_has_the_backend_that_its_connection_was_sent_to() {
        let secret = Secret::random();
        let (old, new) = (table(32, &secret), table(32, &secret));
        let wanted = member(&old, "fe02");
        let held_here = old.acquire(key(1), |_| Eligibility::Eligible, || Some(wanted));
        let (_, held) = transfer(&old, &new, Duration::MAX);
        assert_eq!(held.len(), 1);
        assert_eq!(new.view(&key(1)).unwrap().member, member(&new, "fe02"));
        drop(held_here);
    }

    #[test]
    fn a_table_with_other_keys_imports_what_can_be_translated() {
        let secret = Secret::random();
        let (old, same, other) = (table(32, &secret), table(32, &secret), table(24, &secret));
        for client in 0..5_000 {
            drop(come(&old, client, "fe01"));
        }
        assert_eq!(transfer(&old, &same, Duration::ZERO).0, 5_000);
        assert_eq!(same.len(), 5_000);
        // 256 clients of a network become one pin where networks are the keys; the other way round is impossible.
        assert_eq!(transfer(&old, &other, Duration::ZERO).0, 5_000);
        assert_eq!(other.len(), 5_000_usize.div_ceil(256));
        let empty = table(32, &secret);
        assert_eq!(transfer(&other, &empty, Duration::ZERO).0, 0);
        assert!(empty.is_empty());
    }

    #[test]
    fn another_prefix_of_one_family_does_not_affect_the_other() {
        let secret = Secret::random();
        let (old, new) = (table(32, &secret), table_with(32, 128, &secret));
        drop(come(&old, 1, "fe01"));
        let source: Ipv6Addr = "2001:db8:0:1::".parse().unwrap();
        let ipv6 = Key {
            source: source.octets(),
            name: 0,
        };
        old.pin(ipv6, member(&old, "fe02")).unwrap();
        assert_eq!(transfer(&old, &new, Duration::ZERO).0, 1);
        assert!(new.view(&key(1)).is_some() && new.view(&ipv6).is_none());
    }

    #[test]
    fn a_packet_is_full_and_independent_of_the_others() {
        let secret = Secret::random();
        let group = table(32, &secret).pin_group();
        let mut batch = Batch::new(group.clone());
        let mut packets = Vec::new();
        let key = |client: u64| PinKey::Session {
            hash: [7; 16],
            client,
        };
        for client in 0..10_000 {
            packets.extend(batch.add(&PinChange::Removed(key(client))));
        }
        packets.push(batch.take());
        let mut clients = Vec::new();
        for packet in &packets {
            let read = read(packet, |of, change| {
                let PinChange::Removed(PinKey::Session { client, .. }) = change else {
                    panic!()
                };
                assert_eq!(*of, group);
                clients.push(client);
            });
            read.unwrap();
        }
        assert!(clients.into_iter().eq(0..10_000));
        let full = &packets[..packets.len() - 1];
        assert!(!full.is_empty());
        assert!(full.iter().all(|packet| packet.len() > PINS_LARGEST - 64));
    }

    #[test]
    fn two_keys_that_become_one_are_held_until_both_are_released() {
        let secret = Secret::random();
        let (old, new) = (table(32, &secret), table(24, &secret));
        let used = [come(&old, 1, "fe01"), come(&old, 2, "fe01")];
        let (_, mut held) = transfer(&old, &new, Duration::ZERO);
        let pin = || new.view(&key(0)).unwrap();
        assert_eq!((held.len(), pin().in_use), (2, 2));
        held.pop();
        assert_eq!(pin().in_use, 1);
        // No connection of this process is reset when the pin is moved.
        let moved = new.move_to(&TableFilter::default(), member(&new, "fe02"));
        assert_eq!((moved.pins, moved.connections), (1, 0));
        held.pop();
        assert_eq!(pin().in_use, 0);
        drop(used);
    }

    #[test]
    fn a_cut_packet_is_an_error() {
        let secret = Secret::random();
        let old = table(32, &secret);
        drop(come(&old, 1, "fe01"));
        let mut batch = Batch::new(old.pin_group());
        old.export(&mut |record| {
            assert_eq!(batch.add(&PinChange::Set(record.clone())), None);
            assert_eq!(batch.add(&PinChange::Removed(record.key)), None);
        });
        let bytes = batch.take();
        let changes = |length: usize| {
            let mut changes = 0;
            read(&bytes[..length], |_, _| changes += 1).map(|()| changes)
        };
        assert_eq!(changes(bytes.len()).unwrap(), 2);
        let valid = (0..bytes.len()).filter_map(|length| changes(length).ok());
        // Before and after each definition and the first change.
        assert_eq!(valid.collect::<Vec<_>>(), [0, 0, 0, 0, 0, 1]);
    }
}

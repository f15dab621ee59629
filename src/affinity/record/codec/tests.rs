//! What is encoded decodes to the same; anything else is malformed.

use proptest::prelude::*;

use super::*;

const NAMES: [&str; 4] = ["", "lyncweb.contoso.com", "*.fabrikam.com", "fe01"];

fn any_name() -> impl Strategy<Value = Arc<str>> {
    prop_oneof![
        4 => prop::sample::select(&NAMES[..]).prop_map(Arc::from),
        1 => any::<String>().prop_map(Arc::from),
    ]
}

fn any_group() -> impl Strategy<Value = PinGroup> {
    (any_name(), any::<[u8; 3]>()).prop_map(|(name, keys)| PinGroup {
        name,
        keys: KeyScheme::from_bytes(keys),
    })
}

fn any_key() -> impl Strategy<Value = PinKey> {
    prop_oneof![
        (any::<[u8; 16]>(), prop::option::of(any_name()))
            .prop_map(|(source, name)| PinKey::Client { source, name }),
        (any::<[u8; 16]>(), any::<u64>())
            .prop_map(|(hash, client)| PinKey::Session { hash, client }),
    ]
}

fn any_record() -> impl Strategy<Value = PinRecord> {
    let usage = prop_oneof![
        Just(PinUsage::InUse(1)),
        any::<u32>().prop_map(|left| PinUsage::Idle(Duration::from_millis(left.into()))),
    ];
    let origin = prop::sample::select(&Origin::ALL[..]);
    (any_key(), any_name(), origin, any::<u64>(), usage).prop_map(
        |(key, backend, origin, age, usage)| PinRecord {
            key,
            backend,
            origin,
            age: Duration::from_millis(age),
            usage,
        },
    )
}

pub(crate) fn any_change() -> impl Strategy<Value = PinChange> {
    prop_oneof![
        any_record().prop_map(PinChange::Set),
        any_key().prop_map(PinChange::Removed),
    ]
}

type Stream = Vec<(PinGroup, PinChange)>;

/// Changes of some groups; the encoder starts again before those that say so.
fn any_stream() -> impl Strategy<Value = Vec<(PinGroup, PinChange, bool)>> {
    let groups = prop::collection::vec(any_group(), 1..4);
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any_change(), 0..8), 0..20);
    (groups, changes).prop_map(|(groups, changes)| {
        let of_group = |(index, change, restart): (prop::sample::Index, PinChange, i32)| {
            (index.get(&groups).clone(), change, restart == 0)
        };
        changes.into_iter().map(of_group).collect()
    })
}

/// The bytes, and where each change ends.
fn encode(stream: &[(PinGroup, PinChange, bool)]) -> (Vec<u8>, Vec<usize>) {
    let (mut encoder, mut bytes, mut ends) = (PinEncoder::default(), Vec::new(), Vec::new());
    for (group, change, restart) in stream {
        if *restart {
            encoder = PinEncoder::default();
        }
        let group = encoder.group(&mut bytes, group);
        encoder.change(&mut bytes, group, change);
        ends.push(bytes.len());
    }
    (bytes, ends)
}

/// The changes up to the end or to the first malformed byte.
fn decode(bytes: &[u8]) -> (Stream, Result<(), Malformed>) {
    let (mut decoder, mut reader, mut found) =
        (PinDecoder::default(), ByteReader(bytes), Stream::new());
    while !reader.is_empty() {
        match decoder.read(&mut reader) {
            Ok(None) => {}
            Ok(Some((group, change))) => found.push((decoder.groups()[group].clone(), change)),
            Err(malformed) => return (found, Err(malformed)),
        }
    }
    (found, Ok(()))
}

/// Equality of keys ignores who used a session last; this does not.
fn text_of(stream: &[(PinGroup, PinChange)]) -> Vec<String> {
    stream.iter().map(|change| format!("{change:?}")).collect()
}

fn bare(stream: &[(PinGroup, PinChange, bool)]) -> Stream {
    let bare = |(group, change, _): &(PinGroup, PinChange, bool)| (group.clone(), change.clone());
    stream.iter().map(bare).collect()
}

proptest! {
    #[test]
    fn what_was_encoded_decodes_to_the_same(stream in any_stream()) {
        let (found, end) = decode(&encode(&stream).0);
        prop_assert_eq!(text_of(&found), text_of(&bare(&stream)));
        prop_assert_eq!(end, Ok(()));
    }

    #[test]
    fn every_truncation_decodes_to_the_changes_before_it(stream in any_stream()) {
        let (bytes, ends) = encode(&stream);
        let all = bare(&stream);
        for length in 0..bytes.len() {
            let whole = ends.iter().filter(|&&end| end <= length).count();
            prop_assert_eq!(&decode(&bytes[..length]).0, &all[..whole]);
        }
    }

    /// Checksums find a flipped bit in the store; in the handoff the kernel passes the bytes. Whatever it becomes, it encodes
    /// to a stream that decodes to the same.
    #[test]
    fn a_flipped_bit_is_malformed_or_another_stream(
        stream in any_stream(),
        bits in prop::collection::vec(any::<prop::sample::Index>(), 20),
    ) {
        let (bytes, _) = encode(&stream);
        for bit in bits.iter().filter(|_| !bytes.is_empty()) {
            let bit = bit.index(bytes.len() * 8);
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let (found, _) = decode(&flipped);
            let again: Vec<_> = found
                .iter()
                .map(|(group, change)| (group.clone(), change.clone(), false))
                .collect();
            prop_assert_eq!(text_of(&decode(&encode(&again).0).0), text_of(&found));
        }
    }

    #[test]
    fn any_bytes_decode_or_are_malformed(bytes in any::<Vec<u8>>()) {
        let _ = decode(&bytes);
    }
}

fn record() -> PinRecord {
    PinRecord {
        key: PinKey::Session {
            hash: [7; 16],
            client: 3,
        },
        backend: "fe01".into(),
        origin: Origin::Session,
        age: Duration::from_millis(1),
        usage: PinUsage::InUse(9),
    }
}

fn encoded(record: PinRecord) -> Vec<u8> {
    let group = PinGroup {
        name: "web".into(),
        keys: KeyScheme::from_bytes([1, 32, 128]),
    };
    encode(&[(group, PinChange::Set(record), false)]).0
}

#[test]
fn a_pin_in_use_decodes_as_held_by_one_connection() {
    let (found, _) = decode(&encoded(record()));
    let PinChange::Set(found) = &found[0].1 else {
        panic!()
    };
    assert_eq!(found.usage, PinUsage::InUse(1));
}

#[test]
fn a_pin_lives_for_49_days_at_most() {
    let (found, _) = decode(&encoded(PinRecord {
        usage: PinUsage::Idle(Duration::from_secs(365 * 86_400)),
        ..record()
    }));
    let PinChange::Set(found) = &found[0].1 else {
        panic!()
    };
    let longest = Duration::from_millis(u32::MAX.into());
    assert_eq!(found.usage, PinUsage::Idle(longest));
}

#[test]
fn what_has_no_number_and_what_is_too_long_is_malformed() {
    let cases: [(&str, Vec<u8>); 5] = [
        (
            "a group with the name of no text",
            vec![GROUP, 0, 1, 32, 128],
        ),
        (
            "a pin of no group",
            [vec![REMOVED_SESSION, 0], vec![0; 24]].concat(),
        ),
        (
            "a number from before a restart",
            [encoded(record()), vec![RESTART, GROUP, 0, 1, 32, 128]].concat(),
        ),
        ("a free tag", vec![FIRST_FREE_TAG]),
        ("a text that is too long", {
            let mut bytes = vec![TEXT];
            put_text(&mut bytes, &"x".repeat(LONGEST_TEXT + 1));
            bytes
        }),
    ];
    for (case, bytes) in cases {
        assert_eq!(decode(&bytes).1, Err(Malformed), "{case}");
    }
}

#[test]
fn an_unknown_origin_is_malformed() {
    let mut bytes = encoded(record());
    let origin = bytes.len() - 3;
    assert_eq!(bytes[origin], Origin::Session as u8);
    bytes[origin] = 4;
    assert_eq!(decode(&bytes).1, Err(Malformed));
}

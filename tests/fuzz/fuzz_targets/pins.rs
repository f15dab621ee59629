//! Whatever bytes the store or a predecessor has for pins, they decode or are malformed. What they decode to encodes to a
//! stream that decodes to the same, and takes no more memory than its input warrants.
//!
//! Seeds: tests/data/pins

#![no_main]

use libfuzzer_sys::fuzz_target;
use lyncpin_fuzz::affinity::record::bytes::ByteReader;
use lyncpin_fuzz::affinity::record::codec::{PinDecoder, PinEncoder};
use lyncpin_fuzz::affinity::record::{PinChange, PinGroup};

fuzz_target!(|bytes: &[u8]| {
    let (decoder, changes) = decode(bytes);
    // The shortest record that defines or changes something has two bytes.
    assert!(changes.len() + decoder.groups().len() <= bytes.len() / 2);
    let (mut encoder, mut again) = (PinEncoder::default(), Vec::new());
    for (group, change) in &changes {
        let group = encoder.group(&mut again, group);
        encoder.change(&mut again, group, change);
    }
    let same = decode(&again).1;
    assert_eq!(same.len(), changes.len());
    for (one, other) in changes.iter().zip(&same) {
        // Equality of keys ignores who used a TLS session last; their text does not.
        assert_eq!(format!("{one:?}"), format!("{other:?}"));
    }
});

/// The changes up to the end or to the first malformed byte.
fn decode(bytes: &[u8]) -> (PinDecoder, Vec<(PinGroup, PinChange)>) {
    let (mut decoder, mut reader, mut changes) = (PinDecoder::default(), ByteReader(bytes), Vec::new());
    while !reader.is_empty() {
        match decoder.read(&mut reader) {
            Ok(None) => {}
            Ok(Some((group, change))) => changes.push((decoder.groups()[group].clone(), change)),
            Err(_) => break,
        }
    }
    (decoder, changes)
}

//! However a server's first flight is cut, there is one verdict, and it is final.
//!
//! Seeds: tests/data/server_hello

#![no_main]

use libfuzzer_sys::fuzz_target;
use lyncpin_fuzz::protocol::tls::server_hello::{FlightReader, MAX_MESSAGE, FlightProgress};

fuzz_target!(|bytes: &[u8]| {
    let verdict = FlightReader::new().read(bytes).clone();
    pieces_agree(bytes, &verdict);
    if let FlightProgress::Certificate(identity) = &verdict {
        assert!(!identity.leaf.is_empty() && identity.leaf.len() < MAX_MESSAGE);
        assert!(identity.hello.session_id.as_bytes().len() <= 32);
    }
});

/// One reader that is given a byte at a time, and one that is given pieces whose lengths depend on the input.
fn pieces_agree(bytes: &[u8], verdict: &FlightProgress) {
    let step = 2 + usize::from(bytes.last().copied().unwrap_or(0));
    for piece in [1, step] {
        let mut reader = FlightReader::new();
        for part in bytes.chunks(piece) {
            let progress = reader.read(part);
            assert!(*progress == FlightProgress::NeedMore || progress == verdict);
        }
        assert_eq!(reader.read(&[]), verdict);
        if *verdict != FlightProgress::NeedMore {
            assert_eq!(reader.read(b"more"), verdict);
        }
    }
}

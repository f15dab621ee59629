//! However the head of a request is cut, there is one verdict, and a name in it is a name.
//!
//! Seeds: tests/data/http

#![no_main]

use libfuzzer_sys::fuzz_target;
use lyncpin_fuzz::types::host_name::HostName;
use lyncpin_fuzz::protocol::http1::{Host, HttpHead, HttpHeadParser, MAX_HEAD, HeadProgress};

fuzz_target!(|bytes: &[u8]| {
    let verdict = whole(bytes);
    pieces_agree(bytes, &verdict);
    prefixes_agree(bytes, &verdict);
    if let HeadProgress::Head(head) = &verdict {
        head_is_sound(bytes, head);
    }
});

fn whole(bytes: &[u8]) -> HeadProgress {
    HttpHeadParser::new().advance(bytes)
}

/// One parser that is shown a byte more each time, also past its verdict.
fn pieces_agree(bytes: &[u8], verdict: &HeadProgress) {
    let mut parser = HttpHeadParser::new();
    for len in 0..=bytes.len() {
        let progress = parser.advance(&bytes[..len]);
        assert!(
            progress == HeadProgress::NeedMore || progress == *verdict,
            "{len} bytes: {progress:?}"
        );
    }
    assert_eq!(parser.advance(bytes), *verdict);
}

/// A new parser for each of some prefixes, the lengths of which depend on the input.
fn prefixes_agree(bytes: &[u8], verdict: &HeadProgress) {
    let step = 1 + usize::from(bytes.last().copied().unwrap_or(0)) + bytes.len() / 64;
    for len in (0..bytes.len()).step_by(step) {
        let progress = whole(&bytes[..len]);
        assert!(
            progress == HeadProgress::NeedMore || progress == *verdict,
            "{len} bytes: {progress:?}"
        );
    }
}

fn head_is_sound(bytes: &[u8], head: &HttpHead) {
    // The head is those bytes: it needs the last of them and nothing that follows.
    assert!(head.wire_len <= MAX_HEAD);
    let sent = &bytes[..head.wire_len];
    assert!(sent.ends_with(b"\r\n\r\n"));
    assert_eq!(whole(sent), HeadProgress::Head(head.clone()));
    assert_eq!(whole(&sent[..sent.len() - 1]), HeadProgress::NeedMore);
    if let Host::Name(name) = &head.host {
        assert_eq!(HostName::parse(name.as_str().as_bytes()).as_ref(), Ok(name));
        let sent = sent.to_ascii_lowercase();
        let name = name.as_str().as_bytes();
        assert!(sent.windows(name.len()).any(|part| part == name));
    }
}

//! However a first flight is cut, there is one verdict, and a name in it is a name.
//!
//! Seeds: tests/data/hello

#![no_main]

use libfuzzer_sys::fuzz_target;
use lyncpin_fuzz::protocol::tls::client_hello::{
    Alert, ClientHello, ClientHelloParser, Format, HelloProgress, ServerName,
};
use lyncpin_fuzz::types::host_name::HostName;

fuzz_target!(|bytes: &[u8]| {
    let verdict = whole(bytes);
    pieces_agree(bytes, &verdict);
    prefixes_agree(bytes, &verdict);
    if let HelloProgress::Hello(hello) = &verdict {
        hello_is_sound(bytes, hello);
        if hello.format == Format::Tls {
            records_do_not_matter(bytes, hello);
        }
    }
    let alert = Alert::DecodeError.record(bytes);
    assert_eq!(alert.is_some(), matches!(bytes, [22, 3, _, ..]));
});

fn whole(bytes: &[u8]) -> HelloProgress {
    ClientHelloParser::new().advance(bytes)
}

/// One parser that is shown a byte more each time, also past its verdict.
fn pieces_agree(bytes: &[u8], verdict: &HelloProgress) {
    let mut parser = ClientHelloParser::new();
    for len in 0..=bytes.len() {
        let progress = parser.advance(&bytes[..len]);
        assert!(
            progress == HelloProgress::NeedMore || progress == *verdict,
            "{len} bytes: {progress:?}"
        );
    }
    assert_eq!(parser.advance(bytes), *verdict);
}

/// A new parser for each of some prefixes, the lengths of which depend on the input.
fn prefixes_agree(bytes: &[u8], verdict: &HelloProgress) {
    let step = 1 + usize::from(bytes.last().copied().unwrap_or(0)) + bytes.len() / 64;
    for len in (0..bytes.len()).step_by(step) {
        let progress = whole(&bytes[..len]);
        assert!(
            progress == HelloProgress::NeedMore || progress == *verdict,
            "{len} bytes: {progress:?}"
        );
    }
}

fn hello_is_sound(bytes: &[u8], hello: &ClientHello) {
    // The hello is those bytes: it needs the last of them and nothing that follows.
    assert_eq!(
        whole(&bytes[..hello.wire_len]),
        HelloProgress::Hello(Box::new(hello.clone()))
    );
    assert_eq!(whole(&bytes[..hello.wire_len - 1]), HelloProgress::NeedMore);
    if let ServerName::Name(name) = &hello.server_name {
        assert_eq!(HostName::parse(name.as_str().as_bytes()).as_ref(), Ok(name));
        let sent = &bytes[..hello.wire_len];
        assert!(sent.len() > name.as_str().len());
    }
    assert!(hello.alpn.iter().all(|protocol| !protocol.is_empty()));
    assert!(hello.session_id.as_bytes().len() <= 32);
}

/// The same message in records of seven bytes.
fn records_do_not_matter(bytes: &[u8], hello: &ClientHello) {
    let mut handshake = Vec::new();
    let mut wire = &bytes[..hello.wire_len];
    while let [_, _, _, high, low, rest @ ..] = wire {
        let len = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        handshake.extend_from_slice(&rest[..len]);
        wire = &rest[len..];
    }
    let mut other = Vec::new();
    for fragment in handshake.chunks(7) {
        other.extend_from_slice(&[22, bytes[1], bytes[2], 0, fragment.len() as u8]);
        other.extend_from_slice(fragment);
    }
    let mut same = hello.clone();
    same.wire_len = other.len();
    assert_eq!(whole(&other), HelloProgress::Hello(Box::new(same)));
}

//! The ClientHello parser with our sample hellos, with hellos of other programs if they are available, and with
//! generated hellos. The tests of single fields are next to the parser.

#![allow(clippy::unwrap_used, reason = "a test may end in a panic")]

mod corpus;
mod properties;
mod samples;

use lyncpin::protocol::tls::client_hello::{ClientHelloParser, HelloProgress, ServerName};

/// Parses all bytes in one call.
fn whole(bytes: &[u8]) -> HelloProgress {
    ClientHelloParser::new().advance(bytes)
}

/// Calls the parser with prefixes of these lengths, and then twice with all bytes. Once the parser has returned a
/// result, later calls must return the same one.
#[track_caller]
fn in_pieces(bytes: &[u8], lens: impl IntoIterator<Item = usize>) -> HelloProgress {
    let mut parser = ClientHelloParser::new();
    let mut result = HelloProgress::NeedMore;
    for len in lens.into_iter().chain([bytes.len(), bytes.len()]) {
        let next = parser.advance(&bytes[..len]);
        assert!(
            result == HelloProgress::NeedMore || result == next,
            "{result:?} became {next:?} at {len}"
        );
        result = next;
    }
    result
}

/// Asserts that the split does not matter. Byte by byte, and for each prefix separately, the parser needs more or
/// returns the result for all bytes. Only every `step`-th prefix is parsed.
#[track_caller]
fn assert_split_does_not_matter(bytes: &[u8], step: usize) -> HelloProgress {
    let result = whole(bytes);
    assert_eq!(in_pieces(bytes, 0..bytes.len()), result);
    for len in (0..bytes.len()).step_by(step) {
        let of_prefix = whole(&bytes[..len]);
        assert!(
            of_prefix == HelloProgress::NeedMore || of_prefix == result,
            "{len} bytes: {of_prefix:?}, all: {result:?}"
        );
    }
    result
}

/// Formats a result, with the name or the reason.
fn describe(result: &HelloProgress) -> String {
    match result {
        HelloProgress::NeedMore => "incomplete".to_owned(),
        HelloProgress::NotTls(reason) => format!("not-tls: {reason}"),
        HelloProgress::Malformed(reason) => format!("malformed: {reason}"),
        HelloProgress::TooLarge(reason) => format!("too-large: {reason}"),
        HelloProgress::Hello(hello) => match &hello.server_name {
            ServerName::Absent => "no-sni".to_owned(),
            ServerName::NoHostName => "no-host-name".to_owned(),
            ServerName::Name(name) => format!("sni={name}"),
        },
    }
}

/// The content of the handshake records at the start of `wire`, up to the first record of another type.
fn deframed(mut wire: &[u8]) -> Vec<u8> {
    let mut handshake = Vec::new();
    while let [22, 3, _, high, low, rest @ ..] = wire {
        let len = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let (fragment, after) = rest.split_at(len);
        handshake.extend_from_slice(fragment);
        wire = after;
    }
    handshake
}

//! The ClientHello parser against hellos of our own, against those of others where they are at
//! hand, and against whatever proptest makes up. What a single field does is tested beside the
//! parser.

#![allow(clippy::unwrap_used, reason = "a test may end in a panic")]

mod corpus;
mod properties;
mod samples;

use lyncpin::protocol::tls::client_hello::{ClientHelloParser, HelloProgress, ServerName};

/// The verdict on bytes that come in one piece.
fn whole(bytes: &[u8]) -> HelloProgress {
    ClientHelloParser::new().advance(bytes)
}

/// The verdict on bytes that come in pieces, given the lengths at which the parser is asked. It is
/// asked once more after its verdict, which must not change.
#[track_caller]
fn in_pieces(bytes: &[u8], lens: impl IntoIterator<Item = usize>) -> HelloProgress {
    let mut parser = ClientHelloParser::new();
    let mut verdict = HelloProgress::NeedMore;
    for len in lens.into_iter().chain([bytes.len(), bytes.len()]) {
        let next = parser.advance(&bytes[..len]);
        assert!(
            verdict == HelloProgress::NeedMore || verdict == next,
            "{verdict:?} became {next:?} at {len}"
        );
        verdict = next;
    }
    verdict
}

/// Asserts that cutting does not matter: byte by byte, and every prefix on its own, the parser
/// waits or says what it says of the whole. `step` thins the prefixes out.
#[track_caller]
fn cutting_does_not_matter(bytes: &[u8], step: usize) -> HelloProgress {
    let verdict = whole(bytes);
    assert_eq!(in_pieces(bytes, 0..bytes.len()), verdict);
    for len in (0..bytes.len()).step_by(step) {
        let of_prefix = whole(&bytes[..len]);
        assert!(
            of_prefix == HelloProgress::NeedMore || of_prefix == verdict,
            "{len} bytes: {of_prefix:?}, all: {verdict:?}"
        );
    }
    verdict
}

/// A verdict in a word or two, names and reasons included.
fn describe(verdict: &HelloProgress) -> String {
    match verdict {
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

/// The handshake bytes in the records at the beginning of `wire`, up to what is no handshake
/// record.
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

//! The ClientHello parser on our own hellos, on those of others if available, and on generated ones.
//! Single fields are tested next to the parser.

#![allow(clippy::unwrap_used, reason = "a test may end in a panic")]

mod corpus;
mod properties;
mod samples;

use lyncpin::protocol::tls::client_hello::{ClientHelloParser, HelloProgress, ServerName};

/// The result for bytes in one piece.
fn whole(bytes: &[u8]) -> HelloProgress {
    ClientHelloParser::new().advance(bytes)
}

/// The result for bytes in pieces, with the lengths at which the parser is called. It is called once
/// more after its result, which must not change.
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

/// Asserts that the split does not matter: byte by byte, and for every prefix separately, the parser
/// needs more or returns the result for all bytes. `step` skips prefixes.
#[track_caller]
fn assert_split_does_not_matter(bytes: &[u8], step: usize) -> HelloProgress {
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

/// A result as text, with names and reasons.
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

/// The handshake bytes in the records at the beginning of `wire`, up to the first other record.
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

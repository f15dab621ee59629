//! Owns the layout of the ServerHello, Certificate and NewSessionTicket messages.
//!
//! Must not know how the messages were framed. Invariant: nothing is read past the message; a message whose lengths do not add
//! up is `None`.

use super::ServerHello;
use crate::protocol::tls::client_hello::{ProtocolVersion, SessionId};

/// Length of the server's random.
const RANDOM: usize = 32;
/// The extension that names the version of TLS 1.3 and later (RFC 8446 section 4.2.1).
const SUPPORTED_VERSIONS: u16 = 43;

/// Reads the body of a ServerHello.
pub(super) fn server_hello(body: &[u8]) -> Option<ServerHello> {
    let (version, rest) = number(body)?;
    let (_random, rest) = rest.split_at_checked(RANDOM)?;
    let (session_id, rest) = vector::<1>(rest)?;
    let (cipher_suite, rest) = number(rest)?;
    let (_compression, rest) = rest.split_first()?;
    let selected = match rest {
        [] => None,
        _ => selected_version(whole_vector::<2>(rest)?)?,
    };
    Some(ServerHello {
        version: ProtocolVersion(selected.unwrap_or(version)),
        session_id: SessionId::new(session_id)?,
        cipher_suite,
    })
}

/// The version that the extensions select, if any; the outer `None` means that their lengths do not add up.
fn selected_version(mut extensions: &[u8]) -> Option<Option<u16>> {
    let mut selected = None;
    while !extensions.is_empty() {
        let (kind, rest) = number(extensions)?;
        let (content, rest) = vector::<2>(rest)?;
        if kind == SUPPORTED_VERSIONS {
            selected = Some(u16::from_be_bytes(content.try_into().ok()?));
        }
        extensions = rest;
    }
    Some(selected)
}

/// The first certificate in the body of a Certificate message up to TLS 1.2 (RFC 5246 section 7.4.2), which is the server's
/// own.
pub(super) fn leaf(body: &[u8]) -> Option<&[u8]> {
    let (leaf, _chain) = vector::<3>(whole_vector::<3>(body)?)?;
    (!leaf.is_empty()).then_some(leaf)
}

/// The ticket in the body of a NewSessionTicket message up to TLS 1.2 (RFC 5077 section 3.3): a lifetime hint of four bytes, then
/// the ticket, which may be empty.
pub(super) fn ticket(body: &[u8]) -> Option<&[u8]> {
    let (_lifetime, ticket) = body.split_at_checked(4)?;
    whole_vector::<2>(ticket)
}

fn number(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (&number, rest) = bytes.split_first_chunk()?;
    Some((u16::from_be_bytes(number), rest))
}

/// A vector with a length of `LEN` bytes (RFC 5246 section 4.3), and the bytes after it.
fn vector<const LEN: usize>(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<LEN>()?;
    let len = len
        .iter()
        .fold(0, |len, &byte| len << 8 | usize::from(byte));
    rest.split_at_checked(len)
}

/// A vector that must fill `bytes`.
fn whole_vector<const LEN: usize>(bytes: &[u8]) -> Option<&[u8]> {
    match vector::<LEN>(bytes)? {
        (content, []) => Some(content),
        _ => None,
    }
}

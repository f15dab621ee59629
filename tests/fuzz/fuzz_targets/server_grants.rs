//! However what a server sends is cut, it grants the same sessions: one id and one ticket at most, and never an echo. No
//! more than one message is ever held.
//!
//! Seeds: tests/data/server_grants
//! Seeds: tests/data/server_hello

#![no_main]

use libfuzzer_sys::fuzz_target;
use lyncpin_fuzz::protocol::tls::client_hello::SessionId;
use lyncpin_fuzz::protocol::tls::server_hello::{Grant, GrantReader, ReaderStatus, MAX_MESSAGE};

/// Where the id of a ServerHello lies that is the first message of a record, after the header of the record, that of the
/// message, the version and the random.
const ID: usize = 5 + 4 + 2 + 32;

fuzz_target!(|bytes: &[u8]| {
    pieces_agree(SessionId::default(), bytes);
    if let Some((&len, id)) = bytes.get(ID..).and_then(<[u8]>::split_first)
        && let Some(echo) = id.get(..len.into()).and_then(SessionId::new)
    {
        pieces_agree(echo, bytes);
    }
});

/// The same is granted to readers that are given all bytes, one at a time, and pieces whose lengths depend on the input.
fn pieces_agree(offered: SessionId, bytes: &[u8]) {
    let step = 2 + usize::from(bytes.last().copied().unwrap_or(0));
    let whole = granted(offered, bytes, bytes.len().max(1));
    for piece in [1, step] {
        assert_eq!(granted(offered, bytes, piece), whole);
    }
}

/// The id, the ticket, and whether more may come.
fn granted(
    offered: SessionId,
    bytes: &[u8],
    piece: usize,
) -> (Option<SessionId>, Option<Vec<u8>>, ReaderStatus) {
    let mut reader = GrantReader::new(offered);
    let (mut id, mut ticket) = (None, None);
    let mut hearing = ReaderStatus::Reading;
    for part in bytes.chunks(piece) {
        let before = hearing;
        hearing = reader.read(part, &mut |grant| {
            assert_eq!(before, ReaderStatus::Reading);
            match grant {
                Grant::SessionId(granted) => assert_eq!(id.replace(*granted), None),
                Grant::Ticket(granted) => assert_eq!(ticket.replace(granted.to_vec()), None),
            }
        });
        assert!(reader.held() <= MAX_MESSAGE);
        assert!(before == ReaderStatus::Reading || hearing == ReaderStatus::Done);
    }
    assert!(id.is_none_or(|id| id != offered && !id.as_bytes().is_empty()));
    assert!(ticket.as_ref().is_none_or(|ticket| !ticket.is_empty()));
    assert!(hearing == ReaderStatus::Reading || reader.held() == 0);
    (id, ticket, hearing)
}

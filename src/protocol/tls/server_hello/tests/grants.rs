//! `GrantReader` on generated handshakes, valid and broken. `bounds` tests each limit and random handshakes.

use super::*;

mod bounds;

/// An owned grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    Id(Vec<u8>),
    Ticket(Vec<u8>),
}

impl From<Grant<'_>> for Kept {
    fn from(grant: Grant<'_>) -> Self {
        match grant {
            Grant::SessionId(id) => Self::Id(id.as_bytes().to_vec()),
            Grant::Ticket(ticket) => Self::Ticket(ticket.to_vec()),
        }
    }
}

/// The grants of `bytes` in pieces of `piece` bytes, and whether the reader needs more. Asserts the memory limit, and that a reader
/// that is done stays done.
pub(super) fn read_in_pieces(
    offered: &[u8],
    bytes: &[u8],
    piece: usize,
) -> (Vec<Kept>, ReaderStatus) {
    let mut reader = GrantReader::new(SessionId::new(offered).unwrap());
    let mut kept = Vec::new();
    let mut status = ReaderStatus::Reading;
    for part in bytes.chunks(piece) {
        status = reader.read(part, &mut |grant| kept.push(grant.into()));
        assert!(reader.held() <= MAX_MESSAGE, "holds {}", reader.held());
    }
    if status == ReaderStatus::Done {
        assert_eq!(reader.held(), 0);
        let again = reader.read(&full(&[7; 32], b"another"), &mut |_| {
            panic!("done is final")
        });
        assert_eq!(again, ReaderStatus::Done);
    }
    (kept, status)
}

#[track_caller]
fn check(offered: &[u8], bytes: &[u8], granted: &[Kept], status: ReaderStatus) {
    let expected = (granted.to_vec(), status);
    assert_eq!(read_in_pieces(offered, bytes, usize::MAX), expected);
    assert_eq!(read_in_pieces(offered, bytes, 1), expected, "byte by byte");
}

#[track_caller]
fn grants_nothing(bytes: &[u8]) {
    check(&[], bytes, &[], ReaderStatus::Done);
}

fn id(id: &[u8]) -> Kept {
    Kept::Id(id.to_vec())
}

fn ticket(ticket: &[u8]) -> Kept {
    Kept::Ticket(ticket.to_vec())
}

fn hello(version: u16, id: &[u8], extensions: &[u8]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    body.extend([9; 32]);
    body.extend(vector(1, id));
    body.extend([0xc0, 0x2f, 0]);
    if !extensions.is_empty() {
        body.extend(vector(2, extensions));
    }
    message(2, &body)
}

fn new_ticket(ticket: &[u8]) -> Vec<u8> {
    message(4, &[&[0, 0, 0x1c, 0x20][..], &vector(2, ticket)].concat())
}

/// The first flight after the ServerHello: certificate, its status, key exchange, request and ServerHelloDone.
fn rest_of_flight() -> Vec<u8> {
    [
        certificate(LEAF),
        message(22, b"status"),
        message(12, b"key exchange"),
        message(13, b"request"),
        message(14, b""),
    ]
    .concat()
}

fn change() -> Vec<u8> {
    record(20, &[1])
}

/// The second flight: an encrypted Finished and data follow the ChangeCipherSpec.
fn end() -> Vec<u8> {
    [change(), record(22, &[0xee; 40]), record(23, &[0xdd; 90])].concat()
}

fn handshake(messages: &[Vec<u8>]) -> Vec<u8> {
    [records(&messages.concat(), 16384), end()].concat()
}

fn full(id: &[u8], ticket: &[u8]) -> Vec<u8> {
    let first = [hello(0x0303, id, &[]), rest_of_flight()].concat();
    let second = new_ticket(ticket);
    [records(&first, 16384), records(&second, 16384), end()].concat()
}

#[test]
fn a_full_handshake_grants_its_id_and_its_ticket() {
    for version in [0x0300, 0x0301, 0x0302, 0x0303] {
        let messages = [hello(version, &[5; 32], &[]), rest_of_flight()];
        let without = handshake(&messages);
        check(&[], &without, &[id(&[5; 32])], ReaderStatus::Done);
        check(&[6; 32], &without, &[id(&[5; 32])], ReaderStatus::Done);
        let with = handshake(&[messages.concat(), new_ticket(b"ticket")]);
        let both = [id(&[5; 32]), ticket(b"ticket")];
        check(&[], &with, &both, ReaderStatus::Done);
    }
}

#[test]
fn nothing_is_granted_before_the_change_cipher_spec() {
    let whole = full(&[5; 32], b"ticket");
    let until = whole.len() - end().len() + change().len();
    for len in 0..until {
        let nothing = (vec![], ReaderStatus::Reading);
        assert_eq!(
            read_in_pieces(&[], &whole[..len], usize::MAX),
            nothing,
            "{len}"
        );
    }
    let both = [id(&[5; 32]), ticket(b"ticket")];
    check(&[], &whole[..until], &both, ReaderStatus::Done);
}

#[test]
fn an_echoed_id_grants_nothing_and_a_ticket_with_it_does() {
    let echo = hello(0x0303, &[5; 32], &[]);
    check(
        &[5; 32],
        &handshake(std::slice::from_ref(&echo)),
        &[],
        ReaderStatus::Done,
    );
    let renewed = handshake(&[echo.clone(), new_ticket(b"renewed")]);
    check(
        &[5; 32],
        &renewed,
        &[ticket(b"renewed")],
        ReaderStatus::Done,
    );
    // The server rejected the ticket and echoed the id.
    let full = handshake(&[echo, rest_of_flight(), new_ticket(b"new")]);
    check(&[5; 32], &full, &[ticket(b"new")], ReaderStatus::Done);
    // A prefix is not equal.
    let shorter = handshake(&[hello(0x0303, &[5; 31], &[]), rest_of_flight()]);
    check(&[5; 32], &shorter, &[id(&[5; 31])], ReaderStatus::Done);
}

#[test]
fn the_id_of_a_resumed_session_grants_nothing() {
    let resumed = [hello(0x0303, &[5; 32], &[]), new_ticket(b"renewed")];
    check(&[], &handshake(&resumed[..1]), &[], ReaderStatus::Done);
    check(
        &[],
        &handshake(&resumed),
        &[ticket(b"renewed")],
        ReaderStatus::Done,
    );
}

#[test]
fn empty_ids_and_tickets_grant_nothing() {
    check(
        &[],
        &full(&[], b"ticket"),
        &[ticket(b"ticket")],
        ReaderStatus::Done,
    );
    check(&[6; 32], &full(&[], b""), &[], ReaderStatus::Done);
    check(&[], &full(&[5; 1], b""), &[id(&[5; 1])], ReaderStatus::Done);
}

#[test]
fn since_tls_1_3_it_is_done_at_the_server_hello() {
    let draft_23 = [0, 43, 0, 2, 0x7f, 0x17];
    for extensions in [[0, 43, 0, 2, 3, 4], [0, 43, 0, 2, 3, 5], draft_23] {
        for echoed in [&[5; 32][..], &[]] {
            let bytes = record(22, &hello(0x0303, echoed, &extensions));
            check(&[5; 32], &bytes, &[], ReaderStatus::Done);
            check(&[], &bytes, &[], ReaderStatus::Done);
            check(&[], &bytes[..bytes.len() - 1], &[], ReaderStatus::Reading);
        }
    }
    // A HelloRetryRequest is recognised by its random, and has the extension (RFC 8446 section 4.1.3).
    let mut retry = record(22, &hello(0x0303, &[5; 32], &[0, 43, 0, 2, 3, 4]));
    retry[11..15].copy_from_slice(&[0xcf, 0x21, 0xad, 0x74]);
    check(&[5; 32], &retry, &[], ReaderStatus::Done);
    for unknown in [0x0002, 0x02ff, 0x0304, 0xfefd] {
        grants_nothing(&record(22, &hello(unknown, &[5; 32], &[])));
    }
}

#[test]
fn requests_and_warnings_are_ignored() {
    let request = message(0, &[]);
    let warning = record(21, &[1, 112]);
    let bytes = [
        records(&[&*request, &hello(0x0303, &[5; 8], &[])].concat(), 16384),
        warning.clone(),
        records(&[&*request, &rest_of_flight(), &request].concat(), 16384),
        warning,
        records(
            &[&*request, &new_ticket(b"ticket"), &request].concat(),
            16384,
        ),
        end(),
    ];
    let both = [id(&[5; 8]), ticket(b"ticket")];
    check(&[], &bytes.concat(), &both, ReaderStatus::Done);
}

#[test]
fn alerts_end_it_wherever_they_occur() {
    let whole = full(&[5; 32], b"ticket");
    let first = records(
        &[hello(0x0303, &[5; 32], &[]), rest_of_flight()].concat(),
        16384,
    );
    let second = whole.len() - end().len();
    for alert in [[2, 40], [1, 0], [3, 0]] {
        for at in [0, first.len(), second] {
            let bytes = [&whole[..at], &record(21, &alert), &whole[at..]].concat();
            grants_nothing(&bytes);
        }
    }
}

#[test]
fn messages_out_of_order_grant_nothing() {
    let hello = || hello(0x0303, &[5; 32], &[]);
    let done = || message(14, b"");
    let ticket = || new_ticket(b"ticket");
    let client_hello = message(1, &[0; 40]);
    let finished = message(20, &[0; 12]);
    let orders: &[&[Vec<u8>]] = &[
        &[],
        &[rest_of_flight()],
        &[ticket()],
        std::slice::from_ref(&client_hello),
        &[hello(), hello()],
        &[hello(), client_hello.clone()],
        &[hello(), finished.clone()],
        &[hello(), message(99, b"unknown")],
        &[hello(), certificate(LEAF)],
        &[hello(), certificate(LEAF), ticket()],
        &[hello(), rest_of_flight(), hello()],
        &[hello(), rest_of_flight(), certificate(LEAF)],
        &[hello(), rest_of_flight(), done()],
        &[hello(), rest_of_flight(), finished],
        &[hello(), rest_of_flight(), ticket(), ticket()],
        &[hello(), ticket(), done()],
        &[hello(), ticket(), ticket()],
    ];
    for order in orders {
        let bytes = [records(&order.concat(), 16384), end()].concat();
        assert_eq!(
            read_in_pieces(&[], &bytes, usize::MAX),
            (vec![], ReaderStatus::Done),
            "{order:02x?}"
        );
        assert_eq!(
            read_in_pieces(&[], &bytes, 1),
            (vec![], ReaderStatus::Done),
            "{order:02x?}"
        );
    }
}

#[test]
fn malformed_messages_grant_nothing() {
    let hello = || hello(0x0303, &[5; 32], &[]);
    let after = |messages: &[Vec<u8>]| {
        let sound = [hello(), rest_of_flight()].concat();
        handshake(&[sound, messages.concat()])
    };
    grants_nothing(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    grants_nothing(&[22, 2]);
    // A ServerHello in SSL 2 format.
    grants_nothing(&[0x80, 0x20, 4, 0, 1, 0, 2]);
    // A truncated ServerHello, and one with an id of 33 bytes.
    grants_nothing(&handshake(&[message(2, &[3, 3, 0])]));
    let long = self::hello(0x0303, &[5; 33], &[]);
    grants_nothing(&handshake(&[long, rest_of_flight()]));
    for body in [&[][..], &[0; 4], &[0; 5], &[0, 0, 0, 0, 0, 1], &[0; 7]] {
        grants_nothing(&after(&[message(4, body)]));
    }
    // Messages that must be empty but are not.
    grants_nothing(&handshake(&[hello(), message(14, b"x")]));
    grants_nothing(&after(&[message(0, b"x")]));
    let sound = records(&[hello(), rest_of_flight()].concat(), 16384);
    let cut = record(22, &new_ticket(b"ticket")[..9]);
    let endings: &[&[Vec<u8>]] = &[
        &[record(22, &[])],
        &[record(23, b"data")],
        &[record(24, b"heartbeat")],
        &[vec![22, 2]],
        &[record(20, &[])],
        &[record(20, &[2])],
        &[record(20, &[1, 1])],
        &[cut, change()],
        &[vec![20, 2], change()],
    ];
    for ending in endings {
        grants_nothing(&[sound.clone(), ending.concat()].concat());
    }
}

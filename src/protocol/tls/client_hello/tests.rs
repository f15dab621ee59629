//! Records and limits, and helpers. `fields` tests the message and its extensions.

use super::*;
use crate::types::host_name::HostName;

#[path = "../../../../tests/it/support/hello_builder.rs"]
#[expect(dead_code, reason = "the integration tests use the rest")]
mod hello_builder;
use hello_builder::{HelloBuilder, records, sslv2_hello};

mod fields;

/// The result for `bytes`; asserts that it is the same in one piece, byte by byte, and with more bytes
/// after them.
#[track_caller]
fn result(bytes: &[u8]) -> HelloProgress {
    let whole = ClientHelloParser::new().advance(bytes);
    let mut parser = ClientHelloParser::new();
    let mut result = parser.advance(&[]);
    for len in 1..=bytes.len() {
        result = parser.advance(&bytes[..len]);
        if result != HelloProgress::NeedMore {
            break;
        }
    }
    assert_eq!(result, whole);
    if result != HelloProgress::NeedMore {
        let followed = [bytes, &[23; 9]].concat();
        assert_eq!(parser.advance(&followed), whole, "a result is final");
        assert_eq!(ClientHelloParser::new().advance(&followed), whole);
    }
    whole
}

#[track_caller]
fn hello(bytes: &[u8]) -> ClientHello {
    let result = result(bytes);
    let HelloProgress::Hello(hello) = result else {
        panic!("no hello: {result:?}")
    };
    *hello
}

#[track_caller]
fn rejected(bytes: &[u8], expected: MalformedHello) {
    assert_eq!(result(bytes), HelloProgress::Malformed(expected));
}

/// The first length with a result.
fn result_at(bytes: &[u8]) -> usize {
    let mut parser = ClientHelloParser::new();
    (0..=bytes.len())
        .find(|&len| parser.advance(&bytes[..len]) != HelloProgress::NeedMore)
        .unwrap()
}

fn contoso() -> ServerName {
    ServerName::Name(HostName::parse(b"contoso.com").unwrap())
}

#[test]
fn a_hello_is_the_same_in_any_records() {
    let builder = HelloBuilder::named("contoso.com").post_quantum();
    for lens in [&[1][..], &[2], &[3, 1, 700], &[4], &[5, 16384], &[1000]] {
        let wire = builder.clone().records(lens).build();
        let hello = hello(&wire);
        assert_eq!(hello.server_name, contoso(), "{lens:?}");
        assert_eq!(hello.wire_len, wire.len(), "{lens:?}");
    }
}

#[test]
fn bytes_after_the_hello_do_not_belong_to_it() {
    let message = HelloBuilder::named("contoso.com").message();
    // In the record of the hello, and in a separate one.
    let inside = records(&[&message[..], b"beyond"].concat(), 0x0301, &[16384]);
    assert_eq!(hello(&inside).wire_len, inside.len() - 6);
    let split = records(&[&message[..], b"beyond"].concat(), 0x0301, &[50]);
    assert_eq!(hello(&split).server_name, contoso());
    let apart = [&records(&message, 0x0301, &[16384])[..], b"beyond"].concat();
    assert_eq!(hello(&apart).wire_len, apart.len() - 6);
}

#[test]
fn a_hello_is_complete_with_its_last_byte() {
    let message = HelloBuilder::named("contoso.com").message();
    let wire = records(&[&message[..], b"beyond"].concat(), 0x0301, &[16384]);
    assert_eq!(result_at(&wire), 5 + message.len());
}

#[test]
fn bytes_that_are_not_tls_are_recognised_at_the_first_possible_byte() {
    for (bytes, at) in [
        (&b"GET / HTTP/1.1\r\n"[..], 1),
        (b"\x15\x03\x01\x00\x02\x02\x28", 1),
        (b"\x16\x02\x00\x00\x20", 2),
        (b"\x80\x00\x00\x28", 2),
        (b"\x80\x2e\x02\x00\x02", 3),
        (b"\x80\x2e\x01\x01\x02", 4),
        (b"\x80\x2e\x01\x00\x03", 5),
    ] {
        assert!(
            matches!(result(bytes), HelloProgress::NotTls(_)),
            "{}",
            bytes.escape_ascii()
        );
        assert_eq!(result_at(bytes), at, "{}", bytes.escape_ascii());
    }
}

#[test]
fn records_must_be_nonempty_handshake_records() {
    let message = HelloBuilder::named("contoso.com").message();
    rejected(
        &records(&message, 0x0301, &[20, 0, 1000]),
        MalformedHello::EmptyRecord,
    );
    rejected(
        &records(&message, 0x0301, &[0, 1000]),
        MalformedHello::EmptyRecord,
    );

    let mut other = HelloBuilder::named("contoso.com").records(&[20]).build();
    other[25] = 21;
    rejected(&other, MalformedHello::RecordType);
    assert_eq!(result_at(&other), 26);
    other[25..27].copy_from_slice(&[22, 2]);
    rejected(&other, MalformedHello::RecordVersion);

    let server_hello = records(&[2, 0, 0, 50], 0x0303, &[4]);
    rejected(&server_hello, MalformedHello::HandshakeType);
    assert_eq!(result_at(&server_hello), 6);
}

#[test]
fn limits_are_exact_to_the_byte() {
    let builder = HelloBuilder::named("contoso.com");
    let longest = builder.clone().message_len(4 + MAX_MESSAGE).build();
    assert_eq!(hello(&longest).server_name, contoso());

    // The builder cannot make a longer one, because extensions end at 64 KiB too: only the header is sent.
    let longer = [22, 3, 1, 0, 4, 1, 1, 0, 1];
    assert_eq!(result(&longer), HelloProgress::TooLarge(TooLarge::Message));
    assert_eq!(
        result(&[22, 3, 1, 0, 4, 1, 1, 0, 0]),
        HelloProgress::NeedMore
    );

    assert_eq!(
        result(&[22, 3, 1, 0x40, 0x01]),
        HelloProgress::TooLarge(TooLarge::Record)
    );
    assert_eq!(result(&[22, 3, 1, 0x40, 0x00]), HelloProgress::NeedMore);
}

#[test]
fn bytes_on_the_wire_are_limited() {
    // Six bytes on the wire for each byte: the most that fits, and one more.
    let fits = HelloBuilder::named("contoso.com")
        .message_len(MAX_WIRE / 6)
        .records(&[1])
        .build();
    assert_eq!(hello(&fits).wire_len, fits.len());
    let beyond = HelloBuilder::named("contoso.com")
        .message_len(MAX_WIRE / 6 + 1)
        .records(&[1])
        .build();
    assert_eq!(result(&beyond), HelloProgress::TooLarge(TooLarge::Wire));
    assert_eq!(
        result_at(&beyond),
        beyond.len() - 1,
        "as soon as the header has come"
    );
}

#[test]
fn an_sslv2_hello_has_no_name() {
    let wire = sslv2_hello(0x0301, &[], &[7; 32]);
    let found = hello(&wire);
    assert_eq!(
        (&found.server_name, found.format, found.wire_len),
        (&ServerName::Absent, Format::Sslv2, wire.len())
    );
    assert_eq!(found.versions.highest, ProtocolVersion::TLS1_0);
    let own = hello(&sslv2_hello(0x0002, &[9; 16], &[7; 16]));
    assert_eq!(own.versions.highest, ProtocolVersion::SSL2);
    assert_eq!(own.session_id.as_bytes(), [9; 16]);
}

#[test]
fn an_sslv2_hello_with_inconsistent_fields_is_not_tls() {
    for (session_id, challenge) in [(1, 32), (17, 32), (0, 15), (0, 33)] {
        let wire = sslv2_hello(0x0301, &vec![0; session_id], &vec![0; challenge]);
        assert!(
            matches!(result(&wire), HelloProgress::NotTls(_)),
            "{session_id} {challenge}"
        );
    }
    let mut wire = sslv2_hello(0x0301, &[], &[0; 32]);
    wire[1] += 1;
    assert_eq!(result(&wire), HelloProgress::NotTls(NotTls::Sslv2));
}

#[test]
fn a_missing_name_has_the_alert_of_the_version() {
    let alert = |builder: HelloBuilder| Alert::for_missing_name(&hello(&builder.build()));
    assert_eq!(alert(HelloBuilder::new()), Alert::MissingExtension);
    assert_eq!(
        alert(HelloBuilder::new().versions(&[0x0303])),
        Alert::HandshakeFailure
    );
}

#[test]
fn a_parser_with_fewer_bytes_than_before_needs_more() {
    let wire = HelloBuilder::named("contoso.com").records(&[20]).build();
    let mut parser = ClientHelloParser::new();
    assert_eq!(parser.advance(&wire[..70]), HelloProgress::NeedMore);
    assert_eq!(parser.advance(&wire[..3]), HelloProgress::NeedMore);
}

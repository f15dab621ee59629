//! `FlightReader` on generated flights: valid, split in every way, and broken. `grants` and `handshakes` test `GrantReader`.

use proptest::prelude::*;

use super::*;

mod grants;
mod handshakes;

const LEAF: &[u8] = b"not parsed here";

fn vector(len_bytes: usize, content: &[u8]) -> Vec<u8> {
    let len = content.len().to_be_bytes();
    [&len[len.len() - len_bytes..], content].concat()
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &vector(3, body)].concat()
}

fn record(kind: u8, fragment: &[u8]) -> Vec<u8> {
    [&[kind, 3, 1][..], &vector(2, fragment)].concat()
}

fn server_hello(version: u16, extensions: &[u8]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    body.extend([9; 32]);
    body.extend(vector(1, &[5; 32]));
    body.extend([0x00, 0x2f, 0]);
    if !extensions.is_empty() {
        body.extend(vector(2, extensions));
    }
    message(2, &body)
}

fn certificate(leaf: &[u8]) -> Vec<u8> {
    let chain = [vector(3, leaf), vector(3, b"an intermediate")].concat();
    message(11, &vector(3, &chain))
}

fn records(messages: &[u8], fragment: usize) -> Vec<u8> {
    messages
        .chunks(fragment)
        .flat_map(|fragment| record(22, fragment))
        .collect()
}

fn read(bytes: &[u8]) -> FlightProgress {
    FlightReader::new().read(bytes).clone()
}

fn hello_of(version: u16) -> ServerHello {
    ServerHello {
        version: ProtocolVersion(version),
        session_id: SessionId::new(&[5; 32]).unwrap(),
        cipher_suite: 0x2f,
    }
}

fn identity(version: u16) -> FlightProgress {
    FlightProgress::Certificate(Box::new(Identity {
        hello: hello_of(version),
        leaf: LEAF.to_vec(),
    }))
}

fn flight(version: u16) -> Vec<u8> {
    [server_hello(version, &[]), certificate(LEAF)].concat()
}

#[track_caller]
fn check(bytes: &[u8], expected: &FlightProgress) {
    assert_eq!(read(bytes), *expected);
    let mut reader = FlightReader::new();
    for byte in bytes {
        reader.read(std::slice::from_ref(byte));
    }
    assert_eq!(*reader.read(&[]), *expected, "byte by byte");
    if *expected != FlightProgress::NeedMore {
        assert_eq!(*reader.read(b"more"), *expected, "a result is final");
    }
}

#[test]
fn the_certificate_is_unencrypted_up_to_tls_1_2() {
    for version in [0x0300, 0x0301, 0x0302, 0x0303] {
        check(&records(&flight(version), 16384), &identity(version));
    }
}

#[test]
fn flights_of_openssl_are_read() {
    let flights: [(&[u8], &str); 4] = [
        (
            include_bytes!("../../../../tests/data/server_hello/tls10.bin"),
            "TLS 1.0",
        ),
        (
            include_bytes!("../../../../tests/data/server_hello/tls10-rsa.bin"),
            "TLS 1.0",
        ),
        (
            include_bytes!("../../../../tests/data/server_hello/tls11.bin"),
            "TLS 1.1",
        ),
        (
            include_bytes!("../../../../tests/data/server_hello/tls12.bin"),
            "TLS 1.2",
        ),
    ];
    for (bytes, version) in flights {
        let FlightProgress::Certificate(identity) = read(bytes) else {
            panic!("{version} has a certificate");
        };
        assert_eq!(identity.hello.version.to_string(), version);
        assert!(x509_parser::parse_x509_certificate(&identity.leaf).is_ok());
    }
    let tls13 = read(include_bytes!(
        "../../../../tests/data/server_hello/tls13.bin"
    ));
    assert!(
        matches!(tls13, FlightProgress::NoCertificate(_)),
        "{tls13:?}"
    );
    let rejected = include_bytes!("../../../../tests/data/server_hello/alert-protocol-version.bin");
    check(
        rejected,
        &FlightProgress::Alert(ServerAlert::PROTOCOL_VERSION),
    );
}

#[test]
fn every_prefix_needs_more() {
    let whole = records(&flight(0x0301), 40);
    for end in 0..whole.len() {
        // The chain after the leaf is read too, so that its lengths are checked.
        assert_eq!(read(&whole[..end]), FlightProgress::NeedMore, "{end}");
    }
    assert_eq!(read(&whole), identity(0x0301));
}

#[test]
fn messages_before_the_certificate_are_skipped() {
    let messages = [
        message(0, &[]),
        server_hello(0x0302, &[0xff, 0x01, 0, 1, 0]),
        message(23, b"supplemental"),
        certificate(LEAF),
    ];
    check(&records(&messages.concat(), 16384), &identity(0x0302));
}

#[test]
fn a_warning_before_the_hello_is_ignored() {
    let bytes = [record(21, &[1, 112]), records(&flight(0x0303), 16384)].concat();
    check(&bytes, &identity(0x0303));
}

#[test]
fn a_fatal_alert_ends_it() {
    check(
        &record(21, &[2, 70]),
        &FlightProgress::Alert(ServerAlert::PROTOCOL_VERSION),
    );
    let split = [record(21, &[2]), record(21, &[40])].concat();
    check(
        &split,
        &FlightProgress::Alert(ServerAlert::HANDSHAKE_FAILURE),
    );
    check(
        &record(21, &[1, 0]),
        &FlightProgress::Alert(ServerAlert::CLOSE_NOTIFY),
    );
    check(
        &record(21, &[3, 0]),
        &FlightProgress::Error(ServerHelloError::Alert),
    );
}

#[test]
fn sessions_without_a_certificate_are_recognised() {
    let none = |version| FlightProgress::NoCertificate(Box::new(hello_of(version)));
    let tls13 = server_hello(0x0303, &[0, 43, 0, 2, 3, 4]);
    check(&record(22, &tls13), &none(0x0304));
    let resumed = [record(22, &server_hello(0x0303, &[])), record(20, &[1])].concat();
    check(&resumed, &none(0x0303));
    for kind in [4, 12, 13, 14] {
        let messages = [server_hello(0x0301, &[]), message(kind, b"")].concat();
        check(&record(22, &messages), &none(0x0301));
    }
}

#[test]
fn the_server_hello_is_known_before_the_certificate() {
    let mut reader = FlightReader::new();
    reader.read(&record(22, &server_hello(0x0302, &[])));
    assert_eq!(reader.server_hello(), Some(&hello_of(0x0302)));
}

#[test]
fn broken_flights_are_errors() {
    let error = FlightProgress::Error;
    check(
        b"HTTP/1.1 400 Bad Request\r\n",
        &error(ServerHelloError::NotTls),
    );
    check(b"\x16\x02", &error(ServerHelloError::NotTls));
    check(b"", &FlightProgress::NeedMore);
    check(&record(22, &[]), &error(ServerHelloError::Record));
    check(&record(20, &[1]), &error(ServerHelloError::Order));
    check(
        &record(22, &certificate(LEAF)),
        &error(ServerHelloError::Order),
    );
    let hello = server_hello(0x0301, &[]);
    let twice = [&*hello, &hello].concat();
    check(&record(22, &twice), &error(ServerHelloError::Order));
    let then_data = [record(22, &hello), record(23, b"x")].concat();
    check(&then_data, &error(ServerHelloError::Record));
    check(
        &record(22, &message(2, &[3, 1, 0])),
        &error(ServerHelloError::ServerHello),
    );
    let lying = server_hello(0x0303, &[0, 43, 0, 9, 3, 4]);
    check(&record(22, &lying), &error(ServerHelloError::ServerHello));
    for body in [
        vec![],
        vector(3, &[]),
        vector(3, &vector(3, &[])),
        vec![0, 0, 9, 0],
    ] {
        let messages = [hello.clone(), message(11, &body)].concat();
        check(
            &record(22, &messages),
            &error(ServerHelloError::Certificate),
        );
    }
}

#[test]
fn limits_are_exact_to_the_byte() {
    let leaf_of = |len: usize| vec![1; len - 3 - 3];
    let flight_of = |body: usize| {
        let body = vector(3, &vector(3, &leaf_of(body)));
        [server_hello(0x0301, &[]), message(11, &body)].concat()
    };
    let longest = read(&records(&flight_of(MAX_MESSAGE), 16384));
    assert!(
        matches!(longest, FlightProgress::Certificate(_)),
        "{longest:?}"
    );
    check(
        &records(&flight_of(MAX_MESSAGE + 1), 16384),
        &FlightProgress::Error(ServerHelloError::TooLarge),
    );

    check(
        &[22, 3, 1, 0x40, 0x01],
        &FlightProgress::Error(ServerHelloError::TooLarge),
    );
    check(&[22, 3, 1, 0x40, 0x00], &FlightProgress::NeedMore);

    // Only ignored requests, one byte for each record.
    let endless: Vec<u8> = [22, 3, 1, 0, 1, 0].repeat(MAX_WIRE / 6 + 1);
    let (within, beyond) = endless.split_at(MAX_WIRE / 6 * 6);
    let mut reader = FlightReader::new();
    assert_eq!(*reader.read(within), FlightProgress::NeedMore);
    assert_eq!(
        *reader.read(beyond),
        FlightProgress::Error(ServerHelloError::TooLarge)
    );
}

/// A flight that is valid or has one broken byte.
fn flights() -> impl Strategy<Value = Vec<u8>> {
    let messages = (0x0300_u16..0x0305, 1_usize..200).prop_map(|(version, fragment)| {
        let warned = record(21, &[1, 112]);
        [warned, records(&flight(version), fragment)].concat()
    });
    (
        messages,
        proptest::option::of((any::<prop::sample::Index>(), any::<u8>())),
    )
        .prop_map(|(mut bytes, broken)| {
            if let Some((at, value)) = broken {
                *at.get_mut(&mut bytes) = value;
            }
            bytes
        })
}

proptest! {
    #[test]
    fn the_result_does_not_depend_on_the_split(
        bytes in flights(),
        cuts in proptest::collection::vec(1_usize..50, 1..20),
    ) {
        let expected = read(&bytes);
        let mut reader = FlightReader::new();
        let mut rest = bytes.as_slice();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (part, after) = rest.split_at(rest.len().min(*cut));
            reader.read(part);
            rest = after;
        }
        prop_assert_eq!(reader.read(&[]), &expected);
    }

    #[test]
    fn no_bytes_cause_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), tls in any::<bool>()) {
        let mut reader = FlightReader::new();
        if tls {
            reader.read(&record(22, &server_hello(0x0301, &[])));
        }
        let result = reader.read(&bytes).clone();
        prop_assert!(result == FlightProgress::NeedMore || *reader.read(b"more") == result);
    }

    #[test]
    fn no_messages_cause_a_panic(bytes in proptest::collection::vec(any::<u8>(), 1..400), kind in 0_u8..30) {
        read(&record(22, &message(kind, &bytes)));
        read(&[record(22, &server_hello(0x0301, &[])), record(22, &message(kind, &bytes))].concat());
    }
}

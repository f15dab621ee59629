//! The fields of the message and of its extensions.

use super::hello_builder::vec16;
use super::*;
use crate::types::host_name::HostNameError;

#[test]
fn all_fields_are_read() {
    let wire = HelloBuilder::named("Contoso.com.")
        .alpn(&["h2", "http/1.1"])
        .ticket(b"ticket")
        .session_id(b"session")
        .early_data()
        .ech(64)
        .build();
    let hello = hello(&wire);
    assert_eq!(hello.server_name, contoso());
    assert!(hello.alpn.iter().eq([&b"h2"[..], b"http/1.1"]));
    assert_eq!(hello.session_id.as_bytes(), b"session");
    assert_eq!(hello.ticket.as_deref(), Some(&b"ticket"[..]));
    assert!(hello.early_data && hello.ech && hello.versions.offers_tls13());
    assert_eq!(hello.record_version, ProtocolVersion::TLS1_0);
    assert_eq!(hello.format, Format::Tls);
    assert_eq!(hello.wire_len, wire.len());
}

#[test]
fn a_hello_without_extensions_has_no_name() {
    for version in [0x0300, 0x0301, 0x0302, 0x0303] {
        let hello = hello(&HelloBuilder::old(version).build());
        assert_eq!(hello.server_name, ServerName::Absent);
        assert_eq!(hello.versions.highest, ProtocolVersion(version));
        assert_eq!(hello.ticket, None);
        assert_eq!(hello.alpn.iter().count(), 0);
    }
}

#[test]
fn tls13_is_offered_only_by_its_extension() {
    let offered = |builder: HelloBuilder| hello(&builder.build()).versions.highest;
    assert_eq!(
        offered(HelloBuilder::new().grease()),
        ProtocolVersion::TLS1_3
    );
    assert_eq!(
        offered(HelloBuilder::new().versions(&[0x7f1c, 0x0303])),
        ProtocolVersion::TLS1_3
    );
    assert_eq!(
        offered(HelloBuilder::new().versions(&[0x0303])),
        ProtocolVersion::TLS1_2
    );
    assert_eq!(
        offered(HelloBuilder::new().versions(&[]).legacy_version(0x0304)),
        ProtocolVersion::TLS1_2
    );
    assert_eq!(
        offered(
            HelloBuilder::new()
                .versions(&[0x2a2a])
                .legacy_version(0x0302)
        ),
        ProtocolVersion::TLS1_1
    );
}

#[test]
fn lengths_must_add_up() {
    let sound = HelloBuilder::old(0x0301).message();
    for cut in 4..sound.len() {
        let result = result(&one_record(&sound[..cut]));
        assert!(
            matches!(result, HelloProgress::Malformed(_)),
            "{cut}: {result:?}"
        );
    }
    let named = HelloBuilder::named("contoso.com").alpn(&["h2"]).message();
    let fixed = HelloBuilder::old(0x0301)
        .session_id(&[0; 32])
        .message()
        .len();
    for cut in fixed + 1..named.len() {
        rejected(&one_record(&named[..cut]), MalformedHello::ExtensionLength);
    }
    rejected(
        &one_record(&[&named[..], &[0]].concat()),
        MalformedHello::TrailingBytes,
    );
}

/// The message in one record, with the correct handshake length.
fn one_record(message: &[u8]) -> Vec<u8> {
    let mut message = message.to_vec();
    let len = u16::try_from(message.len() - 4).unwrap();
    message[2..4].copy_from_slice(&len.to_be_bytes());
    records(&message, 0x0301, &[16384])
}

#[test]
fn fields_before_the_extensions_have_limits() {
    rejected(
        &HelloBuilder::new().session_id(&[0; 33]).build(),
        MalformedHello::SessionId,
    );
    rejected(
        &HelloBuilder::new().legacy_version(0x02ff).build(),
        MalformedHello::Version,
    );
    // The positions of the lengths of suites and compression methods without a session id.
    let sound = HelloBuilder::new().session_id(&[]).build();
    let (suites, compression) = (5 + 4 + 2 + 32 + 1 + 1, 5 + 4 + 2 + 32 + 1 + 2 + 4);
    assert_eq!((sound[suites], sound[compression]), (4, 1));
    for (at, value, error) in [
        (suites, 0, MalformedHello::CipherSuites),
        (suites, 3, MalformedHello::CipherSuites),
        (suites - 1, 0xff, MalformedHello::CipherSuites),
        (compression, 0, MalformedHello::CompressionMethods),
        (compression, 0xff, MalformedHello::CompressionMethods),
    ] {
        let mut bytes = sound.clone();
        bytes[at] = value;
        rejected(&bytes, error);
    }
}

#[test]
fn the_server_name_extension_has_one_name() {
    let entry = |kind: u8, name: &[u8]| [&[kind][..], &vec16(name)].concat();
    let list = |entries: &[Vec<u8>]| vec16(&entries.concat());
    for (content, error) in [
        (vec![], MalformedHello::ServerNameLength),
        (vec![0], MalformedHello::ServerNameLength),
        (list(&[]), MalformedHello::ServerNameListEmpty),
        (
            list(&[entry(0, b"a.test"), entry(0, b"b.test")]),
            MalformedHello::ServerNames,
        ),
        (
            list(&[entry(0, b"a.test"), vec![0]]),
            MalformedHello::ServerNames,
        ),
        (list(&[entry(1, b"a.test")]), MalformedHello::ServerNameType),
        (
            [list(&[entry(0, b"a.test")]), vec![0]].concat(),
            MalformedHello::ServerNameLength,
        ),
        (vec16(&[0]), MalformedHello::ServerNameLength),
        (vec16(&[0, 0, 2, b'a']), MalformedHello::ServerNameLength),
        (vec![0, 9, 0, 0, 1, b'a'], MalformedHello::ServerNameLength),
    ] {
        rejected(
            &HelloBuilder::new().raw_server_name(&content).build(),
            error,
        );
    }
}

#[test]
fn invalid_host_names_are_rejected() {
    for (name, error) in [
        (&b""[..], HostNameError::Empty),
        (b"contoso.com\0.fabrikam.com", HostNameError::ControlByte),
        (b"contoso..com", HostNameError::EmptyLabel),
        (&[b'a'; 64], HostNameError::LabelTooLong),
        (&[b'a'; 60_000], HostNameError::TooLong),
        (b"*.contoso..com:443", HostNameError::EmptyLabel),
        (b":443", HostNameError::Empty),
    ] {
        rejected(
            &HelloBuilder::new().name(name).build(),
            MalformedHello::ServerName(error),
        );
    }
    for other in [
        "192.0.2.1",
        "192.0.2.1:443",
        "2001:db8::1",
        "[2001:db8::1]:443",
        "*.contoso.com",
        "contoso.com:https",
        "b\u{fc}cher.contoso.com",
    ] {
        assert_eq!(
            hello(&HelloBuilder::named(other).build()).server_name,
            ServerName::NoHostName,
            "{other}"
        );
    }
    for same in ["contoso.com:443", "Contoso.com.:8443", "contoso.com:"] {
        let named = hello(&HelloBuilder::named(same).build());
        assert_eq!(named.server_name, contoso(), "{same}");
    }
}

#[test]
fn no_extension_may_occur_twice() {
    let builder = HelloBuilder::named("contoso.com");
    for kind in [0, 16, 23, 63, 64, 65, 0x2a2a, 0xff01, 0xffff] {
        let twice = builder.clone().extension(kind, &[]).extension(kind, &[]);
        let wire = if kind == 16 {
            builder.clone().alpn(&["h2"]).alpn(&["h2"])
        } else {
            twice
        }
        .build();
        rejected(&wire, MalformedHello::DuplicateExtension);
    }
}

#[test]
fn duplicates_are_found_among_ten_thousand() {
    let many = (1000..11_000).fold(HelloBuilder::named("contoso.com"), |builder, kind| {
        builder.extension(kind, &[])
    });
    assert_eq!(hello(&many.build()).server_name, contoso());
    for twice in [1000, 1015, 1016, 1017, 10_999] {
        let wire = many.clone().extension(twice, &[]).build();
        let result = ClientHelloParser::new().advance(&wire);
        assert_eq!(
            result,
            HelloProgress::Malformed(MalformedHello::DuplicateExtension),
            "{twice}"
        );
    }
}

#[test]
fn the_lengths_of_lists_in_extensions_must_add_up() {
    for content in [
        &[][..],
        &[0, 0],
        &[0, 1, 0],
        &[0, 3, 2, b'h'],
        &[0, 3, 2, b'h', b'2', 0],
        &[0, 4, 2, b'h', b'2', 0],
    ] {
        rejected(
            &HelloBuilder::new().extension(16, content).build(),
            MalformedHello::Alpn,
        );
    }
    for content in [
        &[][..],
        &[0],
        &[1, 3],
        &[3, 3, 3, 3],
        &[4, 3, 3],
        &[2, 3, 3, 3],
    ] {
        let builder = HelloBuilder::new().versions(&[]).extension(43, content);
        rejected(&builder.build(), MalformedHello::SupportedVersions);
    }
}

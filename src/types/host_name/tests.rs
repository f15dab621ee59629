//! What is a host name, and what is not.

use super::*;

#[track_caller]
fn check(input: &[u8], expected: Result<&str, HostNameError>) {
    let parsed = HostName::parse(input);
    assert_eq!(
        parsed.as_ref().map(HostName::as_str),
        expected.as_ref().map(|name| *name),
        "{}",
        input.escape_ascii()
    );
}

#[test]
fn names_are_folded_and_lose_one_trailing_dot() {
    check(b"contoso.com", Ok("contoso.com"));
    check(b"LyncWeb.Contoso.COM.", Ok("lyncweb.contoso.com"));
    check(b"fe_01.contoso.local", Ok("fe_01.contoso.local"));
    check(
        b"xn--bcher-kva.contoso.com",
        Ok("xn--bcher-kva.contoso.com"),
    );
    check(b"localhost", Ok("localhost"));
    check(b"-a-.b", Ok("-a-.b"));
}

#[test]
fn empty_names_and_labels_are_errors() {
    check(b"", Err(HostNameError::Empty));
    check(b".", Err(HostNameError::EmptyLabel));
    check(b"..", Err(HostNameError::EmptyLabel));
    check(b".contoso.com", Err(HostNameError::EmptyLabel));
    check(b"meet..contoso.com", Err(HostNameError::EmptyLabel));
    check(b"contoso.com..", Err(HostNameError::EmptyLabel));
}

#[test]
fn lengths_are_limited_to_the_byte() {
    let label = "a".repeat(63);
    check(label.as_bytes(), Ok(&label));
    check("a".repeat(64).as_bytes(), Err(HostNameError::LabelTooLong));
    check(
        format!("b.{}.c", "a".repeat(64)).as_bytes(),
        Err(HostNameError::LabelTooLong),
    );

    let longest = format!("{label}.{label}.{label}.{}", "b".repeat(61));
    assert_eq!(longest.len(), 253);
    check(longest.as_bytes(), Ok(&longest));
    check(format!("{longest}.").as_bytes(), Ok(&longest));
    check(
        format!("{longest}b").as_bytes(),
        Err(HostNameError::TooLong),
    );
    check(
        format!("{longest}..").as_bytes(),
        Err(HostNameError::TooLong),
    );
}

#[test]
fn bytes_that_are_not_allowed_are_errors() {
    check(
        b"contoso.com\0.fabrikam.com",
        Err(HostNameError::ControlByte),
    );
    check(b"contoso.com\r\n", Err(HostNameError::ControlByte));
    check(b"contoso\x7f.com", Err(HostNameError::ControlByte));
    check(
        "b\u{fc}cher.contoso.com".as_bytes(),
        Err(HostNameError::NonAscii),
    );
    check(b"*.contoso.com", Err(HostNameError::BadCharacter));
    check(b"contoso.com:443", Err(HostNameError::BadCharacter));
    check(b"contoso.com/", Err(HostNameError::BadCharacter));
    check(b" contoso.com", Err(HostNameError::BadCharacter));
}

#[test]
fn addresses_are_not_names() {
    for address in [
        "192.0.2.1",
        "192.0.2.1.",
        "::1",
        "[::1]",
        "2001:DB8::1",
        "::ffff:192.0.2.1",
        "fe80::1%eth0",
        "[fe80::1%251]",
        "::",
    ] {
        assert!(is_ip_literal(address.as_bytes()), "{address}");
        check(address.as_bytes(), Err(HostNameError::IpLiteral));
    }
    for name in [
        "1.2.3",
        "192.0.2.256",
        "abc",
        "beef.contoso.com",
        "[192.0.2.1]",
        "a:b",
        "[::1",
        "",
        ".",
    ] {
        assert!(!is_ip_literal(name.as_bytes()), "{name}");
    }
}

#[track_caller]
fn check_sent(input: &[u8], expected: Result<Option<&str>, HostNameError>) {
    let parsed = HostName::parse_sent(input);
    let parsed = parsed
        .as_ref()
        .map(|name| name.as_ref().map(HostName::as_str));
    assert_eq!(
        parsed,
        expected.as_ref().map(|name| *name),
        "{}",
        input.escape_ascii()
    );
}

#[test]
fn a_port_after_a_sent_name_is_ignored() {
    for sent in [
        "a.test",
        "a.test.",
        "A.TEST:443",
        "a.test:",
        "a.test.:8443",
        "a.test:0",
        "a.test:00443",
        "a.test:65535",
    ] {
        check_sent(sent.as_bytes(), Ok(Some("a.test")));
    }
    check_sent(b"fe_01:443", Ok(Some("fe_01")));
    let longest = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(61));
    check_sent(format!("{longest}:443").as_bytes(), Ok(Some(&longest)));
}

#[test]
fn names_that_cannot_be_in_a_route_are_valid() {
    for sent in [
        "192.0.2.1",
        "192.0.2.1:443",
        "2001:db8::1",
        "[2001:db8::1]",
        "[2001:db8::1]:443",
        "[::1]:",
        "::",
        "*.a.test",
        "a.test:65536",
        "a.test:https",
        "a.test:+1",
        "a.test:443:443",
        "a.test::443",
        "a b.test",
        "a.test/",
        "https://a.test",
        "a.test:443/path",
        "b\u{fc}cher.test",
        "user@a.test",
    ] {
        check_sent(sent.as_bytes(), Ok(None));
    }
    check_sent(b"\xff.test", Ok(None));
}

#[test]
fn names_that_clients_must_not_send_are_errors_with_a_port_too() {
    let label = "a".repeat(64);
    for port in ["", ":443", ":", ":x"] {
        for (name, error) in [
            ("a.test\0", HostNameError::ControlByte),
            ("a\u{7f}.test", HostNameError::ControlByte),
            ("a..test", HostNameError::EmptyLabel),
            (".test", HostNameError::EmptyLabel),
            ("a*b..test", HostNameError::EmptyLabel),
            ("*.\n", HostNameError::ControlByte),
            (&format!("{label}.test"), HostNameError::LabelTooLong),
            (&format!("*.{label}.test"), HostNameError::LabelTooLong),
            (&"a.".repeat(200), HostNameError::TooLong),
        ] {
            check_sent(format!("{name}{port}").as_bytes(), Err(error));
        }
    }
    check_sent(b"", Err(HostNameError::Empty));
    check_sent(b":443", Err(HostNameError::Empty));
    check_sent(b":", Err(HostNameError::Empty));
    check_sent(b".:443", Err(HostNameError::EmptyLabel));
}

#[test]
fn a_map_of_names_is_queried_with_text() {
    let names = std::collections::HashSet::from([HostName::parse(b"Contoso.com").unwrap()]);
    assert!(names.contains("contoso.com"));
}

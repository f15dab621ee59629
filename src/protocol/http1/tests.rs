//! Results for given heads, and properties over generated heads.

mod hosts;
mod properties;

use super::*;
use crate::types::host_name::HostNameError;

/// The result for `bytes`; asserts that it is the same in one piece, byte by byte, and with more bytes
/// after them.
#[track_caller]
fn result(bytes: &[u8]) -> HeadProgress {
    let whole = HttpHeadParser::new().advance(bytes);
    let mut parser = HttpHeadParser::new();
    let mut result = parser.advance(&[]);
    for len in 1..=bytes.len() {
        result = parser.advance(&bytes[..len]);
        if result != HeadProgress::NeedMore {
            break;
        }
    }
    assert_eq!(result, whole);
    if result != HeadProgress::NeedMore {
        let followed = [bytes, b"\x00\r\nHost: b.test\r\n\r\n"].concat();
        assert_eq!(parser.advance(&followed), whole, "a result is final");
        assert_eq!(parser.advance(&followed), whole, "a result is final");
        assert_eq!(HttpHeadParser::new().advance(&followed), whole);
    }
    whole
}

/// Asserts that `head` is a valid, complete head for the host `expected`.
#[track_caller]
fn host(head: impl AsRef<[u8]>, expected: &Host) {
    let head = head.as_ref();
    let result = result(head);
    let HeadProgress::Head(found) = result else {
        panic!("{}: {result:?}", head.escape_ascii());
    };
    assert_eq!(found.host, *expected, "{}", head.escape_ascii());
    assert_eq!(found.wire_len, head.len(), "{}", head.escape_ascii());
}

fn named(name: &str) -> Host {
    Host::Name(HostName::parse(name.as_bytes()).unwrap())
}

#[track_caller]
fn rejected(head: impl AsRef<[u8]>, expected: MalformedHead) {
    let head = head.as_ref();
    assert_eq!(
        result(head),
        HeadProgress::Malformed(expected),
        "{}",
        head.escape_ascii()
    );
}

/// Asserts that the result is known with the last byte and not before.
#[track_caller]
fn not_http(bytes: &[u8], expected: NotHttp) {
    assert_eq!(result(bytes), HeadProgress::NotHttp(expected));
    assert_eq!(result(&bytes[..bytes.len() - 1]), HeadProgress::NeedMore);
}

#[test]
fn bytes_after_the_head_do_not_belong_to_it() {
    let head = b"POST / HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let bytes = [&head[..], b"\x16\r\nHost: b.test\r\n\r\n"].concat();
    assert_eq!(result(&bytes), result(head));
}

#[test]
fn invalid_request_lines_are_malformed() {
    for line in [
        "GET  HTTP/1.1",
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET HTTP/1.1",
        "GET / HTTP/1.1 HTTP/1.1",
    ] {
        rejected(format!("{line}\r\n"), MalformedHead::RequestLine);
    }
    for version in [
        "HTTP/2.0",
        "HTTP/1.2",
        "HTTP/0.9",
        "http/1.1",
        "HTTP/1.10",
        "HTTP/",
        "HTTP/11",
    ] {
        rejected(format!("GET / {version}\r\n"), MalformedHead::Version);
    }
}

#[test]
fn invalid_lines_are_malformed_at_the_byte() {
    for (field, error) in [
        (" ", MalformedHead::Fold),
        ("\t", MalformedHead::Fold),
        ("Host: a.test\r\n ", MalformedHead::Fold),
        ("Host ", MalformedHead::SpaceBeforeColon),
        ("Host\t", MalformedHead::SpaceBeforeColon),
        (":", MalformedHead::FieldName),
        ("Host\r", MalformedHead::FieldName),
        ("H;", MalformedHead::FieldName),
        ("H(", MalformedHead::FieldName),
        ("H\0", MalformedHead::ControlByte),
        ("\x0b", MalformedHead::ControlByte),
        ("Host: a.test\0", MalformedHead::ControlByte),
        ("Host: a.test\x7f", MalformedHead::ControlByte),
        ("Accept: a\x0c", MalformedHead::ControlByte),
        ("Host: a.test\rX", MalformedHead::BareCr),
        ("Host: a.test\r\r", MalformedHead::BareCr),
        ("\rX", MalformedHead::BareCr),
        ("Host: a.test\n", MalformedHead::BareLf),
        ("Host\n", MalformedHead::BareLf),
        ("\n", MalformedHead::BareLf),
    ] {
        let head = format!("GET / HTTP/1.1\r\n{field}");
        rejected(&head, error);
        let before = &head.as_bytes()[..head.len() - 1];
        assert_eq!(result(before), HeadProgress::NeedMore, "{head:?}");
    }
    rejected(b"GET / HTTP/1.1\r\nH\xf6", MalformedHead::FieldName);
    rejected("GET /\n", MalformedHead::BareLf);
    rejected("GET / HTTP/1.1\n", MalformedHead::BareLf);
    rejected("GET / HTTP/1.1\r\r", MalformedHead::BareCr);
    rejected("GET /\0", MalformedHead::ControlByte);
    rejected("GET /\t", MalformedHead::ControlByte);
}

#[test]
fn non_ascii_bytes_are_allowed_outside_the_host() {
    host(
        b"GET /\xfc\x80 HTTP/1.1\r\nHost: a.test\r\nX: \xff\t\x80\r\n\r\n",
        &named("a.test"),
    );
}

#[test]
fn other_protocols_are_recognised_at_the_first_possible_byte() {
    not_http(b"\x16", NotHttp::Tls);
    not_http(b"PRI * HTTP/2", NotHttp::Http2);
    not_http(b"\x80", NotHttp::FirstByte);
    not_http(b"\0", NotHttp::FirstByte);
    not_http(b" ", NotHttp::FirstByte);
    not_http(b"\n", NotHttp::FirstByte);
    not_http(b"\rG", NotHttp::FirstByte);
    not_http(b"\r\n\r", NotHttp::FirstByte);
    not_http(b"SSH-2.0-OpenSSH_9.6\r", NotHttp::Method);
    not_http(b"G\0", NotHttp::Method);
    not_http(b"GET\t", NotHttp::Method);
    not_http(b"EHLO contoso.com\r\n", NotHttp::NoVersion);
    not_http(b"GET /\r\n", NotHttp::NoVersion);
    not_http(
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        NotHttp::NoVersion,
    );
}

#[test]
fn only_head_has_responses_without_content() {
    let method = |line: &str| {
        let result = result(format!("{line} / HTTP/1.1\r\n\r\n").as_bytes());
        let HeadProgress::Head(head) = result else {
            panic!("{result:?}");
        };
        head.method
    };
    assert_eq!(method("HEAD"), Method::Head);
    assert_eq!(method("GET"), Method::Other);
    assert_eq!(method("head"), Method::Other);
}

/// A valid head of `len` bytes.
fn head_of(len: usize) -> Vec<u8> {
    let (start, end) = ("GET / HTTP/1.1\r\nHost: a.test\r\nCookie: ", "\r\n\r\n");
    let filler = "c".repeat(len - start.len() - end.len());
    [start, &filler, end].concat().into_bytes()
}

#[test]
fn the_size_limit_of_a_head_is_exact() {
    host(head_of(MAX_HEAD), &named("a.test"));
    assert_eq!(result(&head_of(MAX_HEAD + 1)), HeadProgress::TooLarge);
    let endless = [b'a'; MAX_HEAD];
    assert_eq!(result(&endless[1..]), HeadProgress::NeedMore);
    assert_eq!(result(&endless), HeadProgress::TooLarge);
}

#[test]
fn a_malformed_early_line_of_a_large_head_is_malformed() {
    let mut head = head_of(2 * MAX_HEAD);
    head[20] = b' ';
    rejected(&head, MalformedHead::SpaceBeforeColon);
    let mut head = head_of(MAX_HEAD + 1);
    head[MAX_HEAD - 1] = 0;
    rejected(&head, MalformedHead::ControlByte);
    head[MAX_HEAD - 1] = b'c';
    head[MAX_HEAD] = 0;
    assert_eq!(result(&head), HeadProgress::TooLarge);
}

#[test]
fn each_byte_is_parsed_once() {
    let head = head_of(MAX_HEAD);
    let mut parser = HttpHeadParser::new();
    for len in 0..head.len() {
        assert_eq!(parser.advance(&head[..len]), HeadProgress::NeedMore);
        assert_eq!(parser.at, len);
    }
}

#[test]
fn fewer_bytes_than_before_need_more() {
    let head = head_of(100);
    let mut parser = HttpHeadParser::new();
    assert_eq!(parser.advance(&head[..60]), HeadProgress::NeedMore);
    assert_eq!(parser.advance(&head[..3]), HeadProgress::NeedMore);
    assert_eq!(parser.advance(&head), result(&head));
}

#[test]
fn reasons_have_descriptions() {
    for (reason, text) in [
        (
            MalformedHead::Host(AuthorityError::Name(HostNameError::EmptyLabel)).to_string(),
            "the Host field is invalid: the name has an empty label",
        ),
        (
            MalformedHead::TargetAuthority(AuthorityError::Port).to_string(),
            "the target is invalid: the port is not a number from 1 to 65535",
        ),
        (
            NotHttp::Tls.to_string(),
            "the first byte begins a TLS handshake",
        ),
    ] {
        assert_eq!(reason, text);
    }
}

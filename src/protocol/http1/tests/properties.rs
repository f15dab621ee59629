//! Properties over generated heads: valid ones, the same with changed bytes, and noise.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

/// Lines and parts of lines that make heads invalid.
const PIECES: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\n",
    b"GET http://a.test/ HTTP/1.1\r\n",
    b"CONNECT a.test:443 HTTP/1.0\r\n",
    b"PRI * HTTP/2.0\r\n",
    b"Host: a.test\r\n",
    b"host:b.test:80\r\n",
    b"Host: [::1]\r\n",
    b"Host:",
    b"Accept: */*\r\n",
    b"\r\n",
    b"\r",
    b"\n",
    b" ",
    b"\0",
    b":",
    b"@",
    b"HTTP/1.1",
];

/// A valid head for a name, with the name in different places and spellings.
fn heads() -> impl Strategy<Value = (String, Vec<u8>)> {
    let field = "[A-Za-z0-9!#$%&'*+.^_`|~-]{6,12}:[ \\t]?[ -~]{0,40}";
    (
        "[a-z0-9_]{1,12}(\\.[a-z][a-z0-9-]{0,10}){1,4}",
        vec(field, 0..8),
        "[A-Z_]{1,12}",
        select(vec!["", ".", ":", ":80", ".:00443"]),
        0_u8..32,
        any::<prop::sample::Index>(),
    )
        .prop_map(|(name, mut lines, method, tail, kinds, at)| {
            let kind = |bit: u8| kinds & (1 << bit) != 0;
            let written = match kind(0) {
                true => name.to_uppercase(),
                false => name.clone(),
            } + tail;
            let target = match kind(1) {
                true => format!("http://{written}/"),
                false => "/path".to_owned(),
            };
            let version = if kind(2) { "HTTP/1.1" } else { "HTTP/1.0" };
            let host = match kind(1) {
                true => "Host: other.test".to_owned(),
                false => format!("Host:{}{written}", if kind(3) { " \t" } else { "" }),
            };
            lines.insert(at.index(lines.len() + 1), host);
            // CONNECT has its own form of target.
            lines.insert(0, format!("M{method} {target} {version}"));
            let start = if kind(4) { "\r\n" } else { "" };
            let head = format!("{start}{}\r\n\r\n", lines.join("\r\n"));
            (name, head.into_bytes())
        })
}

/// Asserts what must hold for every result.
fn check_any(bytes: &[u8]) -> Result<(), TestCaseError> {
    let all = result(bytes);
    for len in 0..bytes.len() {
        let of_prefix = HttpHeadParser::new().advance(&bytes[..len]);
        prop_assert!(
            of_prefix == HeadProgress::NeedMore || of_prefix == all,
            "{len} bytes: {of_prefix:?}, all: {all:?}"
        );
    }
    if let HeadProgress::Head(head) = &all {
        prop_assert!(head.wire_len <= bytes.len());
        let head_alone = &bytes[..head.wire_len];
        prop_assert!(head_alone.ends_with(b"\r\n\r\n"));
        prop_assert_eq!(&result(head_alone), &all);
        if let Host::Name(name) = &head.host {
            prop_assert_eq!(
                &HostName::parse(name.as_str().as_bytes()),
                &Ok(name.clone())
            );
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn valid_heads_are_parsed_in_any_pieces(
        (name, head) in heads(),
        behind in vec(any::<u8>(), 0..20),
        mut cuts in vec(0_usize..1000, 0..10),
    ) {
        let wire = [&head[..], &behind].concat();
        cuts.sort_unstable();
        cuts.retain(|&cut| cut <= wire.len());
        cuts.extend([wire.len(); 2]);
        let mut parser = HttpHeadParser::new();
        let mut found = HeadProgress::NeedMore;
        for cut in cuts {
            let next = parser.advance(&wire[..cut]);
            prop_assert!(found == HeadProgress::NeedMore || found == next);
            found = next;
        }
        prop_assert_eq!(found, HeadProgress::Head(HttpHead {
            host: Host::Name(HostName::parse(name.as_bytes()).unwrap()),
            method: Method::Other,
            wire_len: head.len(),
        }));
        check_any(&wire)?;
    }

    #[test]
    fn changed_heads_have_one_result(
        (_, mut head) in heads(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        piece in select(PIECES),
        at in any::<prop::sample::Index>(),
    ) {
        for (at, value) in changes {
            let at = at.index(head.len());
            head[at] = value;
        }
        check_any(&head)?;
        let at = at.index(head.len());
        head.splice(at..at, piece.iter().copied());
        check_any(&head)?;
    }

    #[test]
    fn pieces_in_any_order_have_one_result(pieces in vec(select(PIECES), 0..10)) {
        check_any(&[b"GET / HTTP/1.1\r\n", &pieces.concat()[..]].concat())?;
        check_any(&pieces.concat())?;
    }

    #[test]
    fn noise_has_one_result(
        start in select(vec!["", "GET ", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost:", "CONNECT ", "GET http://"]),
        noise in vec(any::<u8>(), 0..200),
    ) {
        check_any(&[start.as_bytes(), &noise].concat())?;
    }

    #[test]
    fn every_host_is_one_name_or_rejected(value in "[ -~]{0,40}") {
        check_any(format!("GET / HTTP/1.1\r\nHost: {value}\r\n\r\n").as_bytes())?;
        check_any(format!("GET http://{value}/ HTTP/1.1\r\n\r\n").as_bytes())?;
    }
}

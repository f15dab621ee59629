//! Request targets: the path as segments, the query as pairs, and the encoding of both.
//!
//! Owns which percent-encoding (RFC 3986, section 2.1) is accepted. Must not know endpoints. Invariants: a segment is
//! decoded after the path is split, so that an encoded slash is part of a name; a target with an incomplete escape, or that
//! does not decode to UTF-8, is rejected as a whole.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Everything but the unreserved characters (RFC 3986, section 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The segments of a path; `/` has none. `None` where one does not decode.
pub(super) fn segments(path: &str) -> Option<Vec<String>> {
    let path = path.strip_prefix('/')?;
    if path.is_empty() {
        return Some(Vec::new());
    }
    path.split('/').map(decode).collect()
}

/// The pairs of a query, in order. `None` where one does not decode or has no `=`.
pub(super) fn pairs(query: &str) -> Option<Vec<(String, String)>> {
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=')?;
        // A plus is a space in a query (WHATWG URL, application/x-www-form-urlencoded).
        Some((decode(key)?, decode(&value.replace('+', " "))?))
    };
    query
        .split('&')
        .filter(|text| !text.is_empty())
        .map(pair)
        .collect()
}

fn decode(text: &str) -> Option<String> {
    let is_digit = |byte: &u8| byte.is_ascii_hexdigit();
    let is_complete = |rest: &str| {
        rest.as_bytes()
            .get(..2)
            .is_some_and(|two| two.iter().all(is_digit))
    };
    // The decoder copies an incomplete escape as it is.
    if !text.split('%').skip(1).all(is_complete) {
        return None;
    }
    let decoded = percent_decode_str(text).decode_utf8().ok()?;
    Some(decoded.into_owned())
}

/// `text` as a segment of a path or a value of a query.
pub(super) fn encode(text: &str) -> impl std::fmt::Display {
    utf8_percent_encode(text, RESERVED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoded_slash_does_not_split() {
        assert_eq!(segments("/").unwrap(), Vec::<String>::new());
        assert_eq!(segments("/a/b%2Fc/").unwrap(), ["a", "b/c", ""]);
        assert_eq!(segments("*"), None);
    }

    #[test]
    fn incomplete_escapes_and_invalid_utf8_are_rejected() {
        for bad in [
            "/%",
            "/%4",
            "/%zz",
            "/%ff",
            "/%+1",
            "/%%41",
            "/%C3%",
            "/%4%31",
            "/a/%e2%82",
        ] {
            assert_eq!(segments(bad), None, "{bad}");
        }
        assert_eq!(pairs("a=%80"), None);
        assert_eq!(pairs("a"), None);
    }

    #[test]
    fn queries_are_pairs_in_order() {
        let read = pairs("listener=https&&name=a%26b+c&source=%3A%3A1").unwrap();
        let expected = [("listener", "https"), ("name", "a&b c"), ("source", "::1")];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(read, expected);
    }

    #[test]
    fn every_text_survives_encoding() {
        let text = "a/b c%d+é\u{0}?#&=~";
        let encoded = encode(text).to_string();
        assert!(encoded.is_ascii() && !encoded.contains(['/', ' ', '?', '#', '&', '+']));
        assert_eq!(segments(&format!("/{encoded}")).unwrap(), [text]);
        assert_eq!(pairs(&format!("k={encoded}")).unwrap()[0].1, text);
    }
}

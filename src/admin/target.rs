//! Request targets: the path as segments, the query as pairs, and back.
//!
//! Owns percent-coding (RFC 3986, section 2.1). Knows no endpoint. Invariant: a segment is decoded after the path is
//! split, so that an encoded slash is part of a name, and what does not decode to UTF-8 is no target at all.

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
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let value = digit(digits[0])? * 16 + digit(digits[1])?;
        bytes.push(u8::try_from(value).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

/// `text` as a segment of a path or a value of a query: all but unreserved characters encoded.
pub(super) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            other => encoded += &format!("%{other:02X}"),
        }
    }
    encoded
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
    fn what_does_not_decode_is_no_target() {
        for bad in ["/%", "/%4", "/%zz", "/%ff", "/%+1"] {
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
    fn every_text_comes_back() {
        let text = "a/b c%d+é\u{0}?#&=~";
        let encoded = encode(text);
        assert!(encoded.is_ascii() && !encoded.contains(['/', ' ', '?', '#', '&', '+']));
        assert_eq!(segments(&format!("/{encoded}")).unwrap(), [text]);
        assert_eq!(pairs(&format!("k={encoded}")).unwrap()[0].1, text);
    }
}

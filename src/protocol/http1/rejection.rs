//! Owns the answers to requests that are refused: whole, fixed, and the same for every client.
//!
//! Must not know why a particular request was refused beyond its case, nor how an answer is sent.
//!
//! Invariant: no answer holds a byte that a client sent; each ends the connection and may be kept
//! by no cache.

use super::Method;

/// Why a request is refused, as far as the client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HttpRejection {
    /// The head cannot be parsed: 400 (RFC 9110 section 15.5.1).
    Malformed,
    /// The request names no host, and none is served without: 400 (RFC 9112 section 3.2).
    NoName,
    /// The host is not served: 404 (RFC 9110 section 15.5.5).
    UnknownName,
    /// Something came, but the head was not whole in time: 408 (RFC 9110 section 15.5.9).
    Timeout,
    /// The head is larger than the bound: 431 (RFC 6585 section 5).
    TooLarge,
    /// Nothing behind the listener can serve: 503 (RFC 9110 section 15.6.4).
    Unavailable,
}

/// An answer in one piece, its content only where `$method` has one. `$len` is that of `$text`,
/// which a test sees to, as `concat!` takes literals only.
macro_rules! answer {
    ($method:ident, $status:literal, $len:literal, $fields:literal, $text:literal) => {
        match $method {
            Method::Head => answer!($status, $len, $fields, ""),
            Method::Other => answer!($status, $len, $fields, $text),
        }
    };
    ($status:literal, $len:literal, $fields:literal, $text:literal) => {
        concat!(
            "HTTP/1.1 ",
            $status,
            "\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: ",
            $len,
            "\r\nCache-Control: no-store\r\n",
            $fields,
            "\r\n",
            $text
        )
    };
}

impl HttpRejection {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Malformed,
        Self::NoName,
        Self::UnknownName,
        Self::Timeout,
        Self::TooLarge,
        Self::Unavailable,
    ];

    /// The bytes to send to a client that asked with `method`; [`Method::Other`] where the head was
    /// not understood.
    pub fn answer(self, method: Method) -> &'static [u8] {
        match self {
            Self::Malformed => answer!(
                method,
                "400 Bad Request",
                85,
                "",
                "The request breaks the rules of HTTP, so it is not known which site it is meant for.\n"
            ),
            Self::NoName => answer!(
                method,
                "400 Bad Request",
                90,
                "",
                "The request names no site (it has no Host field), and sites are served here by name only.\n"
            ),
            Self::UnknownName => answer!(
                method,
                "404 Not Found",
                63,
                "",
                "No site of this name is served here. Please check the address.\n"
            ),
            Self::Timeout => answer!(
                method,
                "408 Request Timeout",
                71,
                "",
                "The request did not arrive in full in the time that is allowed for it.\n"
            ),
            Self::TooLarge => answer!(
                method,
                "431 Request Header Fields Too Large",
                109,
                "",
                "The head of the request is larger than 16 KiB. If it comes from a browser, delete its cookies for this site.\n"
            ),
            // Two checks of a pool at its default interval: the soonest at which a server can be
            // back.
            Self::Unavailable => answer!(
                method,
                "503 Service Unavailable",
                72,
                "Retry-After: 10\r\n",
                "No server of this site can answer at the moment. Please try again soon.\n"
            ),
        }
        .as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Status line and fields, and the content.
    fn parts(answer: &'static [u8]) -> (Vec<&'static str>, &'static str) {
        let (head, text) = str::from_utf8(answer)
            .unwrap()
            .split_once("\r\n\r\n")
            .unwrap();
        (head.split("\r\n").collect(), text)
    }

    #[test]
    fn answers_are_whole_and_end_the_connection() {
        for refusal in HttpRejection::ALL {
            let (head, text) = parts(refusal.answer(Method::Other));
            for field in [
                "Connection: close",
                "Cache-Control: no-store",
                "Content-Type: text/plain; charset=utf-8",
                &format!("Content-Length: {}", text.len()),
            ] {
                assert!(head.contains(&field), "{refusal:?} lacks {field}: {head:?}");
            }
            assert!(text.ends_with(".\n") && text.is_ascii(), "{text:?}");
        }
    }

    #[test]
    fn statuses_are_those_of_the_contract() {
        let status = |refusal: HttpRejection| parts(refusal.answer(Method::Other)).0[0];
        assert_eq!(status(HttpRejection::Malformed), "HTTP/1.1 400 Bad Request");
        assert_eq!(status(HttpRejection::NoName), "HTTP/1.1 400 Bad Request");
        assert_eq!(status(HttpRejection::UnknownName), "HTTP/1.1 404 Not Found");
        assert_eq!(
            status(HttpRejection::Timeout),
            "HTTP/1.1 408 Request Timeout"
        );
        assert_eq!(
            status(HttpRejection::TooLarge),
            "HTTP/1.1 431 Request Header Fields Too Large"
        );
        assert_eq!(
            status(HttpRejection::Unavailable),
            "HTTP/1.1 503 Service Unavailable"
        );
    }

    #[test]
    fn only_unavailable_says_when_to_come_back() {
        for refusal in HttpRejection::ALL {
            let (head, _) = parts(refusal.answer(Method::Other));
            let says = head.iter().any(|field| field.starts_with("Retry-After: "));
            assert_eq!(says, refusal == HttpRejection::Unavailable);
        }
    }

    #[test]
    fn answer_to_head_is_the_same_without_content() {
        for refusal in HttpRejection::ALL {
            let (head, text) = parts(refusal.answer(Method::Head));
            assert_eq!(head, parts(refusal.answer(Method::Other)).0);
            assert_eq!(text, "");
        }
    }
}

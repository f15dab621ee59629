//! Owns the responses to rejected requests: complete, fixed, and the same for every client.
//!
//! Must not know why a particular request was rejected beyond its case, nor how a response is sent.
//!
//! Invariant: no response contains a byte that a client sent; each ends the connection and must not be
//! cached.

use super::Method;

/// Why a request is rejected, as far as the client learns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HttpRejection {
    /// The head cannot be parsed: 400 (RFC 9110 section 15.5.1).
    Malformed,
    /// The request names no host, and there is no default: 400 (RFC 9112 section 3.2).
    NoName,
    /// The host is not served: 404 (RFC 9110 section 15.5.5).
    UnknownName,
    /// Part of the head arrived, but not all of it in time: 408 (RFC 9110 section 15.5.9).
    Timeout,
    /// The head is larger than the limit: 431 (RFC 6585 section 5).
    TooLarge,
    /// No backend can serve it: 503 (RFC 9110 section 15.6.4).
    Unavailable,
}

/// A complete response, with content unless `$method` is HEAD. `$len` is the length of `$text`, which
/// a test checks, because `concat!` accepts only literals.
macro_rules! response {
    ($method:ident, $status:literal, $len:literal, $fields:literal, $text:literal) => {
        match $method {
            Method::Head => response!($status, $len, $fields, ""),
            Method::Other => response!($status, $len, $fields, $text),
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
    /// All cases.
    pub const ALL: [Self; 6] = [
        Self::Malformed,
        Self::NoName,
        Self::UnknownName,
        Self::Timeout,
        Self::TooLarge,
        Self::Unavailable,
    ];

    /// The bytes to send to a client whose request has this method; [`Method::Other`] if the head was
    /// not parsed.
    pub fn response(self, method: Method) -> &'static [u8] {
        match self {
            Self::Malformed => response!(
                method,
                "400 Bad Request",
                85,
                "",
                "The request breaks the rules of HTTP, so it is not known which site it is meant for.\n"
            ),
            Self::NoName => response!(
                method,
                "400 Bad Request",
                90,
                "",
                "The request names no site (it has no Host field), and sites are served here by name only.\n"
            ),
            Self::UnknownName => response!(
                method,
                "404 Not Found",
                63,
                "",
                "No site of this name is served here. Please check the address.\n"
            ),
            Self::Timeout => response!(
                method,
                "408 Request Timeout",
                71,
                "",
                "The request did not arrive in full in the time that is allowed for it.\n"
            ),
            Self::TooLarge => response!(
                method,
                "431 Request Header Fields Too Large",
                109,
                "",
                "The head of the request is larger than 16 KiB. If it comes from a browser, delete its cookies for this site.\n"
            ),
            // Two intervals of health checks by default: the earliest that a server can be back.
            Self::Unavailable => response!(
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
    fn parts(response: &'static [u8]) -> (Vec<&'static str>, &'static str) {
        let (head, text) = str::from_utf8(response)
            .unwrap()
            .split_once("\r\n\r\n")
            .unwrap();
        (head.split("\r\n").collect(), text)
    }

    #[test]
    fn responses_are_complete_and_end_the_connection() {
        for rejection in HttpRejection::ALL {
            let (head, text) = parts(rejection.response(Method::Other));
            for field in [
                "Connection: close",
                "Cache-Control: no-store",
                "Content-Type: text/plain; charset=utf-8",
                &format!("Content-Length: {}", text.len()),
            ] {
                assert!(
                    head.contains(&field),
                    "{rejection:?} lacks {field}: {head:?}"
                );
            }
            assert!(text.ends_with(".\n") && text.is_ascii(), "{text:?}");
        }
    }

    #[test]
    fn statuses_are_those_of_the_contract() {
        let status = |rejection: HttpRejection| parts(rejection.response(Method::Other)).0[0];
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
    fn only_unavailable_has_a_retry_after() {
        for rejection in HttpRejection::ALL {
            let (head, _) = parts(rejection.response(Method::Other));
            let has_retry_after = head.iter().any(|field| field.starts_with("Retry-After: "));
            assert_eq!(has_retry_after, rejection == HttpRejection::Unavailable);
        }
    }

    #[test]
    fn the_response_to_head_is_the_same_without_content() {
        for rejection in HttpRejection::ALL {
            let (head, text) = parts(rejection.response(Method::Head));
            assert_eq!(head, parts(rejection.response(Method::Other)).0);
            assert_eq!(text, "");
        }
    }
}

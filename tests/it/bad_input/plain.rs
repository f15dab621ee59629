//! Invalid requests to `http` listeners, and data that `tcp` listeners forward unmodified.

use std::time::Duration;

use super::case::{Case, is_served, sends, sends_and_ends, sends_slowly};
use super::{HTTP, TCP};
use crate::support::raw::{Answer, How, SERVED, served_hello};

pub(super) fn cases() -> Vec<Case> {
    let bad = Answer::Status(400);
    let head = |more: &str| format!("GET / HTTP/1.1\r\nHost: {SERVED}\r\n{more}\r\n");
    vec![
        sends(
            "http: garbage",
            HTTP,
            (0..=255).rev().collect::<Vec<u8>>(),
            Answer::Nothing,
            "not_http",
        ),
        sends("http: no data", HTTP, "", Answer::Nothing, "hello_silent"),
        sends_slowly(
            "http: one byte per second",
            HTTP,
            "GET",
            Duration::from_secs(1),
            Answer::Status(408),
            "hello_timeout",
        ),
        sends(
            "http: an oversized head",
            HTTP,
            head(&format!("X: {}\r\n", "x".repeat(20_000))),
            Answer::Status(431),
            "too_large",
        ),
        sends(
            "http: a head that does not end",
            HTTP,
            head("").trim_end().repeat(1_000),
            bad,
            "malformed",
        ),
        sends(
            "http: two hosts",
            HTTP,
            head("Host: other.test\r\n"),
            bad,
            "malformed",
        ),
        sends(
            "http: a NUL in the name",
            HTTP,
            "GET / HTTP/1.1\r\nHost: served.test\0\r\n\r\n",
            bad,
            "malformed",
        ),
        sends(
            "http: a NUL in a field",
            HTTP,
            head("X: \0\r\n"),
            bad,
            "malformed",
        ),
        sends(
            "http: a folded field",
            HTTP,
            head("X: a\r\n b\r\n"),
            bad,
            "malformed",
        ),
        sends(
            "http: lines without CR",
            HTTP,
            "GET / HTTP/1.1\nHost: served.test\n\n",
            bad,
            "malformed",
        ),
        sends(
            "http: TLS on the HTTP port",
            HTTP,
            served_hello(),
            Answer::Nothing,
            "not_http",
        ),
        sends(
            "http: HTTP/2 with prior knowledge",
            HTTP,
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            Answer::Nothing,
            "not_http",
        ),
        sends_and_ends(
            "http: a close within the head",
            HTTP,
            "GET / HTTP/1.1\r\nHo",
            How::Closed,
            "hello_closed",
        ),
        sends_and_ends(
            "http: a reset within the head",
            HTTP,
            "GET / HTTP/1.1\r\nHo",
            How::Reset,
            "hello_reset",
        ),
        is_served(
            "http: a half-close after the head",
            HTTP,
            vec![head("").into()],
        ),
        is_served(
            "http: a head in pieces of one byte",
            HTTP,
            head("").bytes().map(|byte| vec![byte]).collect(),
        ),
        is_served("tcp: garbage is data", TCP, vec![(0..=255).collect()]),
        is_served("tcp: no data", TCP, vec![]),
        sends_and_ends("tcp: a reset", TCP, "x", How::Reset, "client_reset"),
    ]
}

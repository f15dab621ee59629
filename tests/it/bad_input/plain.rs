//! The same for `http` listeners, and what `tcp` listeners pass on as it is.

use std::time::Duration;

use super::case::{Case, drips, is_served, leaves, says};
use super::{HTTP, TCP};
use crate::support::raw::{Answer, How, SERVED, served_hello};

pub(super) fn cases() -> Vec<Case> {
    let bad = Answer::Status(400);
    let head = |more: &str| format!("GET / HTTP/1.1\r\nHost: {SERVED}\r\n{more}\r\n");
    vec![
        says(
            "http: garbage",
            HTTP,
            (0..=255).rev().collect::<Vec<u8>>(),
            Answer::Nothing,
            "not_http",
        ),
        says("http: silence", HTTP, "", Answer::Nothing, "hello_silent"),
        drips(
            "http: a byte a second",
            HTTP,
            "GET",
            Duration::from_secs(1),
            Answer::Status(408),
            "hello_timeout",
        ),
        says(
            "http: an oversized head",
            HTTP,
            head(&format!("X: {}\r\n", "x".repeat(20_000))),
            Answer::Status(431),
            "too_large",
        ),
        says(
            "http: a head without end",
            HTTP,
            head("").trim_end().repeat(1_000),
            bad,
            "malformed",
        ),
        says(
            "http: two hosts",
            HTTP,
            head("Host: other.test\r\n"),
            bad,
            "malformed",
        ),
        says(
            "http: a NUL in the name",
            HTTP,
            "GET / HTTP/1.1\r\nHost: served.test\0\r\n\r\n",
            bad,
            "malformed",
        ),
        says(
            "http: a NUL in a field",
            HTTP,
            head("X: \0\r\n"),
            bad,
            "malformed",
        ),
        says(
            "http: a folded field",
            HTTP,
            head("X: a\r\n b\r\n"),
            bad,
            "malformed",
        ),
        says(
            "http: lines without CR",
            HTTP,
            "GET / HTTP/1.1\nHost: served.test\n\n",
            bad,
            "malformed",
        ),
        says(
            "http: TLS on the HTTP port",
            HTTP,
            served_hello(),
            Answer::Nothing,
            "not_http",
        ),
        says(
            "http: HTTP/2 without asking",
            HTTP,
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            Answer::Nothing,
            "not_http",
        ),
        leaves(
            "http: a close in the head",
            HTTP,
            "GET / HTTP/1.1\r\nHo",
            How::Closed,
            "hello_closed",
        ),
        leaves(
            "http: a reset in the head",
            HTTP,
            "GET / HTTP/1.1\r\nHo",
            How::Reset,
            "hello_reset",
        ),
        is_served(
            "http: a half-close behind the head",
            HTTP,
            vec![head("").into()],
        ),
        is_served(
            "http: a head in pieces of one byte",
            HTTP,
            head("").bytes().map(|byte| vec![byte]).collect(),
        ),
        is_served("tcp: garbage is data", TCP, vec![(0..=255).collect()]),
        is_served("tcp: nothing at all", TCP, vec![]),
        leaves("tcp: a reset", TCP, "x", How::Reset, "client_reset"),
    ]
}

//! Nobody who is slow, silent or many holds more than the bounds give.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use lyncpin::admin::{RequestLimits, Served};

use super::fake::{Fake, Running};
use super::over_the_wire::{self, ask, ask_with};

#[test]
fn a_body_is_bounded_in_size_and_time() {
    let bounds = RequestLimits {
        body: Duration::from_millis(100),
        ..RequestLimits::default()
    };
    let running = Running::start(Fake::new(), None, Served::Everything, bounds);
    let path = "/api/v1/pools/web/backends/fe01/state";
    let answer = ask_with(running.tcp(), "PUT", path, &[], &" ".repeat(17 << 10));
    assert_eq!(answer.status, 413);
    let cut = format!("PUT {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{{");
    assert_eq!(
        over_the_wire::raw(running.tcp(), cut.as_bytes()).status,
        408
    );
}

#[test]
fn silence_and_a_slow_head_end_in_time() {
    let bounds = RequestLimits {
        head: Duration::from_millis(200),
        ..RequestLimits::default()
    };
    let running = Running::start(Fake::new(), None, Served::Everything, bounds);
    for sent in [
        &b""[..],
        b"GET /healthz HTTP/1.1\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ] {
        let begun = Instant::now();
        let mut stream = TcpStream::connect(running.tcp()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream.write_all(sent).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(10), "{sent:?}");
    }
}

#[test]
fn a_connection_does_not_outlive_its_bound() {
    let bounds = RequestLimits {
        head: Duration::from_secs(60),
        life: Duration::from_millis(200),
        ..RequestLimits::default()
    };
    let running = Running::start(Fake::new(), None, Served::Everything, bounds);
    let begun = Instant::now();
    let mut stream = TcpStream::connect(running.tcp()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn an_oversized_head_and_garbage_are_refused() {
    let running = Running::plain();
    let long = format!(
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n",
        "x".repeat(40 << 10)
    );
    assert_eq!(
        over_the_wire::raw(running.tcp(), long.as_bytes()).status,
        431
    );
    assert_eq!(
        over_the_wire::raw(running.tcp(), b"\x16\x03\x01\x02\x00\x01\r\n\r\n").status,
        400
    );
    assert_eq!(ask(running.tcp(), "GET", "/healthz").status, 200);
}

/// Holds so many connections that say `first` and then nothing.
fn held(at: SocketAddr, count: usize, first: &[u8]) -> Vec<TcpStream> {
    let open = |_| {
        let mut stream = TcpStream::connect(at).unwrap();
        // One that had to give way already is as good.
        let _ = stream.write_all(first);
        stream
    };
    (0..count).map(open).collect()
}

#[test]
fn whoever_keeps_it_waiting_gives_way_to_one_that_asks() {
    let bounds = RequestLimits {
        connections: 4,
        head: Duration::from_secs(60),
        body: Duration::from_secs(60),
        ..RequestLimits::default()
    };
    let running = Running::start(Fake::new(), None, Served::Everything, bounds);
    let at = running.tcp();
    let body = "PUT /api/v1/pools/web/backends/fe01/state HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{";
    for first in [
        "",
        "GET /healthz HTTP/1.1\r\nHost:",
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        body,
    ] {
        let _held = held(at, 12, first.as_bytes());
        for path in ["/healthz", "/readyz", "/metrics", "/api/v1/status"] {
            assert_eq!(ask(at, "GET", path).status, 200, "{first:?} {path}");
        }
    }
}

#[test]
fn one_that_was_answered_outlives_those_that_ask_nothing() {
    let bounds = RequestLimits {
        connections: 4,
        head: Duration::from_secs(60),
        ..RequestLimits::default()
    };
    let running = Running::start(Fake::new(), None, Served::Everything, bounds);
    let mut kept = TcpStream::connect(running.tcp()).unwrap();
    kept.set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut answered = || {
        kept.write_all(request).unwrap();
        let mut answer = [0; 1024];
        let length = kept.read(&mut answer).unwrap();
        assert!(answer[..length].starts_with(b"HTTP/1.1 200"), "{length}");
    };
    answered();
    // The third one of these is where they begin to give way to each other.
    let _silent = held(running.tcp(), 40, b"");
    assert_eq!(ask(running.tcp(), "GET", "/healthz").status, 200);
    answered();
}

#[test]
fn requests_that_come_in_one_piece_are_all_answered() {
    let running = Running::plain();
    let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(50);
    let last = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut stream = TcpStream::connect(running.tcp()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    stream.write_all(last.as_bytes()).unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 51);
}

//! Slow, silent and numerous clients get no more than the limits.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use lyncpin::admin::{EndpointSet, RequestLimits};

use super::fake::{Fake, Running};
use super::over_the_wire::{self, send, send_with};

#[test]
fn a_body_is_limited_in_size_and_time() {
    let bounds = RequestLimits {
        body_timeout: Duration::from_millis(100),
        ..RequestLimits::default()
    };
    let running = Running::start(Fake::new(), None, EndpointSet::All, bounds);
    let path = "/api/v1/pools/web/backends/fe01/state";
    let response = send_with(running.tcp(), "PUT", path, &[], &" ".repeat(17 << 10));
    assert_eq!(response.status, 413);
    let cut = format!("PUT {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{{");
    assert_eq!(
        over_the_wire::raw(running.tcp(), cut.as_bytes()).status,
        408
    );
}

#[test]
fn silent_clients_and_slow_heads_time_out() {
    let bounds = RequestLimits {
        head_timeout: Duration::from_millis(200),
        ..RequestLimits::default()
    };
    let running = Running::start(Fake::new(), None, EndpointSet::All, bounds);
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
        let mut response = Vec::new();
        stream.read_to_end(&mut response).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(10), "{sent:?}");
    }
}

#[test]
fn a_connection_ends_after_its_lifetime() {
    let bounds = RequestLimits {
        head_timeout: Duration::from_secs(60),
        lifetime: Duration::from_millis(200),
        ..RequestLimits::default()
    };
    let running = Running::start(Fake::new(), None, EndpointSet::All, bounds);
    let begun = Instant::now();
    let mut stream = TcpStream::connect(running.tcp()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn an_oversized_head_and_garbage_are_rejected() {
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
    assert_eq!(send(running.tcp(), "GET", "/healthz").status, 200);
}

/// Opens connections that send `first` and then nothing.
fn held(at: SocketAddr, count: usize, first: &[u8]) -> Vec<TcpStream> {
    let open = |_| {
        let mut stream = TcpStream::connect(at).unwrap();
        // A connection that has already been closed is fine too.
        let _ = stream.write_all(first);
        stream
    };
    (0..count).map(open).collect()
}

#[test]
fn waiting_connections_are_closed_for_one_with_a_request() {
    let bounds = RequestLimits {
        connections: 4,
        head_timeout: Duration::from_secs(60),
        body_timeout: Duration::from_secs(60),
        ..RequestLimits::default()
    };
    let running = Running::start(Fake::new(), None, EndpointSet::All, bounds);
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
            assert_eq!(send(at, "GET", path).status, 200, "{first:?} {path}");
        }
    }
}

#[test]
fn a_connection_with_a_response_outlives_those_without_a_request() {
    let bounds = RequestLimits {
        connections: 4,
        head_timeout: Duration::from_secs(60),
        ..RequestLimits::default()
    };
    let running = Running::start(Fake::new(), None, EndpointSet::All, bounds);
    let mut kept = TcpStream::connect(running.tcp()).unwrap();
    kept.set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut answered = || {
        kept.write_all(request).unwrap();
        let mut response = [0; 1024];
        let length = kept.read(&mut response).unwrap();
        assert!(response[..length].starts_with(b"HTTP/1.1 200"), "{length}");
    };
    answered();
    // From the third one on they are closed to make room.
    let _silent = held(running.tcp(), 40, b"");
    assert_eq!(send(running.tcp(), "GET", "/healthz").status, 200);
    answered();
}

#[test]
fn pipelined_requests_all_get_responses() {
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

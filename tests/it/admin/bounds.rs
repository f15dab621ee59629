//! Nobody who is slow, silent or many holds more than the bounds give.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use lyncpin::admin::{Bounds, Served};

use super::fake::{Fake, Running};
use super::over_the_wire::{self, ask, ask_with};

#[test]
fn a_body_is_bounded_in_size_and_time() {
    let bounds = Bounds {
        body: Duration::from_millis(100),
        ..Bounds::default()
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
    let bounds = Bounds {
        head: Duration::from_millis(200),
        ..Bounds::default()
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
    let bounds = Bounds {
        head: Duration::from_secs(60),
        life: Duration::from_millis(200),
        ..Bounds::default()
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

#[test]
fn connections_are_bounded_and_those_that_wait_are_served_later() {
    let bounds = Bounds {
        connections: 2,
        head: Duration::from_secs(60),
        ..Bounds::default()
    };
    let running = Running::start(Fake::new(), None, Served::Everything, bounds);
    let held = [(); 2].map(|()| TcpStream::connect(running.tcp()).unwrap());
    let at = running.tcp();
    let waiting = std::thread::spawn(move || ask(at, "GET", "/healthz"));
    let mut probe = TcpStream::connect(running.tcp()).unwrap();
    probe
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    probe
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    assert!(
        probe.read(&mut [0; 1]).is_err(),
        "a third connection was served"
    );
    drop(held);
    assert_eq!(waiting.join().unwrap().status, 200);
}

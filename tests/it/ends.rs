//! How connections end: half-closes and resets are forwarded as such, and timeouts reset both sides.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::support::balancer::Balancer;
use crate::support::peers::{assert_reset, close_write, pair, read_to_end, reset};
use crate::support::{eventually, own_address};

/// The listening socket of a backend, from which the test accepts, and a balancer in front of it.
fn start_with(keys: &str) -> (TcpListener, Balancer) {
    let server = TcpListener::bind((own_address(), 7000)).unwrap();
    let balancer = Balancer::start(&format!(
        "listeners: {{ tcp: {{ bind: [\"HOST:5000\"], protocol: tcp, pool: one }} }}\n\
         pools: {{ one: {{ backends: [\"{}\"], health: none }} }}\n{keys}",
        server.local_addr().unwrap()
    ));
    (server, balancer)
}

fn start() -> (TcpListener, Balancer) {
    start_with("")
}

/// Two connected ends through the balancer: the client's and the backend's.
fn connected(server: &TcpListener, balancer: &Balancer) -> (TcpStream, TcpStream) {
    pair(balancer.at(5000), server, b"?")
}

/// Writes until every buffer on the path is full.
fn fill(mut stream: &TcpStream) {
    stream
        .set_write_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let bytes = vec![7; 1 << 20];
    loop {
        match stream.write(&bytes) {
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Asserts a reset on a socket that has nothing to read: a write fails.
fn assert_write_fails(mut stream: &TcpStream) {
    let error = eventually("a write fails", || stream.write(b"!").err());
    assert!(
        matches!(
            error.kind(),
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
        ),
        "{error}"
    );
}

#[test]
fn either_side_may_half_close_first_and_still_receives() {
    let (server, balancer) = start();
    for (client_first, outcome) in [(true, "client_closed"), (false, "backend_closed")] {
        let (client, backend) = connected(&server, &balancer);
        let (first, second) = if client_first {
            (&client, &backend)
        } else {
            (&backend, &client)
        };
        (&*first).write_all(b"that was all").unwrap();
        close_write(first);
        assert_eq!(read_to_end(second).unwrap(), 12);
        for _ in 0..3 {
            (&*second).write_all(b"more").unwrap();
            let mut read = [0; 4];
            (&*first).read_exact(&mut read).unwrap();
            assert_eq!(&read, b"more");
        }
        close_write(second);
        assert_eq!(read_to_end(first).unwrap(), 0);
        balancer.ended(outcome);
    }
}

#[test]
fn a_client_reset_is_forwarded_to_the_backend() {
    let (server, balancer) = start();
    let (client, backend) = connected(&server, &balancer);
    reset(client);
    assert_reset(&backend);
    balancer.ended("client_reset");
}

#[test]
fn a_backend_reset_is_forwarded_to_the_client() {
    let (server, balancer) = start();
    let (client, backend) = connected(&server, &balancer);
    reset(backend);
    assert_reset(&client);
    balancer.ended("backend_reset");
}

#[test]
fn a_reset_is_forwarded_to_a_peer_that_does_not_read() {
    let (server, balancer) = start();
    let (client, backend) = connected(&server, &balancer);
    fill(&client);
    reset(client);
    balancer.ended("client_reset");
    assert_reset(&backend);
    let (client, backend) = connected(&server, &balancer);
    fill(&backend);
    reset(backend);
    balancer.ended("backend_reset");
    assert_reset(&client);
}

#[test]
fn a_reset_after_a_half_close_is_forwarded() {
    let (server, balancer) = start();
    let (client, backend) = connected(&server, &balancer);
    close_write(&client);
    assert_eq!(read_to_end(&backend).unwrap(), 0);
    reset(client);
    balancer.ended("client_reset");
    assert_write_fails(&backend);
    let (client, backend) = connected(&server, &balancer);
    close_write(&backend);
    assert_eq!(read_to_end(&client).unwrap(), 0);
    reset(backend);
    balancer.ended("backend_reset");
    assert_write_fails(&client);
}

#[test]
fn a_reset_after_a_half_close_is_forwarded_while_data_is_stalled() {
    let (server, balancer) = start();
    let (client, backend) = connected(&server, &balancer);
    close_write(&client);
    assert_eq!(read_to_end(&backend).unwrap(), 0);
    fill(&backend);
    reset(client);
    balancer.ended("client_reset");
    assert_write_fails(&backend);
}

#[test]
fn a_reset_stream_never_ends_with_an_orderly_close() {
    let (server, balancer) = start();
    for _ in 0..20 {
        let (client, backend) = connected(&server, &balancer);
        let writer = std::thread::spawn(move || {
            (&backend).write_all(&vec![1; 3 << 20]).unwrap();
            reset(backend);
        });
        // However much arrives, the stream must not appear complete.
        assert_reset(&client);
        writer.join().unwrap();
    }
}

#[test]
fn idle_connections_are_reset_on_both_sides_after_the_idle_timeout() {
    let (server, balancer) = start_with("timeouts: { idle: 400ms, half_close: 30s }");
    let (client, backend) = connected(&server, &balancer);
    let begun = Instant::now();
    // Real time must pass: traffic in either direction keeps the connection alive.
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(150));
        for (mut from, mut to) in [(&client, &backend), (&backend, &client)] {
            from.write_all(b"x").unwrap();
            to.read_exact(&mut [0]).unwrap();
        }
    }
    let last = Instant::now();
    assert_reset(&client);
    assert!(
        last - begun > Duration::from_millis(400),
        "the traffic must last longer than the timeout"
    );
    assert!(
        last.elapsed() >= Duration::from_millis(390),
        "{:?}",
        last.elapsed()
    );
    assert_reset(&backend);
    assert_eq!(balancer.ended("idle_timeout")["by"], "balancer");
}

#[test]
fn a_stalled_connection_counts_as_idle_and_is_reset() {
    let (server, balancer) = start_with("timeouts: { idle: 1s }");
    let (client, backend) = connected(&server, &balancer);
    let bytes = vec![7; 1 << 20];
    // The client keeps writing and waits for buffer space that never becomes free.
    let error = eventually("a write fails", || (&client).write_all(&bytes).err());
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let line = balancer.ended("idle_timeout");
    assert!(line["bytes_to_backend"].as_u64() > Some(100_000), "{line}");
    assert_reset(&backend);
}

#[test]
fn a_slow_client_gets_the_whole_stream_after_the_half_closed_connection_has_timed_out() {
    const LENGTH: usize = 256 * 1024;
    let (server, balancer) = start_with("timeouts: { half_close: 400ms }");
    let (client, backend) = connected(&server, &balancer);
    (&backend).write_all(&[5; LENGTH]).unwrap();
    close_write(&backend);
    // The balancer has written everything. The kernel delivers the rest, which the client has not read yet.
    let line = balancer.ended("half_close_timeout");
    assert_eq!(line["bytes_to_client"], LENGTH);
    assert_reset(&backend);
    assert_eq!(read_to_end(&client).unwrap(), LENGTH);
}

#[test]
fn half_closed_connections_are_reset_after_the_half_close_timeout() {
    let (server, balancer) = start_with("timeouts: { idle: 30s, half_close: 400ms }");
    let (client, backend) = connected(&server, &balancer);
    close_write(&client);
    assert_eq!(read_to_end(&backend).unwrap(), 0);
    let begun = Instant::now();
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(150));
        (&backend).write_all(b"x").unwrap();
        (&client).read_exact(&mut [0]).unwrap();
    }
    assert!(
        begun.elapsed() > Duration::from_millis(400),
        "the traffic must last longer than the timeout"
    );
    let last = Instant::now();
    assert_reset(&client);
    assert!(
        last.elapsed() >= Duration::from_millis(390),
        "{:?}",
        last.elapsed()
    );
    assert_write_fails(&backend);
    assert_eq!(balancer.ended("half_close_timeout")["by"], "balancer");
}

//! How connections end: half-closes, resets and time without progress are passed on as what they are.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::support::balancer::Balancer;
use crate::support::peers::{assert_reset, close_write, pair, read_to_end, reset};
use crate::support::{eventually, own_address};

/// A backend's socket, accepted on by the test, and a balancer before it.
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

/// Writes until nothing more fits on the whole way.
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

/// Waits until a socket that has nothing to read knows of a reset.
fn assert_learns_of_reset(mut stream: &TcpStream) {
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
fn either_side_may_close_first_and_still_gets_the_answer() {
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
fn a_clients_reset_is_a_reset_at_the_backend() {
    let (server, balancer) = start();
    let (client, backend) = connected(&server, &balancer);
    reset(client);
    assert_reset(&backend);
    balancer.ended("client_reset");
}

#[test]
fn a_backends_reset_is_a_reset_at_the_client() {
    let (server, balancer) = start();
    let (client, backend) = connected(&server, &balancer);
    reset(backend);
    assert_reset(&client);
    balancer.ended("backend_reset");
}

#[test]
fn a_reset_passes_those_who_do_not_read() {
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
fn a_reset_after_a_half_close_is_still_a_reset() {
    let (server, balancer) = start();
    let (client, backend) = connected(&server, &balancer);
    close_write(&client);
    assert_eq!(read_to_end(&backend).unwrap(), 0);
    reset(client);
    balancer.ended("client_reset");
    assert_learns_of_reset(&backend);
    let (client, backend) = connected(&server, &balancer);
    close_write(&backend);
    assert_eq!(read_to_end(&client).unwrap(), 0);
    reset(backend);
    balancer.ended("backend_reset");
    assert_learns_of_reset(&client);
}

#[test]
fn a_reset_after_a_half_close_passes_those_who_do_not_read() {
    let (server, balancer) = start();
    let (client, backend) = connected(&server, &balancer);
    close_write(&client);
    assert_eq!(read_to_end(&backend).unwrap(), 0);
    fill(&backend);
    reset(client);
    balancer.ended("client_reset");
    assert_learns_of_reset(&backend);
}

#[test]
fn a_reset_cuts_a_stream_and_never_ends_it_in_order() {
    let (server, balancer) = start();
    for _ in 0..20 {
        let (client, backend) = connected(&server, &balancer);
        let writer = std::thread::spawn(move || {
            (&backend).write_all(&vec![1; 3 << 20]).unwrap();
            reset(backend);
        });
        // Whatever arrives, it does not end as if it were whole.
        assert_reset(&client);
        writer.join().unwrap();
    }
}

#[test]
fn idle_connections_are_reset_on_both_sides_in_time() {
    let (server, balancer) = start_with("timeouts: { idle: 400ms, half_close: 30s }");
    let (client, backend) = connected(&server, &balancer);
    let begun = Instant::now();
    // Time is the subject: traffic in either direction keeps both alive.
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
        "it was never idle"
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
fn a_stall_is_idle_too_and_ends_in_a_reset() {
    let (server, balancer) = start_with("timeouts: { idle: 1s }");
    let (client, backend) = connected(&server, &balancer);
    let bytes = vec![7; 1 << 20];
    // It writes on, and waits for room that never comes.
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
    // The balancer's part is done: the rest is between its kernel and the client, who reads nothing yet.
    let line = balancer.ended("half_close_timeout");
    assert_eq!(line["bytes_to_client"], LENGTH);
    assert_reset(&backend);
    assert_eq!(read_to_end(&client).unwrap(), LENGTH);
}

#[test]
fn half_closed_connections_are_reset_in_their_own_time() {
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
        "it was never in danger"
    );
    let last = Instant::now();
    assert_reset(&client);
    assert!(
        last.elapsed() >= Duration::from_millis(390),
        "{:?}",
        last.elapsed()
    );
    assert_learns_of_reset(&backend);
    assert_eq!(balancer.ended("half_close_timeout")["by"], "balancer");
}
